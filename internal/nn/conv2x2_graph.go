package nn

import (
	"runtime"
	"sync"
	"weak"

	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// GoMLX v0.28.2 returns a wrong gradient with respect to the input of a convolution with an even kernel: off by one pixel, without an error.
// The transposed convolutions of the decoder need 2x2 kernels, so those nodes get a gradient of their own through GoMLX's registry of
// gradients, which falls back to the original for every other node. Nodes are held weakly: a finished graph is freed as usual.
var (
	conv2x2Nodes sync.Map // weak.Pointer[Node] -> [2]int{lo, hi}
	conv2x2Once  sync.Once
)

var nhwc = ConvolveAxesConfig{
	InputBatch: 0, InputChannels: 3, InputSpatial: []int{1, 2},
	KernelInputChannels: 2, KernelOutputChannels: 3, KernelSpatial: []int{0, 1},
	OutputBatch: 0, OutputChannels: 3, OutputSpatial: []int{1, 2},
}

// Conv2x2 is a stride-1 convolution of x [B,H,W,in] with w [2,2,in,out], with lo zeros before and hi after each spatial axis.
func Conv2x2(x, w *Node, lo, hi int) *Node {
	conv2x2Once.Do(func() {
		original := VJPRegistration[NodeTypeConvGeneral]
		VJPRegistration[NodeTypeConvGeneral] = func(node *Node, v []*Node, s shapes.Shape) []*Node {
			if pads, ok := conv2x2Nodes.Load(weak.Make(node)); ok {
				p := pads.([2]int)
				return conv2x2VJP(node.Inputs()[0], node.Inputs()[1], v[0], p[0], p[1])
			}
			return original(node, v, s)
		}
	})
	y := ConvGeneral(x, w, nhwc, nil, [][2]int{{lo, hi}, {lo, hi}}, nil, nil, 1, 1)
	key := weak.Make(y)
	conv2x2Nodes.Store(key, [2]int{lo, hi})
	runtime.AddCleanup(y, func(k weak.Pointer[Node]) { conv2x2Nodes.Delete(k) }, key)
	return y
}

// conv2x2VJP: the input gradient is the correlation of v with the kernel reversed in space and swapped in channels, padded by k-1-pad; the kernel
// gradient is the convolution of x by v with batch and channels exchanged.
func conv2x2VJP(x, w, v *Node, lo, hi int) []*Node {
	const k = 2
	back := nhwc
	back.KernelInputChannels, back.KernelOutputChannels = nhwc.KernelOutputChannels, nhwc.KernelInputChannels
	pl, ph := k-1-lo, k-1-hi
	dx := ConvGeneral(v, Reverse(w, 0, 1), back, nil, [][2]int{{pl, ph}, {pl, ph}}, nil, nil, 1, 1)
	kernel := ConvolveAxesConfig{
		InputBatch: 3, InputChannels: 0, InputSpatial: []int{1, 2},
		KernelInputChannels: 0, KernelOutputChannels: 3, KernelSpatial: []int{1, 2},
		OutputBatch: 2, OutputChannels: 3, OutputSpatial: []int{0, 1},
	}
	dw := ConvGeneral(x, v, kernel, nil, [][2]int{{lo, hi}, {lo, hi}}, nil, nil, 1, 1)
	return []*Node{dx, dw}
}

// ConvTranspose is PyTorch's ConvTranspose2d without bias, x [B,H,W,in] -> [B,H',W',out], for the two forms the decoders use: kernel 3,
// stride 2, padding 1, output padding 0 or 1; and stride 1, padding 1, kernel 2 or 3. The kernel is kept flipped (see Param).
func (n Net) ConvTranspose(x *Node, name string, stride, outPad int) *Node {
	w := n.Var(x, name+".weight")
	k := w.Shape().Dimensions[0]
	switch {
	case stride == 1 && k == 2:
		return Conv2x2(x, w, 0, 0)
	case stride == 1 && k == 3:
		return Convolve(x, w).PaddingPerDim([][2]int{{1, 1}, {1, 1}}).Done()
	case stride == 2 && k == 3:
		return upsample(x, w, outPad)
	}
	panic("transposed convolution " + name + ": only kernel 3 stride 2, and kernel 2 or 3 stride 1")
}

// upsample computes the four output phases of a k3 s2 p1 transposed convolution as one 2x2 convolution to 4·out channels, then moves depth to
// space: 16/9 of the fewest multiplications, and a much faster kernel gradient than the dilated form. With u the un-flipped kernel:
// out[2m] = u[1]·x[m] and out[2m+1] = u[2]·x[m] + u[0]·x[m+1], in each axis.
func upsample(x, w *Node, outPad int) *Node {
	tap := func(w *Node, axis, i int) *Node { return SliceAxis(w, axis, AxisRange(2-i, 3-i)) }
	half := func(w *Node, axis, phase int) *Node {
		if phase == 0 {
			m := tap(w, axis, 1)
			return Concatenate([]*Node{m, ZerosLike(m)}, axis)
		}
		return Concatenate([]*Node{tap(w, axis, 2), tap(w, axis, 0)}, axis)
	}
	var kernels []*Node
	for a := range 2 {
		for b := range 2 {
			kernels = append(kernels, half(half(w, 0, a), 1, b))
		}
	}
	y := Conv2x2(x, Concatenate(kernels, 3), 0, 1)
	d, out := x.Shape().Dimensions, w.Shape().Dimensions[3]
	y = TransposeAllAxes(Reshape(y, d[0], d[1], d[2], 2, 2, out), 0, 1, 3, 2, 4, 5)
	y = Reshape(y, d[0], 2*d[1], 2*d[2], out)
	if outPad == 0 {
		y = SliceAxis(SliceAxis(y, 1, AxisRange(0, 2*d[1]-1)), 2, AxisRange(0, 2*d[2]-1))
	}
	return y
}

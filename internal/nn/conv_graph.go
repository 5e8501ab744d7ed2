package nn

import (
	"runtime"
	"sync"
	"weak"

	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// Three kinds of convolution get a gradient of their own, through GoMLX's registry of gradients, which falls back to the original for every other node. Of those with an
// even kernel GoMLX v0.28.2 returns a wrong gradient with respect to the input, off by one pixel, without an error; the transposed convolutions of the decoder
// need 2x2 kernels. Of those with a stride its gradient is right and slow: a convolution of the stretched outer gradient, three quarters of which are zeros. And the
// kernel gradient of a 1x1 one is a product of two matrices, which as a convolution takes four times as long.
// Nodes are held weakly: a finished graph is freed as usual.
var (
	ownVJPs sync.Map // weak.Pointer[Node] -> vjp
	ownOnce sync.Once
)

// vjp leads the gradient v of a convolution of x with w back to both; original does it as GoMLX does.
type vjp func(x, w, v *Node, original func() []*Node) []*Node

// withVJP gives a convolution a gradient of its own.
func withVJP(y *Node, f vjp) *Node {
	ownOnce.Do(func() {
		original := VJPRegistration[NodeTypeConvGeneral]
		VJPRegistration[NodeTypeConvGeneral] = func(node *Node, v []*Node, s shapes.Shape) []*Node {
			if f, ok := ownVJPs.Load(weak.Make(node)); ok {
				return f.(vjp)(node.Inputs()[0], node.Inputs()[1], v[0], func() []*Node { return original(node, v, s) })
			}
			return original(node, v, s)
		}
	})
	key := weak.Make(y)
	ownVJPs.Store(key, f)
	runtime.AddCleanup(y, func(k weak.Pointer[Node]) { ownVJPs.Delete(k) }, key)
	return y
}

var nhwc = ConvolveAxesConfig{
	InputBatch: 0, InputChannels: 3, InputSpatial: []int{1, 2},
	KernelInputChannels: 2, KernelOutputChannels: 3, KernelSpatial: []int{0, 1},
	OutputBatch: 0, OutputChannels: 3, OutputSpatial: []int{1, 2},
}

// Conv2x2 is a stride-1 convolution of x [B,H,W,in] with w [2,2,in,out], with lo zeros before and hi after each spatial axis.
func Conv2x2(x, w *Node, lo, hi int) *Node {
	if slowConvolutions(x) {
		return shifted(x, w, 1, lo, hi)
	}
	y := ConvGeneral(x, w, nhwc, nil, [][2]int{{lo, hi}, {lo, hi}}, nil, nil, 1, 1)
	return withVJP(y, func(x, w, v *Node, _ func() []*Node) []*Node { return conv2x2VJP(x, w, v, lo, hi) })
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

// convStride2 is a convolution of stride 2 of x [B,H,W,in], H and W even, with w [3,3,in,out], and lo zeros before and hi after each spatial axis: one after, or on both
// sides. Its input gradient computes the even and the odd pixels by themselves.
func convStride2(x, w *Node, lo, hi int) *Node {
	y := ConvGeneral(x, w, nhwc, []int{2, 2}, [][2]int{{lo, hi}, {lo, hi}}, nil, nil, 1, 1)
	return withVJP(y, func(_, w, v *Node, original func() []*Node) []*Node {
		w = Transpose(w, 2, 3)
		var dx *Node
		if lo == 1 {
			// dx[2m] = w[1]·v[m] and dx[2m+1] = w[2]·v[m] + w[0]·v[m+1], in each axis.
			dx = phases(v, w, 0, 1, [2][2]int{{1, none}, {2, 0}})
		} else {
			// dx[2m] = w[2]·v[m-1] + w[0]·v[m] and dx[2m+1] = w[1]·v[m], in each axis.
			dx = phases(v, w, 1, 0, [2][2]int{{2, 0}, {none, 1}})
		}
		return []*Node{dx, original()[1]} // of what is not used of the original nothing is compiled
	})
}

// conv1x1 is a convolution of x [B,H,W,in] with w [1,1,in,out], H and W multiples of the stride. Its kernel gradient is one product of matrices, its input gradient a
// convolution of what is not skipped.
func conv1x1(x, w *Node, stride int) *Node {
	y := ConvGeneral(x, w, nhwc, []int{stride, stride}, [][2]int{{0, 0}, {0, 0}}, nil, nil, 1, 1)
	return withVJP(y, func(x, w, v *Node, _ func() []*Node) []*Node {
		taken := AxisRange().Stride(stride)
		dw := DotGeneral(Slice(x, AxisRange(), taken, taken, AxisRange()), []int{0, 1, 2}, nil, v, []int{0, 1, 2}, nil)
		dx := Convolve(v, Transpose(w, 2, 3)).Done()
		if stride > 1 {
			skipped := PadAxis{End: stride - 1, Interior: stride - 1}
			dx = Pad(dx, ScalarZero(v.Graph(), v.DType()), PadAxis{}, skipped, skipped, PadAxis{})
		}
		return []*Node{dx, ExpandAxes(dw, 0, 1)}
	})
}

// slowConvolutions says that x's backend is the one in Go, whose own convolutions take many times as long as products of matrices.
func slowConvolutions(x *Node) bool { return x.Graph().Backend().String() == gobackend.BackendName }

// convolve is a convolution of x [B,H,W,in] with w [k,k,in,out], in the form that suits x's backend. Where the layer learns, a strided one keeps GoMLX's input gradient: it is no
// slower in a classifier's training step, and ten steps of the purifier's stay as close to the reference as its own rounding (make parity).
func convolve(x, w *Node, stride, lo, hi int, learns bool) *Node {
	if slowConvolutions(x) {
		return shifted(x, w, stride, lo, hi)
	}
	k, d := w.Shape().Dimensions[0], x.Shape().Dimensions
	switch whole := d[1]%stride == 0 && d[2]%stride == 0; {
	case k == 1 && lo == 0 && hi == 0 && whole:
		return conv1x1(x, w, stride)
	case k == 3 && stride == 2 && lo <= 1 && hi == 1 && whole && !learns:
		return convStride2(x, w, lo, hi)
	}
	return Convolve(x, w).Strides(stride).PaddingPerDim([][2]int{{lo, hi}, {lo, hi}}).Done()
}

// shifted is convolve as a sum of products of matrices, one for each entry of the kernel: of the shifted image with the entry's weights.
func shifted(x, w *Node, stride, lo, hi int) *Node {
	if lo > 0 || hi > 0 {
		x = zeroPad(zeroPad(x, 1, lo, hi), 2, lo, hi)
	}
	d, k := x.Shape().Dimensions, w.Shape().Dimensions
	h, wd := (d[1]-k[0])/stride+1, (d[2]-k[1])/stride+1
	var sum *Node
	for i := range k[0] {
		for j := range k[1] {
			part := Slice(x, AxisRange(), AxisRange(i, i+(h-1)*stride+1).Stride(stride), AxisRange(j, j+(wd-1)*stride+1).Stride(stride), AxisRange())
			entry := Reshape(Slice(w, AxisElem(i), AxisElem(j), AxisRange(), AxisRange()), k[2], k[3])
			y := Dot(Reshape(part, d[0]*h*wd, k[2]), entry).Product()
			if sum == nil {
				sum = y
			} else {
				sum = Add(sum, y)
			}
		}
	}
	return Reshape(sum, d[0], h, wd, k[3])
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
		return convolve(x, w, 1, 1, 1, n.Train)
	case stride == 2 && k == 3:
		return upsample(x, w, outPad)
	}
	panic("transposed convolution " + name + ": only kernel 3 stride 2, and kernel 2 or 3 stride 1")
}

// upsample computes a k3 s2 p1 transposed convolution, whose kernel it takes flipped. With u the un-flipped kernel:
// out[2m] = u[1]·x[m] and out[2m+1] = u[2]·x[m] + u[0]·x[m+1], in each axis.
func upsample(x, w *Node, outPad int) *Node {
	y := phases(x, w, 0, 1, [2][2]int{{1, none}, {0, 2}})
	if d := y.Shape().Dimensions; outPad == 0 {
		y = SliceAxis(SliceAxis(y, 1, AxisRange(0, d[1]-1)), 2, AxisRange(0, d[2]-1))
	}
	return y
}

// none is the place of a zero in a kernel of phases.
const none = -1

// phases makes a map twice as high and wide as x, whose pixels of each parity are a 2x2 convolution of x, padded by lo and hi: in each axis with the entries of w
// [3,3,in,out] that taps names for the even and for the odd pixels. All four are computed as one convolution to 4·out channels, and depth is moved to space: 16/9 of the
// fewest multiplications, where the form over a stretched x has 36/9, and a much faster kernel gradient.
func phases(x, w *Node, lo, hi int, taps [2][2]int) *Node {
	half := func(w *Node, axis, phase int) *Node {
		var parts []*Node
		for _, i := range taps[phase] {
			if i == none {
				parts = append(parts, ZerosLike(SliceAxis(w, axis, AxisRange(0, 1))))
			} else {
				parts = append(parts, SliceAxis(w, axis, AxisRange(i, i+1)))
			}
		}
		return Concatenate(parts, axis)
	}
	var kernels []*Node
	for a := range 2 {
		for b := range 2 {
			kernels = append(kernels, half(half(w, 0, a), 1, b))
		}
	}
	y := Conv2x2(x, Concatenate(kernels, 3), lo, hi)
	d, out := x.Shape().Dimensions, w.Shape().Dimensions[3]
	y = TransposeAllAxes(Reshape(y, d[0], d[1], d[2], 2, 2, out), 0, 1, 3, 2, 4, 5)
	return Reshape(y, d[0], 2*d[1], 2*d[2], out)
}

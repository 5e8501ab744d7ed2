package nn

import . "github.com/gomlx/gomlx/core/graph"

// blurTaps is the filter of BlurConv along one axis: the blur is [1 2 1]x[1 2 1]/16.
var blurTaps = [3]float32{0.25, 0.5, 0.25}

// BlurConv is a strided convolution without aliasing (Zhang 2019, as the composer library's apply_blurpool wraps one): each channel of x [B,H,W,in] is
// padded with lo zeros before and hi after each spatial axis, blurred at the same size with zeros around, and convolved without further padding. The
// kernel is name.conv.weight.
func (n Net) BlurConv(x *Node, name string, stride, lo, hi int) *Node {
	for axis := 1; axis <= 2; axis++ {
		// Pad has no gradient in GoMLX v0.28.2, concatenation has. One more zero on both sides is what the blur itself pads.
		size := x.Shape().Dimensions[axis] + lo + hi
		padded := zeroPad(x, axis, lo+1, hi+1)
		part := func(i int) *Node {
			return MulScalar(SliceAxis(padded, axis, AxisRange(i, i+size)), float64(blurTaps[i]))
		}
		x = Add(Add(part(0), part(1)), part(2))
	}
	return n.Conv(x, name+".conv", stride, 0, 0)
}

// zeroPad puts lo zeros before and hi after an axis. Of GoMLX's Pad there is no gradient.
func zeroPad(x *Node, axis, lo, hi int) *Node {
	var parts []*Node
	zeros := func(n int) {
		if n > 0 {
			s := x.Shape().Clone()
			s.Dimensions[axis] = n
			parts = append(parts, Zeros(x.Graph(), s))
		}
	}
	zeros(lo)
	parts = append(parts, x)
	zeros(hi)
	return Concatenate(parts, axis)
}

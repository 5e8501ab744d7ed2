package nn

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// layer is a convolution of maps of side x side.
type layer struct{ in, out, side, k, stride, lo, hi int }

// outSide is the side of the maps that it makes.
func (l layer) outSide() int { return (l.side+l.lo+l.hi-l.k)/l.stride + 1 }

func (l layer) forward(x, w *Node) *Node {
	if l.k == 2 {
		return Conv2x2(x, w, l.lo, l.hi)
	}
	return convolve(x, w, l.stride, l.lo, l.hi, false)
}

// input leads v back to the input, kernel to the weights, from x. What v would be multiplied with is not computed.
func (l layer) input(v, w *Node) *Node {
	s := v.Shape().Clone()
	s.Dimensions[1], s.Dimensions[2], s.Dimensions[3] = l.side, l.side, l.in
	x := Zeros(v.Graph(), s)
	return Gradient(ReduceAllSum(Mul(l.forward(x, w), v)), x)[0]
}

func (l layer) kernel(v, x *Node) *Node {
	s := v.Shape().Clone()
	s.Dimensions = []int{l.k, l.k, l.in, l.out}
	w := Zeros(v.Graph(), s)
	return Gradient(ReduceAllSum(Mul(l.forward(x, w), v)), w)[0]
}

func product(a, b *Node) *Node { return Dot(a, b).Product() }

func normalised(a, b *Node) *Node { return LeakyReLU(Add(Mul(a, b), b)) }

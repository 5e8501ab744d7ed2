package attacktest

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// The graphs of the toy classifiers. All take x [B,H,W,C] and return [B,Classes].

func weight(s *model.Scope, x *Node, name string) *Node {
	return s.Store().GetVariable("/" + name).NodeValue(x.Graph())
}

// dense is x [B,D] times the named weight [out,D], transposed.
func dense(s *model.Scope, x *Node, name string) *Node {
	return DotGeneral(x, []int{1}, nil, weight(s, x, name), []int{1}, nil)
}

func flat(x *Node) *Node { return Reshape(x, x.Shape().Dimensions[0], -1) }

func linear(s *model.Scope, x, _ *Node) *Node { return dense(s, flat(x), "w") }

func conv(s *model.Scope, x, _ *Node) *Node {
	h := Convolve(x, weight(s, x, "kernel")).PadSame().Done()
	return dense(s, flat(Tanh(h)), "w")
}

// noisy: (w + noise * v) x, one number of noise a class.
func noisy(s *model.Scope, x, noise *Node) *Node {
	return Add(linear(s, x, nil), Mul(noise, dense(s, flat(x), "v")))
}

// condition and given are the two halves of the staged toy.
func condition(s *model.Scope, x *Node) *Node { return Tanh(dense(s, flat(x), "v")) }

func given(s *model.Scope, cond, noise *Node) *Node {
	return dense(s, Mul(cond, AddScalar(noise, 1)), "w")
}

// saturating is a log-odds formula like the reference's peel: log(p/(1-p)) is infinite, and its gradient NaN, where p rounds to 0 or 1.
func saturating(s *model.Scope, x, _ *Node) *Node {
	p := Softmax(MulScalar(linear(s, x, nil), 1000), -1)
	return Log(Div(p, OneMinus(p)))
}

// nanGradient has the logits of the linear model, and a term that is always 0 with a gradient that is infinite times 0.
func nanGradient(s *model.Scope, x, _ *Node) *Node {
	zero := MulScalar(ExpandAxes(ReduceSum(Square(flat(x)), 1), 1), 0)
	return Add(linear(s, x, nil), Sqrt(zero))
}

// gradientFree rounds the pixels to eight levels. GoMLX has no gradient for Round, so the graph says itself that there is none.
func gradientFree(s *model.Scope, x, _ *Node) *Node {
	return linear(s, StopGradient(MulScalar(Round(MulScalar(x, 8)), 1.0/8)), nil)
}

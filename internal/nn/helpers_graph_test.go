package nn

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

type node = Node

// directional returns, for the layer's input and then for each variable, the derivative of a fixed functional of the output along a direction, by the
// gradient and by central differences.
func directional(n Net, vars []string, x, dx *Node, build func(Net, *Node) *Node) []*Node {
	g := x.Graph()
	functional := func(y *Node) *Node {
		return ReduceAllSum(Mul(y, Sin(MulScalar(ConvertDType(IotaFull(g, y.Shape()), y.DType()), 0.7))))
	}
	const h = 1e-2
	difference := func(at func(sign float64) *Node) *Node {
		return MulScalar(Sub(at(1), at(-1)), 1/(2*h))
	}
	out := []*Node{
		ReduceAllSum(Mul(Gradient(functional(build(n, x)), x)[0], dx)),
		difference(func(s float64) *Node { return functional(build(n, Add(x, MulScalar(dx, s*h)))) }),
	}
	for _, name := range vars {
		v := n.Scope.GetVariable(name)
		w := v.NodeValue(g)
		d := Sin(MulScalar(ConvertDType(IotaFull(g, w.Shape()), w.DType()), 1.3))
		out = append(out, ReduceAllSum(Mul(Gradient(functional(build(n, x)), w)[0], d)))
		out = append(out, difference(func(s float64) *Node {
			v.SetNodeValue(Add(w, MulScalar(d, s*h)))
			y := functional(build(n, x))
			v.SetNodeValue(w)
			return y
		}))
	}
	return out
}

// wave is a fixed pattern in [-1,1] of x's shape.
func wave(x *Node, frequency float64) *Node {
	return Sin(MulScalar(ConvertDType(IotaFull(x.Graph(), x.Shape()), x.DType()), frequency))
}

// leakyAwayFromZero has no input near the kink, across which a difference is no derivative: normal numbers are moved by ten either way.
func leakyAwayFromZero(_ Net, x *Node) *Node {
	return LeakyReLU(Add(x, MulScalar(Sign(wave(x, 0.9)), 10)))
}

func crossEntropyOfIota(_ Net, logits *Node) *Node {
	return CrossEntropy(logits, Iota(logits.Graph(), shapes.Make(dtypes.Int32, logits.Shape().Dimensions[0]), 0))
}

func softCrossEntropyOfIota(_ Net, logits *Node) *Node {
	return SoftCrossEntropy(logits, Softmax(wave(logits, 2.1), -1))
}

func binaryCrossEntropyOfIota(_ Net, d *Node) *Node {
	return BinaryCrossEntropy(MulScalar(d, 3), AddScalar(MulScalar(wave(d, 2.1), 0.5), 0.5))
}

// klOfHalves takes the first half of a row as means and the second as log-variances.
func klOfHalves(_ Net, x *Node) *Node {
	n := x.Shape().Dimensions[1] / 2
	return GaussianKL(SliceAxis(x, 1, AxisRange(0, n)), SliceAxis(x, 1, AxisRange(n)))
}

// lossValues returns losses at given points.
func lossValues(d, x, mu, logvar *Node) []*Node {
	return []*Node{BinaryCrossEntropy(d, x), GaussianKL(mu, logvar)}
}

package nn

import . "github.com/gomlx/gomlx/core/graph"

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

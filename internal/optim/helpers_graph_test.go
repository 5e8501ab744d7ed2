package optim

import . "github.com/gomlx/gomlx/core/graph"

type node = Node

// problems are the losses of the fixture, of p [D]: 0.5·(p-c)^T A (p-c), and the mean cross-entropy of a logistic regression plus 0.01·|p|^2.
var problems = map[string]func(p *Node, a, b *Node) *Node{
	"quadratic": func(p, a, c *Node) *Node {
		d := Sub(p, c)
		return MulScalar(ReduceAllSum(Mul(d, DotGeneral(a, []int{1}, nil, d, []int{0}, nil))), 0.5)
	},
	"logistic": func(p, x, y *Node) *Node {
		z := DotGeneral(x, []int{1}, nil, p, []int{0}, nil)
		softplus := Add(Max(z, ZerosLike(z)), Log1P(Exp(Neg(Abs(z)))))
		return Add(ReduceAllMean(Sub(softplus, Mul(y, z))), MulScalar(ReduceAllSum(Square(p)), 0.01))
	},
}

// stepGraph returns loss and gradient of a problem (nil: the given gradient g) at p, and the state after a step.
func stepGraph(o RAdam, loss func(p, a, b *Node) *Node, a, b, g, c, p, m, v, slow *Node) []*Node {
	value := ReduceAllSum(Mul(p, g))
	if loss != nil {
		value = loss(p, a, b)
		g = Gradient(value, p)[0]
	}
	pNew, mNew, vNew, slowNew := o.Update(c, p, g, m, v, slow)
	return []*Node{value, g, pNew, mNew, vNew, slowNew}
}

func sgdGraph(o SGD, lr, p, g, buffer *Node) []*Node {
	pNew, bufferNew := o.Update(lr, p, g, buffer)
	return []*Node{pNew, bufferNew}
}

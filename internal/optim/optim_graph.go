package optim

import . "github.com/gomlx/gomlx/core/graph"

// Update builds one step of a parameter p with gradient g, moments m and v, and Lookahead's slow copy, all of one shape, from RAdam.Coefficients.
func (o RAdam) Update(coefficients, p, g, m, v, slow *Node) (pNew, mNew, vNew, slowNew *Node) {
	c := func(i int) *Node { return Reshape(SliceAxis(coefficients, 0, AxisElem(i))) }
	mNew = Add(MulScalar(m, o.Beta1), MulScalar(g, 1-o.Beta1))
	vNew = Add(MulScalar(v, o.Beta2), MulScalar(Square(g), 1-o.Beta2))
	if o.WeightDecay > 0 {
		p = Sub(p, Mul(p, c(0)))
	}
	// One of the two factors is 0.
	p = Sub(p, Add(Mul(c(1), mNew), Mul(c(2), Div(mNew, AddScalar(Sqrt(vNew), o.Eps)))))
	acts := GreaterThan(c(3), ScalarZero(p.Graph(), p.DType()))
	slowNew = Where(acts, Add(MulScalar(p, o.Alpha), MulScalar(slow, 1-o.Alpha)), slow)
	return Where(acts, slowNew, p), mNew, vNew, slowNew
}

// Update builds one step of a parameter p with gradient g and momentum buffer, which starts at zero, at a scalar learning rate.
func (o SGD) Update(lr, p, g, buffer *Node) (pNew, bufferNew *Node) {
	if o.WeightDecay > 0 {
		g = Add(g, MulScalar(p, o.WeightDecay))
	}
	bufferNew = Add(MulScalar(buffer, o.Momentum), g)
	step := bufferNew
	if o.Nesterov {
		step = Add(g, MulScalar(bufferNew, o.Momentum))
	}
	return Sub(p, Mul(step, lr)), bufferNew
}

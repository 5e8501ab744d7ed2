package attacks

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// The graphs of an Oracle. Inputs come in the order x or condition, then y, target (targeted losses only) and noise (stochastic
// classifiers only), as far as the graph reads them.

// graph returns the function that builds the named graph.
func (o *engine) graph(name string, loss Loss) func(*model.Scope, []*Node) []*Node {
	switch name {
	case "logits":
		return o.logitsGraph
	case "condition":
		return o.conditionGraph
	case "given":
		return o.givenGraph
	case "back":
		return o.backGraph
	case "distance":
		return o.distanceGraph
	case "gradient":
		return o.gradientGraph(loss)
	case "draw":
		return o.drawGraph(loss)
	case "members":
		return o.membersGraph
	case "aggregate":
		return o.aggregateGraph
	case "aggregate gradient":
		return o.aggregateGradientGraph(loss)
	case "pull":
		return o.pullGraph
	}
	panic(fmt.Errorf("attacks: no graph %q", name)) // a slip in this package, not of its user
}

// logitsGraph: x, noise -> logits.
func (o *engine) logitsGraph(s *model.Scope, in []*Node) []*Node {
	return []*Node{o.checked(o.c.Logits(s, in[0], noiseOf(in[1:])), in[0])}
}

// conditionGraph: x -> condition [B,K].
func (o *engine) conditionGraph(s *model.Scope, in []*Node) []*Node {
	c := o.staged.Condition(s, in[0])
	if c.Rank() != 2 || c.Shape().Dimensions[0] != in[0].Shape().Dimensions[0] {
		panic(fmt.Errorf("attacks: Condition of the classifier returned %s for %s; want [B,K]", c.Shape(), in[0].Shape()))
	}
	return []*Node{c}
}

// givenGraph: condition, noise -> logits.
func (o *engine) givenGraph(s *model.Scope, in []*Node) []*Node {
	return []*Node{o.checked(o.staged.LogitsGiven(s, in[0], noiseOf(in[1:])), in[0])}
}

// backGraph: x, v [B,K] -> the gradient of <Condition(x), v> with respect to x: v led back through the condition.
func (o *engine) backGraph(s *model.Scope, in []*Node) []*Node {
	c := o.conditionGraph(s, in[:1])[0]
	return []*Node{Gradient(ReduceAllSum(Mul(c, in[1])), in[0])[0]}
}

// distanceGraph: x, from [B,K] -> d/dx of half the squared distance of Condition(x), of what it represents, to from, and that [B].
func (o *engine) distanceGraph(s *model.Scope, in []*Node) []*Node {
	away := Sub(o.conditionGraph(s, in[:1])[0], in[1])
	if r, ok := o.staged.(Represents); ok && r.Represented() < away.Shape().Dimensions[1] {
		away = SliceAxis(away, 1, AxisRange(0, r.Represented()))
	}
	half := MulScalar(ReduceSum(Square(away), 1), 0.5)
	return []*Node{Gradient(ReduceAllSum(half), in[0])[0], half}
}

// gradientGraph: x, y, target, noise -> d sum loss/dx, loss [B], logits.
func (o *engine) gradientGraph(loss Loss) func(*model.Scope, []*Node) []*Node {
	return func(s *model.Scope, in []*Node) []*Node {
		target, rest := targetOf(loss, in[2:])
		return withGradient(loss, o.checked(o.c.Logits(s, in[0], noiseOf(rest)), in[0]), in[0], in[1], target)
	}
}

// drawGraph: condition, y, target, noise -> d sum loss/dcondition, loss [B], logits.
func (o *engine) drawGraph(loss Loss) func(*model.Scope, []*Node) []*Node {
	return func(s *model.Scope, in []*Node) []*Node {
		target, rest := targetOf(loss, in[2:])
		return withGradient(loss, o.checked(o.staged.LogitsGiven(s, in[0], noiseOf(rest)), in[0]), in[0], in[1], target)
	}
}

func withGradient(loss Loss, logits, at, y, target *Node) []*Node {
	l := loss.Graph(logits, y, target)
	return []*Node{Gradient(ReduceAllSum(l), at)[0], l, logits}
}

func noiseOf(in []*Node) *Node {
	if len(in) == 0 {
		return nil
	}
	return in[0]
}

func targetOf(loss Loss, in []*Node) (target *Node, rest []*Node) {
	if loss.targeted() {
		return in[0], in[1:]
	}
	return nil, in
}

// checked panics unless logits is [B,Classes].
func (o *engine) checked(logits, of *Node) *Node {
	if d := logits.Shape().Dimensions; len(d) != 2 || d[0] != of.Shape().Dimensions[0] || d[1] != o.c.Classes() {
		panic(fmt.Errorf("attacks: the classifier returned logits %s for %s; want one row of its %d classes an image", logits.Shape(), of.Shape(), o.c.Classes()))
	}
	return logits
}

// membersGraph: condition, noise of M members -> their logits [B,M,Classes].
func (o *engine) membersGraph(s *model.Scope, in []*Node) []*Node {
	m := o.parts.ensemble.MemberLogits(s, in[0], in[1])
	if m.Rank() != 3 || m.Shape().Dimensions[0] != in[0].Shape().Dimensions[0] || m.Shape().Dimensions[1] != in[1].Shape().Dimensions[1] || m.Shape().Dimensions[2] != o.c.Classes() {
		panic(fmt.Errorf("attacks: MemberLogits of the classifier returned %s for noise %s; want [B,M,%d]", m.Shape(), in[1].Shape(), o.c.Classes()))
	}
	return []*Node{m}
}

// aggregateGraph: logits of all members -> logits.
func (o *engine) aggregateGraph(_ *model.Scope, in []*Node) []*Node {
	return []*Node{o.checked(o.parts.ensemble.Aggregate(in[0]), in[0])}
}

// aggregateGradientGraph: logits of all members, y, target -> d sum loss/d logits of the members, loss [B], logits.
func (o *engine) aggregateGradientGraph(loss Loss) func(*model.Scope, []*Node) []*Node {
	return func(s *model.Scope, in []*Node) []*Node {
		target, _ := targetOf(loss, in[2:])
		return withGradient(loss, o.aggregateGraph(s, in[:1])[0], in[0], in[1], target)
	}
}

// pullGraph: condition, noise of M members, v [B,M,Classes] -> the gradient of <logits of the members, v> with respect to the condition.
func (o *engine) pullGraph(s *model.Scope, in []*Node) []*Node {
	return []*Node{Gradient(ReduceAllSum(Mul(o.membersGraph(s, in[:2])[0], in[2])), in[0])[0]}
}

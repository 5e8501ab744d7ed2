package models

import (
	"carsokit/internal/nn"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// stepGraph is one training step: x [B,S,S,3] in [0,1], y int32 [B], start [B,S,S,3] in [-1,1], lr a scalar; it returns the mean loss and the
// share classified correctly. Attack and update are one graph, so that a step is one call.
func (t *Trainer) stepGraph(_ *model.Scope, x, y, start, lr *Node) (loss, correct *Node) {
	r := t.Recipe
	live := nn.Net{Scope: t.Store.Scope(liveScope), Train: true}
	if r.Steps > 0 {
		delta := MulScalar(start, r.Eps)
		for range r.Steps {
			adv := ClipScalar(Add(x, delta), 0, 1)
			logits, _ := r.Net.Graph(live, adv, false)
			grad := Gradient(ReduceAllSum(nn.CrossEntropy(logits, y)), adv)[0]
			delta = StopGradient(ClipScalar(Add(delta, MulScalar(Sign(grad), r.StepSize)), -r.Eps, r.Eps))
		}
		x = StopGradient(ClipScalar(Add(x, delta), 0, 1))
	}
	live.Update = true
	logits, _ := r.Net.Graph(live, x, false)
	loss = ReduceAllMean(nn.CrossEntropy(logits, y))
	correct = ReduceAllMean(ConvertDType(Equal(ArgMax(logits, -1, y.DType()), y), loss.DType()))

	var params []nn.Param
	var values []*Node
	for _, p := range r.Net.Params() {
		if !p.Buffer() {
			params = append(params, p)
			values = append(values, live.Var(x, p.Name))
		}
	}
	grads := Gradient(loss, values...)
	for i, p := range params {
		g := grads[i]
		if p.Kind == nn.ConvKernel || p.Kind == nn.LinearWeight {
			g = Add(g, MulScalar(values[i], r.WeightDecay))
		}
		velocity := t.Store.Scope(velocityScope).GetVariable(p.Name)
		v := Add(MulScalar(velocity.NodeValue(x.Graph()), r.Momentum), g)
		velocity.SetNodeValue(v)
		g = Add(g, MulScalar(v, r.Momentum)) // Nesterov, as PyTorch writes it
		live.Scope.GetVariable(p.Name).SetNodeValue(Sub(values[i], Mul(g, lr)))
	}
	for _, p := range r.Net.Params() {
		if p.FileOnly() {
			continue
		}
		now := live.Scope.GetVariable(p.Name).NodeValue(x.Graph())
		average := t.Store.Scope(emaScope).GetVariable(p.Name)
		average.SetNodeValue(Add(MulScalar(average.NodeValue(x.Graph()), r.EMA), MulScalar(now, 1-r.EMA)))
	}
	return loss, correct
}

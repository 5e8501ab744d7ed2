package models

import (
	"carsokit/internal/nn"

	. "github.com/gomlx/gomlx/core/graph"
)

// stepGraph is one training step: x [B,S,S,3] in [0,1], targets [B,Classes], the shares of each image's classes, start [B,S,S,3] in [-1,1], lr a scalar; it returns
// the mean loss and the share of images whose largest target is predicted. Attack and update are one graph, so that a step is one call. With frozen set
// BatchNorm uses its running statistics and leaves them.
func (t *Trainer) stepGraph(frozen bool, x, targets, start, lr *Node) (loss, correct *Node) {
	r := t.Recipe
	live := nn.Net{Scope: t.Store.Scope(liveScope), Train: !frozen, BF16: r.BF16}
	updating := live
	updating.Update = !frozen
	aim := targets    // the adversary makes predictions unlike it
	var natural *Node // logits of the clean images
	if r.TRADES > 0 {
		natural, _ = r.Net.Graph(updating, x, false)
		aim = StopGradient(Softmax(natural, -1)) // whose cross-entropy has the gradient of the divergence from it
	}
	if r.Steps > 0 {
		delta := MulScalar(start, r.Eps)
		for range r.Steps {
			adv := ClipScalar(Add(x, delta), 0, 1)
			logits, _ := r.Net.Graph(live, adv, false)
			grad := Gradient(ReduceAllSum(nn.SoftCrossEntropy(logits, aim)), adv)[0]
			delta = StopGradient(ClipScalar(Add(delta, MulScalar(Sign(grad), r.StepSize)), -r.Eps, r.Eps))
		}
		x = StopGradient(ClipScalar(Add(x, delta), 0, 1))
	}
	logits, _ := r.Net.Graph(updating, x, false)
	if r.TRADES > 0 {
		loss = tradesLoss(natural, logits, targets, r.TRADES)
	} else {
		loss = ReduceAllMean(nn.SoftCrossEntropy(logits, targets))
	}
	correct = ReduceAllMean(ConvertDType(Equal(ArgMax(logits, -1), ArgMax(targets, -1)), loss.DType()))

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
		velocity := t.Store.Scope(velocityScope).GetVariable(p.Name)
		next, v := r.optimiser(p).Update(lr, values[i], grads[i], velocity.NodeValue(x.Graph()))
		velocity.SetNodeValue(v)
		live.Scope.GetVariable(p.Name).SetNodeValue(next)
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

// tradesLoss is the mean over the batch of the cross-entropy of the clean images and beta times the divergence of the attacked images' predictions q from the
// clean images' p, sum of p·log(p/q), which is differentiated through both. All of [B,Classes].
func tradesLoss(clean, attacked, targets *Node, beta float64) *Node {
	p, logp := Softmax(clean, -1), LogSoftmax(clean, -1)
	divergence := ReduceSum(Mul(p, Sub(logp, LogSoftmax(attacked, -1))), -1)
	return ReduceAllMean(Add(nn.SoftCrossEntropy(clean, targets), MulScalar(divergence, beta)))
}

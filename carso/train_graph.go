package carso

import (
	"carsokit/internal/nn"
	"carsokit/internal/optim"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// Scopes of the optimiser's state, which mirror the parts' names.
const (
	momentScope = "/radam_m"
	secondScope = "/radam_v"
	slowScope   = "/slow"
)

// pass is the training pass over a batch.
type pass struct {
	decoded, mu, logvar *Node // the reconstruction of the posterior's sample before its sigmoid, the posterior
	sampled             *Node // the reconstruction of a sample of the prior, before its sigmoid, or nil
	direct              *Node // the classifier's logits on the images themselves, where they take part
}

// forward is the training pass (spec: training 1): possibly attacked images [B,S,S,3] and noise [B,Latent] of the posterior; prior, of the same shape or nil, is
// decoded beside the posterior's sample.
func (n net) forward(attacked, noise, prior *Node) pass {
	var p pass
	logits, taps := n.Base.Graph(nn.Net{Scope: n.scope.Store().Scope(baseScope)}, attacked, !n.Direct)
	if n.Direct {
		p.direct = StopGradient(logits)
	}
	for i := range taps {
		taps[i] = StopGradient(taps[i])
	}
	cond, maps := n.condition(taps), n.maps(taps)
	p.mu, p.logvar = n.encode(attacked, cond)
	z := Add(p.mu, Mul(noise, Exp(MulScalar(p.logvar, 0.5))))
	correct := func(d *Node) *Node {
		if n.Residual {
			d = Add(d, pixelLogits(attacked))
		}
		return d
	}
	if prior == nil {
		p.decoded = correct(n.decode(z, cond, maps))
		return p
	}
	// Decoded in one go, so that BatchNorm's statistics are moved once, by samples of both.
	b := cond.Shape().Dimensions[0]
	twice := func(x *Node) *Node { return Concatenate([]*Node{x, x}, 0) }
	for l, m := range maps {
		if m != nil {
			maps[l] = twice(m)
		}
	}
	both := n.decode(Concatenate([]*Node{z, prior}, 0), twice(cond), maps)
	p.decoded, p.sampled = correct(SliceAxis(both, 0, AxisRange(0, b))), correct(SliceAxis(both, 0, AxisRange(b)))
	return p
}

// stepGraph is one training step. in is the attacked batch, the clean one, the posterior's noise, and h [5]: beta and then what RAdam.Coefficients gives for
// the step. With a class loss the labels [B] and noise of the prior follow. It returns four sums over the batch: the loss, the reconstruction term, the KL and
// the cross-entropy, the last three unweighted.
func (t *Trainer) stepGraph(_ *model.Scope, in []*Node) []*Node {
	attacked, x, noise, h := in[0], in[1], in[2], in[3]
	r := t.Recipe
	n := net{Config: r.Config, scope: t.Store.RootScope(), train: true, update: true}
	var prior *Node
	if r.ClassLoss > 0 {
		prior = in[5]
	}
	p := n.forward(attacked, noise, prior)
	bce, perLatent := ReduceAllSum(nn.BinaryCrossEntropy(p.decoded, x)), nn.GaussianKL(p.mu, p.logvar)
	kl := ReduceAllSum(perLatent)
	charged := kl
	if r.FreeBits > 0 {
		charged = MulScalar(ReduceAllSum(MaxScalar(ReduceMean(perLatent, 0), r.FreeBits)), float64(x.Shape().Dimensions[0]))
	}
	loss := Add(bce, Mul(Reshape(SliceAxis(h, 0, AxisElem(0))), charged))
	ce := ScalarZero(x.Graph(), loss.DType())
	if prior != nil {
		logits := (&Defence{Config: r.Config, store: t.Store}).SampleLogits(ExpandAxes(Sigmoid(p.sampled), 1))
		if p.direct != nil {
			logits = withDirect(logits, p.direct)
		}
		ce = ReduceAllSum(nn.CrossEntropy(Squeeze(logits, 1), in[4]))
		loss = Add(loss, MulScalar(ce, r.ClassLoss))
	}
	coefficients := SliceAxis(h, 0, AxisRange(1))

	var values []*Node
	var scopes []string
	var params []nn.Param
	for _, part := range n.Parts() {
		for _, p := range part.Params {
			if !p.Buffer() {
				params, scopes = append(params, p), append(scopes, "/"+part.Name)
				values = append(values, n.part(part.Name).Var(x, p.Name))
			}
		}
	}
	for i, g := range Gradient(loss, values...) {
		at := func(prefix string) *model.Variable {
			return t.Store.GetVariable(prefix + scopes[i] + "/" + params[i].Name)
		}
		m, v, slow := at(momentScope), at(secondScope), at(slowScope)
		now := func(v *model.Variable) *Node { return v.NodeValue(x.Graph()) }
		pNew, mNew, vNew, slowNew := optim.Reference.Update(coefficients, values[i], g, now(m), now(v), now(slow))
		at("").SetNodeValue(pNew)
		m.SetNodeValue(mNew)
		v.SetNodeValue(vNew)
		slow.SetNodeValue(slowNew)
	}
	return []*Node{loss, bce, kl, ce}
}

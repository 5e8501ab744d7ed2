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

// lossGraph is the training pass (spec: training 1): the possibly attacked images in and the clean targets x, each [B,S,S,3], posterior noise
// [B,Latent]. It returns the reconstruction before its sigmoid, the posterior, and the two sums over the batch.
func (n net) lossGraph(attacked, x, noise *Node) (decoded, mu, logvar, bce, kl *Node) {
	_, taps := n.Base.Graph(nn.Net{Scope: n.scope.Store().Scope(baseScope)}, attacked, true)
	for i := range taps {
		taps[i] = StopGradient(taps[i])
	}
	cond := n.condition(taps)
	mu, logvar = n.encode(attacked, cond)
	z := Add(mu, Mul(noise, Exp(MulScalar(logvar, 0.5))))
	decoded = n.decode(z, cond)
	return decoded, mu, logvar, ReduceAllSum(nn.BinaryCrossEntropy(decoded, x)), ReduceAllSum(nn.GaussianKL(mu, logvar))
}

// stepGraph is one training step. h [5] is beta and then what RAdam.Coefficients gives for the step. It returns the total loss, the reconstruction term and
// the KL, unweighted.
func (t *Trainer) stepGraph(_ *model.Scope, attacked, x, noise, h *Node) (loss, bce, kl *Node) {
	n := net{Config: t.Recipe.Config, scope: t.Store.RootScope(), train: true, update: true}
	_, _, _, bce, kl = n.lossGraph(attacked, x, noise)
	loss = Add(bce, Mul(Reshape(SliceAxis(h, 0, AxisElem(0))), kl))
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
	return loss, bce, kl
}

package attacks

import (
	"context"
	"slices"

	"carsokit/internal/rng"
)

// FGSM is the fast gradient sign method of Goodfellow et al. (2015): one step of size Eps along the sign of the gradient of the
// cross-entropy, without a random start.
type FGSM struct {
	Eps float64 `json:"eps"`
	EoT int     `json:"eot"` // draws averaged; 1 for a deterministic classifier
}

func (a FGSM) Name() string     { return "fgsm" }
func (a FGSM) Budget() float64  { return a.Eps }
func (a FGSM) Evaluations() int { return 1 }

func (a FGSM) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), countRule("EoT", a.EoT))
}

func (a FGSM) MarshalJSON() ([]byte, error) {
	type fields FGSM
	return withKind(a.Name(), fields(a))
}

func (a FGSM) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	g, err := o.Gradient(ctx, CE, b, seed.Child("step", 0), a.EoT, nil)
	if err != nil {
		return nil, err
	}
	n, d, eps := b.Len(), b.Dim(), float32(a.Eps)
	r := &Result{Adv: slices.Clone(b.X), Diag: make([]Diag, n)}
	each(upTo(n), d, func(_, i int) {
		adv := r.Adv[i*d : (i+1)*d]
		for k, v := range adv {
			adv[k] = clip(v+eps*sign(g.G[i*d+k]), 0, 1) // eps*sign is exact: no fused multiply-add can change it
		}
		r.Diag[i].note(g, i)
		r.Diag[i].Moved = moved(adv, b.Image(i))
	})
	r.Best = r.Adv
	return r, nil
}

package attacks

import (
	"context"
	"errors"
	"slices"

	"carsokit/internal/rng"
)

// Representation attacks what a staged defence conditions on, not what it decides: projected steps, from a random start, that move Condition(x)
// away from that of the clean image as far as they can in l2. It needs no label, no loss and no draw, so whatever saturates or is random
// behind the condition cannot mislead it (the feature adversaries of Sabour et al. 2016, untargeted). It returns the point of largest distance.
type Representation struct {
	Eps   float64 `json:"eps"`
	Step  float64 `json:"step"`
	Steps int     `json:"steps"`
}

// StandardRepresentation takes steps of a quarter of the budget.
func StandardRepresentation(eps float64, steps int) Representation {
	return Representation{Eps: eps, Step: max(eps/4, 1e-6), Steps: steps}
}

func (a Representation) Name() string     { return "representation" }
func (a Representation) Budget() float64  { return a.Eps }
func (a Representation) Evaluations() int { return a.Steps + 1 }

func (a Representation) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), stepRule(a.Step), countRule("Steps", a.Steps))
}

func (a Representation) MarshalJSON() ([]byte, error) {
	type fields Representation
	return withKind(a.Name(), fields(a))
}

// ErrNotStaged is returned by an attack on the condition of a classifier that has none.
var ErrNotStaged = errors.New("attacks: the classifier has no condition to attack: it does not implement Staged, or is deterministic")

// Run attacks every image. A classifier that is not Staged is an error.
func (a Representation) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	n, d, eps, step := b.Len(), b.Dim(), float32(a.Eps), float32(a.Step)
	clean, k, err := o.Condition(ctx, b)
	if err != nil {
		return nil, err
	}
	r := &Result{Adv: slices.Clone(b.X), BestLoss: make([]float32, n), Diag: make([]Diag, n)}
	now := b
	now.X = slices.Clone(b.X)
	each(upTo(n), d, func(_, i int) {
		t := make([]float32, d)
		o.random.Start(t, seed.Child("start"), b.ID[i])
		for j, v := range t {
			at := i*d + j
			now.X[at] = clip(b.X[at]+float32(eps*v), 0, 1)
		}
	})
	start := slices.Clone(now.X)
	for t := range a.Steps + 1 {
		g, err := o.distance(ctx, now, clean, k)
		if err != nil {
			return nil, err
		}
		each(upTo(n), d, func(_, i int) {
			r.Diag[i].note(g, i)
			x := now.Image(i)
			r.Diag[i].Moved = r.Diag[i].Moved || moved(x, start[i*d:(i+1)*d])
			if t == 0 || g.Loss[i] > r.BestLoss[i] {
				r.BestLoss[i] = g.Loss[i]
				copy(r.Adv[i*d:], x)
			}
			for j := range x {
				from := b.X[i*d+j]
				x[j] = clip(from+clip(x[j]+step*sign(g.G[i*d+j])-from, -eps, eps), 0, 1)
			}
		})
	}
	r.Best = r.Adv
	return r, nil
}

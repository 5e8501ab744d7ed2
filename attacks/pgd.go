package attacks

import (
	"context"
	"slices"

	"carsokit/internal/rng"
)

// PGD is the projected gradient descent of Madry et al. (2018) on the cross-entropy, as the reference trains with it (advertorch's
// LinfPGDAttack): a random start in the ball, Steps signed steps, the last iterate, no early stop.
type PGD struct {
	Eps         float64 `json:"eps"`
	Step        float64 `json:"step"`
	Steps       int     `json:"steps"`
	EoT         int     `json:"eot"`          // draws averaged; 1 for a deterministic classifier
	RandomStart bool    `json:"random_start"` // uniform in the ball
}

func (a PGD) Name() string     { return "pgd" }
func (a PGD) Budget() float64  { return a.Eps }
func (a PGD) Evaluations() int { return a.Steps }

func (a PGD) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), stepRule(a.Step), countRule("Steps", a.Steps), countRule("EoT", a.EoT))
}

func (a PGD) MarshalJSON() ([]byte, error) {
	type fields PGD
	return withKind(a.Name(), fields(a))
}

func (a PGD) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	eps, step := float32(a.Eps), float32(a.Step)
	// The change of the image is the state, as in the reference: x + delta is rounded anew at every step.
	delta := make([]float32, len(b.X))
	return climb(ctx, o, b, seed, climber{
		steps: a.Steps, eot: a.EoT, randomStart: a.RandomStart,
		start: func(k int, t float32) float32 {
			delta[k] = clip(b.X[k]+float32(t*eps), 0, 1) - b.X[k]
			return b.X[k] + delta[k]
		},
		move: func(k int, _, s float32) float32 {
			moved := clip(delta[k]+step*s, -eps, eps)
			delta[k] = clip(b.X[k]+moved, 0, 1) - b.X[k]
			return b.X[k] + delta[k]
		},
	})
}

// climber is what the plain iterated attacks differ in: how one pixel value, number k of the batch, starts and moves.
type climber struct {
	steps, eot  int
	randomStart bool
	start       func(k int, t float32) float32    // t in [-1,1) -> the first iterate
	move        func(k int, x, s float32) float32 // iterate and sign of the gradient -> the next one
}

// climb takes signed steps up the cross-entropy and returns the last iterate.
func climb(ctx context.Context, o *Oracle, b Batch, seed rng.Seed, c climber) (*Result, error) {
	n, d := b.Len(), b.Dim()
	r := &Result{Adv: slices.Clone(b.X), Diag: make([]Diag, n)}
	if c.randomStart {
		each(upTo(n), d, func(_, i int) {
			t := make([]float32, d)
			o.random.Start(t, seed.Child("start"), b.ID[i])
			for k := range t {
				r.Adv[i*d+k] = clip(c.start(i*d+k, t[k]), 0, 1)
			}
		})
	}
	now := b
	now.X = r.Adv
	for step := range c.steps {
		g, err := o.Gradient(ctx, CE, now, seed.Child("step", step), c.eot, nil)
		if err != nil {
			return nil, err
		}
		each(upTo(n), d, func(_, i int) {
			r.Diag[i].note(g, i)
			away := false
			for k := i * d; k < (i+1)*d; k++ {
				next := clip(c.move(k, r.Adv[k], sign(g.G[k])), 0, 1)
				away = away || next != r.Adv[k]
				r.Adv[k] = next
			}
			r.Diag[i].Moved = r.Diag[i].Moved || away
		})
	}
	r.Best = r.Adv
	return r, nil
}

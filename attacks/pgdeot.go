package attacks

import (
	"context"

	"carsokit/internal/rng"
)

// PGDEoT is the projected gradient descent with averaged gradients that the CARSO paper evaluates with (its repository's pgdeot.py, after
// Athalye et al. 2018): no random start, the last iterate, and images are attacked whether or not they are classified correctly.
type PGDEoT struct {
	Eps         float64 `json:"eps"`
	Step        float64 `json:"step"`
	Steps       int     `json:"steps"`
	EoT         int     `json:"eot"`
	RandomStart bool    `json:"random_start"` // uniform in the ball; false in the paper
}

// PaperPGDEoT is the setting of the paper's tables: 200 steps of 0.007, 20 draws each.
func PaperPGDEoT(eps float64) PGDEoT { return PGDEoT{Eps: eps, Step: 0.007, Steps: 200, EoT: 20} }

func (a PGDEoT) Name() string     { return "pgd-eot" }
func (a PGDEoT) Budget() float64  { return a.Eps }
func (a PGDEoT) Evaluations() int { return a.Steps }

func (a PGDEoT) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), stepRule(a.Step), countRule("Steps", a.Steps), countRule("EoT", a.EoT))
}

func (a PGDEoT) MarshalJSON() ([]byte, error) {
	type fields PGDEoT
	return withKind(a.Name(), fields(a))
}

func (a PGDEoT) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	eps, step := float32(a.Eps), float32(a.Step)
	return climb(ctx, o, b, seed, climber{
		steps: a.Steps, eot: a.EoT, randomStart: a.RandomStart,
		start: func(k int, t float32) float32 { return b.X[k] + float32(t*eps) },
		move: func(k int, x, s float32) float32 {
			return b.X[k] + clip(x+step*s-b.X[k], -eps, eps)
		},
	})
}

package attacks

import (
	"context"

	"carsokit/internal/rng"
)

// APGDTargeted is AutoAttack's apgd-t: Auto-PGD towards each of the classes of rank 2 to Targets+1 of a fresh pass at the clean image, on the images not
// broken before. What counts is that the label is lost, whether or not the target is reached.
type APGDTargeted struct {
	Eps            float64 `json:"eps"`
	Loss           Loss    `json:"loss"` // DLRTargeted or MarginTargeted
	Steps          int     `json:"steps"`
	EoT            int     `json:"eot"`
	Targets        int     `json:"targets"` // at most all classes but one are used
	Restarts       int     `json:"restarts"`
	Rho            float64 `json:"rho"`
	StopWhenBroken bool    `json:"stop_when_broken"` // see APGD
	AverageLoss    bool    `json:"average_loss,omitempty"`
}

// StandardAPGDTargeted is AutoAttack's setting: 100 steps towards each of 9 targets, one start.
func StandardAPGDTargeted(eps float64, eot int) APGDTargeted {
	return APGDTargeted{Eps: eps, Loss: DLRTargeted, Steps: 100, EoT: eot, Targets: 9, Restarts: 1, Rho: 0.75}
}

func (a APGDTargeted) Name() string {
	if a.Loss == DLRTargeted {
		return "apgd-t"
	}
	return "apgd-" + string(a.Loss)
}
func (a APGDTargeted) Budget() float64  { return a.Eps }
func (a APGDTargeted) Evaluations() int { return (1 + a.Steps) * a.Targets * a.Restarts }

func (a APGDTargeted) Validate() error {
	if err := a.Loss.Validate(); err != nil {
		return err
	}
	return firstBroken(a.Name(), epsRule(a.Eps), countRule("Steps", a.Steps), countRule("EoT", a.EoT), countRule("Targets", a.Targets),
		countRule("Restarts", a.Restarts), rule{a.Loss.targeted(), "Loss", a.Loss, "a targeted loss; APGD takes the others"}, shareRule("Rho", a.Rho))
}

func (a APGDTargeted) MarshalJSON() ([]byte, error) {
	type fields APGDTargeted
	return withKind("apgd-t", fields(a))
}

// Run attacks the images that one fresh pass classifies correctly; the others return as they are, broken without a step.
func (a APGDTargeted) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	return a.each().ascender().targets(ctx, o, b, seed, a.Targets, a.Restarts)
}

// each is what runs towards one target.
func (a APGDTargeted) each() APGD {
	return APGD{Eps: a.Eps, Loss: a.Loss, Steps: a.Steps, EoT: a.EoT, Rho: a.Rho, StopWhenBroken: a.StopWhenBroken, AverageLoss: a.AverageLoss}
}

// targets makes restarts starts towards each of several classes.
func (a ascender) targets(ctx context.Context, o *Oracle, b Batch, seed rng.Seed, targets, restarts int) (*Result, error) {
	if err := a.Loss.check(o.Classes(), []int32{}); err != nil {
		return nil, err
	}
	r, err := unattacked(ctx, o, b, seed)
	if err != nil {
		return nil, err
	}
	for rank := range min(targets, o.Classes()-1) {
		for restart := range restarts {
			if err := a.start(ctx, o, b, seed.Child("target", rank).Child("restart", restart), rank+2, r); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// MultiTargeted is the attack of Gowal et al. (2019, "An Alternative Surrogate Loss for PGD-based Adversarial Testing"): for every class, steps that raise
// the logit of that class against the label's, from a random start; the step size falls to a tenth at half of the steps and to a hundredth at three quarters.
// Theirs steps with Adam, this one with signs.
type MultiTargeted struct {
	Eps      float64 `json:"eps"`
	Step     float64 `json:"step"` // the first step size, in units of Eps
	Steps    int     `json:"steps"`
	EoT      int     `json:"eot"`
	Targets  int     `json:"targets"` // classes tried, in the order of the clean logits; at most all but one are used
	Restarts int     `json:"restarts"`
}

// StandardMultiTargeted takes 200 steps towards each of 9 classes.
func StandardMultiTargeted(eps float64, eot int) MultiTargeted {
	return MultiTargeted{Eps: eps, Step: 0.5, Steps: 200, EoT: eot, Targets: 9, Restarts: 1}
}

func (a MultiTargeted) Name() string     { return "multi-targeted" }
func (a MultiTargeted) Budget() float64  { return a.Eps }
func (a MultiTargeted) Evaluations() int { return (1 + a.Steps) * a.Targets * a.Restarts }

func (a MultiTargeted) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), stepRule(a.Step), countRule("Steps", a.Steps), countRule("EoT", a.EoT),
		countRule("Targets", a.Targets), countRule("Restarts", a.Restarts))
}

func (a MultiTargeted) MarshalJSON() ([]byte, error) {
	type fields MultiTargeted
	return withKind(a.Name(), fields(a))
}

// Run attacks the images that one fresh pass classifies correctly; the others return as they are, broken without a step.
func (a MultiTargeted) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	climb := ascender{APGD: APGD{Eps: a.Eps, Loss: MarginTargeted, Steps: a.Steps, EoT: a.EoT}, step: a.Step * a.Eps, momentum: 1, adapt: func(s *ascent, t int) {
		if t+1 == a.Steps/2 || t+1 == a.Steps*3/4 {
			for _, i := range s.active {
				s.step[i] /= 10
			}
		}
	}}
	return climb.targets(ctx, o, b, seed, a.Targets, a.Restarts)
}

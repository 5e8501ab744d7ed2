package carso

import (
	"fmt"
	"math"

	"carsokit/internal/rng"
)

// Recipe is how a purifier is trained (spec: training). The reference's choices are the defaults of ReferenceRecipe; a smaller scale changes sizes and
// counts only. Its fields and the frozen classifier decide the result.
type Recipe struct {
	Config Config `json:"config"`
	Epochs int    `json:"epochs"`
	Batch  int    `json:"batch"` // per process, which is what the learning rate scales with
	// ScheduleEvery is the number of steps of one tick of the learning-rate and beta schedules. 0 is an epoch, as in the reference; a short run
	// sets it lower so that its schedules have as many ticks as the reference's.
	ScheduleEvery int     `json:"schedule_every"`
	Fraction      float64 `json:"adversarial_fraction"` // phi: the share of a batch that is attacked
	WeakEps       float64 `json:"weak_eps"`             // nominal, in [0,1] units
	StrongEps     float64 `json:"strong_eps"`
	// EpsMultiplier scales both. The reference's data-set keys multiply by 3/sum(std), about 4, as if the images were standardised, though they
	// are not; 1 trains at the nominal strength.
	EpsMultiplier float64  `json:"eps_multiplier"`
	PGDSteps      int      `json:"pgd_steps"`
	PGDStep       float64  `json:"pgd_step"` // not multiplied
	HeldOut       int      `json:"held_out"` // training images kept apart, on which the run is watched
	Seed          rng.Seed `json:"seed"`
}

// Validate reports the first setting that cannot be.
func (r Recipe) Validate() error {
	if err := r.Config.Validate(); err != nil {
		return err
	}
	for _, c := range []struct {
		bad  bool
		what string
	}{
		{r.Epochs < 1, "epochs must be at least 1"},
		{r.Batch < 2, "batch must be at least 2: BatchNorm needs a variance"},
		{r.ScheduleEvery < 0, "schedule_every must not be negative"},
		{r.ScheduleEvery > 0 && r.ScheduleEvery < unrectified, "schedule_every must be 0 or at least 5: RAdam does not normalise its first five steps, which only the tiny rate of the first tick makes harmless"},
		{r.Fraction < 0 || r.Fraction > 1, "adversarial_fraction must be in [0,1]"},
		{r.WeakEps < 0 || r.StrongEps < 0 || r.EpsMultiplier < 0, "eps must not be negative"},
		{r.StrongEps*r.EpsMultiplier > 1, "strong_eps times eps_multiplier must not exceed 1"},
		{r.atom() > 0 && (r.PGDSteps < 1 || r.PGDStep <= 0), "pgd_steps and pgd_step must be positive"},
		{r.HeldOut < 0, "held_out must not be negative"},
	} {
		if c.bad {
			return fmt.Errorf("purifier recipe: %s", c.what)
		}
	}
	return nil
}

// atom is the number of images each of the four adversaries gets; the rest of the batch, which comes first, stays clean.
func (r Recipe) atom() int { return int(float64(r.Batch) * r.Fraction / 4) }

// Beta is the weight of the KL term at a tick of E: 0 for an eighth of the run, then rising linearly to 1 within a twenty-fourth.
func Beta(tick, ticks int) float64 {
	lag := ceilDiv(ticks, 8)
	warm := ceilDiv(ticks, 24)
	switch {
	case tick < lag:
		return 0
	case tick < lag+warm:
		return float64(tick-lag) / float64(warm)
	}
	return 1
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// LearningRate at a tick of E for a per-process batch: linear from 5e-9 to 1e-4·batch, flat, linear towards 1.25e-8·batch.
func LearningRate(tick, ticks, batch int) float64 {
	first, peak, last := 5e-9, 1e-4*float64(batch), 1.25e-8*float64(batch)
	up, flat := max(3, ticks/8), max(1, ticks/8)
	anneal := ticks - 2*(ticks/8)
	switch {
	case tick < up:
		return first + (peak-first)*float64(tick)/float64(up)
	case tick < up+flat:
		return peak
	}
	return peak + (last-peak)*float64(tick-up-flat)/float64(anneal)
}

// Constants of RAdam inside Lookahead.
const (
	beta1          = 0.9
	beta2          = 0.999
	adamEps        = 1e-8
	lookaheadSteps = 6
	lookaheadAlpha = 0.8 // the weight of the fast parameters
	unrectified    = 5   // RAdam's first steps, see radam
)

// radam returns what RAdam multiplies by at inner step t, counted from 1, with learning rate 1: rectified says whether the step is
// size·m/(sqrt(v)+eps) or, in the first five, size·m.
func radam(t int) (size float64, rectified bool) {
	const limit = 2/(1-beta2) - 1
	b1, b2 := math.Pow(beta1, float64(t)), math.Pow(beta2, float64(t))
	length := limit - 2*float64(t)*b2/(1-b2)
	if length < 5 {
		return 1 / (1 - b1), false
	}
	return math.Sqrt((1-b2)*(length-4)/(limit-4)*(length-2)/length*limit/(limit-2)) / (1 - b1), true
}

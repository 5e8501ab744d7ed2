package carso

import (
	"cmp"
	"fmt"

	"carsokit/internal/optim"
	"carsokit/internal/rng"
	"carsokit/models"
)

// Recipe is how a purifier is trained (spec: training), by RAdam inside Lookahead (optim.Reference) on the sum of the loss over the batch. PaperRecipe has the
// reference's choices; a smaller scale changes sizes and counts only. Its fields and the frozen classifier decide the result.
type Recipe struct {
	Config Config `json:"config"`
	Epochs int    `json:"epochs"`
	Batch  int    `json:"batch"` // per process, which is what the learning rate scales with and adversaries are dealt out in
	// Processes is by how many Batch is taken at every step. The reference runs that many, sums their gradients and shares BatchNorm's statistics; here one
	// process computes the same on all of it at once. 0 is 1.
	Processes int `json:"processes,omitempty"`
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

	// What follows goes beyond the reference; zero is its way.

	// Start is the stem of a trained purifier of the same shape and classifier, whose weights the run starts at; "" is new ones.
	Start string `json:"start,omitempty"`
	// Rate scales the learning rate, whose peak the reference sets for new weights; 0 is 1.
	Rate float64 `json:"rate,omitempty"`
	// EndToEnd, if positive, replaces the four adversaries by one that knows the defence: so many steps of PGD from a random start through classifier, purifier,
	// classifier and log S of one sample, at StrongEps times EpsMultiplier.
	EndToEnd int `json:"end_to_end,omitempty"`
	// ClassLoss weighs the cross-entropy of the decision by the reconstruction of a sample of the prior, which is what inference decodes, against the
	// reconstruction term, which is a sum over pixels.
	ClassLoss float64 `json:"class_loss,omitempty"`
	// FreeBits is how many nats of KL each latent dimension has for nothing, on the mean of a batch (Kingma et al. 2016): what keeps the posterior from collapsing.
	FreeBits float64 `json:"free_bits,omitempty"`
	// KLWeight scales beta, the weight of the KL term; 0 is 1.
	KLWeight float64 `json:"kl_weight,omitempty"`
	Crop     int     `json:"crop,omitempty"`
	Flip     bool    `json:"flip,omitempty"`
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
		{r.Processes < 0, "processes must not be negative"},
		{r.ScheduleEvery < 0, "schedule_every must not be negative"},
		{r.ScheduleEvery > 0 && r.ScheduleEvery < optim.Reference.Unrectified(), "schedule_every must be 0 or at least 5: RAdam does not normalise its first five steps, which only the tiny rate of the first tick makes harmless"},
		{r.Fraction < 0 || r.Fraction > 1, "adversarial_fraction must be in [0,1]"},
		{r.WeakEps < 0 || r.StrongEps < 0 || r.EpsMultiplier < 0, "eps must not be negative"},
		{r.StrongEps*r.EpsMultiplier > 1, "strong_eps times eps_multiplier must not exceed 1"},
		{r.Rate < 0, "rate must not be negative"},
		{r.EndToEnd < 0 || r.ClassLoss < 0 || r.FreeBits < 0 || r.KLWeight < 0 || r.Crop < 0, "end_to_end, class_loss, free_bits, kl_weight and crop must not be negative"},
		{r.EndToEnd == 0 && r.atom() > 0 && (r.PGDSteps < 1 || r.PGDStep <= 0), "pgd_steps and pgd_step must be positive"},
		{r.HeldOut < 0, "held_out must not be negative"},
	} {
		if c.bad {
			return fmt.Errorf("purifier recipe: %s", c.what)
		}
	}
	return nil
}

// total is the number of images of a step.
func (r Recipe) total() int { return r.Batch * max(1, r.Processes) }

// EpsMultiplier is the factor by which the reference's data-set keys scale the eps of training: 3/sum(std), about 4 (spec: training 5).
func EpsMultiplier(std [3]float32) float64 {
	return 3 / (float64(std[0]) + float64(std[1]) + float64(std[2]))
}

// PaperConfig is the purifier of the reference around a classifier of 32x32 or 64x64 images.
func PaperConfig(base, final models.WRN) Config {
	c := Config{Base: base, Final: final, Cond: 512, Latent: 128, Channels: 256}
	if c.big() {
		c.Cond, c.Latent = 768, 192
	}
	return c
}

// PaperRecipe is how the reference trains the purifier of one of the PaperScenarios, as its scripts launch it (spec: training 6). Nothing is held out.
//
// Scenario c gives each of four adversaries a hundredth of 128 images divided by 4, rounded down: none. It therefore trains on clean images; a larger Batch with
// fewer Processes changes that.
func PaperRecipe(s Scenario) (Recipe, error) {
	base, err := models.FindReference(s.Classifier)
	if err != nil {
		return Recipe{}, fmt.Errorf("recipe of scenario %s: %w", s.ID, err)
	}
	r := Recipe{
		Config: PaperConfig(base.Net, base.Net), Epochs: 200, Batch: 640, Processes: 8, Fraction: 0.5, WeakEps: 4. / 255, StrongEps: 8. / 255,
		EpsMultiplier: EpsMultiplier(base.Net.Std), PGDSteps: 40, PGDStep: 0.01, Seed: 20230603,
	}
	switch s.Dataset {
	case "cifar100":
		r.Processes, r.Fraction = 4, 0.15
	case "tinyimagenet":
		r.Epochs, r.Batch, r.Fraction = 250, 128, 0.01
	}
	return r, nil
}

// atom is the number of images each of the four adversaries gets of Batch; the rest of it, which comes first, stays clean.
func (r Recipe) atom() int { return int(float64(r.Batch) * r.Fraction / 4) }

// attacked is the number of images of a step that are attacked.
func (r Recipe) attacked() int {
	if r.EndToEnd > 0 {
		return int(float64(r.total()) * r.Fraction)
	}
	return 4 * r.atom() * max(1, r.Processes)
}

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

// Beta is that of the recipe at a tick.
func (r Recipe) Beta(tick, ticks int) float64 {
	return cmp.Or(r.KLWeight, 1) * Beta(tick, ticks)
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// LearningRate is that of the recipe at a tick.
func (r Recipe) LearningRate(tick, ticks int) float64 {
	return cmp.Or(r.Rate, 1) * LearningRate(tick, ticks, r.Batch)
}

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

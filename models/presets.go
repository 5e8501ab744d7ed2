package models

import (
	"fmt"
	"slices"
	"strings"
)

// SmallRecipe returns the recipe of the classifier of a data set at a scale that two CPU cores, for medium one GPU, can train, adversarially or, for the sanity row of the
// main table, plainly.
//
// small: WRN-10-2 by FGSM from a random start, step 1.25·eps (Wong et al. 2020), about 45 minutes on two cores on CIFAR-10, whose 13 epochs the others cut to some
// 20 minutes: CIFAR-100 to 6 epochs, TinyImageNet-200 to 3, with a stride of 2 in its first convolution, so that a step costs what one of CIFAR costs. The plain
// nets are WRN-10-1, five minutes. medium: WRN-28-4 for one GPU, by two steps of attack. tiny: seconds on a few hundred images, for tests.
func SmallRecipe(dataset, scale string, plain bool) (Recipe, error) {
	r := Recipe{
		Epochs: 13, Batch: 64, Eps: 8. / 255, Steps: 1, StepSize: 10. / 255,
		PeakLR: 0.12, Warmup: 0.25, Momentum: 0.9, WeightDecay: 5e-4, EMA: 0.999, Crop: 4, Flip: true, HeldOut: 1000, Seed: 20230601,
	}
	width := 2
	if plain || scale == "tiny" {
		width = 1
	}
	switch dataset {
	case "cifar10":
		r.Net = CIFAR10WRN(10, width)
	case "cifar100":
		r.Net, r.Epochs = CIFAR100WRN(10, width), 6
	case "tinyimagenet":
		r.Net, r.Epochs, r.Crop = TinyImageNetWRN(10, width), 3, 8
		r.Net.Stride = 2
	default:
		return Recipe{}, fmt.Errorf("no classifier recipe for data set %q: there are those of cifar10, cifar100 and tinyimagenet", dataset)
	}
	if plain {
		r.Epochs, r.Steps, r.StepSize = min(r.Epochs, 5), 0, 0
	}
	switch scale {
	case "small":
	case "medium":
		// Two steps of attack instead of one: a network of this size can learn to mislead one, and no longer resist any other (Wong et al. 2020).
		if !plain {
			r.Net.Depth, r.Net.Width = 28, 4
			// The average is over less than a tenth of the run; an epoch has a quarter of the small scale's steps.
			r.Epochs, r.Batch, r.PeakLR, r.Steps, r.StepSize, r.EMA = 18, 256, 0.2, 2, 6./255, 0.996
		}
	case "tiny":
		r.Epochs, r.Batch, r.HeldOut = 1, 50, 100
	default:
		return Recipe{}, fmt.Errorf("no classifier recipe at scale %q: there are tiny, small and medium", scale)
	}
	return r, nil
}

// Widened is a network of twice the width and a stride of 2 in its first convolution: nearly the same operations, four times the parameters. Robustness to attacks takes
// capacity before resolution: by the ablation "wide" it is the better network to train for the same time.
func (w WRN) Widened() WRN {
	w.Width, w.Stride = 2*w.Width, 2
	return w
}

// Ablation is the small recipe of CIFAR-10 in less than a quarter of its time, with one thing changed. All cost about what the first does, counted in passes with gradient over
// the training split times the network's operations, so that their curves tell what the time is best spent on.
type Ablation struct {
	Name, What string
	change     func(*Recipe)
}

// Ablations lists them; the first changes nothing.
func Ablations() []Ablation {
	return []Ablation{
		{"short", "the recipe, 3 epochs of FGSM from a random start", func(*Recipe) {}},
		{"no-average", "without averaging weights", func(r *Recipe) { r.EMA = 0 }},
		{"no-augmentation", "without crops and flips", func(r *Recipe) { r.Crop, r.Flip = 0, false }},
		{"smoothing", "labels smoothed by 0.1", func(r *Recipe) { r.LabelSmoothing = 0.1 }},
		{"decay", "a tenth of the weight decay", func(r *Recipe) { r.WeightDecay /= 10 }},
		{"rate", "twice the learning rate", func(r *Recipe) { r.PeakLR *= 2 }},
		{"pgd", "1 epoch of PGD of 5 steps", func(r *Recipe) { r.Steps, r.StepSize = 5, r.Eps/2; r.once() }},
		{"trades", "1 epoch of TRADES with beta 6 and 4 steps", func(r *Recipe) { r.Steps, r.StepSize, r.TRADES = 4, r.Eps/2, 6; r.once() }},
		{"wide", "twice the width after a stride of 2 in the first convolution", func(r *Recipe) { r.Net = r.Net.Widened() }},
		{"narrow", "10 epochs of half the width", func(r *Recipe) { r.Net.Width, r.Epochs, r.EMA = r.Net.Width/2, 10, 0.999 }},
	}
}

// once makes a run of one epoch of three, and averages weights over the same share of it.
func (r *Recipe) once() { r.Epochs, r.EMA = 1, 0.987 }

// Recipe is the ablation's.
func (a Ablation) Recipe() (Recipe, error) {
	r, err := SmallRecipe("cifar10", "small", false)
	if err != nil {
		return r, err
	}
	r.Epochs, r.EMA = 3, 0.996 // the average is over a tenth of the run, as the 13 epochs have it
	a.change(&r)
	return r, nil
}

// AblationNames are those that FindAblation takes.
func AblationNames() (names []string) {
	for _, a := range Ablations() {
		names = append(names, a.Name)
	}
	return names
}

// FindAblation finds one by its name.
func FindAblation(name string) (Ablation, error) {
	if i := slices.Index(AblationNames(), name); i >= 0 {
		return Ablations()[i], nil
	}
	return Ablation{}, fmt.Errorf("no ablation of the classifier's training is called %q; there are %s", name, strings.Join(AblationNames(), ", "))
}

// PaperPlainRecipe is how the reference trains its plain classifier own_2025 on CIFAR-10 or CIFAR-100 (spec: training 7), for a network such as
// CIFAR10WRN(28, 10), which gets BlurPool. frozenBN repeats a mistake of the reference, see Recipe.FrozenBN.
//
// Deviations: the last, partial batch of an epoch is left out, and the best weights are chosen on held-out training images, not on the test set.
func PaperPlainRecipe(net WRN, frozenBN bool) Recipe {
	net.BlurPool = true
	return Recipe{
		Net: net, Epochs: 120, Batch: 128, PeakLR: 0.045, Warmup: 40. / 120, CosineWarmup: true, FirstLR: 5e-6, FinalLR: 1e-4,
		Momentum: 0.9, WeightDecay: 5e-4, DecayAll: true, Crop: 4, Flip: true, Mixup: 0.2, LabelSmoothing: 0.1, FrozenBN: frozenBN,
		HeldOut: 1000, Seed: 20230604,
	}
}

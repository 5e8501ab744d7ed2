package models

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"carsokit/checkpoints"
	"carsokit/internal/goldentest"

	"github.com/janpfeifer/must"
)

func TestRecipeErrors(t *testing.T) {
	good, err := SmallRecipe("cifar10", "small", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Recipe){
		"depth 12":     func(r *Recipe) { r.Net.Depth = 12 },
		"width 0":      func(r *Recipe) { r.Net.Width = 0 },
		"classes":      func(r *Recipe) { r.Net.Classes = 1 },
		"image side":   func(r *Recipe) { r.Net.Size = 30 },
		"epochs":       func(r *Recipe) { r.Epochs = 0 },
		"eps":          func(r *Recipe) { r.Eps = 2 },
		"attack_step ": func(r *Recipe) { r.StepSize = 0 },
		"ema":          func(r *Recipe) { r.EMA = 1 },
		"momentum":     func(r *Recipe) { r.Momentum = 1 },
	} {
		r := good
		change(&r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%q: error %v", want, err)
		}
	}
	for want, at := range map[string][2]string{"scale \"huge\"": {"cifar10", "huge"}, "data set \"mnist\"": {"mnist", "small"}} {
		if _, err := SmallRecipe(at[0], at[1], false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", at, err)
		}
	}
}

// TestSmallRecipes: every data set has recipes of its own classes and image size, and the weights that ship were trained by those of CIFAR-10.
func TestSmallRecipes(t *testing.T) {
	for dataset, want := range map[string][2]int{"cifar10": {10, 32}, "cifar100": {100, 32}, "tinyimagenet": {200, 64}} {
		for _, scale := range []string{"tiny", "small"} {
			for _, plain := range []bool{false, true} {
				r, err := SmallRecipe(dataset, scale, plain)
				if err == nil {
					err = r.Validate()
				}
				if err != nil || r.Net.Classes != want[0] || r.Net.Size != want[1] || (r.Steps == 0) != plain {
					t.Errorf("%s, %s, plain %v: %+v, %v", dataset, scale, plain, r, err)
				}
			}
		}
	}
	for file, plain := range map[string]bool{"wrn_10_2_cifar_10_small": false, "wrn_10_1_cifar_10_plain": true} {
		f, err := checkpoints.Shipped(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := SmallRecipe("cifar10", "small", plain)
		if err != nil || f.Meta["recipe"] != mustJSON(r) {
			t.Errorf("%s was trained by %s, the recipe is %s (%v)", file, f.Meta["recipe"], mustJSON(r), err)
		}
		f.Close()
	}
}

// TestStride: a first convolution of stride 2 halves every map, and a 64-pixel network with it has the maps of a 32-pixel one.
func TestStride(t *testing.T) {
	big, small := TinyImageNetWRN(10, 1), CIFAR10WRN(10, 1)
	big.Stride = 2
	if !slices.Equal(big.Taps(), small.Taps()) {
		t.Errorf("%v, not %v", big.Taps(), small.Taps())
	}
	net := WRN{Depth: 10, Width: 1, Classes: 4, Size: 16, Stride: 2, Std: [3]float32{1, 1, 1}, BNMomentum: 0.1}
	tr, err := NewTrainer(goldentest.Go(t), Recipe{Net: net, Epochs: 1, Batch: 4, PeakLR: 0.1}, noise(8, 4, 16), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if loss, _, err := tr.Advance(t.Context()); err != nil || loss <= 0 {
		t.Errorf("a step of %s: loss %g, %v", net, loss, err)
	}
	net.Stride = 3
	if err := net.Validate(); err == nil || !strings.Contains(err.Error(), "stride 3") {
		t.Error(err)
	}
}

// TestOneCycle: the rate rises to its peak at the end of the warm-up and falls to almost nothing.
func TestOneCycle(t *testing.T) {
	r := Recipe{PeakLR: 0.4, Warmup: 0.25}
	const total = 1000
	for step := 1; step < total; step++ {
		up := r.LR(step, total) > r.LR(step-1, total)
		if up != (step <= 250) {
			t.Fatalf("step %d: %g after %g", step, r.LR(step, total), r.LR(step-1, total))
		}
	}
	if top, end := r.LR(250, total), r.LR(total-1, total); top < 0.399 || end > 1e-5 {
		t.Errorf("peak %g, end %g", top, end)
	}
}

// TestTaps: a WRN-28 has the reference's 26 representations, a WRN-10 has 8.
func TestTaps(t *testing.T) {
	for depth, want := range map[int]int{28: 26, 10: 8} {
		if got := len(CIFAR10WRN(depth, 2).Taps()); got != want {
			t.Errorf("depth %d: %d representations, want %d", depth, got, want)
		}
	}
}

// TestAverageWarning: a short run's average is refused nothing, and said to be of no use; that of the recipes for whole data sets is not.
func TestAverageWarning(t *testing.T) {
	r := toyRecipe()
	r.EMA = 0.999
	tr, err := NewTrainer(goldentest.Go(t), r, noise(40, 4, 8), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if w := tr.AverageWarning(); !strings.Contains(w, "ema 0.999") || !strings.Contains(w, "% of the initial weights") {
		t.Errorf("%q", w)
	}
	for _, scale := range []string{"small", "medium"} {
		r, err := SmallRecipe("cifar10", scale, false)
		if err != nil {
			t.Fatal(err)
		}
		if left := math.Pow(r.EMA, float64(r.Epochs*(49_000/r.Batch))); left > 0.001 {
			t.Errorf("scale %s: %g of the initial weights are left in the average", scale, left)
		}
	}
}

// TestAblations: every one is valid, costs what the first one costs and differs from it in what it is named for.
func TestAblations(t *testing.T) {
	short := must.M1(Ablations()[0].Recipe())
	cost := func(r Recipe) float64 {
		passes := r.Steps + 1
		if r.TRADES > 0 {
			passes++
		}
		return float64(passes*r.Epochs) * float64(multiplyAdds(r.Net))
	}
	for _, a := range Ablations() {
		r := must.M1(a.Recipe())
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
		// The narrow one's epochs are a whole number.
		if ratio := cost(r) / cost(short); ratio < 0.93 || ratio > 1.001 {
			t.Errorf("%s costs %.2f of what %s does", a.Name, ratio, Ablations()[0].Name)
		}
		found, err := FindAblation(a.Name)
		if err != nil || found.What != a.What {
			t.Errorf("%s: found %q, %v", a.Name, found.What, err)
		}
		same := r
		switch a.Name {
		case "no-average":
			same.EMA = short.EMA
		case "no-augmentation":
			same.Crop, same.Flip = short.Crop, short.Flip
		case "smoothing":
			same.LabelSmoothing = short.LabelSmoothing
		case "decay":
			same.WeightDecay = short.WeightDecay
		case "rate":
			same.PeakLR = short.PeakLR
		case "pgd", "trades":
			same.Steps, same.StepSize, same.TRADES, same.Epochs, same.EMA = short.Steps, short.StepSize, short.TRADES, short.Epochs, short.EMA
		case "narrow", "wide":
			same.Net, same.Epochs, same.EMA = short.Net, short.Epochs, short.EMA
		}
		if !reflect.DeepEqual(same, short) {
			t.Errorf("%s changes more than its name says: %+v, short is %+v", a.Name, r, short)
		}
		if a.Name != "short" && reflect.DeepEqual(r, short) {
			t.Errorf("%s changes nothing", a.Name)
		}
	}
	if _, err := FindAblation("long"); err == nil || !strings.Contains(err.Error(), "narrow") {
		t.Errorf("an ablation that does not exist: %v", err)
	}
}

// multiplyAdds counts those of the convolutions of a network on one image.
func multiplyAdds(w WRN) int {
	stem := w.Size / w.stride()
	sum := 9 * 3 * 16 * stem * stem
	for _, b := range w.blocks() {
		kernels := 9 * (b.in + b.out)
		if b.shortcut {
			kernels += b.in
		}
		sum += kernels * b.out * b.side * b.side
	}
	return sum
}

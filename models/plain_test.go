package models

import (
	"math"
	"slices"
	"testing"

	"carsokit/data"
	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
	"carsokit/internal/rng"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// TestGoldenPlainSchedule compares the learning rate of every step of the plain training, for every length in the fixture, to 1e-9 relative.
func TestGoldenPlainSchedule(t *testing.T) {
	f := goldentest.Open(t, "optim")
	var m struct {
		Schedules []struct {
			Key    string
			Warmup int     `json:"warmup_epochs"`
			Anneal int     `json:"anneal_epochs"`
			Steps  int     `json:"steps_per_epoch"`
			First  float64 `json:"init_lr"`
			Peak   float64 `json:"peak_lr"`
			Final  float64 `json:"final_lr"`
			After  float64 `json:"lr_after_last_step"`
		}
	}
	f.JSON("plain_classifier", &m)
	for _, s := range m.Schedules {
		r := PaperPlainRecipe(CIFAR10WRN(28, 10), false)
		f.Same(s.Key+": ends", r.FirstLR == s.First && r.PeakLR == s.Peak && r.FinalLR == s.Final, "")
		r.Epochs = s.Warmup + s.Anneal
		r.Warmup = float64(s.Warmup) / float64(r.Epochs)
		want := append(f.Doubles("plain_classifier", s.Key), s.After)
		got := make([]float64, len(want))
		for i := range got {
			got[i] = r.LR(i, r.Epochs*s.Steps)
		}
		goldentest.Compare(f, s.Key, got, want, goldentest.Rel(1e-9))
	}
}

// TestGoldenMixup compares the mixed and smoothed loss and its gradient, to 1e-5.
func TestGoldenMixup(t *testing.T) {
	f := goldentest.Open(t, "optim")
	const file = "plain_classifier"
	var m struct {
		Smoothing float64 `json:"label_smoothing"`
	}
	f.JSON(file, &m)
	logits, shape := f.Floats(file, "mixup.logits")
	share, _ := f.Floats(file, "mixup.mixing")
	r := Recipe{Net: WRN{Classes: shape[1]}, LabelSmoothing: m.Smoothing}
	targets := r.targets(f.Labels(file, "mixup.y"), f.Labels(file, "mixup.y_perm"), float64(share[0]))
	e, err := model.NewExec(goldentest.Backend(t), model.NewStore(), func(_ *model.Scope, l, y *node) []*node { return lossGraph(l, y) })
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Call(tensors.FromFlatDataAndDimensions(logits, shape...), tensors.FromFlatDataAndDimensions(targets, shape...))
	if err != nil {
		t.Fatal(err)
	}
	loss, _ := f.Floats(file, "mixup.loss")
	gradient, _ := f.Floats(file, "mixup.grad_logits")
	f.Compare("mixup.loss", goldentest.Copy(t, out[0]), loss, goldentest.Abs(1e-5))
	f.Compare("mixup.grad_logits", goldentest.Copy(t, out[1]), gradient, goldentest.Abs(1e-5))
}

// TestMix: every image is the stated mixture with the image of another place, the targets are the shares of both labels and sum to 1, and the image's own
// label keeps at least half of what smoothing leaves.
func TestMix(t *testing.T) {
	r := PaperPlainRecipe(CIFAR10WRN(10, 1), false)
	const n, size = 8, 5
	x, y := make([]float32, n*size), make([]int32, n)
	for i := range x {
		x[i] = float32(math.Pow(2, float64(i/size))) // an image is one constant, its label its place: sums of two tell which they are
	}
	for i := range y {
		y[i] = int32(i)
	}
	moved := false
	for step := range 20 {
		targets, mixed := r.mix(step, x, y)
		for i := range n {
			row := targets[i*10 : (i+1)*10]
			total, expected := 0.0, 0.0
			for c, v := range row {
				total += float64(v)
				if c < n {
					expected += (float64(v) - 0.01) / 0.9 * math.Pow(2, float64(c)) // the smoothing of 0.1 puts 0.01 on every class
				}
			}
			if math.Abs(total-1) > 1e-6 || float64(row[i]) < 0.01+0.45-1e-6 {
				t.Fatalf("step %d, image %d: targets %v", step, i, row)
			}
			for k := range size {
				if math.Abs(float64(mixed[i*size+k])-expected) > 1e-3 {
					t.Fatalf("step %d, image %d: pixel %g, the targets say %g", step, i, mixed[i*size+k], expected)
				}
			}
			moved = moved || row[i] < 0.9
		}
		if again, _ := r.mix(step, x, y); !slices.Equal(again, targets) {
			t.Fatal("the same step mixes differently")
		}
	}
	if !moved {
		t.Error("nothing was mixed in 20 steps")
	}
	r.Mixup, r.LabelSmoothing = 0, 0
	if targets, mixed := r.mix(0, x, y); &mixed[0] != &x[0] || targets[0] != 1 || targets[1] != 0 {
		t.Error("without mixing and smoothing the batch changed")
	}
}

// TestBeta: mean 1/2 and variance 1/(4(2a+1)) within five standard errors.
func TestBeta(t *testing.T) {
	for _, a := range []float64{0.2, 0.5, 1} {
		source := rng.Seed(9).Child("beta").Rand()
		const n = 50000
		var s, s2, s4 float64
		for range n {
			d := beta(source, a) - 0.5
			s, s2, s4 = s+d, s2+d*d, s4+d*d*d*d
		}
		variance := 1 / (4 * (2*a + 1))
		if math.Abs(s/n) > 5*math.Sqrt(variance/n) || math.Abs(s2/n-variance) > 5*math.Sqrt((s4/n-variance*variance)/n) {
			t.Errorf("Beta(%g,%g): mean %g, variance %g, want 0.5 and %g", a, a, 0.5+s/n, s2/n, variance)
		}
	}
}

// noise is a data set of random pixels.
func noise(images, classes, side int) *data.Set {
	s := &data.Set{Name: "noise", Split: "train", H: side, W: side, Pixels: make([]byte, images*side*side*3), Labels: make([]int32, images), Digest: "none"}
	for c := range classes {
		s.Classes = append(s.Classes, string(rune('a'+c)))
	}
	r := rng.Seed(3).Rand()
	for i := range s.Pixels {
		s.Pixels[i] = byte(r.IntN(256))
	}
	for i := range s.Labels {
		s.Labels[i] = int32(i % classes)
	}
	return s
}

// TestFrozenBN: as an option BatchNorm's running statistics stand still after the first epoch while weights go on; by default they move.
func TestFrozenBN(t *testing.T) {
	net := WRN{Depth: 10, Width: 1, Classes: 4, Size: 8, Std: [3]float32{1, 1, 1}, BNMomentum: 0.1}
	r := PaperPlainRecipe(net, true)
	r.Epochs, r.Batch, r.HeldOut = 3, 8, 0
	tr, err := NewTrainer(goldentest.Go(t), r, noise(16, 4, 8), nil, "") // two steps are an epoch
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, kind nn.Kind, n int) []float32 {
		v, err := nn.Get(tr.Store.Scope(liveScope), nn.Param{Name: name, Shape: []int{n}, Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	mean, bias := make([]float32, 64), read("logits.bias", nn.Bias, 4)
	for step, moves := range []bool{true, true, false, false, true} {
		tr.Recipe.FrozenBN = step < 4
		if _, _, err := tr.Advance(t.Context()); err != nil {
			t.Fatal(err)
		}
		m, b := read("batchnorm.running_mean", nn.BNMean, 64), read("logits.bias", nn.Bias, 4)
		if slices.Equal(m, mean) == moves {
			t.Errorf("step %d: the statistics move: %v, want %v", step+1, !moves, moves)
		}
		if slices.Equal(b, bias) {
			t.Errorf("step %d: the weights do not move", step+1)
		}
		mean, bias = m, b
	}
}

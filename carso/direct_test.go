package carso

import (
	"math"
	"strings"
	"testing"

	"carsokit/attacks"
	"carsokit/internal/goldentest"
	"carsokit/models"

	"github.com/gomlx/compute"
)

// TestDirect: where the image takes part in the decision, each sample's logits are averaged with the classifier's own, in the defence, in its gradient and in what is
// learnt; the weight files say so; and it can start at a purifier without it.
func TestDirect(t *testing.T) {
	be := goldentest.Go(t)
	base := models.CIFAR10WRN(10, 1)
	const n, side = 16, 32
	set, file := noise(t, base, n)
	r, err := SmallRecipe("cifar10", "tiny", base)
	if err != nil {
		t.Fatal(err)
	}
	r.Epochs, r.Batch, r.HeldOut, r.Fraction, r.ScheduleEvery = 8, n, 0, 0, 5
	train := func(r Recipe, start Opener, stem string) (tr *Trainer, files string) {
		t.Helper()
		tr, err := NewTrainer(be, r, set, file, start, "")
		if err != nil {
			t.Fatal(err)
		}
		advance(t, tr, tr.Total())
		files = t.TempDir()
		export(t, tr, files, stem)
		return tr, files
	}
	_, files := train(r, nil, "p")
	r.Config.Direct, r.Start, r.ClassLoss, r.Rate = true, "p", 1000, 0.1
	tr, files := train(r, Folder(files), "q")
	if c, _, err := purifierConfig("q", Folder(files)); err != nil || !c.Direct {
		t.Errorf("its files say direct %v, %v", c.Direct, err)
	}

	images := trainingImages(t, tr)
	oracle := func(c attacks.Classifier) *attacks.Oracle {
		o, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: []int{n}, Members: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(o.Close)
		return o
	}
	logits := func(c attacks.Classifier) []float32 {
		v, err := oracle(c).Logits(t.Context(), images, 3, 1)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	// The mean of the members is linear: 5 of them, computed by two at a time, give the mean of both sides.
	d, err := NewDefence(tr.Store, r.Config, 5, MeanLogit)
	if err != nil {
		t.Fatal(err)
	}
	without := *d
	without.Direct = false
	both, alone, purified := logits(d), logits(d.Alone()), logits(&without)
	var correction float64
	for i := range both {
		correction = max(correction, math.Abs(float64(purified[i]-alone[i])))
		// Logits here are of the order of 1, and float32 keeps seven digits of each of a dozen layers.
		if want := (float64(alone[i]) + float64(purified[i])) / 2; math.Abs(float64(both[i])-want) > 1e-5 {
			t.Fatalf("logit %d is %g, want %g", i, both[i], want)
		}
	}
	if correction < 1e-2 {
		t.Fatalf("purified and direct logits differ by %g at most: the test sees nothing", correction)
	}

	sameStaged(t, be, d, images)

	// The class loss is that of both: at any rate not the classifier's own.
	own := 0.0
	for i := range n {
		own += crossEntropy(alone[i*10:(i+1)*10], images.Y[i]) / n
	}
	tick, ticks := tr.tick(tr.Step())
	l, err := tr.Advance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := LearningRate(tick, ticks, n) / 10; math.Abs(l.LR-want) > 1e-9*want {
		t.Errorf("learning rate %g, want a tenth of the reference's, %g", l.LR, want)
	}
	if math.Abs(l.CE-own) < 1e-4 {
		t.Errorf("class loss %g is that of the classifier alone", l.CE)
	}

	bad := r.Config
	bad.Final.Classes = 100
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "direct averages logits of 10 and of 100 classes") {
		t.Errorf("classifiers of different classes: %v", err)
	}
}

// trainingImages are the first batch of a run.
func trainingImages(t *testing.T, tr *Trainer) attacks.Batch {
	t.Helper()
	n, side := tr.Recipe.Batch, tr.Recipe.Config.Base.Size
	b := attacks.Batch{X: make([]float32, n*side*side*3), Y: make([]int32, n), H: side, W: side, C: 3}
	if err := tr.loader.Fill(0, 0, b.X, b.Y); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		b.ID = append(b.ID, i)
	}
	return b
}

// sameStaged compares the gradient that is led back through the condition once, for all draws, two samples at a time, with that of every draw through everything.
func sameStaged(t *testing.T, be compute.Backend, d *Defence, images attacks.Batch) {
	t.Helper()
	gradient := func(naive bool) []float32 {
		o, err := attacks.NewOracle(be, d, attacks.OracleOptions{Buckets: []int{images.Len()}, Members: 2, Naive: naive})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		g, err := o.Gradient(t.Context(), attacks.CE, images, 3, 2, nil)
		if err != nil {
			t.Fatal(err)
		}
		return g.G
	}
	var largest float64
	want := gradient(true)
	for _, g := range want {
		largest = max(largest, math.Abs(float64(g)))
	}
	for i, g := range gradient(false) {
		// Sums in another order: five digits of the largest.
		if math.Abs(float64(g-want[i])) > 1e-5*largest {
			t.Fatalf("entry %d of the staged gradient is %g, of the whole %g, largest %g", i, g, want[i], largest)
		}
	}
}

func crossEntropy(logits []float32, y int32) float64 {
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}
	return math.Log(sum) - float64(logits[y])
}

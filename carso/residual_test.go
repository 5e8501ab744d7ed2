package carso

import (
	"math"
	"testing"

	"carsokit/attacks"
	"carsokit/internal/goldentest"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// TestResidual: a purifier that corrects the image begins by leaving it as it is but for the squeeze; no pixel is without a gradient, not even at the ends of the range; it
// learns to be classified rightly, and the files of a run open as the defence that it trained.
func TestResidual(t *testing.T) {
	be := goldentest.Go(t)
	const n = 8
	tr, file := spatialTrainer(t, be, n, func(r *Recipe) { r.Epochs, r.ClassLoss, r.Config.Residual = 20, 1000, true })
	images := trainingImages(t, tr)
	for i := range 64 { // pixels at the ends
		images.X[i*7], images.X[i*7+1] = 0, 1
	}
	squeezed := images
	squeezed.X = make([]float32, len(images.X))
	for i, x := range images.X {
		squeezed.X[i] = 0.01 + 0.98*x
	}

	d, err := NewDefence(tr.Store, tr.Recipe.Config, 3, MeanLogit)
	if err != nil {
		t.Fatal(err)
	}
	o := func(c attacks.Classifier) *attacks.Oracle {
		o, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: []int{n}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(o.Close)
		return o
	}
	logits := func(c attacks.Classifier, b attacks.Batch) []float32 {
		v, err := o(c).Logits(t.Context(), b, 3, 1)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	want := logits(d.Alone(), squeezed)
	for i, v := range logits(d, images) {
		// A logarithm, a sigmoid and a dozen layers of values near 1 in float32.
		if math.Abs(float64(v-want[i])) > 1e-4 {
			t.Fatalf("logit %d of the untrained defence is %g, of the classifier on the squeezed image %g", i, v, want[i])
		}
	}
	g, err := o(d).Gradient(t.Context(), attacks.CE, images, 3, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 64 {
		for k := range 2 {
			if v := g.G[i*7+k]; v == 0 || v != v {
				t.Fatalf("gradient at a pixel of value %d is %g", k, v)
			}
		}
	}

	first, last := advance(t, tr, tr.Total())
	if !(last.CE < first.CE) {
		t.Errorf("class loss %g after %d steps on one batch, %g before", last.CE, tr.Total(), first.CE)
	}
	files := t.TempDir()
	export(t, tr, files, "p")
	if d = reopened(t, file, files, "p", 5); !d.Residual {
		t.Fatal("its files do not say residual")
	}
	d.Direct = true // together, each finds its own part of the condition
	sameStaged(t, be, d, images)
	if _, k, err := o(d).Condition(t.Context(), images); err != nil || k != d.Represented()+d.pixels()+d.Classes() || d.Represented() <= d.Cond {
		t.Errorf("a condition of %d values, %d of which are the representation's: %v", k, d.Represented(), err)
	}
	e, err := model.NewExec(be, d.store, func(s *model.Scope, x *node) []*node {
		return []*node{d.Reconstruct(d.Condition(s, x), nil)}
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Call(tensors.FromFlatDataAndDimensions(images.X, n, 32, 32, 3))
	if err != nil {
		t.Fatal(err)
	}
	var moved float64
	for i, v := range tensors.MustCopyFlatData[float32](out[0]) {
		moved = max(moved, math.Abs(float64(v-squeezed.X[i])))
	}
	if moved < 1e-5 || moved > 0.9 {
		t.Errorf("the trained purifier corrects a pixel by %g at most", moved)
	}
}

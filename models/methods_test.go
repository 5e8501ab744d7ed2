package models

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"carsokit/data"
	"carsokit/internal/goldentest"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// toyRecipe trains a tiny net on 8-pixel images.
func toyRecipe() Recipe {
	return Recipe{Net: WRN{Depth: 10, Width: 1, Classes: 4, Size: 8, Std: [3]float32{1, 1, 1}, BNMomentum: 0.1}, Epochs: 2, Batch: 8, Eps: 0.1, PeakLR: 0.05, Momentum: 0.9,
		EMA: 0.9, Seed: 7}
}

func toyTrainer(t *testing.T, r Recipe, extra *data.Set, dir string) *Trainer {
	t.Helper()
	tr, err := NewTrainer(goldentest.Go(t), r, noise(32, 4, 8), extra, dir)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func firstLoss(t *testing.T, r Recipe) float64 {
	t.Helper()
	loss, _, err := toyTrainer(t, r, nil, "").Advance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return loss
}

// TestTradesLoss: the loss and both its gradients are the closed form's, on predictions from even to sure.
func TestTradesLoss(t *testing.T) {
	const beta, images, classes = 6, 3, 3
	clean := []float32{0, 0, 0, 3, -1, 0.5, -8, 12, 2}
	attacked := []float32{1, -1, 0.5, 3, -1, 0.5, 10, -3, 1}
	targets := []float32{1, 0, 0, 0.2, 0.3, 0.5, 0, 1, 0}
	soft := func(l []float32) (p, logp []float64) {
		sum := 0.
		for _, x := range l {
			sum += math.Exp(float64(x))
		}
		for _, x := range l {
			logp = append(logp, float64(x)-math.Log(sum))
			p = append(p, math.Exp(float64(x))/sum)
		}
		return p, logp
	}
	var loss float64
	var toClean, toAttacked []float64
	for i := range images {
		p, logp := soft(clean[i*classes : (i+1)*classes])
		q, logq := soft(attacked[i*classes : (i+1)*classes])
		y := targets[i*classes : (i+1)*classes]
		d := 0.
		for k := range classes {
			d += p[k] * (logp[k] - logq[k])
			loss -= float64(y[k]) * logp[k] / images
		}
		loss += beta * d / images
		for k := range classes {
			toClean = append(toClean, (p[k]-float64(y[k])+beta*p[k]*(logp[k]-logq[k]-d))/images)
			toAttacked = append(toAttacked, beta*(q[k]-p[k])/images)
		}
	}
	e, err := model.NewExec(goldentest.Go(t), model.NewStore(), func(_ *model.Scope, c, a, y *node) []*node { return tradesGraph(c, a, y, beta) })
	if err != nil {
		t.Fatal(err)
	}
	tensor := func(v []float32) *tensors.Tensor { return tensors.FromFlatDataAndDimensions(v, images, classes) }
	out, err := e.Call(tensor(clean), tensor(attacked), tensor(targets))
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range [][]float64{{loss}, toClean, toAttacked} {
		got := goldentest.Copy(t, out[k])
		for i := range want { // float32, of numbers up to 40
			if math.Abs(float64(got[i])-want[i]) > 1e-5*(1+math.Abs(want[i])) {
				t.Errorf("output %d: %v, want %v", k, got, want)
				break
			}
		}
	}
}

// TestMethods: on the same first batch the same net loses more under a stronger adversary; within a bound of nothing TRADES is plain training; two steps run.
func TestMethods(t *testing.T) {
	loss := map[string]float64{}
	for _, name := range Methods() {
		r, err := toyRecipe().WithMethod(name)
		if err == nil {
			err = r.Validate()
		}
		if err != nil {
			t.Fatal(err)
		}
		tr := toyTrainer(t, r, nil, "")
		for step := range 2 {
			l, _, err := tr.Advance(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if step == 0 {
				loss[name] = l
			}
		}
	}
	if !(loss["plain"] < loss["fast"] && loss["fast"] < loss["pgd"] && loss["plain"] < loss["trades"]) {
		t.Errorf("losses %v", loss)
	}
	r, err := toyRecipe().WithMethod("trades")
	if err != nil {
		t.Fatal(err)
	}
	r.Eps = 0
	if got := firstLoss(t, r); math.Abs(got-loss["plain"]) > 1e-5 {
		t.Errorf("TRADES without a bound has loss %g, plain training %g", got, loss["plain"])
	}
	if _, err := r.WithMethod("magic"); err == nil || !strings.Contains(err.Error(), "fast, pgd, trades") {
		t.Error(err)
	}
	r.Steps = 0
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "trades needs an adversary") {
		t.Error(err)
	}
}

// TestExtraData: the last images of every batch are further data, each of them once before any comes again; a run continues with the same data only.
func TestExtraData(t *testing.T) {
	r := toyRecipe()
	r.ExtraShare = 0.4 // 3 of 8
	extra := noise(6, 4, 8)
	extra.Digest = "extra"
	for i := range extra.Pixels { // a value of its own for each image
		extra.Pixels[i] = byte(100 + i/(8*8*3))
	}
	for i := range extra.Labels {
		extra.Labels[i] = 3
	}
	dir := t.TempDir()
	tr := toyTrainer(t, r, extra, dir)
	seen := map[float32]int{}
	for range 4 {
		b := tr.draw(tr.Step(), r.Batch, r.Seed, drawn{})
		if _, _, err := tr.Advance(t.Context()); err != nil || b.err != nil {
			t.Fatal(err, b.err)
		}
		for i := 5; i < 8; i++ {
			if b.y[i] != 3 {
				t.Errorf("labels %v", b.y)
			}
			seen[b.x[i*8*8*3]]++
		}
	}
	for k := range 6 {
		if seen[float32(100+k)/255] != 2 {
			t.Errorf("in 4 steps of 3 out of 6: %v", seen)
		}
	}
	if tr.PerEpoch() != 32/5 {
		t.Errorf("an epoch has %d steps", tr.PerEpoch())
	}
	if err := tr.Save(dir); err != nil {
		t.Fatal(err)
	}
	if again := toyTrainer(t, r, extra, dir); again.Step() != 4 {
		t.Errorf("continued at step %d", again.Step())
	}
	extra.Digest = "other"
	if _, err := NewTrainer(goldentest.Go(t), r, noise(32, 4, 8), extra, dir); err == nil || !strings.Contains(err.Error(), "another run") {
		t.Errorf("other further data: %v", err)
	}
	if _, err := NewTrainer(goldentest.Go(t), r, noise(32, 4, 8), nil, ""); err == nil || !strings.Contains(err.Error(), "both or neither") {
		t.Errorf("no further data: %v", err)
	}
	if _, err := NewTrainer(goldentest.Go(t), r, noise(32, 4, 8), noise(6, 5, 8), ""); err == nil || !strings.Contains(err.Error(), "5 classes") {
		t.Errorf("further data of more classes: %v", err)
	}
}

// TestCutout: every image of a batch has its blank square.
func TestCutout(t *testing.T) {
	r := toyRecipe()
	r.Cutout = 4
	set := noise(32, 4, 8)
	for i := range set.Pixels {
		set.Pixels[i] = max(set.Pixels[i], 1)
	}
	tr, err := NewTrainer(goldentest.Go(t), r, set, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tr.Advance(t.Context()); err != nil {
		t.Fatal(err)
	}
	x := tr.draw(0, r.Batch, r.Seed, drawn{}).x
	for i := range r.Batch {
		if zeros := slices.IndexFunc(x[i*8*8*3:(i+1)*8*8*3], func(x float32) bool { return x == 0 }); zeros < 0 {
			t.Errorf("image %d is whole", i)
		}
	}
}

// TestBestIsRobust: of an adversarial training the weights are kept that are best under attack on held-out images (Rice et al. 2020), of a plain one those best
// on clean ones.
func TestBestIsRobust(t *testing.T) {
	measured := []Point{{HeldClean: 50, HeldPGD: 20}, {HeldClean: 60, HeldPGD: 30}, {HeldClean: 70, HeldPGD: 25}, {HeldClean: 70, HeldPGD: 30}}
	for name, want := range map[string][]bool{"fast": {true, true, false, false}, "plain": {true, true, true, false}} {
		r, err := toyRecipe().WithMethod(name)
		if err != nil {
			t.Fatal(err)
		}
		var curve []Point
		for k, m := range measured {
			j := &job{Trainer: toyTrainer(t, r, nil, ""), dir: t.TempDir(), probe: func(context.Context) (float64, float64, error) { return m.HeldClean, m.HeldPGD, nil }}
			j.since.Steps, j.step = 1, 1
			p, err := j.Measure(t.Context(), curve)
			if err != nil || p.Best != want[k] {
				t.Errorf("%s: point %d of %v is best: %v, %v", name, k, measured, p.Best, err)
			}
			curve = append(curve, p)
		}
	}
}

// TestDiverging: a training whose loss is no number stops there, and says at which step and which variables are none, either.
func TestDiverging(t *testing.T) {
	r := toyRecipe()
	r.PeakLR = 1e30
	tr := toyTrainer(t, r, nil, "")
	for tr.Step() < tr.Total() {
		step := tr.Step()
		if _, _, err := tr.Advance(t.Context()); err != nil {
			for _, want := range []string{fmt.Sprintf("step %d", step), "variables are not finite, /", "lower peak_lr"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: want %q", err, want)
				}
			}
			if tr.Step() != step {
				t.Errorf("the step counts as done")
			}
			return
		}
	}
	t.Error("no step failed at a learning rate of 1e30")
}

package attacktest

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute"

	"carsokit/attacks"
	"carsokit/internal/rng"
)

// Conformance holds every attack to the contract of attacks.Attack, on classifiers whose answers are known. Each preset is a subtest.
func Conformance(t *testing.T, be compute.Backend, presets ...attacks.Preset) {
	const seed = rng.Seed(20)
	oracle := func(c attacks.Classifier, buckets ...int) *attacks.Oracle {
		o, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: buckets})
		if err != nil {
			t.Fatalf("preparing a toy classifier: %v", err)
		}
		t.Cleanup(o.Close)
		return o
	}
	line := NewLinear(4, seed)
	s := &suite{
		line: line, images: line.Images(6, seed),
		linear: oracle(line, 8), small: oracle(line, 4, 1), conv: oracle(NewConv(4, seed), 8),
		pair: NewLinear(2, seed), noisy: oracle(NewNoisy(4, seed), 8, 3), staged: oracle(NewStaged(4, seed), 8, 3),
		saturating: oracle(NewSaturating(4, seed), 8), nan: oracle(NewNaNGradient(4, seed), 8), free: oracle(NewGradientFree(4, seed), 8),
	}
	s.pairOracle = oracle(s.pair, 8)
	for _, p := range presets {
		t.Run(p.Name, func(t *testing.T) {
			t.Run("specification", func(t *testing.T) { s.specification(t, p) })
			t.Run("budget", func(t *testing.T) { s.budget(t, p) })
			t.Run("eps=0", func(t *testing.T) { s.nothing(t, p) })
			t.Run("reproducible", func(t *testing.T) { s.reproducible(t, p) })
			t.Run("batch", func(t *testing.T) { s.batch(t, p) })
			t.Run("larger eps", func(t *testing.T) { s.larger(t, p) })
			t.Run("closed form", func(t *testing.T) { s.closedForm(t, p) })
			t.Run("broken gradients", func(t *testing.T) { s.brokenGradients(t, p) })
			t.Run("stochastic", func(t *testing.T) { s.stochastic(t, p) })
			t.Run("cancelled", func(t *testing.T) { s.cancelled(t, p) })
			t.Run("bad input", func(t *testing.T) { s.badInput(t, p) })
		})
	}
}

type suite struct {
	line, pair                                                            *Toy
	images                                                                attacks.Batch // as line classifies them
	linear, small, conv, pairOracle, noisy, staged, saturating, nan, free *attacks.Oracle
}

const eps = 8.0 / 255

func run(t *testing.T, a attacks.Attack, o *attacks.Oracle, b attacks.Batch, seed rng.Seed) *attacks.Result {
	t.Helper()
	r, err := a.Run(context.Background(), o, b, seed)
	if err != nil {
		t.Fatalf("%s: %v", a.Name(), err)
	}
	if len(r.Adv) != len(b.X) || len(r.Best) != len(b.X) || len(r.Diag) != b.Len() {
		t.Fatalf("%s returned %d and %d values and %d diagnostics for %d images of %d values", a.Name(), len(r.Adv), len(r.Best), len(r.Diag), b.Len(), b.Dim())
	}
	return r
}

// specification: the JSON names the kind and tells attacks apart; the numbers it promises are positive.
func (s *suite) specification(t *testing.T, p attacks.Preset) {
	a := p.New(eps)
	if err := a.Validate(); err != nil {
		t.Fatal(err)
	}
	if a.Budget() != eps || a.Evaluations() < 1 || a.Name() == "" {
		t.Errorf("budget %g, want %g; %d evaluations and name %q", a.Budget(), eps, a.Evaluations(), a.Name())
	}
	text, err := attacks.Describe(a)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil || fields["kind"] == nil || fields["eps"] != eps {
		t.Errorf("description %s lacks its kind or eps (%v)", text, err)
	}
	if other, err := attacks.Describe(p.New(2 * eps)); err != nil || string(other) == string(text) {
		t.Errorf("attacks of different budgets have the same description %s (%v)", text, err)
	}
	for _, bad := range []float64{-eps, 2, math.NaN()} {
		if p.New(bad).Validate() == nil {
			t.Errorf("a budget of %g was accepted", bad)
		}
	}
}

// budget: |adv-x| <= eps and adv in [0,1], in float64, also after rounding to bytes.
func (s *suite) budget(t *testing.T, p attacks.Preset) {
	// x + eps is rounded once to float32: half an ulp of a number below 1 is 3e-8; eps itself as float32 adds less.
	const rounding = 6e-8
	for name, o := range map[string]*attacks.Oracle{"linear": s.linear, "convolution": s.conv, "noisy": s.noisy, "staged": s.staged} {
		for _, eps := range []float64{0.001, 8.0 / 255, 0.95} {
			r := run(t, p.New(eps), o, s.images, 1)
			for what, points := range map[string][]float32{"Adv": r.Adv, "Best": r.Best} {
				for i, far := range attacks.Distance(points, s.images.X, s.images.Len()) {
					if !(far <= eps+rounding) {
						t.Errorf("%s, eps %g: %s of image %d is %g away", name, eps, what, i, far)
					}
				}
				if k := slices.IndexFunc(points, func(v float32) bool { return !(v >= 0 && v <= 1) }); k >= 0 {
					t.Errorf("%s, eps %g: %s holds %v", name, eps, what, points[k])
				}
				levels, err := attacks.Quantize(points, s.images.X)
				if err != nil {
					t.Fatal(err)
				}
				for k, v := range levels {
					if far := math.Abs(float64(v) - math.Round(255*float64(s.images.X[k]))); far > 255*eps+1e-9 {
						t.Errorf("%s, eps %g: %s moves by %g levels as bytes", name, eps, what, far)
						break
					}
				}
			}
		}
	}
}

// nothing: a budget of 0 returns the clean pixels.
func (s *suite) nothing(t *testing.T, p attacks.Preset) {
	r := run(t, p.New(0), s.linear, s.images, 1)
	if !slices.Equal(r.Adv, s.images.X) || !slices.Equal(r.Best, s.images.X) {
		t.Error("pixels changed under a budget of 0")
	}
	for i, d := range r.Diag {
		if d.Moved {
			t.Errorf("image %d claims to have moved", i)
		}
	}
}

// reproducible: the same seed gives the same bytes.
func (s *suite) reproducible(t *testing.T, p attacks.Preset) {
	for name, o := range map[string]*attacks.Oracle{"convolution": s.conv, "noisy": s.noisy, "staged": s.staged} {
		one, two := run(t, p.New(eps), o, s.images, 5), run(t, p.New(eps), o, s.images, 5)
		if !slices.Equal(one.Adv, two.Adv) || !slices.Equal(one.Best, two.Best) || !slices.Equal(one.Diag, two.Diag) {
			t.Errorf("%s: two runs with one seed differ", name)
		}
	}
}

// batch: an image's result depends on neither the company nor the order, to the last bit, nor on the compiled batch sizes, as far as the
// backend rounds alike for all of them. On the linear model it does, but for DLR: its quotient blows up the last digit of the logits where
// the denominator is small, and the iterates part. There the verdicts must still agree.
func (s *suite) batch(t *testing.T, p attacks.Preset) {
	a := p.New(eps)
	all := run(t, a, s.linear, s.images, 5)
	d := s.images.Dim()
	for _, at := range [][]int{{5, 3, 0}, {2}} {
		for name, o := range map[string]*attacks.Oracle{"same buckets": s.linear, "small buckets": s.small} {
			some := run(t, a, o, s.images.Pick(at), 5)
			for k, i := range at {
				if o == s.small && loss(t, a) == attacks.DLR {
					if some.Broken[k] != all.Broken[i] {
						t.Errorf("%s: verdict on image %d among %v differs from that among all", name, i, at)
					}
				} else if !slices.Equal(some.Adv[k*d:(k+1)*d], all.Adv[i*d:(i+1)*d]) || !slices.Equal(some.Best[k*d:(k+1)*d], all.Best[i*d:(i+1)*d]) || some.Diag[k] != all.Diag[i] {
					t.Errorf("%s: image %d among %v differs from the same image among all", name, i, at)
				}
			}
		}
	}
}

// loss of an attack as its description gives it; empty where it has only one.
func loss(t *testing.T, a attacks.Attack) attacks.Loss {
	var fields struct{ Loss attacks.Loss }
	text, err := attacks.Describe(a)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fields.Loss
}

// larger: on a linear model the mean cross-entropy reached does not fall when the budget grows.
func (s *suite) larger(t *testing.T, p attacks.Preset) {
	before := math.Inf(-1)
	for _, eps := range []float64{0, 2.0 / 255, 8.0 / 255, 32.0 / 255} {
		r := run(t, p.New(eps), s.linear, s.images, 5)
		reached := 0.0
		for i := range s.images.Len() {
			reached += s.line.crossEntropy(r.Best[i*s.images.Dim():(i+1)*s.images.Dim()], s.images.Y[i])
		}
		if reached < before {
			t.Errorf("the summed loss falls from %g to %g as eps grows to %g", before, reached, eps)
		}
		before = reached
	}
}

// crossEntropy of a linear toy at x, in float64.
func (m *Toy) crossEntropy(x []float32, y int32) float64 {
	sum, own := 0.0, m.Logit(int(y), x)
	for c := range m.classes {
		sum += math.Exp(m.Logit(c, x) - own)
	}
	return math.Log(sum)
}

// closedForm: with two linear classes the strongest point is x + eps*sign(w_other - w_y), clipped to [0,1], whatever the loss.
func (s *suite) closedForm(t *testing.T, p attacks.Preset) {
	images := s.pair.Images(4, 3)
	r, err := p.New(eps).Run(context.Background(), s.pairOracle, images, 5)
	if errors.Is(err, attacks.ErrClasses) {
		t.Skip("the loss needs more than two classes")
	} else if err != nil {
		t.Fatal(err)
	}
	for i := range images.Len() {
		y := images.Y[i]
		for k, v := range images.Image(i) {
			want := v
			if slope := s.pair.Weights[1-y][k] - s.pair.Weights[y][k]; slope > 0 {
				want = min(v+float32(eps), 1)
			} else if slope < 0 {
				want = max(v-float32(eps), 0)
			}
			// One rounding of x + delta, or of the momentum's x + (z-x), each half an ulp of a number below 1.
			if got := r.Best[i*images.Dim()+k]; math.Abs(float64(got-want)) > 1.2e-7 {
				t.Fatalf("image %d, value %d: %v, want %v from %v", i, k, got, want, v)
			}
		}
	}
}

// brokenGradients: defences without usable gradients are reported as such, and no image claims to have moved.
func (s *suite) brokenGradients(t *testing.T, p attacks.Preset) {
	a := p.New(eps)
	r := run(t, a, s.nan, s.images, 5)
	for i, d := range r.Diag {
		if d.Steps > 0 && (!d.NaNStart || !d.NaNEver || d.ZeroStart || d.Moved) {
			t.Errorf("image %d with NaN gradients: %+v", i, d)
		}
	}
	r = run(t, a, s.free, s.images, 5)
	for i, d := range r.Diag {
		if d.Steps > 0 && (!d.ZeroStart || !d.ZeroEver || d.NaNEver || d.Moved) {
			t.Errorf("image %d without gradient: %+v", i, d)
		}
	}
	r = run(t, a, s.saturating, s.images, 5)
	for i, d := range r.Diag {
		if d.Steps > 0 && !d.NaNStart {
			t.Errorf("image %d with infinite logits: %+v", i, d)
		}
	}
	if !slices.ContainsFunc(r.Diag, func(d attacks.Diag) bool { return d.Steps > 0 }) {
		t.Error("no image was attacked: the check says nothing")
	}
}

// stochastic: an image's result does not depend on its company, and the passes are counted.
func (s *suite) stochastic(t *testing.T, p attacks.Preset) {
	a := p.New(eps)
	var fields struct{ EoT int }
	text, err := attacks.Describe(a)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil || fields.EoT < 1 {
		t.Fatalf("description %s does not say how many draws are averaged: %v", text, err)
	}
	for name, o := range map[string]*attacks.Oracle{"noisy": s.noisy, "staged": s.staged} {
		r := run(t, a, o, s.images, 5)
		for i, d := range r.Diag {
			if d.Steps > a.Evaluations() || d.Draws != d.Steps*fields.EoT {
				t.Errorf("%s, image %d: %d evaluations and %d draws; want at most %d, and %d draws each", name, i, d.Steps, d.Draws, a.Evaluations(), fields.EoT)
			}
		}
	}
	if r := run(t, a, s.linear, s.images, 5); slices.ContainsFunc(r.Diag, func(d attacks.Diag) bool { return d.Draws != d.Steps }) {
		t.Errorf("a deterministic classifier was evaluated more than once a step: %+v", r.Diag)
	}
}

// cancelled: a context that ends stops the attack with its error.
func (s *suite) cancelled(t *testing.T, p attacks.Preset) {
	ctx, cancel := context.WithCancel(context.Background())
	evaluations := 0
	o := s.noisy.Observed(func([]int, *attacks.Grad) {
		evaluations++
		cancel()
	})
	_, err := p.New(eps).Run(ctx, o, s.images, 5)
	if p.New(eps).Evaluations() > 1 && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
	if evaluations != 1 {
		t.Errorf("%d evaluations after the context ended", evaluations-1)
	}
	if _, err := p.New(eps).Run(ctx, s.linear, s.images, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("started under an ended context: error %v", err)
	}
}

// badInput: batches that cannot be are refused with an error.
func (s *suite) badInput(t *testing.T, p attacks.Preset) {
	for name, spoil := range map[string]func(b *attacks.Batch){
		"NaN pixel":        func(b *attacks.Batch) { b.X[3] = float32(math.NaN()) },
		"pixel above 1":    func(b *attacks.Batch) { b.X[3] = 1.5 },
		"label too large":  func(b *attacks.Batch) { b.Y[0] = 4 },
		"missing pixels":   func(b *attacks.Batch) { b.X = b.X[1:] },
		"missing IDs":      func(b *attacks.Batch) { b.ID = nil },
		"no size":          func(b *attacks.Batch) { b.H = 0 },
		"other image size": func(b *attacks.Batch) { b.H, b.X = b.H/2, b.X[:len(b.X)/2] },
	} {
		b := s.images.Pick([]int{0, 1})
		spoil(&b)
		if _, err := p.New(eps).Run(context.Background(), s.linear, b, 5); err == nil {
			t.Errorf("%s: no error", name)
		} else if testing.Verbose() {
			t.Logf("%s: %.160s", name, err)
		}
	}
	if _, err := p.New(eps).Run(context.Background(), s.linear, s.images.Pick(nil), 5); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

package attacktest

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
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
		full := p
		p.New = func(eps float64) attacks.Attack { return Shorten(full.New(eps)) }
		t.Run(p.Name, func(t *testing.T) {
			t.Run("specification", func(t *testing.T) { s.specification(t, full) })
			t.Run("budget", func(t *testing.T) { s.budget(t, p) })
			t.Run("eps=0", func(t *testing.T) { s.nothing(t, p) })
			t.Run("reproducible", func(t *testing.T) { s.reproducible(t, p) })
			t.Run("batch", func(t *testing.T) { s.batch(t, p) })
			t.Run("larger eps", func(t *testing.T) { s.larger(t, p) })
			t.Run("closed form", func(t *testing.T) { s.closedForm(t, p) })
			t.Run("broken gradients", func(t *testing.T) { s.brokenGradients(t, p) })
			t.Run("stochastic", func(t *testing.T) { s.stochastic(t, p) })
			t.Run("cancelled", func(t *testing.T) { s.cancelled(t, p) })
			t.Run("killed and run again", func(t *testing.T) { s.killed(t, p) })
			t.Run("bad input", func(t *testing.T) { s.badInput(t, p) })
		})
	}
}

// Shorten makes an attack fit for a test: the same one with fewer steps, targets and queries where it would take long. Other kinds stay as they are.
func Shorten(a attacks.Attack) attacks.Attack {
	switch a := a.(type) {
	case attacks.PGDEoT:
		a.Steps, a.EoT = min(a.Steps, 20), min(a.EoT, 4)
		return a
	case attacks.APGD:
		a.Steps, a.EoT, a.Restarts = min(a.Steps, 40), min(a.EoT, 4), min(a.Restarts, 2)
		return a
	case attacks.APGDTargeted:
		a.Steps, a.EoT, a.Targets = min(a.Steps, 10), min(a.EoT, 4), min(a.Targets, 2)
		return a
	case attacks.MultiTargeted:
		a.Steps, a.Targets = min(a.Steps, 20), min(a.Targets, 3)
		return a
	case attacks.FAB:
		a.Steps, a.Targets, a.Restarts = min(a.Steps, 20), min(a.Targets, 3), min(a.Restarts, 2)
		return a
	case attacks.SquareAttack:
		a.Queries, a.EoT = min(a.Queries, 60), min(a.EoT, 3)
		return a
	case attacks.UniformNoise:
		a.Tries = min(a.Tries, 10)
		return a
	case attacks.AutoAttack:
		a.Attacks = slices.Clone(a.Attacks)
		for k, each := range a.Attacks {
			a.Attacks[k] = Shorten(each)
		}
		return a
	}
	return a
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
		if d.Moved && p.Aim == attacks.Worst { // others look for the boundary wherever it is
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
// backend rounds alike for all of them. On the linear model gradients do, but logits do not: signed steps are the same, and the verdicts of attacks that use the
// size of logits (DLR, whose quotient blows up their last digit, FAB and DeepFool) must still agree.
func (s *suite) batch(t *testing.T, p attacks.Preset) {
	a := p.New(eps)
	text, err := attacks.Describe(a)
	if err != nil {
		t.Fatal(err)
	}
	exact := p.Aim == attacks.Worst && !strings.Contains(string(text), `"dlr`)
	all := run(t, a, s.linear, s.images, 5)
	d := s.images.Dim()
	for _, at := range [][]int{{5, 3, 0}, {2}} {
		for name, o := range map[string]*attacks.Oracle{"same buckets": s.linear, "small buckets": s.small} {
			some := run(t, a, o, s.images.Pick(at), 5)
			for k, i := range at {
				if o == s.small && !exact {
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

// larger: on a linear model the mean cross-entropy reached by attacks that look for the worst point, and the number of images that others fool, do not fall
// when the budget grows.
func (s *suite) larger(t *testing.T, p attacks.Preset) {
	before := math.Inf(-1)
	for _, eps := range []float64{0, 2.0 / 255, 8.0 / 255, 32.0 / 255} {
		r := run(t, p.New(eps), s.linear, s.images, 5)
		reached := 0.0
		for i := range s.images.Len() {
			d := s.images.Dim()
			if p.Aim == attacks.Worst {
				reached += s.line.crossEntropy(r.Best[i*d:(i+1)*d], s.images.Y[i])
			} else if s.line.margin(r.Adv[i*d:(i+1)*d], s.images.Y[i]) <= 0 {
				reached++
			}
		}
		if reached < before {
			t.Errorf("the summed loss, or the number of fooled images, falls from %g to %g as eps grows to %g", before, reached, eps)
		}
		before = reached
	}
}

// margin of class y of a linear toy at x, in float64.
func (m *Toy) margin(x []float32, y int32) float64 {
	rival := math.Inf(-1)
	for c := range m.classes {
		if int32(c) != y {
			rival = max(rival, m.Logit(c, x))
		}
	}
	return m.Logit(int(y), x) - rival
}

// crossEntropy of a linear toy at x, in float64.
func (m *Toy) crossEntropy(x []float32, y int32) float64 {
	sum, own := 0.0, m.Logit(int(y), x)
	for c := range m.classes {
		sum += math.Exp(m.Logit(c, x) - own)
	}
	return math.Log(sum)
}

// closedForm: with two linear classes the strongest point is x + eps*sign(w_other - w_y), clipped to [0,1], whatever the loss; the nearest adversarial
// image is the same with the smallest eps that makes the margin 0; and no attack breaks what the strongest point does not.
func (s *suite) closedForm(t *testing.T, p attacks.Preset) {
	images, d := s.pair.Images(4, 3), s.pair.H*s.pair.W*s.pair.C
	broken := 0
	for _, eps := range []float64{eps, 0.25} {
		if p.Aim == attacks.Worst && eps == 0.25 {
			continue // out of reach of a fixed number of small steps
		}
		r, err := p.New(eps).Run(context.Background(), s.pairOracle, images, 5)
		if errors.Is(err, attacks.ErrClasses) {
			t.Skip("a loss needs more than two classes")
		} else if err != nil {
			t.Fatal(err)
		}
		for i, y := range images.Y {
			corner := s.pair.toward(images.Image(i), y, eps)
			if p.Aim == attacks.Worst {
				for k, want := range corner {
					// One rounding of x + delta, or of the momentum's x + (z-x), each half an ulp of a number below 1.
					if got := r.Best[i*d+k]; math.Abs(float64(got-want)) > 1.2e-7 {
						t.Fatalf("eps %g, image %d, value %d: %v, want %v from %v", eps, i, k, got, want, images.Image(i)[k])
					}
				}
				continue
			}
			// The margins of the toys are of order 1; 1e-4 is beyond float32's rounding of sums of 108 products.
			if s.pair.margin(corner, y) > 1e-4 && r.Broken[i] {
				t.Errorf("eps %g, image %d: broken, but the margin is positive in the whole ball", eps, i)
			}
			if r.Broken[i] {
				broken++
				if m := s.pair.margin(r.Adv[i*d:(i+1)*d], y); m > 1e-4 {
					t.Errorf("eps %g, image %d: called broken at margin %g", eps, i, m)
				}
			}
			if p.Aim != attacks.Nearest {
				continue
			}
			least := s.pair.boundary(images.Image(i), y)
			far := attacks.Distance(r.Adv[i*d:(i+1)*d], images.Image(i), 1)[0]
			// FAB overshoots by 5 % of a step; DeepFool by 2 % and 1e-4 a step.
			if within := 1.06*least + 1e-3; within < eps && !(r.Broken[i] && far >= least*0.999 && far <= within) {
				t.Errorf("eps %g, image %d: distance %g, broken %v; the boundary is at %g", eps, i, far, r.Broken[i], least)
			}
		}
	}
	if p.Aim != attacks.Worst && p.Name != "noise" && broken == 0 {
		t.Error("no image was broken: the check says nothing")
	}
}

// toward is the point of the ball in which class y of two linear classes has the smallest margin.
func (m *Toy) toward(x []float32, y int32, eps float64) []float32 {
	out := slices.Clone(x)
	for k, v := range x {
		if slope := m.Weights[1-y][k] - m.Weights[y][k]; slope > 0 {
			out[k] = min(v+float32(eps), 1)
		} else if slope < 0 {
			out[k] = max(v-float32(eps), 0)
		}
	}
	return out
}

// boundary is the distance of the nearest image that class y of two linear classes loses, by bisection; 1 if there is none.
func (m *Toy) boundary(x []float32, y int32) float64 {
	low, high := 0.0, 1.0
	for range 40 {
		if mid := (low + high) / 2; m.margin(m.toward(x, y, mid), y) > 0 {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// brokenGradients: defences without usable gradients are reported as such, and no image claims to have moved but by queries.
func (s *suite) brokenGradients(t *testing.T, p attacks.Preset) {
	a := p.New(eps)
	r := run(t, a, s.nan, s.images, 5)
	for i, d := range r.Diag {
		if d.Steps > 0 && (!d.NaNStart || !d.NaNEver || d.ZeroStart || d.Moved && d.Queries == 0) {
			t.Errorf("image %d with NaN gradients: %+v", i, d)
		}
	}
	r = run(t, a, s.free, s.images, 5)
	for i, d := range r.Diag {
		if d.Steps > 0 && (!d.ZeroStart || !d.ZeroEver || d.NaNEver || d.Moved && d.Queries == 0) {
			t.Errorf("image %d without gradient: %+v", i, d)
		}
	}
	r = run(t, a, s.saturating, s.images, 5)
	for i, d := range r.Diag {
		if d.Steps > 0 && !d.NaNStart {
			t.Errorf("image %d with infinite logits: %+v", i, d)
		}
	}
	if !slices.ContainsFunc(r.Diag, func(d attacks.Diag) bool { return d.Steps+d.Queries > 0 }) {
		t.Error("no image was attacked: the check says nothing")
	}
}

// stochastic: the passes are counted. A step costs one gradient, or one towards each other class, of every draw; a deterministic classifier has one draw.
func (s *suite) stochastic(t *testing.T, p attacks.Preset) {
	a := p.New(eps)
	var fields struct{ EoT int }
	text, err := attacks.Describe(a)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, many := a.(attacks.AutoAttack)
	if many && len(list.Attacks) == 0 || !many && fields.EoT < 1 {
		t.Fatalf("description %s does not say how many draws are averaged", text)
	}
	for name, o := range map[string]*attacks.Oracle{"noisy": s.noisy, "staged": s.staged, "linear": s.linear} {
		draws := fields.EoT
		if name == "linear" {
			draws = 1
		}
		r := run(t, a, o, s.images, 5)
		for i, d := range r.Diag {
			if d.Steps+d.Queries > a.Evaluations() || !many && d.Draws != d.Steps*draws && d.Draws != d.Steps*draws*(o.Classes()-1) {
				t.Errorf("%s, image %d: %d evaluations and %d draws; want at most %d, and %d draws each", name, i, d.Steps, d.Draws, a.Evaluations(), draws)
			}
		}
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

// killed: an attack that is stopped in the middle leaves nothing behind; run again it gives what it gives undisturbed.
func (s *suite) killed(t *testing.T, p attacks.Preset) {
	a := p.New(eps)
	before := run(t, a, s.noisy, s.images, 5)
	ctx, cancel := context.WithCancel(context.Background())
	evaluations := 0
	_, err := a.Run(ctx, s.noisy.Observed(func([]int, *attacks.Grad) {
		if evaluations++; evaluations == 3 {
			cancel()
		}
	}), s.images, 5)
	cancel()
	if evaluations > 3 || evaluations == 3 && !errors.Is(err, context.Canceled) {
		t.Errorf("killed at the third evaluation: %d evaluations, error %v", evaluations, err)
	}
	after := run(t, a, s.noisy, s.images, 5)
	if !slices.Equal(before.Adv, after.Adv) || !slices.Equal(before.Best, after.Best) || !slices.Equal(before.Diag, after.Diag) {
		t.Error("the result after a killed run differs from the one before")
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

package attacks_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/internal/rng"
)

// margin of the label of image i of b in a linear toy, at points, in float64.
func margin(m *attacktest.Toy, b attacks.Batch, points []float32, i int) float64 {
	x := points[i*b.Dim() : (i+1)*b.Dim()]
	best := math.Inf(-1)
	for c := range m.Classes() {
		if int32(c) != b.Y[i] {
			best = max(best, m.Logit(c, x))
		}
	}
	return m.Logit(int(b.Y[i]), x) - best
}

func TestSequence(t *testing.T) {
	const eps = 0.08
	toy := attacktest.NewLinear(4, 2)
	o := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(20, 1)
	b.Y[3], b.Y[7] = (b.Y[3]+1)%4, (b.Y[7]+2)%4
	var notes []string
	last := 0
	s := attacks.Sequence{Decide: o, Stages: []attacks.Stage{
		{Oracle: o, Output: "logits", Attack: attacks.FGSM{Eps: eps / 4, EoT: 1}},
		{Oracle: o, Output: "logits", Attack: attacks.StandardAPGD(attacks.CE, eps, 1)},
	}, Progress: func(done, total int, note string) {
		if done > total || done < last && done != 0 {
			t.Errorf("progress %d of %d after %d: %s", done, total, last, note)
		}
		last, notes = done, append(notes, note)
	}}
	out, err := s.Run(context.Background(), b, 6)
	if err != nil {
		t.Fatal(err)
	}
	if out.Remaining[0] != 18 || out.Remaining[1] >= 18 || out.Remaining[2] >= out.Remaining[1] || out.Remaining[2] == 0 {
		t.Errorf("remaining %v: want 18 first, then fewer and fewer, the last not 0: the case is meant to have both outcomes", out.Remaining)
	}
	unbroken, d := 0, b.Dim()
	for i := range b.Len() {
		adv, strongest, clean := out.Adv[i*d:(i+1)*d], out.Strongest[i*d:(i+1)*d], b.Image(i)
		switch by := out.BrokenBy[i]; {
		case i == 3 || i == 7:
			if !out.Initially[i] || by != attacks.NotBroken || !slices.Equal(adv, clean) || out.Diag[0][i].Steps+out.Diag[1][i].Steps != 0 {
				t.Errorf("image %d is wrong by label, but was attacked", i)
			}
		case by == attacks.NotBroken:
			unbroken++
			if out.FirstHit[i] != attacks.NotKept { // FGSM does not look at its result
				t.Errorf("unbroken image %d: first hit %d", i, out.FirstHit[i])
			}
			if out.Initially[i] || !slices.Equal(adv, clean) || out.Diag[1][i].Steps != 101 || slices.Equal(strongest, clean) {
				t.Errorf("unbroken image %d: initially %v, diag %+v", i, out.Initially[i], out.Diag[1][i])
			}
			// The closed-form optimum of each rival bounds what an attack can reach.
			for c := range 4 {
				if worst := float64(toy.Logit(int(b.Y[i]), clean) - toy.Logit(c, clean)); int32(c) != b.Y[i] {
					for k, v := range clean {
						slope := float64(toy.Weights[c][k] - toy.Weights[b.Y[i]][k])
						worst -= slope * (math.Min(math.Max(float64(v)+math.Copysign(eps, slope), 0), 1) - float64(v))
					}
					if worst < -1e-2 {
						t.Errorf("image %d survived, but class %d can be %.3g ahead", i, c, -worst)
					}
				}
			}
		default:
			if out.FirstHit[i] != by { // the toy is deterministic: an attack's own verdict is confirmed
				t.Errorf("image %d, broken by stage %d, was first hit by %d", i, by, out.FirstHit[i])
			}
			if margin(toy, b, out.Adv, i) > 1e-5 || !slices.Equal(adv, strongest) || out.Diag[1][i].Steps != map[int]int{0: 0, 1: 101}[by] {
				t.Errorf("image %d, broken by stage %d: margin %g, diag %+v", i, by, margin(toy, b, out.Adv, i), out.Diag[1][i])
			}
		}
	}
	if unbroken != out.Remaining[2] {
		t.Errorf("%d unbroken images, %d remaining", unbroken, out.Remaining[2])
	}
	if !strings.Contains(notes[0], "fgsm on logits, 18 images") || !strings.Contains(notes[len(notes)-1], "stage 2 of 2, apgd-ce") {
		t.Errorf("notes from %q to %q", notes[0], notes[len(notes)-1])
	}
	again, err := s.Run(context.Background(), b.Pick([]int{7, 1, 19}), 6)
	if err != nil {
		t.Fatal(err)
	}
	for k, i := range []int{7, 1, 19} {
		if again.BrokenBy[k] != out.BrokenBy[i] || !slices.Equal(again.Adv[k*d:(k+1)*d], out.Adv[i*d:(i+1)*d]) {
			t.Errorf("image %d in another batch: broken by %d, before %d", i, again.BrokenBy[k], out.BrokenBy[i])
		}
	}
}

// With All the initially wrong are attacked too, and the last word is the attack's.
func TestSequenceAll(t *testing.T) {
	toy := attacktest.NewLinear(4, 2)
	o := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(4, 1)
	b.Y[2] = (b.Y[2] + 1) % 4
	a := attacks.PaperPGDEoT(0.01)
	out, err := attacks.Sequence{Decide: o, All: true, Stages: []attacks.Stage{{Oracle: o, Attack: a}}}.Run(context.Background(), b, 1)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := a.Run(context.Background(), o, b, 1)
	if err != nil {
		t.Fatal(err)
	}
	if !out.Initially[2] || out.BrokenBy[2] != 0 || out.Diag[0][2].Steps != 200 || out.Remaining[0] != 3 {
		t.Errorf("the initially wrong image: broken by %d after %d steps; %d right initially", out.BrokenBy[2], out.Diag[0][2].Steps, out.Remaining[0])
	}
	if !slices.Equal(out.Strongest, alone.Adv) {
		t.Error("Strongest is not what the attack returned")
	}
}

// A defence whose attack fails for numerical reasons is broken through a surrogate with the same decisions, and the diagnostics of the
// direct attack say why it failed.
func TestSurrogateBreaksSaturatedDefence(t *testing.T) {
	broken, surrogate := attacktest.NewSaturating(4, 2), attacktest.NewLinear(4, 2)
	direct, smooth := oracle(t, broken, attacks.OracleOptions{}), oracle(t, surrogate, attacks.OracleOptions{})
	b := surrogate.Images(12, 1)
	run := func(o *attacks.Oracle) *attacks.Outcome {
		s := attacks.Sequence{Decide: direct, Stages: []attacks.Stage{{Oracle: o, Attack: attacks.StandardAPGD(attacks.CE, 0.1, 1)}}}
		out, err := s.Run(context.Background(), b, 1)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	saturated, honest := run(direct), run(smooth)
	if honest.Remaining[0] != 12 || honest.Remaining[1] >= saturated.Remaining[1] {
		t.Errorf("the surrogate leaves %v, the saturated output %v", honest.Remaining, saturated.Remaining)
	}
	for i, by := range saturated.BrokenBy {
		if d := saturated.Diag[0][i]; by == attacks.NotBroken && (!d.NaNStart || d.Moved) {
			t.Errorf("image %d survived the direct attack without a NaN gradient: %+v", i, d)
		}
	}
}

// An image counts as wrong from half of the confirming passes on.
func TestConfirm(t *testing.T) {
	b := twoPixels(3)
	coin := custom{model.NewStore(), []int{1}, func(_, noise *Node) *Node { return Concatenate([]*Node{Neg(noise), noise}, 1) }}
	passes := perImage{values: [][]float32{{1, -1, 1, -1}, {1, -1, -1, -1}, {-1, 1, 1, 1}}} // positive: class 1, wrong
	o := oracle(t, coin, attacks.OracleOptions{Random: passes})
	for confirm, want := range map[int][]bool{0: {true, true, false}, 1: {true, true, false}, 4: {true, false, true}} {
		out, err := attacks.Sequence{Decide: o, Confirm: confirm, Stages: []attacks.Stage{{Oracle: o, Attack: attacks.FGSM{EoT: 1}}}}.Run(context.Background(), b, 1)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out.Initially, want) {
			t.Errorf("%d passes: wrong %v, want %v", confirm, out.Initially, want)
		}
	}
}

// rogue is an attack that breaks its promise.
type rogue struct {
	attacks.FGSM
	spoil func(adv []float32)
}

func (r rogue) Run(_ context.Context, _ *attacks.Oracle, b attacks.Batch, _ rng.Seed) (*attacks.Result, error) {
	adv := slices.Clone(b.X)
	r.spoil(adv)
	return &attacks.Result{Adv: adv, Best: adv, Diag: make([]attacks.Diag, b.Len())}, nil
}

func TestSequenceErrors(t *testing.T) {
	toy := attacktest.NewLinear(4, 2)
	o, two := oracle(t, toy, attacks.OracleOptions{}), oracle(t, attacktest.NewLinear(2, 2), attacks.OracleOptions{})
	b := toy.Images(3, 1)
	fgsm := attacks.FGSM{Eps: 0.01, EoT: 1}
	run := func(s attacks.Sequence) error {
		_, err := s.Run(context.Background(), b, 1)
		return err
	}
	for want, s := range map[string]attacks.Sequence{
		"at least one stage": {Decide: o},
		"Decide set":         {Stages: []attacks.Stage{{Oracle: o, Attack: fgsm}}},
		"its oracle":         {Decide: o, Stages: []attacks.Stage{{Attack: fgsm}}},
		"Eps":                {Decide: o, Stages: []attacks.Stage{{Oracle: o, Attack: attacks.FGSM{Eps: 3, EoT: 1}}}},
		"2 classes":          {Decide: o, Stages: []attacks.Stage{{Oracle: two, Attack: fgsm}}},
		"budget is 0.01":     {Decide: o, Stages: []attacks.Stage{{Oracle: o, Attack: rogue{fgsm, func(adv []float32) { adv[200] = 1 - adv[200] }}}}},
		"changed by NaN":     {Decide: o, Stages: []attacks.Stage{{Oracle: o, Attack: rogue{fgsm, func(adv []float32) { adv[200] = float32(math.NaN()) }}}}},
		"in [0,1]":           {Decide: o, Stages: []attacks.Stage{{Oracle: o, Attack: rogue{fgsm, below}}}},
	} {
		if err := run(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := attacks.AutoAttackRand(0.01).On(o, "")
	calls := 0
	s.Progress = func(int, int, string) {
		if calls++; calls == 5 {
			cancel()
		}
	}
	if _, err := s.Run(ctx, b, 1); !errors.Is(err, context.Canceled) || calls != 5 {
		t.Errorf("cancelled after 5 reports: error %v after %d", err, calls)
	}
}

// below moves a black pixel out of the range.
func below(adv []float32) { adv[slices.Index(adv, 0)] = -0.005 }

// bare is an attack of somebody's own: one signed step, and a result with Adv only.
type bare struct {
	attacks.FGSM
	cut func(*attacks.Result)
}

func (a bare) Run(ctx context.Context, o *attacks.Oracle, b attacks.Batch, seed rng.Seed) (*attacks.Result, error) {
	g, err := o.Gradient(ctx, attacks.CE, b, seed, 1, nil)
	if err != nil {
		return nil, err
	}
	r := &attacks.Result{Adv: slices.Clone(b.X)}
	for k, v := range g.G {
		switch {
		case v > 0:
			r.Adv[k] = min(r.Adv[k]+float32(a.Eps), 1)
		case v < 0:
			r.Adv[k] = max(r.Adv[k]-float32(a.Eps), 0)
		}
	}
	if a.cut != nil {
		a.cut(r)
	}
	return r, nil
}

// TestBareResult: of an attack that returns nothing but Adv, the sequence knows from the oracle what its gradients were; and a result of the wrong length is an
// error that names the field, no panic.
func TestBareResult(t *testing.T) {
	toy, fgsm := attacktest.NewLinear(4, 2), attacks.FGSM{Eps: 0.05, EoT: 1}
	o := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(20, 1)
	run := func(a attacks.Attack) (*attacks.Outcome, error) {
		return attacks.Sequence{Decide: o, Stages: []attacks.Stage{{Oracle: o, Attack: a}}}.Run(t.Context(), b, 1)
	}
	own, err := run(bare{FGSM: fgsm})
	if err != nil {
		t.Fatal(err)
	}
	kits, err := run(fgsm)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(own.BrokenBy, kits.BrokenBy) || !slices.Equal(own.Adv, kits.Adv) || !slices.Equal(own.Strongest, kits.Strongest) || !slices.Equal(own.Diag[0], kits.Diag[0]) {
		t.Errorf("one step of one's own: %+v\nFGSM: %+v", own.Diag[0], kits.Diag[0])
	}
	for want, cut := range map[string]func(*attacks.Result){
		"Adv":    func(r *attacks.Result) { r.Adv = r.Adv[1:] },
		"Best":   func(r *attacks.Result) { r.Best = r.Adv[:1] },
		"Diag":   func(r *attacks.Result) { r.Diag = make([]attacks.Diag, 100) },
		"Broken": func(r *attacks.Result) { r.Broken = []bool{} },
	} {
		if _, err := run(bare{fgsm, cut}); err == nil || !strings.Contains(err.Error(), "result's "+want+" has") {
			t.Errorf("a %s of another length: %v", want, err)
		}
	}
}

// hiding is an attack that finds a point and returns the clean image beside it, as APGD does where no draw of its own was wrong.
type hiding struct{ attacks.FGSM }

func (h hiding) Run(ctx context.Context, o *attacks.Oracle, b attacks.Batch, seed rng.Seed) (*attacks.Result, error) {
	r, err := h.FGSM.Run(ctx, o, b, seed)
	if err == nil {
		r.Adv = slices.Clone(b.X)
	}
	return r, err
}

// TestConfirmBest: the point of highest loss breaks an image that the returned one does not; without ConfirmBest it does not count. Images that neither breaks keep the
// clean one.
func TestConfirmBest(t *testing.T) {
	toy, fgsm := attacktest.NewLinear(4, 2), attacks.FGSM{Eps: 0.05, EoT: 1}
	o := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(20, 1)
	run := func(a attacks.Attack, best bool) *attacks.Outcome {
		out, err := attacks.Sequence{Decide: o, ConfirmBest: best, Stages: []attacks.Stage{{Oracle: o, Attack: a}}}.Run(t.Context(), b, 1)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	open := run(fgsm, false)
	if n := open.Remaining[1]; n == 0 || n == open.Remaining[0] {
		t.Fatalf("remaining %v: the case is meant to have both outcomes", open.Remaining)
	}
	if hidden := run(hiding{fgsm}, false); hidden.Remaining[1] != hidden.Remaining[0] {
		t.Errorf("clean images were confirmed as broken: %v", hidden.Remaining)
	}
	found := run(hiding{fgsm}, true)
	if !slices.Equal(found.BrokenBy, open.BrokenBy) || !slices.Equal(found.Adv, open.Adv) || !slices.Equal(found.Strongest, open.Strongest) || !slices.Equal(found.Remaining, open.Remaining) {
		t.Errorf("broken by %v, with the point returned %v", found.BrokenBy, open.BrokenBy)
	}
	if both := run(fgsm, true); !slices.Equal(both.BrokenBy, open.BrokenBy) || !slices.Equal(both.Adv, open.Adv) {
		t.Errorf("the same point asked about twice: %v, once %v", both.BrokenBy, open.BrokenBy)
	}
}

// TestAlways: images that the first pass has wrong are attacked, and come back as what they are.
func TestAlways(t *testing.T) {
	toy := attacktest.NewLinear(4, 2)
	o := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(6, 1)
	b.Y[2] = (b.Y[2] + 1) % 4
	a := attacks.StandardAPGD(attacks.CE, 0.02, 1)
	a.Steps = 5
	usual, err := a.Run(t.Context(), o, b, 3)
	if err != nil {
		t.Fatal(err)
	}
	a.Always = true
	always, err := a.Run(t.Context(), o, b, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Len() {
		if i == 2 {
			if usual.Diag[i].Steps != 0 || !usual.Broken[i] || always.Diag[i].Steps != 6 || !always.Broken[i] || slices.Equal(always.Best[i*b.Dim():(i+1)*b.Dim()], b.Image(i)) {
				t.Errorf("the image that was wrong before: %+v, always %+v", usual.Diag[i], always.Diag[i])
			}
		} else if usual.Diag[i] != always.Diag[i] || usual.Broken[i] != always.Broken[i] {
			t.Errorf("image %d: %+v, always %+v", i, usual.Diag[i], always.Diag[i])
		}
	}
}

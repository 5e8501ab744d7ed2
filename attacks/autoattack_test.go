package attacks_test

import (
	"context"
	"encoding/json"
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

// The versions are the reference's: which attacks, in which order, with which settings.
func TestAutoAttackVersions(t *testing.T) {
	const eps = 0.25
	apgd := func(loss string, eot, restarts int) string {
		return strings.NewReplacer("LOSS", loss, "EOT", string(rune('0'+eot/10))+string(rune('0'+eot%10)), "RESTARTS", string(rune('0'+restarts))).Replace(
			`{"kind":"apgd","eps":0.25,"loss":"LOSS","steps":100,"eot":EOT,"restarts":RESTARTS,"rho":0.75,"stop_when_broken":false}`)
	}
	one := func(loss string, restarts int) string {
		return strings.Replace(apgd(loss, 1, restarts), `"eot":01`, `"eot":1`, 1)
	}
	const (
		apgdT  = `{"kind":"apgd-t","eps":0.25,"loss":"dlr-targeted","steps":100,"eot":1,"targets":9,"restarts":1,"rho":0.75,"stop_when_broken":false}`
		fab    = `{"kind":"fab","eps":0.25,"steps":100,"eot":1,"targets":0,"restarts":5,"alpha_max":0.1,"eta":1.05,"beta":0.9}`
		fabT   = `{"kind":"fab","eps":0.25,"steps":100,"eot":1,"targets":9,"restarts":1,"alpha_max":0.1,"eta":1.05,"beta":0.9}`
		square = `{"kind":"square","eps":0.25,"queries":5000,"p":0.8,"eot":1,"restarts":1}`
	)
	for version, c := range map[string]struct {
		made attacks.AutoAttack
		want []string
	}{
		"standard": {attacks.AutoAttackStandard(eps), []string{one("ce", 1), apgdT, fabT, square}},
		"plus":     {attacks.AutoAttackPlus(eps), []string{one("ce", 5), one("dlr", 5), fab, square, apgdT, fabT}},
		"rand":     {attacks.AutoAttackRand(eps), []string{apgd("ce", 20, 1), apgd("dlr", 20, 1)}},
	} {
		got, err := attacks.Describe(c.made)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"kind":"autoattack","version":"` + version + `","eps":0.25,"attacks":[` + strings.Join(c.want, ",") + `]}`
		if string(got) != want {
			t.Errorf("%s:\n%s, want\n%s", version, got, want)
		}
	}
}

// As an attack AutoAttack gives what its sequence gives, and later attacks only see what earlier ones left.
func TestAutoAttackIsItsSequence(t *testing.T) {
	toy := attacktest.NewLinear(4, 2)
	o := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(20, 1)
	b.Y[3] = (b.Y[3] + 1) % 4
	a := attacktest.Shorten(attacks.AutoAttackCustom("custom", 0.05, attacks.UniformNoise{Eps: 0.05, Tries: 2, EoT: 1}, attacks.FGSM{Eps: 0.05, EoT: 1},
		attacks.StandardFAB(0.05, 3, 1))).(attacks.AutoAttack)
	r, err := a.Run(context.Background(), o, b, 4)
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.On(o, "logits").Run(context.Background(), b, 4)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Adv, out.Adv) || !slices.Equal(r.Best, out.Strongest) {
		t.Error("the attack and its sequence differ")
	}
	broken := 0
	for i := range b.Y {
		if r.Broken[i] != (out.Initially[i] || out.BrokenBy[i] != attacks.NotBroken) {
			t.Errorf("image %d: broken %v, by stage %d", i, r.Broken[i], out.BrokenBy[i])
		}
		if out.BrokenBy[i] >= 0 {
			broken++
		}
		for stage, diag := range out.Diag {
			if touched := diag[i].Steps+diag[i].Queries > 0; touched != (!out.Initially[i] && (out.BrokenBy[i] == attacks.NotBroken || out.BrokenBy[i] >= stage)) {
				t.Errorf("image %d, broken by %d: stage %d attacked it: %v", i, out.BrokenBy[i], stage, touched)
			}
		}
	}
	if broken == 0 || broken == b.Len() {
		t.Errorf("%d of %d broken: the case is meant to have both", broken, b.Len())
	}
}

func TestAutoAttackErrors(t *testing.T) {
	fgsm := attacks.FGSM{Eps: 0.1, EoT: 1}
	for want, a := range map[string]attacks.AutoAttack{
		"a name":               attacks.AutoAttackCustom("", 0.1, fgsm),
		"number of Attacks":    attacks.AutoAttackCustom("custom", 0.1),
		"attack 1 is nil":      attacks.AutoAttackCustom("custom", 0.1, fgsm, nil),
		"that of the whole":    attacks.AutoAttackCustom("custom", 0.2, fgsm),
		"attack 0: attacks: f": attacks.AutoAttackCustom("custom", 0.1, attacks.FGSM{Eps: 0.1}),
	} {
		if err := a.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	// Three classes are too few for the targeted loss, and the error says so.
	toy := attacktest.NewLinear(3, 2)
	a := attacktest.Shorten(attacks.AutoAttackStandard(0.001))
	_, err := a.Run(context.Background(), oracle(t, toy, attacks.OracleOptions{}), toy.Images(6, 1), 1)
	if !errors.Is(err, attacks.ErrClasses) || !strings.Contains(err.Error(), "dlr-targeted") {
		t.Errorf("standard on three classes: error %v", err)
	}
}

// An attack on another classifier is scored on this one.
func TestTransfer(t *testing.T) {
	toy := attacktest.NewLinear(4, 2)
	other := attacktest.NewLinear(4, 2) // the same weights
	stranger := attacktest.NewLinear(4, 77)
	to := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(30, 1)
	remaining := func(from *attacks.Oracle) int {
		out, err := attacks.Transfer(from, "other", to, attacks.PaperPGDEoT(0.05)).Run(context.Background(), b, 1)
		if err != nil {
			t.Fatal(err)
		}
		return out.Remaining[1]
	}
	twin, unrelated := remaining(oracle(t, other, attacks.OracleOptions{})), remaining(oracle(t, stranger, attacks.OracleOptions{}))
	if twin >= unrelated || unrelated == 0 {
		t.Errorf("%d images stand an attack on a twin, %d one on an unrelated model", twin, unrelated)
	}
}

// Observers see loss and step-size halvings of every evaluation, and the last ones are what the diagnostics keep.
func TestObservedHalvings(t *testing.T) {
	o := oracle(t, attacktest.NewConv(4, 2), attacks.OracleOptions{})
	b := attacktest.NewLinear(4, 2).Images(6, 1)
	_, logits := correct(t, o, b)
	b.Y = attacks.Ranked(logits, 4, 1)
	seen := map[int][]int{}
	a := attacks.StandardAPGD(attacks.CE, 0.02, 1)
	r, err := a.Run(context.Background(), o.Observed(func(ids []int, g *attacks.Grad) {
		for k, id := range ids {
			seen[id] = append(seen[id], g.Halvings[k])
		}
	}), b, 3)
	if err != nil {
		t.Fatal(err)
	}
	attacked := 0
	for i, id := range b.ID {
		h := seen[id]
		if len(h) == 0 {
			continue
		}
		attacked++
		// A check after the last evaluation is not seen; at 100 steps the last is after step 99.
		if len(h) != 101 || !slices.IsSorted(h) || h[0] != 0 || h[100] != r.Diag[i].Halvings || r.Diag[i].Halvings == 0 || r.Diag[i].Halvings > 8 {
			t.Errorf("image %d: %d halvings in the diagnostics, seen %v", id, r.Diag[i].Halvings, h)
		}
	}
	if attacked == 0 {
		t.Error("no image was attacked")
	}
	text, err := json.Marshal(attacks.Diag{})
	if err != nil || strings.Contains(string(text), "halvings") || strings.Contains(string(text), "queries") {
		t.Errorf("records of other attacks change: %s (%v)", text, err)
	}
}

// AverageLoss keeps the mean over the draws, on which the best point then rests.
func TestAverageLoss(t *testing.T) {
	o := oracle(t, attacktest.NewNoisy(4, 2), attacks.OracleOptions{})
	b := attacktest.NewLinear(4, 2).Images(8, 1)
	for _, average := range []bool{false, true} {
		a := attacks.APGD{Eps: 0.02, Loss: attacks.CE, Steps: 8, EoT: 5, Restarts: 1, Rho: 0.75, AverageLoss: average}
		best := map[int]float32{}
		r, err := a.Run(context.Background(), o.Observed(func(ids []int, g *attacks.Grad) {
			loss := g.Loss
			if average {
				loss = g.MeanLoss
			}
			for k, id := range ids {
				best[id] = max(best[id], loss[k])
			}
		}), b, 3)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range b.ID {
			if want, attacked := best[id]; attacked && r.BestLoss[i] != want {
				t.Errorf("average %v, image %d: best loss %v, the largest seen is %v", average, id, r.BestLoss[i], want)
			}
		}
	}
}

// On four linear classes targeted Auto-PGD reaches the strongest point towards a target in one step, so it breaks exactly what some corner breaks.
func TestAPGDTargetedAgainstCorners(t *testing.T) {
	const eps = 0.03
	toy := attacktest.NewLinear(4, 2)
	o := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(40, 1)
	a := attacks.StandardAPGDTargeted(eps, 1)
	a.Steps = 10
	r, err := a.Run(context.Background(), o, b, 3)
	if err != nil {
		t.Fatal(err)
	}
	broken := 0
	for i, y := range b.Y {
		least := math.Inf(1)
		for c := range toy.Classes() {
			if int32(c) == y {
				continue
			}
			gap := 0.0 // label against class c at the corner that raises c against it most
			for k, v := range b.Image(i) {
				slope := float64(toy.Weights[y][k]) - float64(toy.Weights[c][k])
				gap += slope * min(max(float64(v)-eps*sign(slope), 0), 1)
			}
			least = min(least, gap)
		}
		if r.Broken[i] {
			broken++
		}
		// 1e-4: beyond float32's rounding of a sum of 108 products of order 1.
		if least < -1e-4 && !r.Broken[i] || least > 1e-4 && r.Broken[i] {
			t.Errorf("image %d: broken %v, the smallest margin in the ball is %g", i, r.Broken[i], least)
		}
	}
	if broken == 0 || broken == b.Len() {
		t.Errorf("%d of %d broken: the case is meant to have both", broken, b.Len())
	}
}

func sign(v float64) float64 {
	if v < 0 {
		return -1
	}
	return 1
}

// FuzzToPlane: the projection reaches the plane where the box allows it, stays in the box, and no smaller uniform move reaches it.
func FuzzToPlane(f *testing.F) {
	f.Add(uint64(1), 0.3)
	f.Add(uint64(2), -40.0)
	f.Add(uint64(3), 0.0)
	f.Fuzz(func(t *testing.T, seed uint64, b float64) {
		if !(math.Abs(b) < 1e6) {
			t.Skip()
		}
		const n = 20
		x, w := make([]float32, n), make([]float32, n)
		rng.Seed(seed).Child("x").Uniform(x)
		rng.Seed(seed).Child("w").Normal(w)
		w[3], x[4], x[5] = 0, 0, 1
		move, norm := attacks.ToPlane(x, w, b)
		at, there, largest, all := -b, -b, 0.0, 0.0
		for k, m := range move {
			at += float64(w[k]) * float64(x[k])
			there += float64(w[k]) * (float64(x[k]) + m)
			largest = max(largest, math.Abs(m))
			if to := float64(x[k]) + m; to < -1e-12 || to > 1+1e-12 {
				t.Errorf("value %d leaves the box: %g", k, to)
			}
		}
		if norm != largest {
			t.Errorf("norm %g, the largest move is %g", norm, largest)
		}
		full, nearly := at, at // after moves of everything, and of a little less than the norm
		for k := range x {
			toward := 1.0
			if at*float64(w[k]) > 0 {
				toward = -1
			}
			room := float64(x[k])
			if toward > 0 {
				room = 1 - room
			}
			full += float64(w[k]) * toward * room
			nearly += float64(w[k]) * toward * min(room, norm*(1-1e-6))
			all = max(all, room)
		}
		scale := 1e-9 * (1 + math.Abs(b) + math.Abs(at))
		if full*at > 0 && math.Abs(full) > scale { // out of reach
			if math.Abs(there-full) > scale {
				t.Errorf("the plane is out of reach: %g of the way left, %g with all room used", there, full)
			}
		} else {
			if math.Abs(there) > scale {
				t.Errorf("missed the plane by %g", there)
			}
			if norm > 1e-6 && nearly*at < -scale {
				t.Errorf("a smaller move than %g reaches the plane", norm)
			}
		}
	})
}

// The classes of the largest logits; ties in favour of the higher index, NaN first.
func TestRanked(t *testing.T) {
	nan := float32(math.NaN())
	logits := []float32{1, 3, 2, 3, nan, 0, 5, 1}
	for j, want := range map[int][]int32{1: {3, 0}, 2: {1, 2}, 3: {2, 3}, 4: {0, 1}} {
		if got := attacks.Ranked(logits, 4, j); !slices.Equal(got, want) {
			t.Errorf("rank %d: %v, want %v", j, got, want)
		}
	}
}

// Every attack refuses settings that cannot be and names the field.
func TestValidateOthers(t *testing.T) {
	const eps = 0.1
	targeted, multi, fab := attacks.StandardAPGDTargeted(eps, 1), attacks.StandardMultiTargeted(eps, 1), attacks.StandardFAB(eps, 9, 1)
	fool, square, noise := attacks.PaperDeepFool(eps), attacks.StandardSquare(eps, 1), attacks.UniformNoise{Eps: eps, Tries: 1, EoT: 1}
	for _, a := range []attacks.Attack{targeted, multi, fab, fool, square, noise} {
		if err := a.Validate(); err != nil {
			t.Errorf("%s: %v", a.Name(), err)
		}
	}
	type bad struct {
		attack attacks.Attack
		want   string
	}
	var all []bad
	add := func(a attacks.Attack, want string) { all = append(all, bad{a, want}) }
	with := func(a attacks.APGDTargeted, f func(*attacks.APGDTargeted)) attacks.APGDTargeted { f(&a); return a }
	add(with(targeted, func(a *attacks.APGDTargeted) { a.Targets = 0 }), "Targets")
	add(with(targeted, func(a *attacks.APGDTargeted) { a.Loss = attacks.CE }), "targeted loss")
	add(with(targeted, func(a *attacks.APGDTargeted) { a.Rho = 2 }), "Rho")
	add(with(targeted, func(a *attacks.APGDTargeted) { a.EoT = 0 }), "EoT")
	multi.Step = 0
	add(multi, "Step")
	for field, spoil := range map[string]func(*attacks.FAB){"Targets": func(a *attacks.FAB) { a.Targets = -1 }, "AlphaMax": func(a *attacks.FAB) { a.AlphaMax = 1.5 },
		"Beta": func(a *attacks.FAB) { a.Beta = -1 }, "Eta": func(a *attacks.FAB) { a.Eta = math.NaN() }, "Restarts": func(a *attacks.FAB) { a.Restarts = 0 }} {
		a := fab
		spoil(&a)
		add(a, field)
	}
	fool.Overshoot = -1
	add(fool, "Overshoot")
	square.P = math.NaN()
	add(square, "P")
	noise.Tries = 0
	add(noise, "Tries")
	for _, b := range all {
		if err := b.attack.Validate(); err == nil || !strings.Contains(err.Error(), b.want) {
			t.Errorf("%s: error %v, want one with %q", b.attack.Name(), err, b.want)
		}
		if _, err := b.attack.Run(context.Background(), nil, attacks.Batch{}, 1); err == nil {
			t.Errorf("%s runs with a bad %s", b.attack.Name(), b.want)
		}
	}
}

// Square keeps the best of its queries, and its squares have the sides of the reference's schedule.
func TestSquare(t *testing.T) {
	const eps = 0.05
	c := newBlurry(t)
	o := oracle(t, attacks.Deterministic(c.store, 4, func(s *model.Scope, x *Node) *Node { return c.Logits(s, x, ZerosLike(x)) }), attacks.OracleOptions{})
	b := c.images(3)
	_, logits := correct(t, o, b)
	b.Y = attacks.Ranked(logits, 4, 1)
	a := attacks.StandardSquare(eps, 1)
	a.Queries = 300
	losses := map[int][]float32{}
	r, err := a.Run(context.Background(), o.Observed(func(ids []int, g *attacks.Grad) {
		for k, id := range ids {
			losses[id] = append(losses[id], g.Loss[k])
		}
	}), b, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range b.ID {
		if len(losses[id]) != r.Diag[i].Queries {
			t.Errorf("image %d: %d queries seen, %d in the diagnostics", i, len(losses[id]), r.Diag[i].Queries)
		}
		if largest := slices.Max(losses[id]); r.BestLoss[i] != largest {
			t.Errorf("image %d: best loss %v, the largest seen is %v", i, r.BestLoss[i], largest)
		}
		if r.Broken[i] != (r.BestLoss[i] >= 0) {
			t.Errorf("image %d: broken %v at loss %v", i, r.Broken[i], r.BestLoss[i])
		}
	}
	for query, want := range map[int]int{0: 29, 10: 29, 11: 20, 51: 14, 201: 10, 501: 7, 1001: 5, 2001: 4, 4999: 3} {
		// round(sqrt(p * 32 * 32)) with p = 0.8 halved after 10, 50, 200, 500, 1000, 2000 and 4000 queries.
		if got := a.Side(query, 32, 32); got != want {
			t.Errorf("query %d: side %d, want %d", query, got, want)
		}
	}
	if got := a.Side(0, 4, 32); got != 4 {
		t.Errorf("side %d in an image of 4 x 32 pixels", got)
	}
}

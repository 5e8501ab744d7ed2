package attacks_test

import (
	"context"
	"encoding/json"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/internal/memory"
)

// Leaving early changes neither who is broken nor the others' results; it saves evaluations.
func TestStopWhenBroken(t *testing.T) {
	toy := attacktest.NewLinear(4, 2)
	o := oracle(t, toy, attacks.OracleOptions{})
	b := toy.Images(20, 1)
	a := attacks.StandardAPGD(attacks.Margin, 0.05, 1)
	full, err := a.Run(context.Background(), o, b, 3)
	if err != nil {
		t.Fatal(err)
	}
	a.StopWhenBroken = true
	early, err := a.Run(context.Background(), o, b, 3)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(full.Broken, early.Broken) || !slices.Contains(full.Broken, true) || !slices.Contains(full.Broken, false) {
		t.Fatalf("broken %v, with early stop %v; the case is meant to have both", full.Broken, early.Broken)
	}
	d := b.Dim()
	for i, broken := range full.Broken {
		if !broken {
			if early.Diag[i] != full.Diag[i] || !slices.Equal(early.Best[i*d:(i+1)*d], full.Best[i*d:(i+1)*d]) {
				t.Errorf("unbroken image %d differs", i)
			}
			continue
		}
		if early.Diag[i].Steps != early.Hit[i]+1 || early.Hit[i] > full.Hit[i] {
			t.Errorf("image %d left after %d evaluations; hit at %d, without early stop at %d", i, early.Diag[i].Steps, early.Hit[i], full.Hit[i])
		}
		if m := margin(toy, b, early.Adv, i); m > 1e-5 {
			t.Errorf("image %d: margin %g on the adversarial image", i, m)
		}
	}
}

// A stochastic image leaves only when every draw of one evaluation is wrong.
func TestStopWhenBrokenNeedsAllDraws(t *testing.T) {
	o := oracle(t, attacktest.NewNoisy(4, 2), attacks.OracleOptions{})
	b := attacktest.NewLinear(4, 2).Images(10, 1)
	a := attacks.StandardAPGD(attacks.CE, 0.03, 4)
	a.StopWhenBroken = true
	allWrong := map[int]bool{}
	r, err := a.Run(context.Background(), o.Observed(func(ids []int, g *attacks.Grad) {
		for i, id := range ids {
			if allWrong[id] {
				t.Errorf("image %d was attacked after all draws were wrong", id)
			}
			allWrong[id] = g.Wrong[i] == 4
		}
	}), b, 3)
	if err != nil {
		t.Fatal(err)
	}
	stopped := 0
	for i, id := range b.ID {
		if allWrong[id] && r.Diag[i].Steps < 101 {
			stopped++
		} else if r.Diag[i].Steps != 101 && r.Diag[i].Steps != 0 {
			t.Errorf("image %d left after %d evaluations", id, r.Diag[i].Steps)
		}
	}
	if stopped == 0 {
		t.Error("no image left: the check says nothing")
	}
}

// Later starts only see the images that earlier ones did not break, and never make the best loss worse.
func TestRestarts(t *testing.T) {
	toy := attacktest.NewConv(4, 2)
	o := oracle(t, toy, attacks.OracleOptions{})
	b := attacktest.NewLinear(4, 2).Images(20, 1)
	logits, err := o.Logits(context.Background(), b, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Y {
		b.Y[i] = attacks.Predict(logits[4*i : 4*i+4])
	}
	a := attacks.APGD{Eps: 0.02, Loss: attacks.CE, Steps: 5, EoT: 1, Restarts: 1, Rho: 0.75}
	one, err := a.Run(context.Background(), o, b, 3)
	if err != nil {
		t.Fatal(err)
	}
	a.Restarts = 3
	three, err := a.Run(context.Background(), o, b, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Y {
		if one.Broken[i] && three.Diag[i] != one.Diag[i] {
			t.Errorf("image %d was broken by the first start and attacked again: %+v", i, three.Diag[i])
		}
		if !one.Broken[i] && (three.Diag[i].Steps <= 6 || three.BestLoss[i] < one.BestLoss[i]) {
			t.Errorf("image %d: %d evaluations, best loss %v after %v", i, three.Diag[i].Steps, three.BestLoss[i], one.BestLoss[i])
		}
	}
	if !slices.Contains(one.Broken, true) || !slices.Contains(one.Broken, false) {
		t.Errorf("broken %v: the case is meant to have both", one.Broken)
	}
}

func TestDescribe(t *testing.T) {
	text, err := attacks.Describe(attacks.StandardAPGD(attacks.DLR, 0.5, 20))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"apgd","eps":0.5,"loss":"dlr","steps":100,"eot":20,"restarts":1,"rho":0.75,"stop_when_broken":false}`
	if string(text) != want {
		t.Errorf("description %s, want %s", text, want)
	}
	var back attacks.APGD
	if err := json.Unmarshal(text, &back); err != nil || back != attacks.StandardAPGD(attacks.DLR, 0.5, 20) {
		t.Errorf("read back as %+v (%v)", back, err)
	}
	seen := map[string]bool{}
	for _, p := range attacks.Catalog() {
		text, err := attacks.Describe(p.New(0.1))
		if err != nil || seen[string(text)] || seen[p.Name] || p.Doc == "" {
			t.Errorf("preset %s repeats another one or lacks its line: %s (%v)", p.Name, text, err)
		}
		seen[string(text)], seen[p.Name] = true, true
	}
}

func TestValidate(t *testing.T) {
	good := attacks.StandardAPGD(attacks.CE, 0.1, 1)
	for want, spoil := range map[string]func(a *attacks.APGD){
		"Steps": func(a *attacks.APGD) { a.Steps = 0 }, "EoT": func(a *attacks.APGD) { a.EoT = -1 }, "Restarts": func(a *attacks.APGD) { a.Restarts = 0 },
		"Rho": func(a *attacks.APGD) { a.Rho = math.NaN() }, "untargeted": func(a *attacks.APGD) { a.Loss = attacks.DLRTargeted }, "unknown loss": func(a *attacks.APGD) { a.Loss = "" },
	} {
		a := good
		spoil(&a)
		if err := a.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	for _, a := range []attacks.Attack{attacks.PGD{Eps: 0.1, Steps: 1, EoT: 1}, attacks.PGDEoT{Eps: 0.1, Step: math.Inf(1), Steps: 1, EoT: 1}, attacks.FGSM{Eps: 0.1}} {
		if a.Validate() == nil {
			t.Errorf("%s: %+v was accepted", a.Name(), a)
		}
	}
}

// Rounding to bytes never leaves the budget and never moves past the clean value.
func FuzzQuantize(f *testing.F) {
	f.Add(uint8(0), float32(8.0/255), float32(1))
	f.Add(uint8(255), float32(8.0/255), float32(-1))
	f.Add(uint8(100), float32(0.0301), float32(0.37))
	f.Fuzz(func(t *testing.T, level uint8, eps, share float32) {
		if !(eps >= 0 && eps <= 1) || !(share >= -1 && share <= 1) {
			t.Skip()
		}
		clean := float32(level) / 255
		adv := min(max(clean+float32(eps*share), 0), 1)
		out, err := attacks.Quantize([]float32{adv}, []float32{clean})
		if err != nil {
			t.Fatal(err)
		}
		// 1e-4 of a level is what counts as on the level.
		move, asked := float64(out[0])-float64(level), (float64(adv)-float64(clean))*255
		if math.Abs(move) > math.Abs(asked)+2e-4 || move*asked < 0 || math.Abs(move) < math.Abs(asked)-1 {
			t.Errorf("from %d by %g levels: moved by %g", level, asked, move)
		}
	})
}

// Every device buffer is freed at once. The memory outside Go's heap is watched with the garbage collector off, which would free some
// of the buffers sooner or later, but does not see how large they are.
func TestNoLeak(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of evaluations")
	}
	outside := func() int {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return resident(t, memory.Resident) - int(m.Sys)
	}
	o := oracle(t, attacktest.NewNoisy(4, 2), attacks.OracleOptions{Buckets: []int{512}})
	b := attacktest.NewLinear(4, 2).Images(512, 1)
	for range 20 {
		gradient(t, o, attacks.CE, b, 2)
	}
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := outside()
	const calls = 300 // times 2 draws, 220 kB in and 220 kB out each: 265 MB if nothing were freed
	for range calls {
		gradient(t, o, attacks.CE, b, 2)
	}
	if grown := outside() - before; grown > 60<<20 {
		t.Errorf("%d evaluations left %d MB outside Go's heap", calls, grown>>20)
	}
}

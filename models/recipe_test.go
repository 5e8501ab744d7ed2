package models

import (
	"strings"
	"testing"
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
	if _, err := SmallRecipe("cifar10", "huge", false); err == nil {
		t.Error("a scale that does not exist was accepted")
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

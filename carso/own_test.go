package carso

import (
	"slices"
	"strings"
	"testing"

	"carsokit/models"
)

// TestOwnTrainings: the trainings of an ablation differ from the short one in what they are named for and in nothing else, and no two are the same.
func TestOwnTrainings(t *testing.T) {
	base := models.CIFAR10WRN(10, 2)
	recipes := map[string]Recipe{}
	for _, s := range Scenarios() {
		if s.Own == "" {
			continue
		}
		r, err := s.SmallRecipe("small", base)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", s.Own, err)
		}
		recipes[s.Own] = r
	}
	// e2e_long is e2e for longer, on batches of two processes.
	long, e2e := recipes["e2e_long"], recipes["e2e"]
	if long.Epochs <= e2e.Epochs {
		t.Errorf("e2e_long has %d epochs", long.Epochs)
	}
	if long.Epochs, long.Processes, long.ScheduleEvery = e2e.Epochs, e2e.Processes, e2e.ScheduleEvery; describe(long) != describe(e2e) {
		t.Errorf("e2e_long differs from e2e in more than its length:\n%s\n%s", describe(long), describe(e2e))
	}
	if maps := recipes["maps"]; !maps.Config.Spatial || maps.Config.Residual || maps.Start != "" || maps.EndToEnd == 0 {
		t.Errorf("maps: %s", describe(maps))
	}
	// maps_end goes on from maps: the same training, shorter and slower.
	end, maps := recipes["maps_end"], recipes["maps"]
	if end.Start != "wrn_10_2_cifar_10_small_maps" || end.Epochs >= maps.Epochs || end.Rate >= 1 {
		t.Errorf("maps_end: %s", describe(end))
	}
	if end.Start, end.Epochs, end.ScheduleEvery, end.Rate = maps.Start, maps.Epochs, maps.ScheduleEvery, maps.Rate; describe(end) != describe(maps) {
		t.Errorf("maps_end differs from maps in more than its start, length and rate:\n%s\n%s", describe(end), describe(maps))
	}
	short := recipes["short"]
	paper, err := SmallRecipe("cifar10", "small", base)
	if err != nil {
		t.Fatal(err)
	}
	if short.Epochs >= paper.Epochs || short.Start != "" || recipes["e2e"].Start != "wrn_10_2_cifar_10_small" {
		t.Errorf("short: %s; e2e starts at %q", describe(short), recipes["e2e"].Start)
	}
	var taps []string
	for name, r := range recipes {
		switch {
		case strings.HasPrefix(name, "phi"):
			if r.Fraction == short.Fraction {
				t.Errorf("%s: the share of adversaries is %g as in short", name, r.Fraction)
			}
			r.Fraction = short.Fraction
		case strings.HasPrefix(name, "group"):
			if len(r.Config.Taps) < 2 {
				t.Errorf("%s: representations %v", name, r.Config.Taps)
			}
			taps = append(taps, r.Config.Taps...)
			r.Config.Taps = nil
		case name == "free":
			if r.FreeBits <= 0 {
				t.Errorf("free: %s", describe(r))
			}
			r.FreeBits = 0
		case strings.HasPrefix(name, "beta"):
			if b := r.Beta(180, 191); b >= 0.5 || b <= 0 || r.Beta(0, 191) != 0 {
				t.Errorf("%s: beta ends at %g", name, b)
			}
			r.KLWeight = 0
		case name == "cond16", strings.HasPrefix(name, "latent"):
			if r.Config.Cond == short.Config.Cond == (r.Config.Latent == short.Config.Latent) {
				t.Errorf("%s: condition of %d, %d latent dimensions", name, r.Config.Cond, r.Config.Latent)
			}
			r.Config.Cond, r.Config.Latent = short.Config.Cond, short.Config.Latent
		case name == "e2e", name == "residual", name == "e2e_long", name == "maps", name == "maps_end", name == "bis_e2e":
			continue
		}
		if describe(r) != describe(short) {
			t.Errorf("%s differs from short in more than its name says:\n%s\n%s", name, describe(r), describe(short))
		}
	}
	var all []string
	for _, tap := range short.Config.taps() {
		all = append(all, tap.Name)
	}
	slices.Sort(taps)
	slices.Sort(all)
	if !slices.Equal(taps, all) {
		t.Errorf("the groups' representations together are %v, all are %v", taps, all)
	}
}

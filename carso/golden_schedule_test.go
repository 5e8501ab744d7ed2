package carso

import (
	"testing"

	"carsokit/internal/goldentest"
)

// TestGoldenSchedules compares the learning rate and beta of every epoch and step, and the rate after the last, with the reference's, to 1e-9 relative.
func TestGoldenSchedules(t *testing.T) {
	f := goldentest.Open(t, "optim")
	var settings []struct {
		Key    string `json:"key"`
		Epochs int    `json:"epochs"`
		Batch  int    `json:"batch_per_process"`
		Steps  int    `json:"steps_per_epoch"`
	}
	f.JSON("carso_schedules", &settings)
	if len(settings) == 0 {
		t.Fatal("carso_schedules.json has no settings")
	}
	for _, set := range settings {
		rate := func(e int) float64 { return LearningRate(e, set.Epochs, set.Batch) }
		beta := func(e int) float64 { return Beta(e, set.Epochs) }
		for what, ours := range map[string]func(int) float64{
			"lr_per_epoch":        rate,
			"lr_per_step":         func(s int) float64 { return rate(s / set.Steps) },
			"lr_after_last_epoch": func(int) float64 { return rate(set.Epochs) },
			"beta_per_epoch":      beta,
			"beta_per_step":       func(s int) float64 { return beta(s / set.Steps) },
		} {
			want := f.Doubles("carso_schedules", set.Key+"."+what)
			got := make([]float64, len(want))
			for i := range got {
				got[i] = ours(i)
			}
			goldentest.Compare(f, set.Key+" "+what, got, want, goldentest.Rel(1e-9))
		}
	}
}

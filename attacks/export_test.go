package attacks

import (
	"context"
	"slices"

	"carsokit/internal/rng"
)

// Ascent is what one start of APGD on all images of a batch did, for parity tests.
type Ascent struct {
	Best, Adv  []float32
	BestLoss   []float32
	Correct    []bool // in every iterate
	LossSteps  [][]float32
	CorrectNow [][]bool // so far, after each evaluation
	Halvings   [][]int  // before each step
}

// Ascend runs one start of APGD without the initial pass.
func (a APGD) Ascend(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Ascent, error) {
	r := &Ascent{}
	s, err := a.ascend(ctx, o, b, seed, func(step int, s *ascent) {
		r.LossSteps = append(r.LossSteps, slices.Clone(s.bestLoss))
		r.Halvings = append(r.Halvings, slices.Clone(s.halvings))
		r.CorrectNow = append(r.CorrectNow, unhit(s))
	})
	if err != nil {
		return nil, err
	}
	r.Best, r.Adv, r.BestLoss, r.Correct = s.best, s.adv, s.bestLoss, unhit(s)
	return r, nil
}

func unhit(s *ascent) []bool {
	correct := make([]bool, len(s.hit))
	for i, h := range s.hit {
		correct[i] = h < 0
	}
	return correct
}

// Plan is the sequence of device batch sizes for n rows.
func (o *Oracle) Plan(n int) []int {
	var plan []int
	for n > 0 {
		b := o.bucket(n)
		plan = append(plan, b)
		n -= b
	}
	return plan
}

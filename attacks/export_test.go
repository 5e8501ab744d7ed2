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

// Ascend runs one start of APGD without the initial pass. target is nil but for targeted losses.
func (a APGD) Ascend(ctx context.Context, o *Oracle, b Batch, target []int32, seed rng.Seed) (*Ascent, error) {
	r := &Ascent{}
	s, err := a.ascender().ascend(ctx, o, b, target, seed, func(step int, s *ascent) {
		r.LossSteps = append(r.LossSteps, slices.Clone(s.bestLoss))
		halvings := make([]int, len(s.diag))
		for i, d := range s.diag {
			halvings[i] = d.Halvings
		}
		r.Halvings = append(r.Halvings, halvings)
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

// Ranked is ranked.
func Ranked(logits []float32, classes, j int) []int32 { return ranked(logits, classes, j) }

// Ascend runs one start without the initial pass.
func (a APGDTargeted) Ascend(ctx context.Context, o *Oracle, b Batch, target []int32, seed rng.Seed) (*Ascent, error) {
	return a.each().Ascend(ctx, o, b, target, seed)
}

// Approach runs one start without the initial pass: the nearest adversarial images and their distances.
func (a FAB) Approach(ctx context.Context, o *Oracle, b Batch, target []int32, seed rng.Seed) (adv, norm []float32, err error) {
	s, err := a.approach(ctx, o, b, target, seed, false)
	if err != nil {
		return nil, nil, err
	}
	return s.adv, s.norm, nil
}

// ToPlane is toPlane.
func ToPlane(t, w []float32, b float64) (move []float64, norm float64) {
	move = make([]float64, len(t))
	return move, toPlane(t, w, b, move)
}

// Share is the share of the pixels in the squares of a query.
func (a SquareAttack) Share(query int) float64 { return a.share(query) }

// Side is the side of the squares of a query in images of h x w pixels.
func (a SquareAttack) Side(query, h, w int) int { return a.side(query, h, w) }

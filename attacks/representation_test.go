package attacks_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
)

// Where the condition is the pixels themselves, the farthest point is a corner of the ball, the one on the side of the start.
func TestRepresentationReachesTheCorner(t *testing.T) {
	const eps = 8. / 255
	c := stages{custom{store: model.NewStore(), noise: []int{2}, logits: func(x, noise *Node) *Node {
		return Add(Reshape(x, x.Shape().Dimensions[0], 2), noise)
	}}}
	o := oracle(t, c, attacks.OracleOptions{Buckets: []int{4}})
	b := attacks.Batch{H: 1, W: 1, C: 2, X: []float32{0.5, 0.25, 0, 1, 0.75, 0.125}, Y: []int32{0, 1, 0}, ID: []int{3, 4, 5}}
	a := attacks.StandardRepresentation(eps, 8)
	r, err := a.Run(context.Background(), o, b, 11)
	if err != nil {
		t.Fatal(err)
	}
	for k, from := range b.X {
		change := math.Abs(float64(r.Adv[k]) - float64(from))
		// Black and white pixels may have started outwards, where the range stops them.
		atEdge := from == 0 || from == 1
		if math.Abs(change-eps) > 1e-6 && !(atEdge && change == 0) {
			t.Errorf("value %d went from %g to %g; want a change of %g", k, from, r.Adv[k], eps)
		}
	}
	for i := range b.Y {
		var squared float64
		for k := 2 * i; k < 2*i+2; k++ {
			squared += math.Pow(float64(r.Adv[k]-b.X[k]), 2)
		}
		if got := float64(r.BestLoss[i]); math.Abs(got-squared/2) > 1e-7 {
			t.Errorf("image %d: loss %g, half the squared distance is %g", i, got, squared/2)
		}
		if d := r.Diag[i]; d.Steps != 9 || d.Draws != 0 {
			t.Errorf("image %d: %+v, want 9 gradients and no draw", i, d)
		}
	}
}

// On a condition that is no linear map: within the budget, the same bytes for the same seed whatever the batch, farther than the start, and only
// on staged classifiers.
func TestRepresentationOnStagedToy(t *testing.T) {
	const eps = 8. / 255
	ctx := context.Background()
	images := attacktest.NewLinear(4, 20).Images(5, 20)
	o := oracle(t, attacktest.NewStaged(4, 20), attacks.OracleOptions{Buckets: []int{8, 3}})
	distances := func(steps int) []float32 {
		r, err := attacks.StandardRepresentation(eps, steps).Run(ctx, o, images, 5)
		if err != nil {
			t.Fatal(err)
		}
		if err := attacks.CheckBudget(r.Adv, images, eps); err != nil {
			t.Error(err)
		}
		return r.BestLoss
	}
	few, many := distances(1), distances(12)
	for i := range few {
		if many[i] <= few[i] {
			t.Errorf("image %d: distance %g after 12 steps, %g after one", i, many[i], few[i])
		}
	}
	a := attacks.StandardRepresentation(eps, 6)
	whole, err := a.Run(ctx, o, images, 5)
	if err != nil {
		t.Fatal(err)
	}
	part, err := a.Run(ctx, o, images.Pick([]int{3}), 5)
	if err != nil {
		t.Fatal(err)
	}
	if d := images.Dim(); !slices.Equal(whole.Adv[3*d:4*d], part.Adv) {
		t.Error("an image attacked alone differs from the same image in a batch")
	}
	if _, err := a.Run(ctx, oracle(t, attacktest.NewLinear(4, 20), attacks.OracleOptions{}), images, 5); !errors.Is(err, attacks.ErrNotStaged) {
		t.Errorf("on a classifier without condition: %v", err)
	}
	text, err := json.Marshal(a)
	if err != nil || string(text) != `{"kind":"representation","eps":0.03137254901960784,"step":0.00784313725490196,"steps":6}` {
		t.Errorf("described as %s (%v)", text, err)
	}
}

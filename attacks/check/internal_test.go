package check

import (
	"math"
	"testing"

	"carsokit/internal/rng"
)

func TestApart(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		a, b []float32
		want float64
	}{
		{[]float32{1, 2}, []float32{1, 2}, 0},
		{[]float32{1, 4}, []float32{1, 2}, 0.5},
		{[]float32{0, 0}, []float32{0, 0}, 0},
		{[]float32{inf, 2}, []float32{inf, 2}, 0},
		{[]float32{inf, 2}, []float32{7, 2}, 1},
		{[]float32{inf, 2}, []float32{-inf, 2}, 1},
		{[]float32{nan, 2}, []float32{nan, 2}, 1},
		{[]float32{-1, 0}, []float32{1, 0}, 1},
	} {
		if got := apart(c.a, c.b); got != c.want {
			t.Errorf("apart(%v, %v) = %g, want %g", c.a, c.b, got, c.want)
		}
	}
}

// TestDiscriminant: the readout puts the outer point on one side and all inner points on the other, at the scores that it promises, and takes the outer point
// that is best separated.
func TestDiscriminant(t *testing.T) {
	const n, k = 65, 5
	inner := make([]float32, n*k)
	rng.Seed(1).Normal(inner)
	for i := range inner { // directions of very different spread, far from 0
		inner[i] = 100 + inner[i]*float32(math.Pow(10, float64(i%k)-2))
	}
	// The second point is far off along the direction of least spread, though near in the plain sense; the first is among the inner ones.
	outer := append([]float32{}, inner[:k]...)
	outer = append(outer, 100.2, 100, 100, 100, 100)
	l, ok := discriminant(inner, outer, k)
	if !ok {
		t.Fatal("not separated")
	}
	// Weights are rounded to float32 while scores cancel from 100 times them: some 1e-3.
	if s := l.score(outer[k:]); math.Abs(s-1) > 0.05 {
		t.Errorf("score %g at the outer point, want 1", s)
	}
	top := math.Inf(-1)
	for i := range n {
		top = max(top, l.score(inner[i*k:(i+1)*k]))
	}
	if math.Abs(top+3) > 0.05 {
		t.Errorf("score %g at the nearest inner point, want -3", top)
	}
	if _, ok := discriminant(inner, inner[:k], k); ok {
		t.Error("an inner point was separated from the inner points")
	}
	if _, ok := discriminant(make([]float32, n*k), outer, k); ok {
		t.Error("features that do not move were separated")
	}
}

func TestMargin(t *testing.T) {
	if m := margin([]float32{1, 5, 3}, 1); m != -2 {
		t.Errorf("margin %g, want -2", m)
	}
	if m := margin([]float32{1, 5, 3}, 2); m != 2 {
		t.Errorf("margin %g, want 2", m)
	}
}

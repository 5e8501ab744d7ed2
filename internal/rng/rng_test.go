package rng

import (
	"math"
	"testing"
)

// TestStreams: a stream depends on its whole path and on nothing else.
func TestStreams(t *testing.T) {
	seen := map[Seed]string{}
	for name, s := range map[string]Seed{
		"root": 1, "other root": 2, "a": Seed(1).Child("a"), "b": Seed(1).Child("b"), "a 0": Seed(1).Child("a", 0), "a 1": Seed(1).Child("a", 1),
		"a 0 0": Seed(1).Child("a", 0, 0), "a 0 1": Seed(1).Child("a", 0, 1), "a 1 0": Seed(1).Child("a", 1, 0), "a then a": Seed(1).Child("a").Child("a"),
		"aa": Seed(1).Child("aa"), "other root's a": Seed(2).Child("a"),
	} {
		if other, ok := seen[s]; ok {
			t.Errorf("%s and %s are the same stream", name, other)
		}
		seen[s] = name
	}
	var x, y [5]float32
	Seed(3).Child("x", 4).Normal(x[:])
	Seed(9).Normal(y[:])
	Seed(3).Child("x", 4).Normal(y[:])
	if x != y {
		t.Error("the same path gave different numbers")
	}
}

// TestMoments: 100,000 numbers have the mean and variance of their distribution within five standard errors.
func TestMoments(t *testing.T) {
	const n = 100_000
	for _, c := range []struct {
		name           string
		fill           func(Seed, []float32)
		mean, variance float64
		fourth         float64 // central moment, for the error of the variance
		lo, hi         float64
	}{
		{"uniform", Seed.Uniform, 0.5, 1. / 12, 1. / 80, 0, 1},
		{"symmetric", Seed.Symmetric, 0, 1. / 3, 1. / 5, -1, 1},
		{"normal", Seed.Normal, 0, 1, 3, math.Inf(-1), math.Inf(1)},
	} {
		v := make([]float32, n)
		c.fill(7, v)
		var mean, variance float64
		for _, x := range v {
			if float64(x) < c.lo || float64(x) >= c.hi {
				t.Fatalf("%s: %g is out of range", c.name, x)
			}
			mean += float64(x) / n
			variance += math.Pow(float64(x)-c.mean, 2) / n
		}
		if math.Abs(mean-c.mean) > 5*math.Sqrt(c.variance/n) {
			t.Errorf("%s: mean %g, want %g", c.name, mean, c.mean)
		}
		if math.Abs(variance-c.variance) > 5*math.Sqrt((c.fourth-c.variance*c.variance)/n) {
			t.Errorf("%s: variance %g, want %g", c.name, variance, c.variance)
		}
	}
}

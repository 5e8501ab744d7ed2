package record

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// stochastic makes a run of n images whose own accuracies are given, each with k fresh passes.
func stochastic(r *rand.Rand, own []float64, k int) Run {
	run := Run{Images: make([]Image, len(own))}
	for i, p := range own {
		im := Image{Index: i, Label: 1, Initial: true}
		for range k {
			im.Fresh = append(im.Fresh, bit(r.Float64() < p))
		}
		run.Images[i] = im
	}
	return run
}

// Bootstrap intervals of a mean over K draws cover what they claim to be about: the accuracy over all images and draws, or the one on these
// images. The percentile interval of some 100 images is a little narrow, hence the same band as for Wilson's.
func TestCoverageOfBootstrap(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	const n, k, resamples = 100, 4, 200
	for name, draw := range map[string]func() float64{
		"spread": func() float64 { return 0.2 + 0.6*r.Float64() }, // mean 50 %
		"nearly decided": func() float64 { // mean 50 %
			if r.Float64() < 0.5 {
				return 0.95
			}
			return 0.05
		},
	} {
		fixed := make([]float64, n)
		onThese := 0.0
		for i := range fixed {
			fixed[i] = draw()
			onThese += 100 * fixed[i] / n
		}
		for noise, c := range map[Noise]struct {
			truth float64
			own   func() []float64
		}{
			DrawsOnly: {onThese, func() []float64 { return fixed }},
			ImagesAndDraws: {50, func() []float64 {
				own := make([]float64, n)
				for i := range own {
					own[i] = draw()
				}
				return own
			}},
		} {
			seed := uint64(0)
			got := cover(coverTrials/2, c.truth, func() (lo, hi float64) {
				seed++
				e, err := stochastic(r, c.own(), k).Bootstrap(FreshMean, noise, resamples, seed)
				if err != nil {
					t.Fatal(err)
				}
				return e.Lo, e.Hi
			})
			// 1,000 trials know the coverage to +-1.4 points.
			if got < coverLo-0.005 || got > coverHi+0.005 {
				t.Errorf("%s, %s: coverage %.3f", name, noise, got)
			}
		}
	}
}

func TestBootstrap(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	own := make([]float64, 60)
	for i := range own {
		own[i] = float64(i%3) / 2
	}
	run := stochastic(r, own, 6)
	boot := func(s Score, noise Noise, seed uint64) Estimate {
		t.Helper()
		e, err := run.Bootstrap(s, noise, 400, seed)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	both, draws := boot(FreshMean, ImagesAndDraws, 1), boot(FreshMean, DrawsOnly, 1)
	if both != boot(FreshMean, ImagesAndDraws, 1) || both == boot(FreshMean, ImagesAndDraws, 2) {
		t.Error("an interval is not a function of its seed")
	}
	if plain := run.Estimate(FreshMean); both.Value != plain.Value || both.N != plain.N {
		t.Errorf("the value changed: %+v, %+v", both, plain)
	}
	if draws.Hi-draws.Lo >= both.Hi-both.Lo {
		t.Errorf("draws alone %+v are not less than images and draws %+v", draws, both)
	}
	// Wilson and the bootstrap are two ways to one interval: at 60 images they agree to a few points.
	if w := run.Estimate(FreshMean); !near(w.Lo, both.Lo, 4) || !near(w.Hi, both.Hi, 4) {
		t.Errorf("Wilson %+v, bootstrap %+v", w, both)
	}
	if _, err := run.Bootstrap(Internal, DrawsOnly, 400, 1); err == nil || !strings.Contains(err.Error(), "one pass") {
		t.Errorf("draws of a score of one pass: %v", err)
	}
	if _, err := run.Bootstrap(Internal, "weather", 400, 1); err == nil {
		t.Error("accepted an unknown noise")
	}
	if _, err := run.Bootstrap(Internal, ImagesAndDraws, 3, 1); err == nil {
		t.Error("accepted three resamples")
	}
	sure := Run{Images: []Image{{Label: 1, Initial: true, Fresh: []int{1, 1}}, {Label: 1, Initial: true, Fresh: []int{1, 1}}}}
	if e, err := sure.Bootstrap(Internal, ImagesAndDraws, 400, 1); err != nil || e != sure.Estimate(Internal) || e.Lo == 100 {
		t.Errorf("without a spread the interval is Wilson's: %+v, %v", e, err)
	}
	if e, err := (Run{}).Bootstrap(Fresh, ImagesAndDraws, 400, 1); err != nil || e.N != 0 {
		t.Errorf("no images: %+v, %v", e, err)
	}
}

// The order that the definitions promise, on random images.
func TestDefinitionsAreOrdered(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 2000 {
		im := Image{Label: 1, Initial: r.IntN(4) > 0}
		for range 1 + r.IntN(5) {
			im.Fresh, im.Strongest = append(im.Fresh, r.IntN(2)), append(im.Strongest, r.IntN(2))
		}
		if im.Initial {
			im.FirstHit = []string{"", NoHit, "a/b"}[r.IntN(3)]
		}
		if !im.Initial {
			im.FirstHit = HitInitially
		} else if im.FirstHit != NoHit && r.IntN(2) == 0 {
			im.Broken = "a/b"
		}
		for _, c := range []struct {
			low, high string
		}{{"first-hit", "internal"}, {"worst", "fresh"}, {"worst", "strongest"}, {"worst", "majority"}, {"worst", "fresh-mean"}, {"worst", "strongest-mean"}} {
			value := func(name string) (v float64, known bool) {
				for _, d := range Definitions() {
					if d.Name == name {
						k, n := d.Score(im)
						return float64(k) / float64(max(n, 1)), n > 0
					}
				}
				t.Fatalf("no definition %s", name)
				return 0, false
			}
			low, known := value(c.low)
			if high, _ := value(c.high); known && low > high {
				t.Fatalf("%s %v is above %s %v of %+v", c.low, low, c.high, high, im)
			}
		}
	}
}

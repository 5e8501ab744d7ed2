package record

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Noise says what a repetition of an evaluation would draw anew, and so what an interval is about.
type Noise string

const (
	// ImagesAndDraws is other images of the same distribution, and other draws of the defence on them. It is what a reader who wants to
	// know the defence asks for.
	ImagesAndDraws Noise = "images and draws"
	// DrawsOnly is the same images, other scoring draws. It says how well K passes pin down the accuracy on these images, and is what two
	// evaluations of the same images may differ by. The attack's own draws are held fixed.
	DrawsOnly Noise = "draws"
)

// Bootstrap is [Run.Estimate] with an interval by resampling: the 2.5 % and 97.5 % quantiles of the score over resamples repetitions. The
// same run, score, noise, seed and number of resamples give the same bytes.
//
// Where both sources meet, images are resampled with all their passes. That covers both: an image's share of correct passes already
// holds the noise of its own draws, and resampling the passes as well would count that twice. Where all images agree no resampling can
// show a spread, and the interval is Wilson's.
//
// For draws alone each image's passes are resampled, K-1 of K, whose variance is without bias that of a mean of K passes. Scores of one
// pass per image do not show their noise: that is an error.
func (r Run) Bootstrap(s Score, noise Noise, resamples int, seed uint64) (Estimate, error) {
	e := r.Estimate(s)
	if e.N == 0 {
		return e, nil
	}
	if resamples < 100 {
		return e, fmt.Errorf("record: bootstrapping %s with %d resamples: want at least 100", r.File, resamples)
	}
	type scored struct{ correct, passes int }
	var of []scored
	varies, single := false, false
	for _, im := range r.Images {
		if k, n := s(im); n > 0 {
			of = append(of, scored{k, n})
			varies = varies || k*of[0].passes != of[0].correct*n
			single = single || n < 2
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	var once func() float64
	switch noise {
	case ImagesAndDraws:
		if !varies && (of[0].correct == 0 || of[0].correct == of[0].passes) {
			return e, nil
		}
		once = func() (sum float64) {
			for range of {
				x := of[random.IntN(len(of))]
				sum += float64(x.correct) / float64(x.passes)
			}
			return sum
		}
	case DrawsOnly:
		if single {
			return e, fmt.Errorf("record: bootstrapping %s over draws: the score takes one pass of an image, whose noise it does not show", r.File)
		}
		once = func() (sum float64) {
			for _, x := range of {
				hits := 0
				for range x.passes - 1 {
					hits += bit(random.IntN(x.passes) < x.correct)
				}
				sum += float64(hits) / float64(x.passes-1)
			}
			return sum
		}
	default:
		return e, fmt.Errorf("record: bootstrapping %s: no noise %q; there are %q and %q", r.File, noise, ImagesAndDraws, DrawsOnly)
	}
	sums := make([]float64, resamples)
	for i := range sums {
		sums[i] = 100 * once() / float64(len(of))
	}
	slices.Sort(sums)
	e.Lo, e.Hi = quantile(sums, 0.025), quantile(sums, 0.975)
	return e, nil
}

// quantile interpolates between the order statistics of sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

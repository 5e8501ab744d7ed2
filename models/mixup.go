package models

import (
	"math"
	"math/rand/v2"
)

// mix returns what a step is trained on: the targets [B,Classes] and the images, both mixed with those of a permutation of the batch by one share, as the
// recipe says, and the targets smoothed. Without mixing the images are x itself.
func (r Recipe) mix(step int, x []float32, y []int32) (targets, mixed []float32) {
	if r.Mixup == 0 {
		return r.targets(y, y, 0), x
	}
	source := r.Seed.Child("mixup", step).Rand()
	share := beta(source, r.Mixup)
	share = min(share, 1-share) // the reference's library: the image itself always prevails
	perm := source.Perm(len(y))
	other := make([]int32, len(y))
	mixed = make([]float32, len(x))
	size := len(x) / len(y)
	for i, j := range perm {
		other[i] = y[j]
		a, b := x[i*size:(i+1)*size], x[j*size:(j+1)*size]
		for k := range a {
			mixed[i*size+k] = float32(1-share)*a[k] + float32(share)*b[k]
		}
	}
	return r.targets(y, other, share), mixed
}

// targets are the shares [B,Classes] of classes: of y 1-share, of other share, and of LabelSmoothing of it all equally of every class. Cross-entropy is
// linear in them, so this is the mixture of the two smoothed losses.
func (r Recipe) targets(y, other []int32, share float64) []float32 {
	classes := r.Net.Classes
	t := make([]float32, len(y)*classes)
	for i := range t {
		t[i] = float32(r.LabelSmoothing / float64(classes))
	}
	for i := range y {
		t[i*classes+int(y[i])] += float32((1 - r.LabelSmoothing) * (1 - share))
		t[i*classes+int(other[i])] += float32((1 - r.LabelSmoothing) * share)
	}
	return t
}

// beta draws from Beta(a, a) for a in (0,1] by Jöhnk's method: two powers of uniform numbers, accepted where their sum is at most 1.
func beta(source *rand.Rand, a float64) float64 {
	for {
		u, v := math.Pow(source.Float64(), 1/a), math.Pow(source.Float64(), 1/a)
		if s := u + v; s > 0 && s <= 1 {
			return u / s
		}
	}
}

package attacks

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
)

// Batch is a set of images to attack or to classify.
type Batch struct {
	X       []float32 // n*H*W*C pixels in [0,1], image-major, channels last
	Y       []int32   // the label of each image
	ID      []int     // names each image, usually its index in the data set: randomness derives from (seed, ID) only
	H, W, C int
}

// Len is the number of images.
func (b Batch) Len() int { return len(b.Y) }

// Dim is the number of values of one image.
func (b Batch) Dim() int { return b.H * b.W * b.C }

// Image is the slice of X that holds image i.
func (b Batch) Image(i int) []float32 { d := b.Dim(); return b.X[i*d : (i+1)*d] }

// Pick copies the images at the given positions into a new Batch.
func (b Batch) Pick(at []int) Batch { return b.with(b.X, at) }

// with is Pick with the pixels taken from x, which is laid out like b.X.
func (b Batch) with(x []float32, at []int) Batch {
	d := b.Dim()
	p := Batch{H: b.H, W: b.W, C: b.C, X: make([]float32, 0, len(at)*d), Y: make([]int32, len(at)), ID: make([]int, len(at))}
	for k, i := range at {
		p.X = append(p.X, x[i*d:(i+1)*d]...)
		p.Y[k], p.ID[k] = b.Y[i], b.ID[i]
	}
	return p
}

// Validate reports lengths that do not fit each other, labels outside [0,classes) and pixels outside [0,1].
func (b Batch) Validate(classes int) error {
	if err := b.lengths(); err != nil {
		return err
	}
	for i, y := range b.Y {
		if y < 0 || int(y) >= classes {
			return fmt.Errorf("attacks: label %d of image %d is outside the %d classes of the classifier", y, b.ID[i], classes)
		}
	}
	for k, v := range b.X {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("attacks: image %d has a pixel value %v; want values in [0,1]", b.ID[k/b.Dim()], v)
		}
	}
	return nil
}

func (b Batch) lengths() error {
	if b.H <= 0 || b.W <= 0 || b.C <= 0 {
		return fmt.Errorf("attacks: batch of %d x %d x %d images: H, W and C must be positive", b.H, b.W, b.C)
	}
	if len(b.ID) != len(b.Y) || len(b.X) != len(b.Y)*b.Dim() {
		return fmt.Errorf("attacks: batch has %d labels, %d IDs and %d values; want as many IDs as labels and %d values an image",
			len(b.Y), len(b.ID), len(b.X), b.Dim())
	}
	return nil
}

// Quantize turns attacked images into bytes, rounding each value towards its clean value, which must be a multiple of 1/255: the result stays
// in the budget, which rounding to the nearest does not guarantee for budgets that are no multiples of 1/255. Values within 1e-4 of a
// level count as that level, because x + 8/255 in float32 may lie just below it.
func Quantize(adv, clean []float32) ([]byte, error) {
	if len(adv) != len(clean) {
		return nil, fmt.Errorf("attacks: quantizing %d values against %d clean ones", len(adv), len(clean))
	}
	const slack = 1e-4
	out := make([]byte, len(adv))
	for i, a := range adv {
		if !(a >= 0 && a <= 1) {
			return nil, fmt.Errorf("attacks: quantizing: value %d is %v; want values in [0,1]", i, a)
		}
		from, to := math.Round(float64(clean[i])*255), float64(a)*255
		if to >= from {
			out[i] = byte(math.Floor(to + slack))
		} else {
			out[i] = byte(math.Ceil(to - slack))
		}
	}
	return out, nil
}

// Distance returns the largest absolute difference of each image to its clean version, in float64; n images.
func Distance(adv, clean []float32, n int) []float64 {
	out := make([]float64, n)
	if n == 0 {
		return out
	}
	d := len(clean) / n
	for i := range out {
		for k := i * d; k < (i+1)*d; k++ {
			// A NaN must not pass as distance 0: max of the builtin propagates it.
			out[i] = max(out[i], math.Abs(float64(adv[k])-float64(clean[k])))
		}
	}
	return out
}

// Predict is the class of one image: the index of its largest logit, the first on ties. NaN counts as the largest, as in PyTorch.
func Predict(logits []float32) int32 {
	best := 0
	for c, v := range logits {
		if v != v {
			return int32(c)
		}
		if v > logits[best] {
			best = c
		}
	}
	return int32(best)
}

// ranked is the class of the j-th largest logit of each image; j = 1 is the predicted class. The higher index is the larger on ties, NaN
// the largest.
func ranked(logits []float32, classes, j int) []int32 {
	out := make([]int32, len(logits)/classes)
	order := make([]int32, classes)
	for i := range out {
		z := logits[i*classes : (i+1)*classes]
		for c := range order {
			order[c] = int32(c)
		}
		slices.SortStableFunc(order, func(a, b int32) int {
			if x, y := z[a], z[b]; x != x || y != y {
				return cmp.Compare(y, x) // NaN is the smallest for Compare
			}
			return cmp.Compare(z[a], z[b])
		})
		out[i] = order[classes-j]
	}
	return out
}

// sign is PyTorch's: sign(NaN) = 0.
func sign(g float32) float32 {
	switch {
	case g > 0:
		return 1
	case g < 0:
		return -1
	}
	return 0
}

func clip(v, lo, hi float32) float32 { return min(max(v, lo), hi) }

// parallelValues is the amount of work, in pixel values, from which starting goroutines pays.
const parallelValues = 1 << 18

// each calls f for every element of at, on all cores if the work of dim values each is large enough. f must touch only its own image.
func each(at []int, dim int, f func(k, i int)) {
	workers := min(runtime.GOMAXPROCS(0), len(at)*dim/parallelValues)
	if workers < 2 {
		for k, i := range at {
			f(k, i)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for k := w; k < len(at); k += workers {
				f(k, at[k])
			}
		})
	}
	wg.Wait()
}

// upTo is 0, 1, ..., n-1.
func upTo(n int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return at
}

// pick is the elements of v at the given positions.
func pick[T any](v []T, at []int) []T {
	out := make([]T, len(at))
	for k, i := range at {
		out[k] = v[i]
	}
	return out
}

// drop removes the elements for which gone is true, in place.
func drop(at []int, gone func(i int) bool) []int { return slices.DeleteFunc(at, gone) }

package attacktest

import (
	"math"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/internal/rng"
)

// Specimen is one classifier of the zoo: sound, or with one planted defect.
type Specimen struct {
	Name   string
	Defect string // what is wrong with it; empty: sound
	Caught string // the finding of package attacks/check that must fail; empty: sound
	attacks.Classifier
}

// Sound says that nothing is wrong with the specimen: no finding may fail.
func (s Specimen) Sound() bool { return s.Defect == "" }

// zooClasses is the number of classes of the zoo's images.
const zooClasses = 4

// Zoo builds classifiers of [ZooImages] with planted defects, and sound ones. All but the linear one contain the same two-layer network, so that what is
// reported of a specimen is due to what was done to that network. Every defect has stood behind a published figure, or stands for a slip
// that evaluations are prone to.
func Zoo() []Specimen {
	var all []Specimen
	plant := func(name, caught, defect string, build forward) *animal {
		a := newAnimal(build)
		all = append(all, Specimen{name, defect, caught, a})
		return a
	}
	sound := func(name string, build forward) *animal { return plant(name, "", "", build) }

	sound("linear", (*animal).linear)
	sound("mlp", (*animal).mlp)
	sound("purifier", (*animal).purifier)
	sound("smoothing", (*animal).smoothing).noise = []int{smoothDraws, side, side, channels}
	staged := sound("staged", (*animal).hiddenNoiseDeclared)
	staged.noise = []int{zooHidden}
	all[len(all)-1].Classifier = stagedAnimal{staged}

	plant("gradient-killer", "zero-gradient-margin", "the graph stops the gradient behind the pixels", (*animal).gradientKiller)
	plant("nan-gradient", "nan-gradient", "a term that is always 0 has an infinite derivative: every gradient is NaN", (*animal).nanGradient)
	plant("saturated-peel", "nan-gradient", "log(p/(1-p)) in float32 is infinite where p rounds to 1, and its gradient NaN", (*animal).saturatedPeel)
	plant("rounded-input", "zero-gradient-margin", "pixels are rounded to 16 levels, which has no gradient", (*animal).roundedInput)
	plant("thermometer", "zero-gradient-margin", "pixels become bits of a thermometer code", (*animal).thermometer)
	plant("jpeg", "finite-difference", "2x2 blocks are transformed and their details rounded, as JPEG does; only the block mean has a gradient", (*animal).jpeg)
	plant("random-logits", "deterministic", "the logits are random numbers, from a state that is not declared", (*animal).randomLogits)
	plant("hidden-noise", "deterministic", "noise is added to the pixels, from a state that is not declared", (*animal).hiddenNoise)
	plant("stuck-noise", "noise-used", "noise is declared, but its state is stuck: every draw is the same", (*animal).stuckNoise).noise = []int{side, side, channels}
	plant("probabilities", "probabilities", "the outputs are probabilities, so that the loss takes a softmax of a softmax", (*animal).probabilities)
	plant("temperature", "zero-gradient-ce", "logits are multiplied by 10,000: the cross-entropy is exactly 0", (*animal).temperature)
	plant("clipped-log-softmax", "zero-gradient-margin", "log(softmax) is clipped to [-1e-3, 0] above and at -9.2 below: confident images have no gradient", (*animal).clippedLogSoftmax)
	plant("saturated-units", "zero-gradient-margin", "hidden units are driven so far that tanh is flat in float32", (*animal).saturatedUnits)
	plant("byte-scale", "clean-accuracy", "the network expects pixels in [0,255] and is given [0,1]: every image is black to it", (*animal).byteScale)
	plant("batch-norm", "batch-invariance", "batch normalisation takes its statistics from the batch", (*animal).batchNorm)
	plant("neighbour", "batch-invariance", "a row also sees the logits of the row before it", (*animal).neighbour)
	plant("abstaining", "abstention", "unsure images are answered by a class of rejection, which the attack takes for success", (*animal).abstaining).classes = zooClasses + 1
	plant("sign-flip", "finite-difference", "the gradient has the wrong sign", (*animal).signFlip)
	plant("gradient-noise", "finite-difference", "the gradient is replaced by a random one", (*animal).gradientNoise)
	plant("shattered", "finite-difference", "a term of tiny wavelength buries the gradient that leads to the border", (*animal).shattered)
	detached := plant("detached-stage", "finite-difference", "the stage that serves all draws at once is cut off from the gradient", (*animal).hiddenNoiseDeclared)
	detached.noise = []int{zooHidden}
	all[len(all)-1].Classifier = detachedAnimal{stagedAnimal{detached}}
	other := plant("other-stage", "staged-consistency", "the pass in two stages is not the pass in one: it was left behind by a change", (*animal).hiddenNoiseDeclared)
	other.noise = []int{zooHidden}
	all[len(all)-1].Classifier = otherAnimal{stagedAnimal{other}}
	return all
}

// ZooImages makes n byte-valued images of the zoo's classes: a pattern of signs per class, faint under noise, so that about every second one can be turned
// by 8/255.
func ZooImages(n int, seed rng.Seed) attacks.Batch {
	patterns := zooPatterns()
	b := attacks.Batch{H: side, W: side, C: channels, X: make([]float32, n*side*side*channels), Y: make([]int32, n), ID: make([]int, n)}
	for i := range n {
		b.ID[i], b.Y[i] = i, int32(i%zooClasses)
		x := b.Image(i)
		seed.Child("zoo image", i).Normal(x)
		for k := range x {
			v := 0.5 + 0.05*patterns[b.Y[i]][k] + 0.1*x[k]
			x[k] = float32(int(min(max(v, 0), 1)*255+0.5)) / 255
		}
	}
	return b
}

// zooPatterns are the classes' patterns of +-1.
func zooPatterns() [][]float32 {
	p := make([][]float32, zooClasses)
	for c := range p {
		p[c] = make([]float32, side*side*channels)
		rng.Seed(77).Child("pattern", c).Symmetric(p[c])
		for k, v := range p[c] {
			p[c][k] = float32(math.Copysign(1, float64(v)))
		}
	}
	return p
}

const (
	zooHidden   = 24
	smoothDraws = 4
)

// forward builds one pass of an animal.
type forward func(a *animal, in pass) *node

// animal is a classifier of the zoo. Its store holds v [hidden, inputs] and w [classes, hidden], the layers of the network that all share, and pattern
// [classes, inputs].
type animal struct {
	store   *model.Store
	classes int
	noise   []int
	build   forward
}

func newAnimal(build forward) *animal {
	a := &animal{store: model.NewStore(), classes: zooClasses, build: build}
	v, w := zooWeights()
	put := func(name string, flat []float32, dims ...int) {
		if _, err := a.store.RootScope().CreateVariable(name, tensors.FromFlatDataAndDimensions(flat, dims...)); err != nil {
			panic(err) // a fresh store takes every name once
		}
	}
	d := side * side * channels
	put("v", v, zooHidden, d)
	put("w", w, zooClasses, zooHidden)
	var patterns []float32
	for _, p := range zooPatterns() {
		patterns = append(patterns, p...)
	}
	put("pattern", patterns, zooClasses, d)
	if err := a.store.SetRNGStateFromSeed(5); err != nil {
		panic(err)
	}
	return a
}

func (a *animal) Store() *model.Store { return a.store }
func (a *animal) Classes() int        { return a.classes }
func (a *animal) NoiseDims() []int    { return a.noise }

var _ attacks.Classifier = (*animal)(nil)

// stagedAnimal offers its pass in two stages; the others do that wrongly.
type (
	stagedAnimal   struct{ *animal }
	detachedAnimal struct{ stagedAnimal }
	otherAnimal    struct{ stagedAnimal }
)

var _ attacks.Staged = stagedAnimal{}

// zooWeights fits the network in closed form: hidden units are random mixtures of the patterns, the last layer is the ridge regression of one-hot labels on them.
func zooWeights() (v, w []float32) {
	patterns, d := zooPatterns(), side*side*channels
	mix := make([]float32, zooHidden*zooClasses)
	rng.Seed(78).Normal(mix)
	v = make([]float32, zooHidden*d)
	rng.Seed(79).Normal(v)
	for h := range zooHidden {
		for k := range d {
			sum := 0.3 * v[h*d+k]
			for c := range zooClasses {
				sum += mix[h*zooClasses+c] * patterns[c][k]
			}
			v[h*d+k] = sum / 10
		}
	}
	const train = 400
	images := ZooImages(train, 80)
	hidden := make([][]float64, train)
	for i := range hidden {
		hidden[i] = make([]float64, zooHidden)
		for h := range zooHidden {
			var sum float64
			for k, x := range images.Image(i) {
				sum += float64(v[h*d+k]) * float64(x-0.5)
			}
			hidden[i][h] = math.Tanh(sum)
		}
	}
	w = make([]float32, zooClasses*zooHidden)
	for c := range zooClasses {
		a, b := make([][]float64, zooHidden), make([]float64, zooHidden)
		for p := range a {
			a[p] = make([]float64, zooHidden)
			a[p][p] = 5
			for i := range hidden {
				for q := range a {
					a[p][q] += hidden[i][p] * hidden[i][q]
				}
				if int(images.Y[i]) == c {
					b[p] += hidden[i][p]
				} else {
					b[p] -= hidden[i][p] / 3
				}
			}
		}
		for h, x := range solve(a, b) {
			w[c*zooHidden+h] = float32(8 * x)
		}
	}
	return v, w
}

// solve returns the solution of a x = b for a positive definite a, which it overwrites.
func solve(a [][]float64, b []float64) []float64 {
	for p := range a {
		for r := p + 1; r < len(a); r++ {
			f := a[r][p] / a[p][p]
			for q := p; q < len(a); q++ {
				a[r][q] -= f * a[p][q]
			}
			b[r] -= f * b[p]
		}
	}
	for p := len(a) - 1; p >= 0; p-- {
		for q := p + 1; q < len(a); q++ {
			b[p] -= a[p][q] * b[q]
		}
		b[p] /= a[p][p]
	}
	return b
}

// Package attacktest holds the conformance suite that every attack passes, and toy classifiers with known answers, among them planted broken
// defences that an honest evaluation must not call robust.
package attacktest

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/internal/rng"
)

// Toy is a small classifier of H x W x C images.
type Toy struct {
	H, W, C int
	Weights [][]float32 // of the last linear layer: [classes][inputs]
	Spread  [][]float32 // Noisy: what one unit of noise adds to Weights

	store   *model.Store
	classes int
	noise   []int
	logits  func(s *model.Scope, x, noise *Node) *Node
}

func (m *Toy) Store() *model.Store { return m.store }
func (m *Toy) Classes() int        { return m.classes }
func (m *Toy) NoiseDims() []int    { return m.noise }

func (m *Toy) Logits(s *model.Scope, x, noise *Node) *Node { return m.logits(s, x, noise) }

var _ attacks.Classifier = (*Toy)(nil)

// StagedToy is a Toy whose pass is also offered in two stages.
type StagedToy struct{ *Toy }

func (StagedToy) Condition(s *model.Scope, x *Node) *Node             { return condition(s, x) }
func (StagedToy) LogitsGiven(s *model.Scope, cond, noise *Node) *Node { return given(s, cond, noise) }

var _ attacks.Staged = StagedToy{}

// The images of all toys.
const side, channels = 6, 3

func newToy(classes int, seed rng.Seed, logits func(s *model.Scope, x, noise *Node) *Node) *Toy {
	m := &Toy{H: side, W: side, C: channels, store: model.NewStore(), classes: classes, logits: logits}
	m.Weights = m.variable("w", seed, classes, side*side*channels)
	return m
}

// variable makes a normal weight [rows, columns] of about unit gain for one pixel.
func (m *Toy) variable(name string, seed rng.Seed, rows, columns int) [][]float32 {
	all := make([]float32, rows*columns)
	seed.Child(name).Normal(all)
	for k := range all {
		all[k] /= 4
	}
	m.put(name, all, rows, columns)
	out := make([][]float32, rows)
	for r := range out {
		out[r] = all[r*columns : (r+1)*columns]
	}
	return out
}

func (m *Toy) put(name string, flat []float32, dims ...int) {
	if _, err := m.store.RootScope().CreateVariable(name, tensors.FromFlatDataAndDimensions(flat, dims...)); err != nil {
		panic(fmt.Errorf("attacktest: creating weight %s: %w", name, err)) // a fresh store takes every name once
	}
}

// NewLinear is softmax regression without bias.
func NewLinear(classes int, seed rng.Seed) *Toy { return newToy(classes, seed, linear) }

// NewConv is one 3x3 convolution to 4 channels, tanh, and a linear layer.
func NewConv(classes int, seed rng.Seed) *Toy {
	m := newToy(classes, seed, conv)
	if err := m.store.DeleteVariable("/w"); err != nil {
		panic(err)
	}
	m.Weights = m.variable("w", seed, classes, side*side*4)
	kernel := make([]float32, 3*3*channels*4)
	seed.Child("kernel").Normal(kernel)
	m.put("kernel", kernel, 3, 3, channels, 4)
	return m
}

// NewNoisy is softmax regression whose weights of every class are disturbed in one random direction: (Weights + noise*Spread) x.
func NewNoisy(classes int, seed rng.Seed) *Toy {
	m := newToy(classes, seed, noisy)
	m.Spread = m.variable("v", seed, classes, side*side*channels)
	m.noise = []int{classes}
	return m
}

// NewStaged has a condition of 5 numbers, tanh of a linear map of the pixels, multiplied by 1 + noise before the last linear layer.
func NewStaged(classes int, seed rng.Seed) StagedToy {
	const k = 5
	m := newToy(classes, seed, nil)
	m.logits = func(s *model.Scope, x, noise *Node) *Node { return given(s, condition(s, x), noise) }
	if err := m.store.DeleteVariable("/w"); err != nil {
		panic(err)
	}
	m.Weights = m.variable("w", seed, classes, k)
	m.variable("v", seed, k, side*side*channels)
	m.noise = []int{k}
	return StagedToy{m}
}

// NewSaturating is a broken defence: confident images have infinite logits and NaN gradients, like the reference's peel in float32.
func NewSaturating(classes int, seed rng.Seed) *Toy { return newToy(classes, seed, saturating) }

// NewNaNGradient is a broken defence: softmax regression with the right logits whose gradient is NaN everywhere.
func NewNaNGradient(classes int, seed rng.Seed) *Toy { return newToy(classes, seed, nanGradient) }

// NewGradientFree is a broken defence: softmax regression on rounded pixels, without gradient.
func NewGradientFree(classes int, seed rng.Seed) *Toy { return newToy(classes, seed, gradientFree) }

// Logit is row c of Weights times x in float64, the logit of the linear toys without noise.
func (m *Toy) Logit(c int, x []float32) float64 {
	var sum float64
	for k, v := range x {
		sum += float64(v) * float64(m.Weights[c][k])
	}
	return sum
}

// Images makes n images with byte-valued pixels, black and white among them, labelled as the linear toy m classifies them (for other
// toys pass a linear one of as many classes).
func (m *Toy) Images(n int, seed rng.Seed) attacks.Batch {
	b := attacks.Batch{H: m.H, W: m.W, C: m.C, X: make([]float32, n*m.H*m.W*m.C), Y: make([]int32, n), ID: make([]int, n)}
	for i := range n {
		b.ID[i] = 100 + 7*i
		x := b.Image(i)
		seed.Child("image", b.ID[i]).Uniform(x)
		for k, v := range x {
			x[k] = float32(int(min(max(v*300-22, 0), 255))) / 255
		}
		best := 0
		for c := range m.classes {
			if m.Logit(c, x) > m.Logit(best, x) {
				best = c
			}
		}
		b.Y[i] = int32(best)
	}
	return b
}

// Package nn holds the graph layers that the classifiers and the purifier share, with PyTorch's names, conventions and initialisation.
//
// Layers read variables of a GoMLX store by PyTorch name. Images are NHWC; kernels are kept HWIO (transposed convolutions flipped in space),
// linear weights [out, in] as PyTorch has them. Param describes each variable in PyTorch's own layout, so that weight files need no table.
//
// Where GoMLX v0.28.2 is wrong or other than PyTorch the layers bring their own: BatchNorm (conventions, gradient in evaluation mode) and
// convolutions with even kernels (input gradient).
package nn

import (
	"fmt"
	"math"

	"carsokit/internal/rng"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// Kind tells how a parameter is laid out, initialised and trained.
type Kind int

// The kinds of parameters.
const (
	ConvKernel   Kind = iota // PyTorch (out, in, kh, kw); kept (kh, kw, in, out)
	ConvTKernel              // PyTorch (in, out, kh, kw); kept (kh, kw, in, out), flipped in space
	LinearWeight             // (out, in) in both
	Bias                     // uniform like the weight it belongs to, by FanIn
	BNWeight                 // starts at 1
	BNBias                   // starts at 0
	BNMean                   // running mean, a buffer
	BNVar                    // running (unbiased) variance, a buffer
	BNCount                  // int64 number of batches; kept only in files
	BlurFilter               // (channels, 1, 3, 3), the constant of BlurConv; kept only in files
)

// Param is one tensor of a module's state, under its PyTorch name.
type Param struct {
	Name  string
	Shape []int // in PyTorch's layout
	Kind  Kind
	FanIn int // of Bias only: its layer's fan-in
}

// Buffer reports whether the tensor is state that no gradient reaches.
func (p Param) Buffer() bool { return p.Kind == BNMean || p.Kind == BNVar || p.FileOnly() }

// FileOnly reports whether the tensor stands in weight files and no computation here reads it: such a one has no variable.
func (p Param) FileOnly() bool { return p.Kind == BNCount || p.Kind == BlurFilter }

// Size is the number of elements.
func (p Param) Size() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}

// BN lists the state of a BatchNorm over c features, in PyTorch's order.
func BN(name string, c int) []Param {
	return []Param{
		{Name: name + ".weight", Shape: []int{c}, Kind: BNWeight},
		{Name: name + ".bias", Shape: []int{c}, Kind: BNBias},
		{Name: name + ".running_mean", Shape: []int{c}, Kind: BNMean},
		{Name: name + ".running_var", Shape: []int{c}, Kind: BNVar},
		{Name: name + ".num_batches_tracked", Shape: []int{}, Kind: BNCount},
	}
}

// Conv describes the kernel of a convolution.
func Conv(name string, in, out, k int) Param {
	return Param{Name: name + ".weight", Shape: []int{out, in, k, k}, Kind: ConvKernel}
}

// BlurConv describes the state of a convolution behind a blur, in PyTorch's order: a wrapper of that name holds the filter and the convolution.
func BlurConv(name string, in, out, k int) []Param {
	return []Param{{Name: name + ".blur_filter", Shape: []int{in, 1, 3, 3}, Kind: BlurFilter}, Conv(name+".conv", in, out, k)}
}

// ConvT describes the kernel of a transposed convolution.
func ConvT(name string, in, out, k int) Param {
	return Param{Name: name + ".weight", Shape: []int{in, out, k, k}, Kind: ConvTKernel}
}

// Linear describes the weight and, if asked for, the bias of a linear layer.
func Linear(name string, in, out int, bias bool) []Param {
	ps := []Param{{Name: name + ".weight", Shape: []int{out, in}, Kind: LinearWeight}}
	if bias {
		ps = append(ps, Param{Name: name + ".bias", Shape: []int{out}, Kind: Bias, FanIn: in})
	}
	return ps
}

// Stored converts values from PyTorch's layout to the store's, returning the stored dimensions.
func (p Param) Stored(v []float32) ([]float32, []int) {
	switch p.Kind {
	case ConvKernel:
		o, i, h, w := p.Shape[0], p.Shape[1], p.Shape[2], p.Shape[3]
		r := make([]float32, len(v))
		p.kernelIndex(func(a, b, y, x, from int) { r[((y*w+x)*i+b)*o+a] = v[from] })
		return r, []int{h, w, i, o}
	case ConvTKernel:
		i, o, h, w := p.Shape[0], p.Shape[1], p.Shape[2], p.Shape[3]
		r := make([]float32, len(v))
		p.kernelIndex(func(a, b, y, x, from int) { r[(((h-1-y)*w+(w-1-x))*i+a)*o+b] = v[from] })
		return r, []int{h, w, i, o}
	default:
		return v, p.Shape
	}
}

// Torch converts values from the store's layout to PyTorch's.
func (p Param) Torch(v []float32) []float32 {
	r := make([]float32, len(v))
	switch p.Kind {
	case ConvKernel:
		o, i, w := p.Shape[0], p.Shape[1], p.Shape[3]
		p.kernelIndex(func(a, b, y, x, to int) { r[to] = v[((y*w+x)*i+b)*o+a] })
	case ConvTKernel:
		i, o, h, w := p.Shape[0], p.Shape[1], p.Shape[2], p.Shape[3]
		p.kernelIndex(func(a, b, y, x, to int) { r[to] = v[(((h-1-y)*w+(w-1-x))*i+a)*o+b] })
	default:
		copy(r, v)
	}
	return r
}

// kernelIndex visits a 4-D PyTorch kernel: its two channel indices, position, and flat index.
func (p Param) kernelIndex(f func(a, b, y, x, flat int)) {
	n := 0
	for a := range p.Shape[0] {
		for b := range p.Shape[1] {
			for y := range p.Shape[2] {
				for x := range p.Shape[3] {
					f(a, b, y, x, n)
					n++
				}
			}
		}
	}
}

// Init returns PyTorch's default initial value, in PyTorch's layout: kernels and linear layers uniform in ±1/sqrt(fan_in), where a transposed
// convolution's fan-in is taken from the second dimension of its stored kernel (spec: architecture 6).
func (p Param) Init(s rng.Seed) []float32 {
	v := make([]float32, p.Size())
	switch p.Kind {
	case BNWeight, BNVar:
		for i := range v {
			v[i] = 1
		}
	case BlurFilter:
		for i := range v {
			v[i] = blurTaps[i/3%3] * blurTaps[i%3]
		}
	case ConvKernel, ConvTKernel, LinearWeight, Bias:
		fan := p.FanIn
		if p.Kind != Bias {
			fan = p.Size() / p.Shape[0]
		}
		bound := float32(1 / math.Sqrt(float64(fan)))
		s.Child("init " + p.Name).Symmetric(v)
		for i := range v {
			v[i] *= bound
		}
	default: // zero
	}
	return v
}

// Create makes the variables of ps in scope with their initial values. Buffers and, if frozen, everything else are not trainable.
func Create(scope *model.Scope, ps []Param, s rng.Seed, frozen bool) error {
	for _, p := range ps {
		if err := Set(scope, p, p.Init(s), frozen); err != nil {
			return err
		}
	}
	return nil
}

// Set creates or overwrites one variable from values in PyTorch's layout.
func Set(scope *model.Scope, p Param, v []float32, frozen bool) error {
	if p.FileOnly() {
		return nil
	}
	if len(v) != p.Size() {
		return fmt.Errorf("setting %s: %d values for shape %v", p.Name, len(v), p.Shape)
	}
	data, dims := p.Stored(v)
	t := tensors.FromFlatDataAndDimensions(data, dims...)
	if old := scope.GetVariable(p.Name); old != nil {
		if err := old.SetValue(t); err != nil {
			return fmt.Errorf("setting %s: %w", p.Name, err)
		}
		old.SetTrainable(!frozen && !p.Buffer())
		return nil
	}
	nv, err := scope.CreateVariable(p.Name, t)
	if err != nil {
		return fmt.Errorf("creating %s: %w", p.Name, err)
	}
	nv.SetTrainable(!frozen && !p.Buffer())
	return nil
}

// Get reads one variable back in PyTorch's layout.
func Get(scope *model.Scope, p Param) ([]float32, error) {
	nv := scope.GetVariable(p.Name)
	if nv == nil {
		return nil, fmt.Errorf("reading %s: no such variable in %q", p.Name, scope.Scope())
	}
	t, err := nv.Value()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.Name, err)
	}
	v, err := tensors.CopyFlatData[float32](t)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.Name, err)
	}
	return p.Torch(v), nil
}

package models

import (
	"fmt"
	"slices"

	"carsokit/checkpoints"
	"carsokit/internal/nn"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// Specs lists the names and shapes that a weight file of ps must have.
func Specs(ps []nn.Param) []checkpoints.Spec {
	var specs []checkpoints.Spec
	for _, p := range ps {
		specs = append(specs, checkpoints.Spec{Name: p.Name, Shape: p.Shape})
	}
	return specs
}

// LoadParams reads the parameters ps from a weight file into scope, strictly: missing, unexpected and misshapen tensors are errors, and so are numbers
// that are not finite. The prefixes "module." and "model." of PyTorch's wrappers are removed from names. Frozen variables are not trainable.
func LoadParams(f *checkpoints.File, scope *model.Scope, ps []nn.Param, frozen bool) error {
	fit := checkpoints.Match(f.Specs(), Specs(ps), "module.", "model.")
	if err := fit.Err(); err != nil {
		return err
	}
	for _, p := range ps {
		if p.Kind == nn.BNCount {
			continue
		}
		v, _, err := f.Float32s(fit.Source[p.Name])
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(v, func(x float32) bool { return x-x != 0 }); i >= 0 {
			return fmt.Errorf("tensor %q: value %d is %g: the file is damaged or its training diverged; get it again", fit.Source[p.Name], i, v[i])
		}
		if p.Kind == nn.BlurFilter && !slices.Equal(v, p.Init(0)) {
			return fmt.Errorf("tensor %q is another blur than [1 2 1]x[1 2 1]/16, the only one that this network has", fit.Source[p.Name])
		}
		if err := nn.Set(scope, p, v, frozen); err != nil {
			return err
		}
	}
	return nil
}

// ExportParams returns the parameters ps of scope as they go into a weight file, in PyTorch's names and layout.
func ExportParams(scope *model.Scope, ps []nn.Param) ([]checkpoints.Tensor, error) {
	var ts []checkpoints.Tensor
	for _, p := range ps {
		if p.Kind == nn.BNCount { // PyTorch keeps a step count that no computation here uses
			ts = append(ts, checkpoints.I64(p.Name, p.Shape, []int64{0}))
			continue
		}
		if p.Kind == nn.BlurFilter {
			ts = append(ts, checkpoints.F32(p.Name, p.Shape, p.Init(0)))
			continue
		}
		v, err := nn.Get(scope, p)
		if err != nil {
			return nil, err
		}
		ts = append(ts, checkpoints.F32(p.Name, p.Shape, v))
	}
	return ts, nil
}

// Variables copies every variable of a store, under its path, for a training state.
func Variables(st *model.Store) ([]checkpoints.Tensor, error) {
	var ts []checkpoints.Tensor
	for v := range st.IterVariables() {
		if v.DType() != dtypes.Float32 {
			continue // GoMLX's own generator state, which nothing here draws from
		}
		t, err := v.Value()
		if err != nil {
			return nil, fmt.Errorf("saving %s: %w", v.Path(), err)
		}
		flat, err := tensors.CopyFlatData[float32](t)
		if err != nil {
			return nil, fmt.Errorf("saving %s: %w", v.Path(), err)
		}
		ts = append(ts, checkpoints.F32(v.Path(), v.Shape().Dimensions, flat))
	}
	return ts, nil
}

// NotFinite names the variables of a store that hold a NaN or an infinity, for the error of a training that went astray: the first one of them and how many there are.
func NotFinite(st *model.Store) string {
	ts, err := Variables(st)
	if err != nil {
		return err.Error()
	}
	var bad []string
	for _, t := range ts {
		if v, err := t.Float32s(); err != nil || slices.ContainsFunc(v, func(x float32) bool { return x-x != 0 }) {
			bad = append(bad, t.Name)
		}
	}
	if len(bad) == 0 {
		return fmt.Sprintf("all %d variables are finite still", len(ts))
	}
	return fmt.Sprintf("%d of %d variables are not finite, %s for one", len(bad), len(ts), slices.Min(bad))
}

// SetVariables puts saved values into the existing variables of a store, which must be exactly those saved.
func SetVariables(st *model.Store, ts []checkpoints.Tensor) error {
	want := 0
	for v := range st.IterVariables() {
		if v.DType() == dtypes.Float32 {
			want++
		}
	}
	if len(ts) != want {
		return fmt.Errorf("%d tensors for %d variables: it was written by another version or configuration", len(ts), want)
	}
	for _, t := range ts {
		v := st.GetVariable(t.Name)
		if v == nil {
			return fmt.Errorf("unexpected tensor %q", t.Name)
		}
		flat, err := t.Float32s()
		if err != nil {
			return err
		}
		if v.Shape().Size() != len(flat) {
			return fmt.Errorf("tensor %q has %d values, the variable %s", t.Name, len(flat), v.Shape())
		}
		trainable := v.Trainable
		if err := v.SetValue(tensors.FromFlatDataAndDimensions(flat, v.Shape().Dimensions...)); err != nil {
			return fmt.Errorf("restoring %s: %w", t.Name, err)
		}
		v.SetTrainable(trainable)
	}
	return nil
}

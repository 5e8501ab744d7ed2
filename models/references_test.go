package models

import (
	"path/filepath"
	"strings"
	"testing"

	"carsokit/checkpoints"

	"github.com/gomlx/gomlx/ml/model"
)

// write makes a weight file of a small net with random values and opens it.
func write(t *testing.T, w WRN, change func([]checkpoints.Tensor) []checkpoints.Tensor, meta map[string]string) *checkpoints.File {
	t.Helper()
	var ts []checkpoints.Tensor
	for _, p := range w.Params() {
		ts = append(ts, checkpoints.F32(p.Name, p.Shape, p.Init(5)))
	}
	if change != nil {
		ts = change(ts)
	}
	path := filepath.Join(t.TempDir(), "w.safetensors")
	if err := checkpoints.Write(path, ts, meta); err != nil {
		t.Fatal(err)
	}
	f, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestConfigOf: a file's own metadata counts first, then its name; a blur filter among the tensors means BlurPool.
func TestConfigOf(t *testing.T) {
	small := CIFAR10WRN(10, 1)
	blurred := small
	blurred.BlurPool = true
	const cui, own = "cifar10_a3_b10_t4_20m_w.safetensors", "WRN_28_10_cifar10_09428.safetensors"
	reference, err := FindReference(own)
	if err != nil {
		t.Fatal(err)
	}
	referenceBlurred := reference.Net
	referenceBlurred.BlurPool = true
	for _, c := range []struct {
		name, file string
		net        WRN
		meta       map[string]string
		want       WRN
		trouble    string
	}{
		{name: "metadata", file: cui, net: small, meta: map[string]string{"config": mustJSON(small)}, want: small},
		{name: "metadata with BlurPool", file: "x", net: blurred, meta: map[string]string{"config": mustJSON(blurred)}, want: blurred},
		{name: "name", file: own, net: small, want: reference.Net},
		{name: "name with folder and another ending", file: "cifar_10/" + strings.TrimSuffix(own, ".safetensors") + ".pt", net: small, want: reference.Net},
		{name: "blur filter", file: own, net: blurred, want: referenceBlurred},
		{name: "neither", file: "mine.safetensors", net: small, trouble: "mine.safetensors"},
		{name: "not JSON", file: cui, net: small, meta: map[string]string{"config": "{"}, trouble: "config"},
		{name: "impossible net", file: cui, net: small, meta: map[string]string{"config": `{"depth":11}`}, trouble: "depth 11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ConfigOf(write(t, c.net, nil, c.meta), c.file)
			switch {
			case c.trouble != "":
				if err == nil || !strings.Contains(err.Error(), c.trouble) {
					t.Errorf("error %v, want one that says %q", err, c.trouble)
				}
			case err != nil:
				t.Error(err)
			case got != c.want:
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestLoadParams: prefixes of PyTorch's wrappers are removed; a number that is not finite and a blur of another shape are refused by tensor.
func TestLoadParams(t *testing.T) {
	w := CIFAR10WRN(10, 1)
	w.BlurPool = true
	set := func(name string, value float32) func([]checkpoints.Tensor) []checkpoints.Tensor {
		return func(ts []checkpoints.Tensor) []checkpoints.Tensor {
			for i := range ts {
				if ts[i].Name == name {
					v, err := ts[i].Float32s()
					if err != nil {
						t.Fatal(err)
					}
					v[0] = value
					ts[i] = checkpoints.F32(name, ts[i].Shape, v)
				}
			}
			return ts
		}
	}
	nan := float32(0)
	nan /= nan
	for _, c := range []struct {
		name    string
		change  func([]checkpoints.Tensor) []checkpoints.Tensor
		trouble string
	}{
		{"as written", nil, ""},
		{"prefixed", func(ts []checkpoints.Tensor) []checkpoints.Tensor {
			for i := range ts {
				ts[i].Name = "module.model." + ts[i].Name
			}
			return ts
		}, ""},
		{"NaN", set("logits.bias", nan), "logits.bias"},
		{"another blur", set("layer.1.block.0.shortcut.blur_filter", 0), "layer.1.block.0.shortcut.blur_filter"},
		{"missing", func(ts []checkpoints.Tensor) []checkpoints.Tensor { return ts[1:] }, "init_conv.weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			scope := model.NewStore().Scope("/f")
			err := LoadParams(write(t, w, c.change, nil), scope, w.Params(), true)
			if c.trouble != "" {
				if err == nil || !strings.Contains(err.Error(), c.trouble) {
					t.Fatalf("error %v, want one that names %s", err, c.trouble)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			back, err := ExportParams(scope, w.Params())
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range w.Params() {
				if back[i].Name != p.Name || p.Kind != 0 {
					continue
				}
				got, _ := back[i].Float32s()
				for k, v := range p.Init(5) {
					if got[k] != v {
						t.Fatalf("%s: value %d is %g, was %g", p.Name, k, got[k], v)
					}
				}
			}
		})
	}
}

package carso

import (
	"strings"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
	"carsokit/models"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// goldenConfig is how the fixtures describe a classifier and the purifier around it.
type goldenConfig struct {
	Classes    int        `json:"num_classes"`
	Depth      int        `json:"depth"`
	Width      int        `json:"width"`
	BNMomentum float64    `json:"bn_momentum"`
	Input      [3]int     `json:"input_shape"`
	Taps       []string   `json:"repr_layers"`
	Cond       int        `json:"compr_cond_dim"`
	Latent     int        `json:"joint_latent_dim"`
	Mean       [3]float32 `json:"mean"`
	Std        [3]float32 `json:"std"`
}

func (g goldenConfig) config(channels int) Config {
	w := models.WRN{Depth: g.Depth, Width: g.Width, Classes: g.Classes, Size: g.Input[1], Mean: g.Mean, Std: g.Std, BNMomentum: g.BNMomentum}
	return Config{Base: w, Final: w, Taps: g.Taps, Cond: g.Cond, Latent: g.Latent, Channels: channels}
}

type goldenMeta struct {
	Config     goldenConfig      `json:"config"`
	Classifier string            `json:"classifier"`
	Files      map[string]string `json:"files"`
	Samples    int               `json:"ensemble_size"`
}

// TestGoldenPurifier compares the whole of inference with the reference's, at both image sizes, with N samples and with the one sample z = 0, with the
// tolerances of the fixtures' README.
func TestGoldenPurifier(t *testing.T) {
	for _, name := range []string{"purifier_cifar", "purifier_tiny"} {
		t.Run(name, func(t *testing.T) {
			f := goldentest.Open(t, name)
			be := goldentest.Backend(t)
			var m goldenMeta
			f.JSON("meta", &m)
			_, shape := f.Floats(m.Files["decoder"], "1.0.weight")
			cfg := m.Config.config(shape[0])
			store := model.NewStore()
			if err := LoadBase(store, cfg.Base, f.File(m.Classifier)); err != nil {
				t.Fatal(err)
			}
			if err := LoadPurifier(store, cfg, strings.TrimSuffix(m.Files["decoder"], "_decoder.safetensors"), Folder(f.Dir)); err != nil {
				t.Fatal(err)
			}
			t.Run("samples", func(t *testing.T) { goldenInference(t, f.In(t), be, store, cfg, "io", false) })
			t.Run("z0", func(t *testing.T) { goldenInference(t, f.In(t), be, store, cfg, "io_ensemble0", true) })
		})
	}
}

// goldenInference compares one file of a purifier's fixture; with zero set the one that has no latents.
func goldenInference(t *testing.T, f *goldentest.Fixture, be compute.Backend, store *model.Store, cfg Config, file string, zero bool) {
	xv, xs := f.Images(file, "x")
	b := xs[0]
	x := tensors.FromFlatDataAndDimensions(xv, b, xs[2], xs[3], 3)
	y := tensors.FromFlatDataAndDimensions(f.Labels(file, "y"), b)
	inputs, n := []any{x}, 0
	if !zero {
		zv, zs := f.Floats(file, "z") // [B,J,N]
		n = zs[2]
		inputs = append(inputs, tensors.FromFlatDataAndDimensions(goldentest.LastTwo(zv, zs), b, n, zs[1]))
	}
	noise := func(z []*Node) *Node {
		if zero {
			return nil
		}
		return z[0]
	}
	d, err := NewDefence(store, cfg, n, PeelReference)
	if err != nil {
		t.Fatal(err)
	}
	aggregations := []struct {
		name string
		is   Aggregation
	}{{"peel", PeelReference}, {"logit", MeanLogit}, {"prob", Prob}, {"count", Count}}
	prefix := ""
	if zero {
		prefix = "z = 0: "
	}
	call := func(e *model.Exec, err error, inputs ...any) []*tensors.Tensor {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out, err := e.Call(inputs...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	e, err := model.NewExec(be, store, func(_ *model.Scope, in []*Node) []*Node {
		_, taps := d.Base.Graph(nn.Net{Scope: store.Scope(baseScope)}, in[0], true)
		c := d.Condition(nil, in[0])
		rec := d.Reconstruct(c, noise(in[1:]))
		l := d.SampleLogits(rec)
		out := []*Node{d.net().compress(taps), c, rec, l}
		for _, a := range aggregations {
			out = append(out, a.is.graph(l))
		}
		return out
	})
	out := call(e, err, inputs...)
	compare := func(name string, got []float32, o goldentest.Tolerance) {
		t.Helper()
		if !f.Has(file, name) {
			return
		}
		want, s := f.Floats(file, name)
		switch name {
		case "reconstructions":
			want = goldentest.NHWC(want, s)
		case "ensemble_logits":
			want = goldentest.LastTwo(want, s) // [B,C,N] -> [B,N,C]
		}
		f.Compare(prefix+name, got, want, o)
	}
	compare("compressed_cat", goldentest.Copy(t, out[0]), goldentest.RelL2(1e-4))
	compare("latent_c", goldentest.Copy(t, out[1]), goldentest.RelL2(1e-4))
	compare("reconstructions", goldentest.Copy(t, out[2]), goldentest.Abs(1e-5))
	compare("ensemble_logits", goldentest.Copy(t, out[3]), goldentest.Abs(1e-4))
	for k, a := range aggregations {
		compare("out_"+a.name, goldentest.Copy(t, out[4+k]), goldentest.Abs(1e-4))
	}
	for _, a := range aggregations {
		t.Run("gradient "+a.name, func(t *testing.T) {
			if zero || f.Name != "purifier_cifar" || a.is != PeelReference {
				goldentest.Slow(t)
			}
			d, err := d.With(a.is)
			if err != nil {
				t.Fatal(err)
			}
			e, err := model.NewExec(be, store, func(_ *model.Scope, in []*Node) []*Node {
				ce := nn.CrossEntropy(d.Logits(store.RootScope(), in[0], noise(in[2:])), in[1])
				return []*Node{ce, Gradient(ReduceAllSum(ce), in[0])[0]}
			})
			out := call(e, err, append([]any{x, y}, inputs[1:]...)...)
			compare("ce_loss_"+a.name, goldentest.Copy(t, out[0]), goldentest.Abs(1e-4))
			got := goldentest.Copy(t, out[1])
			if a.is == Count { // the reference's is identically zero, and not stored
				f.Count(prefix+"grad_x_count", len(got)-zeros(got), len(got), 0)
				return
			}
			if f.Has(file, "grad_x_"+a.name) {
				want, _ := f.Images(file, "grad_x_"+a.name)
				f.Compare(prefix+"grad_x_"+a.name, got, want, goldentest.RelL2(1e-3))
			}
		})
	}
}

func zeros(v []float32) int {
	n := 0
	for _, x := range v {
		if x == 0 {
			n++
		}
	}
	return n
}

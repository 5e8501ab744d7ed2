package carso

import (
	"fmt"
	"strings"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/models"

	"github.com/gomlx/compute"
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
	Margins    []float64         `json:"kink_margin_in_units_of_float32_error"`
}

// aggregationNames are the fixtures' names of ours.
var aggregationNames = []struct {
	name string
	is   Aggregation
}{{"peel", PeelReference}, {"logit", MeanLogit}, {"prob", Prob}, {"count", Count}}

// TestGoldenPurifier compares the whole of inference with the reference's, at both image sizes, with N samples and with the one sample z = 0, with the
// tolerances of the fixtures' README.
func TestGoldenPurifier(t *testing.T) {
	for k, name := range goldentest.Names(t, "purifier_*") {
		t.Run(name, func(t *testing.T) {
			f := goldentest.Open(t, name)
			var m goldenMeta
			f.JSON("meta", &m)
			_, shape := f.Floats(m.Files["decoder"], "1.0.weight")
			p := goldenPurifier{cfg: m.Config.config(shape[0]), store: model.NewStore(), be: goldentest.Backend(t), margins: m.Margins}
			if err := LoadBase(p.store, p.cfg.Base, f.File(m.Classifier)); err != nil {
				t.Fatal(err)
			}
			if err := LoadPurifier(p.store, p.cfg, strings.TrimSuffix(m.Files["decoder"], "_decoder.safetensors"), Folder(f.Dir)); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"io", "io_ensemble0"} {
				t.Run(file, func(t *testing.T) { p.compare(t, f.In(t), file) })
			}
			t.Run("end to end", func(t *testing.T) {
				if k > 0 {
					goldentest.Slow(t)
				}
				p.endToEnd(t, f.In(t), "io")
			})
		})
	}
}

// goldenPurifier is the defence of a purifier's fixture.
type goldenPurifier struct {
	cfg     Config
	store   *model.Store
	be      compute.Backend
	margins []float64 // for each image, how near the nearest LeakyReLU input is to zero, in units of float32's error
}

// inputs reads images, labels and latents of a file. Without samples there is no latent.
func (p goldenPurifier) inputs(f *goldentest.Fixture, file string) (d *Defence, x, y *tensors.Tensor, z []any, err error) {
	xv, xs := f.Images(file, "x")
	x = tensors.FromFlatDataAndDimensions(xv, xs[0], xs[2], xs[3], 3)
	y = tensors.FromFlatDataAndDimensions(f.Labels(file, "y"), xs[0])
	zv, zs := f.Floats(file, "z") // [B,J,N]
	n := zs[2]
	if strings.HasSuffix(file, "_ensemble0") {
		n = 0
	} else {
		z = []any{tensors.FromFlatDataAndDimensions(goldentest.LastTwo(zv, zs), zs[0], n, zs[1])}
	}
	d, err = NewDefence(p.store, p.cfg, n, PeelReference)
	return d, x, y, z, err
}

func call(t *testing.T, e *model.Exec, err error, in ...any) []*tensors.Tensor {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Call(in...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// compare compares one file: everything on the way forward, and under make parity the gradients, led back from each aggregation's gradient with respect to
// the samples' logits.
func (p goldenPurifier) compare(t *testing.T, f *goldentest.Fixture, file string) {
	d, x, y, z, err := p.inputs(f, file)
	if err != nil {
		t.Fatal(err)
	}
	prefix := ""
	if d.Samples == 0 {
		prefix = "z = 0: "
	}
	e, err := model.NewExec(p.be, p.store, func(_ *model.Scope, in []*node) []*node { return inferenceGraph(d, in[0], in[1], in[2:]) })
	out := call(t, e, err, append([]any{x, y}, z...)...)
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
	back := map[string]*tensors.Tensor{}
	for k, a := range aggregationNames {
		compare("out_"+a.name, goldentest.Copy(t, out[4+3*k]), goldentest.Abs(1e-4))
		compare("ce_loss_"+a.name, goldentest.Copy(t, out[5+3*k]), goldentest.Abs(1e-4))
		back[a.name] = out[6+3*k]
	}
	goldentest.Slow(t)
	e, err = model.NewExec(p.be, p.store, func(_ *model.Scope, in []*node) *node { return backwardGraph(d, in[0], in[1], in[2:]) })
	for _, a := range aggregationNames {
		name := "grad_x_" + a.name
		if a.is != Count && !f.Has(file, name) {
			continue
		}
		got := goldentest.Copy(t, call(t, e, err, append([]any{x, back[a.name]}, z...)...)[0])
		if a.is == Count { // the reference's is identically zero, and not stored
			f.Count(prefix+name, len(got)-zeros(got), len(got), 0)
			continue
		}
		p.compareGradient(f, prefix+name, file, name, got)
	}
}

// endToEnd compares the gradient of the whole as one graph, as an attack that knows nothing of the parts computes it.
func (p goldenPurifier) endToEnd(t *testing.T, f *goldentest.Fixture, file string) {
	d, x, y, z, err := p.inputs(f, file)
	if err != nil {
		t.Fatal(err)
	}
	e, err := model.NewExec(p.be, p.store, func(s *model.Scope, in []*node) *node { return endToEndGraph(d, s, in[0], in[1], in[2:]) })
	got := call(t, e, err, append([]any{x, y}, z...)...)
	p.compareGradient(f, "end to end: grad_x_peel", file, "grad_x_peel", goldentest.Copy(t, got[0]))
}

// compareGradient compares image by image, to 1e-3 of the length. Where a LeakyReLU input is nearer to zero than twice float32's error, two right computations
// may stand on different sides of the kink; such an image may differ by 3e-2, and its line says so.
func (p goldenPurifier) compareGradient(f *goldentest.Fixture, quantity, file, name string, got []float32) {
	want, s := f.Images(file, name)
	size := len(want) / s[0]
	var g, w []float32
	for i := range s[0] {
		gi, wi := got[i*size:(i+1)*size], want[i*size:(i+1)*size]
		if d := distance(gi, wi); d > 1e-3 && i < len(p.margins) && p.margins[i] < 2 {
			f.Compare(fmt.Sprintf("%s, image %d, LeakyReLU at its kink", quantity, i), gi, wi, goldentest.RelL2(3e-2))
			continue
		}
		g, w = append(g, gi...), append(w, wi...)
	}
	if len(w) > 0 {
		f.Compare(quantity, g, w, goldentest.RelL2(1e-3))
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

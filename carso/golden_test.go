package carso

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"carsokit/checkpoints"
	"carsokit/internal/nn"
	"carsokit/internal/xlaenv"
	"carsokit/models"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// golden is the folder of fixtures made with the reference's code; tests that need it skip where it is absent.
func golden(t *testing.T, parts ...string) string {
	t.Helper()
	dir := os.Getenv("CARSO_GOLDEN")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "golden")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no golden fixtures (set CARSO_GOLDEN): %v", err)
	}
	return filepath.Join(append([]string{dir}, parts...)...)
}

func testBackend(t *testing.T) compute.Backend {
	t.Helper()
	xlaenv.Prepare()
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	return be
}

type goldenMeta struct {
	Config struct {
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
		Dataset    string     `json:"dataset_name"`
		Ref        string     `json:"model_reference"`
	} `json:"config"`
	Classifier string            `json:"classifier"`
	Files      map[string]string `json:"files"`
	Samples    int               `json:"ensemble_size"`
}

func (m goldenMeta) config(channels int) Config {
	w := models.WRN{Depth: m.Config.Depth, Width: m.Config.Width, Classes: m.Config.Classes, Size: m.Config.Input[1],
		Mean: m.Config.Mean, Std: m.Config.Std, BNMomentum: m.Config.BNMomentum}
	return Config{Base: w, Final: w, Taps: m.Config.Taps, Cond: m.Config.Cond, Latent: m.Config.Latent, Channels: channels}
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func open(t *testing.T, path string) *checkpoints.File {
	t.Helper()
	f, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func floats(t *testing.T, f *checkpoints.File, name string) ([]float32, []int) {
	t.Helper()
	v, shape, err := f.Float32s(name)
	if err != nil {
		t.Fatal(err)
	}
	return v, shape
}

// nhwc turns [...,C,H,W] into [...,H,W,C]; chw is its inverse.
func nhwc(v []float32, shape []int) []float32 {
	c, h, w := shape[len(shape)-3], shape[len(shape)-2], shape[len(shape)-1]
	out := make([]float32, len(v))
	for n := range len(v) / (c * h * w) {
		for k := range c {
			for p := range h * w {
				out[n*c*h*w+p*c+k] = v[n*c*h*w+k*h*w+p]
			}
		}
	}
	return out
}

// relL2 is ||got-want||/||want||, maxAbs the largest difference; NaN and infinities must stand at the same places.
func relL2(got, want []float32) float64 {
	var d, n float64
	for i := range want {
		d += math.Pow(float64(got[i]-want[i]), 2)
		n += math.Pow(float64(want[i]), 2)
	}
	return math.Sqrt(d / n)
}

func maxAbs(got, want []float32) float64 {
	var m float64
	for i := range want {
		m = math.Max(m, math.Abs(float64(got[i]-want[i])))
	}
	return m
}

func check(t *testing.T, what string, got, tolerance float64) {
	t.Helper()
	t.Logf("%-28s %.3g (tolerance %g)", what, got, tolerance)
	if !(got <= tolerance) {
		t.Errorf("%s: %g exceeds %g", what, got, tolerance)
	}
}

func copyOut(t *testing.T, x *tensors.Tensor) []float32 {
	t.Helper()
	v, err := tensors.CopyFlatData[float32](x)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestGoldenPurifier compares the whole of inference with the reference's, at both image sizes, with the tolerances of the fixtures' README.
func TestGoldenPurifier(t *testing.T) {
	for _, dir := range []string{"purifier_cifar", "purifier_tiny"} {
		t.Run(dir, func(t *testing.T) {
			root := golden(t, dir)
			be := testBackend(t)
			var m goldenMeta
			readJSON(t, filepath.Join(root, "meta.json"), &m)
			dec := open(t, filepath.Join(root, m.Files["decoder"]))
			first, shape := floats(t, dec, "1.0.weight")
			_ = first
			cfg := m.config(shape[0])
			store := model.NewStore()
			if err := LoadBase(store, cfg.Base, open(t, filepath.Join(root, m.Classifier))); err != nil {
				t.Fatal(err)
			}
			stem := m.Files["decoder"][:len(m.Files["decoder"])-len("_decoder.safetensors")]
			if err := LoadPurifier(store, cfg, stem, Folder(root)); err != nil {
				t.Fatal(err)
			}
			io := open(t, filepath.Join(root, "io.safetensors"))
			xv, xs := floats(t, io, "x")
			zv, zs := floats(t, io, "z")
			b, j, n := zs[0], zs[1], zs[2]
			z := make([]float32, len(zv))
			for i := range b {
				for l := range j {
					for k := range n {
						z[(i*n+k)*j+l] = zv[(i*j+l)*n+k]
					}
				}
			}
			yt, err := io.Tensor("y")
			if err != nil {
				t.Fatal(err)
			}
			y64, err := yt.Int64s()
			if err != nil {
				t.Fatal(err)
			}
			y := make([]int32, b)
			for i := range y {
				y[i] = int32(y64[i])
			}
			x := tensors.FromFlatDataAndDimensions(nhwc(xv, xs), b, xs[2], xs[3], 3)
			zt := tensors.FromFlatDataAndDimensions(z, b, n, j)
			yt2 := tensors.FromFlatDataAndDimensions(y, b)

			d, err := NewDefence(store, cfg, n, PeelReference)
			if err != nil {
				t.Fatal(err)
			}
			parts, err := model.NewExec(be, store, func(_ *model.Scope, x, z *Node) []*Node {
				_, taps := d.Base.Graph(nn.Net{Scope: store.Scope(baseScope)}, x, true)
				cat := d.net().compress(taps)
				c := d.Condition(nil, x)
				rec := d.Reconstruct(c, z)
				return []*Node{cat, c, rec, d.SampleLogits(rec)}
			})
			if err != nil {
				t.Fatal(err)
			}
			out, err := parts.Call(x, zt)
			if err != nil {
				t.Fatal(err)
			}
			want := func(name string) []float32 { v, _ := floats(t, io, name); return v }
			check(t, "compressed_cat rel-L2", relL2(copyOut(t, out[0]), want("compressed_cat")), 1e-4)
			check(t, "latent_c rel-L2", relL2(copyOut(t, out[1]), want("latent_c")), 1e-4)
			rec, rs := floats(t, io, "reconstructions")
			check(t, "reconstructions", maxAbs(copyOut(t, out[2]), nhwc(rec, rs)), 1e-5)
			lv, ls := floats(t, io, "ensemble_logits") // [B,C,N]
			got := copyOut(t, out[3])
			transposed := make([]float32, len(got))
			for i := range b {
				for k := range n {
					for c := range ls[1] {
						transposed[(i*ls[1]+c)*n+k] = got[(i*n+k)*ls[1]+c]
					}
				}
			}
			check(t, "ensemble_logits", maxAbs(transposed, lv), 1e-4)
			for name, agg := range map[string]Aggregation{"peel": PeelReference, "logit": MeanLogit, "prob": Prob, "count": Count} {
				d, err := d.With(agg)
				if err != nil {
					t.Fatal(err)
				}
				e, err := model.NewExec(be, store, func(s *model.Scope, x, y, z *Node) (*Node, *Node, *Node) {
					o := d.Logits(s, x, z)
					ce := nn.CrossEntropy(o, y)
					return o, ce, Gradient(ReduceAllSum(ce), x)[0]
				})
				if err != nil {
					t.Fatal(err)
				}
				o, err := e.Call(x, yt2, zt)
				if err != nil {
					t.Fatal(err)
				}
				check(t, "out_"+name, maxAbs(copyOut(t, o[0]), want("out_"+name)), 1e-4)
				check(t, "ce_loss_"+name, maxAbs(copyOut(t, o[1]), want("ce_loss_"+name)), 1e-4)
				if agg == Count {
					for _, v := range copyOut(t, o[2]) {
						if v != 0 {
							t.Fatalf("count: gradient %g, the reference's is identically zero", v)
						}
					}
					continue
				}
				gv, gs := floats(t, io, "grad_x_"+name)
				check(t, "grad_x_"+name+" rel-L2", relL2(copyOut(t, o[2]), nhwc(gv, gs)), 1e-3)
			}
		})
	}
}

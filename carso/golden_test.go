package carso

import (
	"path/filepath"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
	"carsokit/models"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

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

// TestGoldenPurifier compares the whole of inference with the reference's, at both image sizes, with the tolerances of the fixtures' README.
func TestGoldenPurifier(t *testing.T) {
	for _, dir := range []string{"purifier_cifar", "purifier_tiny"} {
		t.Run(dir, func(t *testing.T) {
			root := goldentest.Path(t, 1, dir)
			be := goldentest.Backend(t)
			var m goldenMeta
			goldentest.JSON(t, filepath.Join(root, "meta.json"), &m)
			dec := goldentest.Open(t, filepath.Join(root, m.Files["decoder"]))
			_, shape := goldentest.Floats(t, dec, "1.0.weight")
			cfg := m.config(shape[0])
			store := model.NewStore()
			if err := LoadBase(store, cfg.Base, goldentest.Open(t, filepath.Join(root, m.Classifier))); err != nil {
				t.Fatal(err)
			}
			stem := m.Files["decoder"][:len(m.Files["decoder"])-len("_decoder.safetensors")]
			if err := LoadPurifier(store, cfg, stem, Folder(root)); err != nil {
				t.Fatal(err)
			}
			io := goldentest.Open(t, filepath.Join(root, "io.safetensors"))
			xv, xs := goldentest.Floats(t, io, "x")
			zv, zs := goldentest.Floats(t, io, "z")
			b, j, n := zs[0], zs[1], zs[2]
			z := make([]float32, len(zv))
			for i := range b {
				for l := range j {
					for k := range n {
						z[(i*n+k)*j+l] = zv[(i*j+l)*n+k]
					}
				}
			}
			x := tensors.FromFlatDataAndDimensions(goldentest.NHWC(xv, xs), b, xs[2], xs[3], 3)
			zt := tensors.FromFlatDataAndDimensions(z, b, n, j)
			yt := tensors.FromFlatDataAndDimensions(goldentest.Labels(t, io, "y"), b)

			d, err := NewDefence(store, cfg, n, PeelReference)
			if err != nil {
				t.Fatal(err)
			}
			parts, err := model.NewExec(be, store, func(_ *model.Scope, x, z *Node) []*Node {
				_, taps := d.Base.Graph(nn.Net{Scope: store.Scope(baseScope)}, x, true)
				cat := d.net().compress(taps)
				c := d.Condition(nil, x)
				rec := d.Reconstruct(c, z)
				l := d.SampleLogits(rec)
				return []*Node{cat, c, rec, l, PeelReference.graph(l), MeanLogit.graph(l), Prob.graph(l), Count.graph(l)}
			})
			if err != nil {
				t.Fatal(err)
			}
			out, err := parts.Call(x, zt)
			if err != nil {
				t.Fatal(err)
			}
			want := func(name string) []float32 { v, _ := goldentest.Floats(t, io, name); return v }
			goldentest.Check(t, "compressed_cat rel-L2", goldentest.RelL2(goldentest.Copy(t, out[0]), want("compressed_cat")), 1e-4)
			goldentest.Check(t, "latent_c rel-L2", goldentest.RelL2(goldentest.Copy(t, out[1]), want("latent_c")), 1e-4)
			rec, rs := goldentest.Floats(t, io, "reconstructions")
			goldentest.Check(t, "reconstructions", goldentest.MaxAbs(goldentest.Copy(t, out[2]), goldentest.NHWC(rec, rs)), 1e-5)
			lv, ls := goldentest.Floats(t, io, "ensemble_logits") // [B,C,N]
			got := goldentest.Copy(t, out[3])
			transposed := make([]float32, len(got))
			for i := range b {
				for k := range n {
					for c := range ls[1] {
						transposed[(i*ls[1]+c)*n+k] = got[(i*n+k)*ls[1]+c]
					}
				}
			}
			goldentest.Check(t, "ensemble_logits", goldentest.MaxAbs(transposed, lv), 1e-4)
			aggregations := []struct {
				name string
				is   Aggregation
			}{{"peel", PeelReference}, {"logit", MeanLogit}, {"prob", Prob}, {"count", Count}}
			for k, a := range aggregations {
				o := goldentest.Copy(t, out[4+k])
				goldentest.Check(t, "out_"+a.name, goldentest.MaxAbs(o, want("out_"+a.name)), 1e-4)
			}
			for _, a := range aggregations {
				t.Run("gradient "+a.name, func(t *testing.T) {
					if dir != "purifier_cifar" || a.is != PeelReference {
						goldentest.Slow(t)
					}
					d, err := d.With(a.is)
					if err != nil {
						t.Fatal(err)
					}
					e, err := model.NewExec(be, store, func(s *model.Scope, x, y, z *Node) (*Node, *Node) {
						ce := nn.CrossEntropy(d.Logits(s, x, z), y)
						return ce, Gradient(ReduceAllSum(ce), x)[0]
					})
					if err != nil {
						t.Fatal(err)
					}
					o, err := e.Call(x, yt, zt)
					if err != nil {
						t.Fatal(err)
					}
					goldentest.Check(t, "ce_loss_"+a.name, goldentest.MaxAbs(goldentest.Copy(t, o[0]), want("ce_loss_"+a.name)), 1e-4)
					got := goldentest.Copy(t, o[1])
					if a.is == Count {
						for _, v := range got {
							if v != 0 {
								t.Fatalf("gradient %g, the reference's is identically zero", v)
							}
						}
						return
					}
					gv, gs := goldentest.Floats(t, io, "grad_x_"+a.name)
					goldentest.Check(t, "grad_x_"+a.name+" rel-L2", goldentest.RelL2(got, goldentest.NHWC(gv, gs)), 1e-3)
				})
			}
		})
	}
}

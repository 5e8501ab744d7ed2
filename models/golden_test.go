package models

import (
	"path/filepath"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// TestGoldenClassifier compares logits, losses, representations and input gradients with the reference's, at both image sizes, with the tolerances of the
// fixtures' README.
func TestGoldenClassifier(t *testing.T) {
	for _, dir := range []string{"classifier_wide", "classifier_cifar", "classifier_tiny"} {
		t.Run(dir, func(t *testing.T) {
			root := goldentest.Path(t, 1, dir)
			var m struct {
				Config struct {
					Classes  int        `json:"num_classes"`
					Depth    int        `json:"depth"`
					Width    int        `json:"width"`
					Momentum float64    `json:"bn_momentum"`
					Input    [3]int     `json:"input_shape"`
					Taps     []string   `json:"repr_layers"`
					Mean     [3]float32 `json:"mean"`
					Std      [3]float32 `json:"std"`
				} `json:"config"`
				TapImages int `json:"tap_images"`
			}
			goldentest.JSON(t, filepath.Join(root, "meta.json"), &m)
			c := m.Config
			w := WRN{Depth: c.Depth, Width: c.Width, Classes: c.Classes, Size: c.Input[1], Mean: c.Mean, Std: c.Std, BNMomentum: c.Momentum}
			if err := w.Validate(); err != nil {
				t.Fatal(err)
			}
			for i, tap := range w.Taps() {
				if tap.Name != c.Taps[i] {
					t.Fatalf("representation %d is %s, the reference's %s", i, tap.Name, c.Taps[i])
				}
			}
			store := model.NewStore()
			if err := LoadParams(goldentest.Open(t, filepath.Join(root, "weights.safetensors")), store.Scope("/f"), w.Params(), true); err != nil {
				t.Fatal(err)
			}
			e, err := model.NewExec(goldentest.Backend(t), store, func(_ *model.Scope, x, y *node) []*node { return goldenGraph(w, store, x, y) })
			if err != nil {
				t.Fatal(err)
			}
			io := goldentest.Open(t, filepath.Join(root, "io.safetensors"))
			x, s := goldentest.Floats(t, io, "x")
			out, err := e.Call(tensors.FromFlatDataAndDimensions(goldentest.NHWC(x, s), s[0], s[2], s[3], 3),
				tensors.FromFlatDataAndDimensions(goldentest.Labels(t, io, "y"), s[0]))
			if err != nil {
				t.Fatal(err)
			}
			want := func(name string) []float32 { v, _ := goldentest.Floats(t, io, name); return v }
			goldentest.Check(t, "logits", goldentest.MaxAbs(goldentest.Copy(t, out[0]), want("logits")), 1e-4)
			goldentest.Check(t, "ce_loss", goldentest.MaxAbs(goldentest.Copy(t, out[1]), want("ce_loss")), 1e-4)
			goldentest.Check(t, "grad_x rel-L2", goldentest.RelL2(goldentest.Copy(t, out[2]), goldentest.NHWC(want("grad_x"), s)), 1e-3)
			if m.TapImages == 0 || dir == "classifier_wide" {
				return // this fixture stores no representations
			}
			f := goldentest.Open(t, filepath.Join(root, "taps.safetensors"))
			worst := 0.0
			for i, tap := range w.Taps() {
				stored, ts := goldentest.Floats(t, f, tap.Name) // the first images and channels only
				all := goldentest.Copy(t, out[3+i])
				var got []float32
				for n := range ts[0] {
					for p := range tap.H * tap.W {
						at := (n*tap.H*tap.W + p) * tap.C
						got = append(got, all[at:at+ts[1]]...)
					}
				}
				worst = max(worst, goldentest.RelL2(got, goldentest.NHWC(stored, ts)))
			}
			goldentest.Check(t, "representations rel-L2", worst, 1e-4)
		})
	}
}

// TestManifestNames: parameter names, shapes and order at full size are the reference's.
func TestManifestNames(t *testing.T) {
	for _, scenario := range []struct {
		id            string
		classes, size int
	}{{"a", 10, 32}, {"b", 100, 32}, {"c", 200, 64}} {
		var m struct {
			Classifier struct {
				State [][3]any `json:"state_dict"`
			} `json:"classifier"`
		}
		goldentest.JSON(t, goldentest.Path(t, 1, "manifests", "scenario_"+scenario.id+".json"), &m)
		w := CIFAR10WRN(28, 10)
		w.Classes, w.Size = scenario.classes, scenario.size
		ps := w.Params()
		if len(ps) != len(m.Classifier.State) {
			t.Fatalf("scenario %s: %d tensors, the reference has %d", scenario.id, len(ps), len(m.Classifier.State))
		}
		for i, entry := range m.Classifier.State {
			compareEntry(t, ps[i], entry)
		}
	}
}

func compareEntry(t *testing.T, p nn.Param, entry [3]any) {
	t.Helper()
	shape, ok := entry[1].([]any)
	if !ok || entry[0] != p.Name || len(shape) != len(p.Shape) {
		t.Fatalf("%s %v, the reference has %v", p.Name, p.Shape, entry)
	}
	for k, d := range shape {
		if int(d.(float64)) != p.Shape[k] {
			t.Fatalf("%s %v, the reference has %v", p.Name, p.Shape, entry)
		}
	}
}

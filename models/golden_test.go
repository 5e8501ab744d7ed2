package models

import (
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// goldenNet is the configuration of a classifier as the fixtures' meta.json gives it.
type goldenNet struct {
	Classes  int        `json:"num_classes"`
	Depth    int        `json:"depth"`
	Width    int        `json:"width"`
	Momentum float64    `json:"bn_momentum"`
	Input    [3]int     `json:"input_shape"`
	Taps     []string   `json:"repr_layers"`
	Mean     [3]float32 `json:"mean"`
	Std      [3]float32 `json:"std"`
}

func (c goldenNet) wrn() WRN {
	return WRN{Depth: c.Depth, Width: c.Width, Classes: c.Classes, Size: c.Input[1], Mean: c.Mean, Std: c.Std, BNMomentum: c.Momentum}
}

// TestGoldenClassifier compares logits, losses, representations and input gradients with the reference's, at both image sizes, with the tolerances of the
// fixtures' README.
func TestGoldenClassifier(t *testing.T) {
	for _, name := range []string{"classifier_wide", "classifier_cifar", "classifier_tiny"} {
		t.Run(name, func(t *testing.T) {
			f := goldentest.Open(t, name)
			var m struct {
				Config    goldenNet `json:"config"`
				TapImages int       `json:"tap_images"`
			}
			f.JSON("meta", &m)
			w := m.Config.wrn()
			if err := w.Validate(); err != nil {
				t.Fatal(err)
			}
			for i, tap := range w.Taps() {
				if tap.Name != m.Config.Taps[i] {
					t.Fatalf("representation %d is %s, the reference's %s", i, tap.Name, m.Config.Taps[i])
				}
			}
			store := model.NewStore()
			if err := LoadParams(f.File("weights"), store.Scope("/f"), w.Params(), true); err != nil {
				t.Fatal(err)
			}
			e, err := model.NewExec(goldentest.Backend(t), store, func(_ *model.Scope, x, y *node) []*node { return goldenGraph(w, store, x, y) })
			if err != nil {
				t.Fatal(err)
			}
			x, s := f.Images("io", "x")
			out, err := e.Call(tensors.FromFlatDataAndDimensions(x, s[0], s[2], s[3], 3), tensors.FromFlatDataAndDimensions(f.Labels("io", "y"), s[0]))
			if err != nil {
				t.Fatal(err)
			}
			logits, _ := f.Floats("io", "logits")
			loss, _ := f.Floats("io", "ce_loss")
			gradient, _ := f.Images("io", "grad_x")
			f.Compare("logits", goldentest.Copy(t, out[0]), logits, goldentest.Abs(1e-4))
			f.Compare("ce_loss", goldentest.Copy(t, out[1]), loss, goldentest.Abs(1e-4))
			f.Compare("grad_x", goldentest.Copy(t, out[2]), gradient, goldentest.RelL2(1e-3))
			if m.TapImages == 0 || name == "classifier_wide" {
				return // this fixture stores no representations
			}
			for i, tap := range w.Taps() {
				want, ts := f.Images("taps", tap.Name) // the first images and channels only
				all := goldentest.Copy(t, out[3+i])
				var got []float32
				for n := range ts[0] {
					for p := range tap.H * tap.W {
						at := (n*tap.H*tap.W + p) * tap.C
						got = append(got, all[at:at+ts[1]]...)
					}
				}
				f.Compare(tap.Name, got, want, goldentest.RelL2(1e-4))
			}
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
		f := goldentest.Open(t, "manifests")
		f.JSON("scenario_"+scenario.id, &m)
		w := CIFAR10WRN(28, 10)
		w.Classes, w.Size = scenario.classes, scenario.size
		ps := w.Params()
		if len(ps) != len(m.Classifier.State) {
			t.Fatalf("scenario %s: %d tensors, the reference has %d", scenario.id, len(ps), len(m.Classifier.State))
		}
		for i, entry := range m.Classifier.State {
			compareEntry(t, ps[i], entry)
		}
		f.Count("scenario "+scenario.id+": classifier", 0, len(ps), 0)
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

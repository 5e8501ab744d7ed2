package models

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
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
	for _, name := range goldentest.Names(t, "classifier_*") {
		t.Run(name, func(t *testing.T) {
			f := goldentest.Open(t, name)
			var m struct {
				Config    goldenNet `json:"config"`
				TapImages int       `json:"tap_images"`
			}
			f.JSON("meta", &m)
			w := m.Config.wrn()
			store := model.NewStore()
			if err := LoadParams(f.File("weights"), store.Scope("/f"), w.Params(), true); err != nil {
				t.Fatal(err)
			}
			taps := compareNet(t, f, w, m.Config.Taps, store, "", "io")
			if !f.HasFile("taps") {
				return
			}
			for i, tap := range w.Taps() {
				want, ts := f.Images("taps", tap.Name) // the first images and channels only
				all := goldentest.Copy(t, taps[i])
				var got []float32
				for n := range ts[0] {
					for p := range tap.H * tap.W {
						at := (n*tap.H*tap.W + p) * tap.C
						got = append(got, all[at:at+ts[1]]...)
					}
				}
				f.Compare(tap.Name, got, want, goldentest.RelL2(1e-4))
			}
			compareTapSums(t, f, w, taps)
		})
	}
}

// compareTapSums compares what the fixture keeps of the whole of each representation, for its first images: mean, mean magnitude and sum of squares.
func compareTapSums(t *testing.T, f *goldentest.Fixture, w WRN, taps []*tensors.Tensor) {
	t.Helper()
	var m struct {
		Images int `json:"tap_images"`
		Taps   []struct {
			Name   string
			Mean   float64
			Abs    float64 `json:"mean_abs"`
			Square float64 `json:"sum_sq"`
		}
	}
	f.JSON("meta", &m)
	var got, want []float64
	for i, tap := range w.Taps() {
		if i >= len(m.Taps) || m.Taps[i].Name != tap.Name {
			t.Errorf("no sums of %s", tap.Name)
			continue
		}
		v := goldentest.Copy(t, taps[i])[:m.Images*tap.H*tap.W*tap.C]
		var sum, magnitude, square float64
		for _, x := range v {
			sum, magnitude, square = sum+float64(x), magnitude+math.Abs(float64(x)), square+float64(x)*float64(x)
		}
		n, r := float64(len(v)), m.Taps[i]
		// A mean can cancel to anything: it is compared in units of the mean magnitude.
		got, want = append(got, 1+sum/n/r.Abs, magnitude/n, square), append(want, 1+r.Mean/r.Abs, r.Abs, r.Square)
	}
	goldentest.Compare(f, "sums over the whole representations", got, want, goldentest.Rel(1e-4))
}

// TestGoldenBlurPool compares the same with a blur before the strided convolutions, on the same weights, whose names the fixture leaves unblurred.
func TestGoldenBlurPool(t *testing.T) {
	for _, name := range goldentest.Names(t, "classifier_*") {
		f := goldentest.Open(t, name)
		if !f.HasFile("io_blurpool") {
			continue
		}
		var m struct {
			Config   goldenNet `json:"config"`
			Replaced []string
			Filter   [][]float32
			State    []struct {
				Name  string
				Shape []int
			} `json:"state_dict"`
		}
		f.JSON("meta_blurpool", &m)
		w := m.Config.wrn()
		w.BlurPool = true
		store := model.NewStore()
		differing := len(m.State) - len(w.Params())
		for i, p := range w.Params() {
			if i >= len(m.State) {
				break
			}
			if m.State[i].Name != p.Name || !slices.Equal(m.State[i].Shape, p.Shape) {
				differing++
				t.Errorf("tensor %d is %s %v, the reference's %+v", i, p.Name, p.Shape, m.State[i])
			}
			if p.Kind == nn.BlurFilter {
				got := p.Init(0)
				for k := range got {
					if got[k] != m.Filter[k/3%3][k%3] {
						t.Fatalf("%s is %v", p.Name, got[:9])
					}
				}
				if !slices.Contains(m.Replaced, strings.TrimSuffix(p.Name, ".blur_filter")) {
					t.Errorf("%s is not in %v", p.Name, m.Replaced)
				}
			}
			if p.FileOnly() {
				continue
			}
			v, _ := f.Floats("weights", strings.Replace(p.Name, ".conv.weight", ".weight", 1))
			if err := nn.Set(store.Scope("/f"), p, v, true); err != nil {
				t.Fatal(err)
			}
		}
		f.Count("BlurPool: tensors", differing, len(m.State), 0)
		compareNet(t, f, w, m.Config.Taps, store, "BlurPool: ", "io_blurpool")
	}
}

// compareNet compares logits, losses and input gradients in a file of a fixture; it returns the representations.
func compareNet(t *testing.T, f *goldentest.Fixture, w WRN, tapNames []string, store *model.Store, prefix, file string) []*tensors.Tensor {
	t.Helper()
	if err := w.Validate(); err != nil {
		t.Fatal(err)
	}
	differing := max(len(tapNames)-len(w.Taps()), 0)
	for i, tap := range w.Taps() {
		if i >= len(tapNames) || tap.Name != tapNames[i] {
			differing++
		}
	}
	f.Count(prefix+"names of representations", differing, len(tapNames), 0)
	e, err := model.NewExec(goldentest.Backend(t), store, func(_ *model.Scope, x, y *node) []*node { return goldenGraph(w, store, x, y) })
	if err != nil {
		t.Fatal(err)
	}
	x, s := f.Images(file, "x")
	out, err := e.Call(tensors.FromFlatDataAndDimensions(x, s[0], s[2], s[3], 3), tensors.FromFlatDataAndDimensions(f.Labels(file, "y"), s[0]))
	if err != nil {
		t.Fatal(err)
	}
	logits, _ := f.Floats(file, "logits")
	loss, _ := f.Floats(file, "ce_loss")
	gradient, _ := f.Images(file, "grad_x")
	f.Compare(prefix+"logits", goldentest.Copy(t, out[0]), logits, goldentest.Abs(1e-4))
	f.Compare(prefix+"ce_loss", goldentest.Copy(t, out[1]), loss, goldentest.Abs(1e-4))
	f.Compare(prefix+"grad_x", goldentest.Copy(t, out[2]), gradient, goldentest.RelL2(1e-3))
	return out[3:]
}

// TestManifestNames: names, shapes, order, counts and representations at full size are the reference's, for every scenario and for the net that the
// plain training builds.
func TestManifestNames(t *testing.T) {
	f := goldentest.Open(t, "manifests")
	files, err := filepath.Glob(filepath.Join(f.Dir, "scenario_*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	for _, file := range files {
		var m manifest
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		f.JSON(name, &m)
		w := m.wrn()
		if err := w.Validate(); err != nil {
			t.Fatal(err)
		}
		compareState(t, f, name+": classifier", w.Params(), m.Classifier.State)
		trained, bytes := 0, 0
		for _, p := range w.Params() {
			bytes += 4 * p.Size()
			if p.Kind == nn.BNCount {
				bytes += 4 // it is int64
			}
			if !p.Buffer() {
				trained += p.Size()
			}
		}
		f.Same(name+": parameters and bytes", trained == m.Classifier.Counts.Parameters && bytes == m.Classifier.Counts.Bytes,
			fmt.Sprintf("%d and %d, the reference has %+v", trained, bytes, m.Classifier.Counts))
		differing := 0
		taps := w.Taps()
		for i, tap := range m.Taps {
			if i >= len(taps) || tap[0] != taps[i].Name || fmt.Sprint(tap[1]) != fmt.Sprint([]int{taps[i].C, taps[i].H, taps[i].W}) {
				differing++
			}
		}
		f.Count(name+": representations", differing+len(taps)-len(m.Taps), len(m.Taps), 0)
	}
	blurred, err := filepath.Glob(filepath.Join(f.Dir, "plain_training_blurred_*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range blurred {
		var m struct {
			State []stateEntry `json:"state_dict"`
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		f.JSON(name, &m)
		w := WRN{BlurPool: true, Size: 32}
		if _, err := fmt.Sscanf(name, "plain_training_blurred_wrn_%d_%d", &w.Depth, &w.Width); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.Classes = int(m.State[len(m.State)-1][1].([]any)[0].(float64)) // the last tensor is the bias of the logits
		compareState(t, f, "plain training: "+w.String(), w.Params(), m.State)
	}
}

// manifest is what a scenario's manifest says of its classifier.
type manifest struct {
	Input      [3]int     `json:"input_shape"`
	Mean       [3]float32 `json:"mean"`
	Std        [3]float32 `json:"std"`
	Classifier struct {
		Args   goldenNet    `json:"args"`
		State  []stateEntry `json:"state_dict"`
		Counts struct {
			Parameters, Bytes int
		} `json:"counts"`
	} `json:"classifier"`
	Taps [][3]any `json:"tapped_layers"`
}

func (m manifest) wrn() WRN {
	n := m.Classifier.Args
	n.Input, n.Mean, n.Std = m.Input, m.Mean, m.Std
	return n.wrn()
}

// stateEntry is a name, a shape and a dtype.
type stateEntry [3]any

func compareState(t *testing.T, f *goldentest.Fixture, quantity string, ps []nn.Param, want []stateEntry) {
	t.Helper()
	differing := max(len(ps), len(want)) - min(len(ps), len(want))
	for i := range min(len(ps), len(want)) {
		dtype := "F32"
		if ps[i].Kind == nn.BNCount {
			dtype = "I64"
		}
		ours, theirs := fmt.Sprint(ps[i].Name, ps[i].Shape, dtype), fmt.Sprint(want[i][0], want[i][1], want[i][2])
		if ours != theirs {
			differing++
			t.Errorf("tensor %d is %s, the reference's %s", i, ours, theirs)
		}
	}
	f.Count(quantity, differing, len(want), 0)
}

// TestManifestReferences: the published classifiers are those that the manifests list, with their data sets, files, networks and BatchNorm momentum.
func TestManifestReferences(t *testing.T) {
	f := goldentest.Open(t, "manifests")
	var index struct {
		Scenarios map[string]struct {
			Dataset string
			Models  []struct {
				Reference string
				File      string  `json:"classifier_file"`
				Momentum  float64 `json:"bn_momentum"`
			} `json:"base_models"`
		}
	}
	f.JSON("index", &index)
	listed := 0
	for id, s := range index.Scenarios {
		var m manifest
		f.JSON("scenario_"+id, &m)
		for _, b := range s.Models {
			listed++
			r, err := FindReference(filepath.Join("some", "folder", b.File))
			if err != nil {
				t.Error(err)
				continue
			}
			want := m.wrn()
			want.BNMomentum = b.Momentum
			f.Same("reference "+b.Reference+" of "+s.Dataset, r.Name == b.Reference && r.Net == want && r.Dataset == strings.TrimSuffix(strings.ReplaceAll(s.Dataset, "_", ""), "200"),
				fmt.Sprintf("%+v", r))
		}
	}
	f.Count("references", len(References())-listed, listed, 0)
}

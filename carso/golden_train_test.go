package carso

import (
	"path/filepath"
	"strings"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// TestGoldenTrainStep repeats ten training steps of the reference from the same weights, images and posterior noise, with the tolerances of the fixtures'
// README: losses 1e-5 relative at step 1 and 1e-4 at step 10; parameters 1e-6 absolute up to step 6, 5e-4 absolute (rel-L2 1e-3) after step 10.
func TestGoldenTrainStep(t *testing.T) {
	f := goldentest.Open(t, "train_step")
	goldentest.Slow(t)
	be := goldentest.Backend(t)
	var m struct {
		goldenMeta
		Beta    float64   `json:"beta"`
		LR      []float64 `json:"lr_per_step"`
		Batch   int       `json:"batch"`
		Steps   int       `json:"steps"`
		Initial struct {
			Classifier string `json:"classifier"`
			Purifier   string `json:"purifier"`
		} `json:"initial_weights"`
		PerStep struct{ Loss, BCE []float64 } `json:"per_step"`
	}
	f.JSON("meta", &m)
	var pm goldenMeta
	f.JSON(filepath.Join(m.Initial.Purifier, "meta"), &pm)
	file := func(part string) string { return filepath.Join(m.Initial.Purifier, pm.Files[part]) }
	_, shape := f.Floats(file("decoder"), "1.0.weight")
	cfg := m.Config.config(shape[0])

	tr := &Trainer{Recipe: Recipe{Config: cfg, Batch: m.Batch}, Store: model.NewStore(), backend: be}
	if err := LoadBase(tr.Store, cfg.Base, f.File(m.Initial.Classifier)); err != nil {
		t.Fatal(err)
	}
	if err := tr.create(); err != nil {
		t.Fatal(err)
	}
	for _, part := range cfg.Parts() {
		from, prefix := "train_only", part.Name+"."
		if !part.TrainOnly {
			from, prefix = file(part.Name), ""
		}
		for _, p := range part.Params {
			if p.FileOnly() {
				continue
			}
			v, _ := f.Floats(from, prefix+p.Name)
			if err := nn.Set(tr.Store.RootScope().At("%s", part.Name), p, v, false); err != nil {
				t.Fatal(err)
			}
			if !p.Buffer() {
				if err := nn.Set(tr.Store.Scope(slowScope+"/"+part.Name), p, v, true); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	attacked, is := f.Images("batch", "x_in")
	x, _ := f.Images("batch", "x_target")
	noise, ns := f.Floats("batch", "noise")

	// The forward pass by itself first: reconstruction and posterior.
	forward, err := model.NewExec(be, tr.Store, func(_ *model.Scope, a, x, z *node) []*node {
		n := net{Config: cfg, scope: tr.Store.RootScope(), train: true}
		d, mu, lv, _, _ := n.lossGraph(a, x, z)
		return []*node{sigmoid(d), mu, lv}
	})
	if err != nil {
		t.Fatal(err)
	}
	per := ns[1] * ns[2]
	image := func(v []float32) *tensors.Tensor { return tensors.FromFlatDataAndDimensions(v, is[0], is[2], is[3], 3) }
	out, err := forward.Call(image(attacked), image(x), tensors.FromFlatDataAndDimensions(noise[:per], ns[1], ns[2]))
	if err != nil {
		t.Fatal(err)
	}
	rec, _ := f.Images("step1", "xrec")
	f.Compare("xrec", goldentest.Copy(t, out[0]), rec, goldentest.Abs(1e-4))
	for i, name := range []string{"mu", "logvar"} {
		want, _ := f.Floats("step1", name)
		f.Compare(name, goldentest.Copy(t, out[1+i]), want, goldentest.Abs(1e-4))
	}

	if tr.exec, err = model.NewExec(be, tr.Store, tr.stepGraph); err != nil {
		t.Fatal(err)
	}
	current := func(prefix, name string) []float32 {
		for _, part := range cfg.Parts() {
			if rest, ok := strings.CutPrefix(name, part.Name+"."); ok {
				for _, p := range part.Params {
					if p.Name == rest {
						v, err := nn.Get(tr.Store.Scope(prefix+"/"+part.Name), p)
						if err != nil {
							t.Fatal(err)
						}
						return v
					}
				}
			}
		}
		t.Fatalf("no parameter %s", name)
		return nil
	}
	// compare puts all tensors of a file whose names begin with a prefix side by side, as one quantity.
	compare := func(quantity, file, prefix, scope string, o goldentest.Tolerance) {
		t.Helper()
		var got, want []float32
		for _, name := range f.File(file).Names() {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				v, _ := f.Floats(file, name)
				got, want = append(got, current(scope, rest)...), append(want, v...)
			}
		}
		if len(want) > 0 { // parameters are stored after a few of the steps only
			f.Compare(quantity, got, want, o)
		}
	}
	for s := range m.Steps {
		l := Losses{Beta: m.Beta, LR: m.LR[s]}
		if err := tr.update(x, attacked, noise[s*per:(s+1)*per], &l); err != nil {
			t.Fatal(err)
		}
		tr.step++
		tolerance := 1e-5
		if s > 0 {
			tolerance = 1e-4
		}
		goldentest.Compare(f, "loss, step "+itoa(s+1), []float64{l.Total * float64(m.Batch)}, []float64{m.PerStep.Loss[s]}, goldentest.Rel(tolerance))
		if s == 0 {
			compare("BatchNorm statistics, step 1", "step1", "bn1.", "", goldentest.Abs(1e-4))
		}
		prefix, quantity := "param_after_step"+itoa(s+1)+".", "parameters, step "+itoa(s+1)
		if s+1 <= 6 {
			compare(quantity, "params", prefix, "", goldentest.Abs(1e-6))
		} else {
			compare(quantity, "params", prefix, "", goldentest.Abs(5e-4))
			compare(quantity+", length", "params", prefix, "", goldentest.RelL2(1e-3))
		}
	}
	compare("slow parameters, step 10", "params", "slow_param_after_step10.", slowScope, goldentest.Abs(5e-4))
	// Relative to each tensor: the FC compressor sums 14,704 inputs, so its statistics carry the rounding of the ten updates before.
	for _, name := range f.File("bn_after_step10").Names() {
		want, _ := f.Floats("bn_after_step10", name)
		f.Compare(name+", step 10", current("", name), want, goldentest.RelL2(1e-4))
	}
}

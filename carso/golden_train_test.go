package carso

import (
	"math"
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
	root := goldentest.Path(t, 1, "train_step")
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
	goldentest.JSON(t, filepath.Join(root, "meta.json"), &m)
	dir := filepath.Join(root, m.Initial.Purifier)
	var pm goldenMeta
	goldentest.JSON(t, filepath.Join(dir, "meta.json"), &pm)
	_, shape := goldentest.Floats(t, goldentest.Open(t, filepath.Join(dir, pm.Files["decoder"])), "1.0.weight")
	cfg := m.config(shape[0])

	tr := &Trainer{Recipe: Recipe{Config: cfg, Batch: m.Batch}, Store: model.NewStore(), backend: be}
	if err := LoadBase(tr.Store, cfg.Base, goldentest.Open(t, filepath.Join(root, m.Initial.Classifier))); err != nil {
		t.Fatal(err)
	}
	if err := tr.create(); err != nil {
		t.Fatal(err)
	}
	trainOnly := goldentest.Open(t, filepath.Join(root, "train_only.safetensors"))
	for _, part := range cfg.Parts() {
		f, prefix := trainOnly, part.Name+"."
		if !part.TrainOnly {
			f, prefix = goldentest.Open(t, filepath.Join(dir, pm.Files[part.Name])), ""
		}
		for _, p := range part.Params {
			if p.Kind == nn.BNCount {
				continue
			}
			v, _ := goldentest.Floats(t, f, prefix+p.Name)
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
	batch := goldentest.Open(t, filepath.Join(root, "batch.safetensors"))
	in, is := goldentest.Floats(t, batch, "x_in")
	target, _ := goldentest.Floats(t, batch, "x_target")
	noise, ns := goldentest.Floats(t, batch, "noise")
	x, attacked := goldentest.NHWC(target, is), goldentest.NHWC(in, is)

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
	step1 := goldentest.Open(t, filepath.Join(root, "step1.safetensors"))
	rec, rs := goldentest.Floats(t, step1, "xrec")
	goldentest.Check(t, "xrec", goldentest.MaxAbs(goldentest.Copy(t, out[0]), goldentest.NHWC(rec, rs)), 1e-4)
	for i, name := range []string{"mu", "logvar"} {
		want, _ := goldentest.Floats(t, step1, name)
		goldentest.Check(t, name, goldentest.MaxAbs(goldentest.Copy(t, out[1+i]), want), 1e-4)
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
	params := goldentest.Open(t, filepath.Join(root, "params.safetensors"))
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
		goldentest.Check(t, "loss", math.Abs(l.Total*float64(m.Batch)/m.PerStep.Loss[s]-1), tolerance)
		if s == 0 {
			worst := 0.0
			for _, name := range step1.Names() {
				if rest, ok := strings.CutPrefix(name, "bn1."); ok {
					want, _ := goldentest.Floats(t, step1, name)
					worst = max(worst, goldentest.MaxAbs(current("", rest), want))
				}
			}
			goldentest.Check(t, "BatchNorm statistics, step 1", worst, 1e-4)
		}
		prefix := "param_after_step" + itoa(s+1) + "."
		worst, worstRel := 0.0, 0.0
		for _, name := range params.Names() {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				want, _ := goldentest.Floats(t, params, name)
				worst, worstRel = max(worst, goldentest.MaxAbs(current("", rest), want)), max(worstRel, goldentest.RelL2(current("", rest), want))
			}
		}
		if s+1 <= 6 {
			goldentest.Check(t, prefix+"*", worst, 1e-6)
		} else {
			goldentest.Check(t, prefix+"*", worst, 5e-4)
			goldentest.Check(t, prefix+"* rel-L2", worstRel, 1e-3)
		}
	}
	worst := 0.0
	for _, name := range params.Names() {
		if rest, ok := strings.CutPrefix(name, "slow_param_after_step10."); ok {
			want, _ := goldentest.Floats(t, params, name)
			worst = max(worst, goldentest.MaxAbs(current(slowScope, rest), want))
		}
	}
	goldentest.Check(t, "slow parameters", worst, 5e-4)
	bn := goldentest.Open(t, filepath.Join(root, "bn_after_step10.safetensors"))
	worst = 0
	for _, name := range bn.Names() {
		want, _ := goldentest.Floats(t, bn, name)
		// Relative to the tensor: the FC compressor sums 14,704 inputs, so its statistics carry the rounding of the ten updates before.
		worst = max(worst, goldentest.RelL2(current("", name), want))
	}
	goldentest.Check(t, "BatchNorm statistics rel-L2, step 10", worst, 1e-4)
}

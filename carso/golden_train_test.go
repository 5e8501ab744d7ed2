package carso

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
	"carsokit/internal/optim"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// losses are the fixture's, step by step.
type losses struct {
	Loss, BCE []float64
	KL        []float64 `json:"kld"` // times beta
}

// TestGoldenTrainStep repeats training steps of the reference from the same weights, images and posterior noise, with the tolerances of the fixtures'
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
		PerStep   losses             `json:"per_step"`
		Double    losses             `json:"per_step_float64"`
		Norms     map[string]float64 `json:"grad_l2_norm_step1"`
		Optimizer struct {
			RAdam struct {
				Betas    [2]float64
				Eps      float64
				Decay    float64 `json:"weight_decay"`
				Momentum bool    `json:"degenerated_to_sgd"`
			}
			Lookahead struct {
				Every int     `json:"la_steps"`
				Alpha float64 `json:"la_alpha"`
			}
		}
	}
	f.JSON("meta", &m)
	o := m.Optimizer
	f.Same("optimiser", optim.Reference == optim.RAdam{Beta1: o.RAdam.Betas[0], Beta2: o.RAdam.Betas[1], Eps: o.RAdam.Eps, WeightDecay: o.RAdam.Decay,
		Momentum: o.RAdam.Momentum, Every: o.Lookahead.Every, Alpha: o.Lookahead.Alpha}, fmt.Sprintf("%+v", o))
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
	forward, err := model.NewExec(be, tr.Store, func(_ *model.Scope, a, z *node) []*node {
		n := net{Config: cfg, scope: tr.Store.RootScope(), train: true}
		p := n.forward(a, z, nil)
		return []*node{sigmoid(p.decoded), p.mu, p.logvar}
	})
	if err != nil {
		t.Fatal(err)
	}
	per := ns[1] * ns[2]
	image := func(v []float32) *tensors.Tensor { return tensors.FromFlatDataAndDimensions(v, is[0], is[2], is[3], 3) }
	out, err := forward.Call(image(attacked), tensors.FromFlatDataAndDimensions(noise[:per], ns[1], ns[2]))
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
	// compare compares all tensors of a file whose names begin with a prefix, and writes the line of the worst.
	compare := func(quantity, file, prefix, scope string, scale float32, o goldentest.Tolerance) {
		t.Helper()
		var got, want []float32
		worst, n := "", 0
		for _, name := range f.File(file).Names() {
			rest, ok := strings.CutPrefix(name, prefix)
			if !ok {
				continue
			}
			n++
			g := current(scope, rest)
			w, _ := f.Floats(file, name)
			for i := range g {
				g[i] *= scale
			}
			if worst == "" || o.Share(g, w) > o.Share(got, want) {
				got, want, worst = g, w, rest
			}
		}
		if n > 0 { // some things are stored after a few of the steps only
			f.Compare(fmt.Sprintf("%s: worst of %d, %s", quantity, n, worst), got, want, o)
		}
	}
	for s := range m.Steps {
		step := s + 1
		l := Losses{Beta: m.Beta, LR: m.LR[s]}
		if err := tr.update(x, attacked, nil, noise[s*per:(s+1)*per], &l); err != nil {
			t.Fatal(err)
		}
		tr.step++
		tolerance := 1e-5
		if s > 0 {
			tolerance = 1e-4
		}
		b := float64(m.Batch)
		goldentest.Compare(f, fmt.Sprintf("total and BCE, step %d", step), []float64{l.Total * b, l.BCE * b},
			[]float64{m.PerStep.Loss[s], m.PerStep.BCE[s]}, goldentest.Rel(tolerance))
		// The KL is a five-hundredth of the sum and follows the rounding of all steps before: the reference's own is up to 1e-4 from what it computes in
		// float64, which is therefore what to compare with.
		goldentest.Compare(f, fmt.Sprintf("beta KL, step %d, to float64", step), []float64{l.KL * b * m.Beta}, []float64{m.Double.KL[s]}, goldentest.Rel(tolerance))
		if s == 0 {
			compare("BatchNorm statistics, step 1", "step1", "bn1.", "", 1, goldentest.Abs(1e-4))
			// RAdam's first moment after one step is the gradient times 1-beta1.
			inverse := float32(1 / (1 - optim.Reference.Beta1))
			compare("gradients, step 1", "step1", "grad.", momentScope, inverse, goldentest.RelL2(1e-3))
			var norms, wantNorms []float64
			for name, want := range m.Norms {
				sum := 0.0
				for _, v := range current(momentScope, name) {
					sum += float64(v) * float64(v)
				}
				norms, wantNorms = append(norms, math.Sqrt(sum)*float64(inverse)), append(wantNorms, want)
			}
			goldentest.Compare(f, fmt.Sprintf("length of each of %d gradients, step 1", len(norms)), norms, wantNorms, goldentest.Rel(1e-3))
		}
		prefix, quantity := fmt.Sprintf("param_after_step%d.", step), fmt.Sprintf("parameters, step %d", step)
		if step <= 6 {
			compare(quantity, "params", prefix, "", 1, goldentest.Abs(1e-6))
		} else {
			compare(quantity, "params", prefix, "", 1, goldentest.Abs(5e-4))
			compare(quantity+", length", "params", prefix, "", 1, goldentest.RelL2(1e-3))
		}
		compare(fmt.Sprintf("slow parameters, step %d", step), "params", "slow_"+prefix, slowScope, 1, goldentest.Abs(5e-4))
	}
	// Relative to each tensor: the FC compressor sums thousands of inputs, so its statistics carry the rounding of the updates before.
	compare("BatchNorm statistics at the end", fmt.Sprintf("bn_after_step%d", m.Steps), "", "", 1, goldentest.RelL2(1e-4))
}

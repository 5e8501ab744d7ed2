package optim

import (
	"testing"

	"carsokit/internal/goldentest"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

func vector(v []float32) *tensors.Tensor { return tensors.FromFlatDataAndDimensions(v, len(v)) }

// TestGoldenRAdam drives RAdam inside Lookahead through the fixture's problems, step by step from its own state, in every setting there is: parameters,
// slow parameters and gradients of all steps to 1e-5 absolute.
func TestGoldenRAdam(t *testing.T) {
	f := goldentest.Open(t, "optim")
	const file = "radam_lookahead"
	var m struct {
		Steps    int
		Dim      int
		Betas    [2]float64
		Eps      float64
		Settings map[string]struct {
			Steps    int     `json:"la_steps"`
			Alpha    float64 `json:"la_alpha"`
			Decay    float64 `json:"radam_wd"`
			Momentum bool    `json:"degenerate"`
			LR       []float64
			Size     []float64 `json:"rectified_step_size"`
		}
		Problems map[string]string
	}
	f.JSON(file, &m)
	be := goldentest.Backend(t)
	for setting, s := range m.Settings {
		o := RAdam{m.Betas[0], m.Betas[1], m.Eps, s.Decay, s.Momentum, s.Steps, s.Alpha}
		sizes := make([]float64, m.Steps)
		for i := range sizes {
			sizes[i], _ = o.Size(i + 1)
			if s.Size[i] < 0 { // the reference's mark of no step
				s.Size[i] = 0
			}
		}
		goldentest.Compare(f, setting+": step sizes", sizes, s.Size, goldentest.Rel(1e-9))
		for problem := range m.Problems {
			loss := problems[problem]
			if loss == nil && problem != "open_loop" {
				t.Errorf("no problem %q here", problem)
				continue
			}
			a, b := vector([]float32{0}), vector([]float32{0})
			load := func(name string) *tensors.Tensor {
				v, shape := f.Floats(file, name)
				return tensors.FromFlatDataAndDimensions(v, shape...)
			}
			switch problem {
			case "quadratic":
				a, b = load("quadratic.A"), load("quadratic.c")
			case "logistic":
				a, b = load("logistic.X"), load("logistic.y")
			}
			e, err := model.NewExec(be, model.NewStore(), func(_ *model.Scope, in []*node) []*node {
				return stepGraph(o, loss, in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7])
			})
			if err != nil {
				t.Fatal(err)
			}
			p, _ := f.Floats(file, "p0")
			slow := p
			first, second := make([]float32, m.Dim), make([]float32, m.Dim)
			given := make([]float32, m.Steps*m.Dim)
			if problem == "open_loop" {
				given, _ = f.Floats(file, "open_loop.grads")
			}
			var ps, slows, gs []float32
			var losses []float64
			for i := range m.Steps {
				out, err := e.Call(a, b, vector(given[i*m.Dim:(i+1)*m.Dim]), vector(o.Coefficients(i+1, s.LR[i])), vector(p), vector(first), vector(second), vector(slow))
				if err != nil {
					t.Fatal(err)
				}
				losses = append(losses, float64(tensors.ToScalar[float32](out[0])))
				gs = append(gs, goldentest.Copy(t, out[1])...)
				p, first, second, slow = goldentest.Copy(t, out[2]), goldentest.Copy(t, out[3]), goldentest.Copy(t, out[4]), goldentest.Copy(t, out[5])
				ps, slows = append(ps, p...), append(slows, slow...)
			}
			at := setting + "." + problem
			for name, got := range map[string][]float32{"params": ps, "slow_params": slows, "grads": gs} {
				want, _ := f.Floats(file, at+"."+name)
				f.Compare(at+"."+name, got, want, goldentest.Abs(1e-5))
			}
			if loss != nil { // of the given gradients it is their product with the parameters, hundreds, of which float32 keeps less than 1e-5
				goldentest.Compare(f, at+".loss", losses, f.Doubles(file, at+".loss"), goldentest.Abs(1e-5))
			}
		}
	}
}

// TestGoldenSGD repeats the fixture's steps of SGD with Nesterov momentum and weight decay to 1e-5 absolute.
func TestGoldenSGD(t *testing.T) {
	f := goldentest.Open(t, "optim")
	const file = "plain_classifier"
	var m struct {
		SGD struct {
			LR          float64
			Momentum    float64
			Nesterov    bool
			WeightDecay float64 `json:"weight_decay"`
		}
	}
	f.JSON(file, &m)
	o := SGD{m.SGD.Momentum, m.SGD.Nesterov, m.SGD.WeightDecay}
	e, err := model.NewExec(goldentest.Backend(t), model.NewStore(), func(_ *model.Scope, lr, p, g, b *node) []*node { return sgdGraph(o, lr, p, g, b) })
	if err != nil {
		t.Fatal(err)
	}
	gs, shape := f.Floats(file, "sgd.grads")
	p, _ := f.Floats(file, "sgd.p0")
	buffer := make([]float32, shape[1])
	var ps []float32
	for i := range shape[0] {
		out, err := e.Call(tensors.FromScalar(float32(m.SGD.LR)), vector(p), vector(gs[i*shape[1]:(i+1)*shape[1]]), vector(buffer))
		if err != nil {
			t.Fatal(err)
		}
		p, buffer = goldentest.Copy(t, out[0]), goldentest.Copy(t, out[1])
		ps = append(ps, p...)
	}
	want, _ := f.Floats(file, "sgd.params")
	f.Compare("sgd.params", ps, want, goldentest.Abs(1e-5))
}

// TestUnrectified: with the reference's setting the first five steps are momentum steps.
func TestUnrectified(t *testing.T) {
	if n := Reference.Unrectified(); n != 5 {
		t.Errorf("%d unrectified steps", n)
	}
	waiting := Reference
	waiting.Momentum = false
	for step := range 5 {
		if c := waiting.Coefficients(step+1, 1); c[1] != 0 || c[2] != 0 {
			t.Errorf("step %d moves by %v", step+1, c)
		}
	}
}

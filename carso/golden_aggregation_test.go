package carso

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"carsokit/internal/goldentest"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// regime is one of the aggregation fixture's.
type regime struct {
	f       *goldentest.Fixture
	name    string
	b, n, c int
	x, y    *tensors.Tensor
	execs   map[Aggregation]*model.Exec // shared by all regimes: a graph for each shape
	err     map[string]float64          // how far the reference's own float32 is from its float64, by the authors' name of an aggregation
}

func regimes(t *testing.T) []regime {
	t.Helper()
	f := goldentest.Open(t, "aggregation")
	be, execs := goldentest.Backend(t), map[Aggregation]*model.Exec{}
	for _, a := range Aggregations {
		var err error
		execs[a], err = model.NewExec(be, model.NewStore(), func(_ *model.Scope, l, y *node) []*node { return aggregationGraph(a, l, y) })
		if err != nil {
			t.Fatal(err)
		}
	}
	type deviation struct {
		Max float64 `json:"max_abs_dev_f32_vs_f64"`
	}
	var cases []struct {
		Case              string
		Peel, Logit, Prob deviation
	}
	f.JSON("aggregation", &cases)
	var rs []regime
	for _, name := range f.File("aggregation").Names() {
		name, ok := strings.CutSuffix(name, ".logits")
		if !ok {
			continue
		}
		l, s := f.Floats("aggregation", name+".logits")
		r := regime{f: f, name: name, b: s[0], c: s[1], n: s[2], execs: execs}
		for _, c := range cases {
			if c.Case == name {
				r.err = map[string]float64{"peel": c.Peel.Max, "logit": c.Logit.Max, "prob": c.Prob.Max}
			}
		}
		r.x = tensors.FromFlatDataAndDimensions(goldentest.LastTwo(l, s), r.b, r.n, r.c)
		r.y = tensors.FromFlatDataAndDimensions(f.Labels("aggregation", name+".y"), r.b)
		rs = append(rs, r)
	}
	if len(rs) == 0 {
		t.Fatal("the fixture has no logits")
	}
	return rs
}

// compute returns outputs [B,C], losses [B] and their sum's gradient [B,N,C].
func (r regime) compute(t *testing.T, a Aggregation) (out, loss, gradient []float32) {
	t.Helper()
	res, err := r.execs[a].Call(r.x, r.y)
	if err != nil {
		t.Fatal(err)
	}
	return goldentest.Copy(t, res[0]), goldentest.Copy(t, res[1]), goldentest.Copy(t, res[2])
}

// logFloat is the logarithm of the smallest normal float32.
var logFloat = math.Log(math.Pow(2, -126))

// TestGoldenAggregation compares every aggregation in every regime with the reference's, infinities and NaN included.
//
// Tolerances: count exact. logit 1e-5 relative, not below the reference's own error; prob and peel, which are log-odds log(p/(1-p)), by what float32 can know of p. Below 8: prob as
// logit, peel 1e-4. Above, 1-p itself: 1e-7, a unit or two in the last place of p, which is what the fixtures' 1e-7·exp(|out|) amounts to and
// which also says how near an infinity must be. A row's gradient errs by the same share of it, but not less than 1e-3.
func TestGoldenAggregation(t *testing.T) {
	for _, r := range regimes(t) {
		for _, a := range []struct {
			name string
			is   Aggregation
		}{{"peel", PeelReference}, {"logit", MeanLogit}, {"prob", Prob}, {"count", Count}} {
			q := r.name + "." + a.name
			want, _ := r.f.Floats("aggregation", q+".out")
			got, loss, gradient := r.compute(t, a.is)

			// XLA flushes subnormal probabilities to zero, PyTorch keeps them: our -inf begins at logFloat. Nothing follows from it: the winning class has been
			// infinite, and the gradient NaN, since 17.
			flushed := 0
			for i, g := range got {
				if w := float64(want[i]); math.IsInf(float64(g), -1) && w < logFloat {
					got[i] = want[i]
					flushed++
				}
			}
			if flushed > 0 {
				r.f.Count(q+": flushed to -inf below -87.3", flushed, flushed, flushed)
			}
			logOdds := a.is == Prob || a.is == PeelReference
			var near, nearWant, beyond, beyondWant []float32
			for i, g := range got {
				if w := want[i]; logOdds && max(g, w) >= 8 {
					beyond, beyondWant = append(beyond, upper(g)), append(beyondWant, upper(w))
				} else {
					near, nearWant = append(near, g), append(nearWant, w)
				}
			}
			tolerance := goldentest.AbsRel(2*r.err[a.name], 1e-5) // both computations err where a value happens to be near 0
			switch a.is {
			case Count:
				tolerance = goldentest.Tolerance{}
			case PeelReference:
				tolerance = goldentest.Abs(1e-4)
			}
			if len(near) > 0 {
				r.f.Compare(q+".out", near, nearWant, tolerance)
			}
			if len(beyond) > 0 {
				r.f.Compare(q+".out: 1-p above 8", beyond, beyondWant, goldentest.Abs(1e-7))
			}
			r.compareLossAndGradient(t, q, got, loss, gradient)
		}
	}
}

// upper is 1-p of a log-odds value.
func upper(out float32) float32 { return float32(1 / (1 + math.Exp(float64(out)))) }

// compareLossAndGradient compares row by row: NaN rows must be the reference's; the others' losses and gradients agree to the share of p's rounding in them.
func (r regime) compareLossAndGradient(t *testing.T, q string, out, loss, gradient []float32) {
	t.Helper()
	wantLoss, _ := r.f.Floats("aggregation", q+".ce_loss")
	w, s := r.f.Floats("aggregation", q+".grad_logits")
	wantGradient := goldentest.LastTwo(w, s)
	size := r.n * r.c
	differing, wrong, compared := 0, 0, 0
	for i := range r.b {
		g, w := gradient[i*size:(i+1)*size], wantGradient[i*size:(i+1)*size]
		if hasNaN(g) != hasNaN(w) || (loss[i] != loss[i]) != (wantLoss[i] != wantLoss[i]) {
			differing++
			continue
		}
		most := 0.0
		for _, v := range out[i*r.c : (i+1)*r.c] {
			most = max(most, float64(v))
		}
		share := max(1e-3, 1e-7*math.Exp(min(most, 700)))
		if !hasNaN(w) {
			compared++
			if d := distance(g, w); d > share {
				t.Errorf("%s: gradient of row %d is off by %.3g of its length, may be %.3g", q, i, d, share)
				wrong++
			}
		}
		if l := float64(wantLoss[i]); l-l == 0 && math.Abs(float64(loss[i])-l) > share*math.Max(1, math.Abs(l)) {
			t.Errorf("%s: loss of row %d is %g, the reference's %g", q, i, loss[i], l)
			wrong++
		}
	}
	r.f.Count(q+": rows with NaN", differing, r.b, 0)
	if compared > 0 {
		r.f.Count(q+".grad_logits: finite rows", wrong, compared, 0)
	}
}

// distance is the length of got-want relative to want's.
func distance(got, want []float32) float64 {
	var d, w float64
	for i := range want {
		e := float64(got[i]) - float64(want[i])
		d, w = d+e*e, w+float64(want[i])*float64(want[i])
	}
	if d == 0 {
		return 0
	}
	return math.Sqrt(d / w)
}

func hasNaN(v []float32) bool { return slices.ContainsFunc(v, func(x float32) bool { return x != x }) }

// TestStableForms: peel-stable is the same function in float64 wherever float32 can hold exp(l), with its gradient, and log-sum ranks classes as it does.
func TestStableForms(t *testing.T) {
	for _, r := range regimes(t) {
		stable, _, gradient := r.compute(t, PeelStable)
		logSum, _, _ := r.compute(t, LogSum)
		q := r.name + ".peel_stable_f64"
		want := r.f.Doubles("aggregation", q+".out")
		w, s := r.f.Doubles("aggregation", q+".grad_logits"), []int{r.b, r.c, r.n}
		wantGradient := goldentest.LastTwo(w, s)
		// S is a sum of exp(l), of which float32 keeps about 1e-7; the difference of two inherits the larger one's error.
		largest := 0.0
		for _, v := range want {
			largest = max(largest, math.Abs(v))
		}
		if largest > math.MaxFloat32 {
			r.f.Count(q+": beyond float32", 0, r.b, 0)
			continue
		}
		got := make([]float64, len(stable))
		for i, v := range stable {
			got[i] = float64(v)
		}
		goldentest.Compare(r.f, q+".out", got, want, goldentest.AbsRel(1e-5+1e-7*largest, 1e-6))
		got = make([]float64, len(gradient))
		for i, v := range gradient {
			got[i] = float64(v)
		}
		goldentest.Compare(r.f, q+".grad_logits", got, wantGradient, goldentest.RelL2(1e-3))
		differing := 0
		for i := range r.b {
			if argmax(stable[i*r.c:(i+1)*r.c]) != argmax(logSum[i*r.c:(i+1)*r.c]) {
				differing++
			}
		}
		r.f.Count(fmt.Sprintf("%s: decisions of log-sum", r.name), differing, r.b, 0)
	}
}

func argmax(v []float32) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

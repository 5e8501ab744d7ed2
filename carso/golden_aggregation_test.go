package carso

import (
	"math"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// TestGoldenAggregation compares every aggregation in every regime with the reference's, infinities and NaN included: each of those must stand where the
// reference has one. Finite values: 1e-5 relative for logit and prob; peel 1e-4 where |out| < 8, and about 1e-7·exp(|out|) beyond; count exact.
func TestGoldenAggregation(t *testing.T) {
	f := goldentest.Open(t, "aggregation")
	be := goldentest.Backend(t)
	regimes := []string{"small", "medium", "peaked", "saturating", "overflowing", "all_negative", "ties_and_zero_max", "single_member"}
	for _, regime := range regimes {
		t.Run(regime, func(t *testing.T) {
			lv, s := f.Floats("aggregation", regime+".logits")
			b, c, n := s[0], s[1], s[2]
			x := tensors.FromFlatDataAndDimensions(goldentest.LastTwo(lv, s), b, n, c)
			y := tensors.FromFlatDataAndDimensions(f.Labels("aggregation", regime+".y"), b)
			for name, agg := range map[string]Aggregation{"peel": PeelReference, "logit": MeanLogit, "prob": Prob, "count": Count} {
				e, err := model.NewExec(be, model.NewStore(), func(_ *model.Scope, l, y *Node) (*Node, *Node) {
					o := agg.graph(l)
					return o, Gradient(ReduceAllSum(nn.CrossEntropy(o, y)), l)[0]
				})
				if err != nil {
					t.Fatal(err)
				}
				res, err := e.Call(x, y)
				if err != nil {
					t.Fatal(err)
				}
				got := goldentest.Copy(t, res[0])
				want, _ := f.Floats("aggregation", regime+"."+name+".out")
				for i := range want {
					g, w := float64(got[i]), float64(want[i])
					if math.IsNaN(w) || math.IsInf(w, 0) || math.IsNaN(g) || math.IsInf(g, 0) {
						// XLA flushes subnormal probabilities to zero, PyTorch keeps them: below log(2^-126) = -87.3 ours is -inf already. Nothing
						// follows from it: the top class's value has been infinite, and the gradient NaN, since 17.
						if math.IsInf(g, -1) && w < -87.3 {
							continue
						}
						if !(math.IsNaN(w) && math.IsNaN(g)) && g != w && !atTheEdge(w) && !atTheEdge(g) {
							t.Errorf("%s: value %d is %g, the reference's %g", name, i, g, w)
						}
						continue
					}
					tolerance := 1e-5 * math.Max(1, math.Abs(w))
					switch {
					case agg == Count:
						tolerance = 0
					case agg == PeelReference && math.Abs(w) < 8:
						tolerance = 1e-4
					case agg == PeelReference:
						tolerance = 2e-7 * math.Exp(math.Min(math.Abs(w), 20))
					case agg == Prob && regime != "small" && regime != "medium" && regime != "peaked":
						tolerance = 2e-7 * math.Exp(math.Min(math.Abs(w), 20)) // log-odds of a probability that float32 rounds near 1
					}
					if math.Abs(g-w) > tolerance {
						t.Errorf("%s: value %d is %g, the reference's %g (tolerance %g)", name, i, g, w, tolerance)
					}
				}
				// A row's gradient is NaN, for the attack, where the reference's is.
				if agg == Count {
					continue
				}
				gradient := goldentest.Copy(t, res[1])
				wv, _ := f.Floats("aggregation", regime+"."+name+".grad_logits")
				wantGradient := goldentest.LastTwo(wv, s)
				for i := range b {
					if g, w := hasNaN(gradient[i*n*c:(i+1)*n*c]), hasNaN(wantGradient[i*n*c:(i+1)*n*c]); g != w {
						t.Errorf("%s: gradient of row %d has a NaN: %v, the reference's: %v (logits aggregated to %v)", name, i, g, w, got[i*c:(i+1)*c])
					}
				}
			}
		})
	}
}

// atTheEdge says whether a log-odds value is one that the last rounding decides between finite and infinite: P within an ulp of 1.
func atTheEdge(v float64) bool { return !math.IsInf(v, 0) && v > 15.2 }

func hasNaN(v []float32) bool {
	for _, x := range v {
		if x != x {
			return true
		}
	}
	return false
}

// TestStableForms: where everything is finite, peel-stable equals the reference's in float64, and log-sum ranks classes as it does.
func TestStableForms(t *testing.T) {
	f := goldentest.Open(t, "aggregation")
	be := goldentest.Backend(t)
	for _, regime := range []string{"small", "medium", "peaked", "saturating", "single_member"} {
		lv, s := f.Floats("aggregation", regime+".logits")
		b, c, n := s[0], s[1], s[2]
		e, err := model.NewExec(be, model.NewStore(), func(_ *model.Scope, l *Node) (*Node, *Node) {
			return PeelStable.graph(l), LogSum.graph(l)
		})
		if err != nil {
			t.Fatal(err)
		}
		res, err := e.Call(tensors.FromFlatDataAndDimensions(goldentest.LastTwo(lv, s), b, n, c))
		if err != nil {
			t.Fatal(err)
		}
		stable, logSum := goldentest.Copy(t, res[0]), goldentest.Copy(t, res[1])
		want := f.Doubles("aggregation", regime+".peel_stable_f64.out")
		for i := range want {
			// S is a sum of up to a few e^|l|: float32 keeps 6e-8 of the largest, and the difference inherits its absolute error.
			if math.Abs(float64(stable[i])-want[i]) > 1e-5+1e-6*math.Abs(want[i]) {
				t.Errorf("%s: peel-stable value %d is %g, in float64 %g", regime, i, stable[i], want[i])
			}
		}
		for i := range b {
			if a, z := argmax(stable[i*c:(i+1)*c]), argmax(logSum[i*c:(i+1)*c]); a != z {
				t.Errorf("%s: row %d: peel-stable decides %d, log-sum %d", regime, i, a, z)
			}
		}
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

// TestGoldenSchedules compares the learning rate and beta of every epoch with the reference's, to 1e-9 relative.
func TestGoldenSchedules(t *testing.T) {
	f := goldentest.Open(t, "optim")
	var settings []struct {
		Key    string `json:"key"`
		Epochs int    `json:"epochs"`
		Batch  int    `json:"batch_per_process"`
	}
	f.JSON("carso_schedules", &settings)
	if len(settings) == 0 {
		t.Fatal("carso_schedules.json has no settings")
	}
	for _, set := range settings {
		name, epochs, batch := set.Key, set.Epochs, set.Batch
		for what, ours := range map[string]func(int) float64{
			"lr_per_epoch":   func(e int) float64 { return LearningRate(e, epochs, batch) },
			"beta_per_epoch": func(e int) float64 { return Beta(e, epochs) },
		} {
			want := f.Doubles("carso_schedules", name+"."+what)
			got := make([]float64, len(want))
			for e := range got {
				got[e] = ours(e)
			}
			goldentest.Compare(f, name+" "+what, got, want, goldentest.Rel(1e-9))
		}
	}
}

package eval

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"carsokit/attacks"
	"carsokit/carso/paper"
	"carsokit/data"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/compute"
)

// benchmarked is what the benchmarks run on.
func benchmarked(b *testing.B) (compute.Backend, *data.Set) {
	b.Helper()
	return withSample(b, xlaenv.Backend)
}

// withSample opens a backend and the built-in images.
func withSample(tb testing.TB, open func() (compute.Backend, error)) (compute.Backend, *data.Set) {
	tb.Helper()
	be, err := open()
	if err != nil {
		tb.Fatal(err)
	}
	set, err := data.Sample()
	if err != nil {
		tb.Fatal(err)
	}
	return be, set
}

// shippedOutput opens an output of a row of scenario a, with N samples or, for 0, the row's own number.
func shippedOutput(tb testing.TB, be compute.Backend, set *data.Set, row, output string, samples int) (System, attacks.Classifier) {
	tb.Helper()
	job, err := NewJob(be, Question{Scenario: "a", Row: row, Column: "clean", Scale: "tiny", Samples: samples}, set)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := job.System.Output(output)
	if err != nil {
		tb.Fatal(err)
	}
	return job.System, c
}

// BenchmarkGradient is one input gradient of 32 images, one draw, on the weights that ship: what attacks consist of. GFLOP/s are the operations of Work, which
// leaves out products with zeros.
func BenchmarkGradient(b *testing.B) {
	be, set := benchmarked(b)
	const n = 32
	images := (&Lab{Set: set}).Batch(n)
	for _, s := range [][2]string{{"classifier", Classifier}, {"carso-honest", "log-sum"}} {
		b.Run(s[0], func(b *testing.B) {
			system, c := shippedOutput(b, be, set, s[0], s[1], 0)
			o, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: []int{n}})
			if err != nil {
				b.Fatal(err)
			}
			defer o.Close()
			gradient := func() {
				if _, err := o.Gradient(context.Background(), attacks.CE, images, 1, 1, nil); err != nil {
					b.Fatal(err)
				}
			}
			gradient() // compiles
			for b.Loop() {
				gradient()
			}
			b.ReportMetric(n*system.Work(s[1]).Gradient(1)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// BenchmarkRand is a whole evaluation by AutoAttack rand at the length of scale small, on the first 100 test images, through the paper's aggregation and through log S, which always has a
// gradient: by the kit's procedure, and by the reference's, which leads every draw of every image through everything, with the same compiled parts. Both must leave the same images.
func BenchmarkRand(b *testing.B) {
	for row, output := range map[string]string{"carso-paper": "peel-reference", "carso-honest": "log-sum"} {
		b.Run(output, func(b *testing.B) { benchmarkRand(b, row, output) })
	}
}

func benchmarkRand(b *testing.B, row, output string) {
	be, set := benchmarked(b)
	const n, eps = 100, 8. / 255
	_, c := shippedOutput(b, be, set, row, output, 0)
	scale, err := paper.FindScale("small")
	if err != nil {
		b.Fatal(err)
	}
	images := (&Lab{Set: set}).Batch(n)
	var broken [][]int
	for _, naive := range []bool{false, true} {
		b.Run(map[bool]string{false: "kit", true: "reference"}[naive], func(b *testing.B) {
			o, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: []int{16}, Naive: naive})
			if err != nil {
				b.Fatal(err)
			}
			defer o.Close()
			if _, err := o.Gradient(context.Background(), attacks.CE, images, 1, 2, nil); err != nil { // compiles
				b.Fatal(err)
			}
			var stages []attacks.Stage
			for _, loss := range []attacks.Loss{attacks.CE, attacks.DLR} {
				a := attacks.StandardAPGD(loss, eps, scale.EoT)
				a.Steps = scale.Steps
				stages = append(stages, attacks.Stage{Oracle: o, Attack: a})
			}
			var out *attacks.Outcome
			for b.Loop() {
				if out, err = (attacks.Sequence{Stages: stages, Decide: o}).Run(context.Background(), images, 5); err != nil {
					b.Fatal(err)
				}
			}
			broken = append(broken, out.BrokenBy)
			b.ReportMetric(float64(out.Remaining[len(out.Remaining)-1]), "left")
		})
	}
	if len(broken) == 2 && !slices.Equal(broken[0], broken[1]) {
		b.Errorf("%s: the two procedures do not break the same images by the same attack", output)
	}
}

// BenchmarkScaling is a gradient of the shipped CARSO over each of its numbers: samples, draws and images, the other two being 8, 1 and 8.
func BenchmarkScaling(b *testing.B) {
	be, set := benchmarked(b)
	for _, what := range []string{"samples", "draws", "images"} {
		for _, k := range []int{1, 2, 4, 8, 16, 32} {
			b.Run(fmt.Sprintf("%s/%d", what, k), func(b *testing.B) {
				numbers := map[string]int{"samples": 8, "draws": 1, "images": 8}
				numbers[what] = k
				_, c := shippedOutput(b, be, set, "carso-honest", "log-sum", numbers["samples"])
				o, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: []int{16, 8, 4, 2, 1}})
				if err != nil {
					b.Fatal(err)
				}
				defer o.Close()
				images := (&Lab{Set: set}).Batch(numbers["images"])
				gradient := func() {
					if _, err := o.Gradient(context.Background(), attacks.CE, images, 1, numbers["draws"], nil); err != nil {
						b.Fatal(err)
					}
				}
				gradient() // compiles
				for b.Loop() {
					gradient()
				}
			})
		}
	}
}

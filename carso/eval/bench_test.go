package eval

import (
	"context"
	"testing"

	"carsokit/attacks"
	"carsokit/data"
	"carsokit/internal/xlaenv"
)

// BenchmarkGradient is one input gradient of 32 images, one draw, on the weights that ship: what attacks consist of. GFLOP/s are the operations of Work, which
// leaves out products with zeros.
func BenchmarkGradient(b *testing.B) {
	be, err := xlaenv.Backend()
	if err != nil {
		b.Fatal(err)
	}
	set, err := data.Sample()
	if err != nil {
		b.Fatal(err)
	}
	const n = 32
	images := (&Lab{Set: set}).Batch(n)
	for _, s := range [][2]string{{"classifier", Classifier}, {"carso-honest", "log-sum"}} {
		b.Run(s[0], func(b *testing.B) {
			job, err := NewJob(be, Question{Scenario: "a", Row: s[0], Column: "clean", Scale: "tiny"}, set)
			if err != nil {
				b.Fatal(err)
			}
			c, err := job.System.Output(s[1])
			if err != nil {
				b.Fatal(err)
			}
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
			b.ReportMetric(n*job.System.Work(s[1]).Gradient(1)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

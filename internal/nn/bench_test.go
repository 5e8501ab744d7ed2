package nn

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"carsokit/internal/rng"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

var backend = sync.OnceValues(xlaenv.Backend)

// bench runs a graph of two inputs again and again and reports work per second in the unit, thousands of millions each.
func bench(b *testing.B, work float64, unit string, f func(x, y *graph.Node) *graph.Node, x, y *tensors.Tensor) {
	b.Helper()
	be, err := backend() // tensors belong to one
	if err != nil {
		b.Fatal(err)
	}
	e, err := graph.NewExec(be, f)
	if err != nil {
		b.Fatal(err)
	}
	defer e.Finalize()
	run := func() {
		out, err := e.Call(x, y)
		if err != nil {
			b.Fatal(err)
		}
		out[0].MustFinalizeAll()
	}
	run() // compiles
	for b.Loop() {
		run()
	}
	b.ReportMetric(work*float64(b.N)/b.Elapsed().Seconds()/1e9, unit)
}

func normal(dims ...int) *tensors.Tensor {
	n := 1
	for _, d := range dims {
		n *= d
	}
	v := make([]float32, n)
	rng.Seed(1).Normal(v)
	return tensors.FromFlatDataAndDimensions(v, dims...)
}

// BenchmarkCeiling is what the machine gives at most: a large product of matrices; one pass of normalisation and activation, read and written, over maps of 128 MiB, whose
// pages are new each time, and of 8 MiB, which the cache holds; and a copy of 128 MiB on all cores, read and written, without XLA.
func BenchmarkCeiling(b *testing.B) {
	const n = 1024
	b.Run("product", func(b *testing.B) { bench(b, 2*n*n*n, "GFLOP/s", product, normal(n, n), normal(n, n)) })
	b.Run("copy", func(b *testing.B) {
		const size = 128 << 20
		from, to, cores := make([]byte, size), make([]byte, size), runtime.GOMAXPROCS(0)
		for b.Loop() {
			var all sync.WaitGroup
			for k := range cores {
				all.Go(func() { copy(to[k*size/cores:(k+1)*size/cores], from[k*size/cores:]) })
			}
			all.Wait()
		}
		b.ReportMetric(2*size*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
	})
	for name, side := range map[string]int{"pass": 32, "small": 8} {
		b.Run(name, func(b *testing.B) {
			maps := normal(256, side, side, 128)
			bench(b, 2*4*256*128*float64(side*side), "GB/s", normalised, maps, normal(1, 1, 1, 128))
		})
	}
}

// BenchmarkConvolution is every shape of convolution of WRN-10-1, WRN-10-2 and the small purifier around either, on 256 maps (32 images of 8 samples): forwards and its two
// gradients, each by itself. GFLOP/s are those of the convolution as it is defined; a gradient that multiplies by zeros has fewer.
func BenchmarkConvolution(b *testing.B) {
	const n = 256
	for _, l := range []layer{
		{16, 16, 32, 3, 1, 1, 1}, {16, 32, 32, 3, 2, 0, 1}, {32, 32, 16, 3, 1, 1, 1}, {16, 32, 32, 1, 2, 0, 0}, // of width 1
		{32, 64, 16, 3, 2, 0, 1}, {64, 64, 8, 3, 1, 1, 1}, {32, 64, 16, 1, 2, 0, 0},
		{3, 16, 32, 3, 1, 1, 1}, {16, 32, 32, 3, 1, 1, 1}, {32, 32, 32, 3, 1, 1, 1}, {16, 32, 32, 1, 1, 0, 0},
		{32, 64, 32, 3, 2, 0, 1}, {64, 64, 16, 3, 1, 1, 1}, {32, 64, 32, 1, 2, 0, 0},
		{64, 128, 16, 3, 2, 0, 1}, {128, 128, 8, 3, 1, 1, 1}, {64, 128, 16, 1, 2, 0, 0},
		{96, 4 * 96, 3, 2, 1, 0, 1}, {96, 4 * 48, 5, 2, 1, 0, 1}, {48, 4 * 24, 9, 2, 1, 0, 1}, {24, 4 * 12, 17, 2, 1, 0, 1}, {12, 3, 33, 2, 1, 0, 0},
		// The compressors on the representations of each group, at width 1, then at width 2.
		{16, 8, 32, 3, 1, 0, 0}, {8, 4, 30, 3, 1, 0, 0}, {4, 2, 28, 3, 1, 0, 0}, {32, 16, 16, 3, 1, 0, 0}, {16, 8, 14, 3, 1, 0, 0}, {8, 4, 12, 3, 1, 0, 0},
		{64, 32, 8, 3, 1, 0, 0}, {32, 16, 6, 3, 1, 0, 0}, {16, 8, 4, 3, 1, 0, 0},
		{32, 16, 32, 3, 1, 0, 0}, {16, 8, 30, 3, 1, 0, 0}, {8, 4, 28, 3, 1, 0, 0}, {64, 32, 16, 3, 1, 0, 0}, {32, 16, 14, 3, 1, 0, 0}, {16, 8, 12, 3, 1, 0, 0},
		{128, 64, 8, 3, 1, 0, 0}, {64, 32, 6, 3, 1, 0, 0}, {32, 16, 4, 3, 1, 0, 0},
	} {
		side := l.outSide()
		x, w, v := normal(n, l.side, l.side, l.in), normal(l.k, l.k, l.in, l.out), normal(n, side, side, l.out)
		work := 2 * n * float64(side*side*l.k*l.k*l.in*l.out)
		name := fmt.Sprintf("%dx%d,%d-%d,%d/%d", l.k, l.k, l.in, l.out, l.side, l.stride)
		b.Run(name+"/forward", func(b *testing.B) { bench(b, work, "GFLOP/s", l.forward, x, w) })
		b.Run(name+"/input", func(b *testing.B) { bench(b, work, "GFLOP/s", l.input, v, w) })
		b.Run(name+"/kernel", func(b *testing.B) { bench(b, work, "GFLOP/s", l.kernel, v, x) })
	}
}

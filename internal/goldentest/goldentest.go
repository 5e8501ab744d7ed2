// Package goldentest reads the golden fixtures, numbers made with the reference implementation, for tests. Tests skip where the folder is absent.
package goldentest

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"carsokit/checkpoints"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
)

// Path returns the path of a fixture in the golden folder: CARSO_GOLDEN, else shared/golden beside the checkout. levels is how deep below the
// checkout the test's package lies.
func Path(t *testing.T, levels int, parts ...string) string {
	t.Helper()
	dir := os.Getenv("CARSO_GOLDEN")
	if dir == "" {
		up := ".."
		for range levels {
			up = filepath.Join(up, "..")
		}
		dir = filepath.Join(up, "shared", "golden")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no golden fixtures (set CARSO_GOLDEN): %v", err)
	}
	return filepath.Join(append([]string{dir}, parts...)...)
}

// Slow skips unless CARSO_PARITY is set, as make parity does: graphs of 26 compressors take a minute to compile.
func Slow(t *testing.T) {
	t.Helper()
	if os.Getenv("CARSO_PARITY") == "" {
		t.Skip("takes a minute to compile; make parity runs it")
	}
}

// Backend opens the backend of the environment.
func Backend(t *testing.T) compute.Backend {
	t.Helper()
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	return be
}

// JSON reads a file of JSON.
func JSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Open opens a file of tensors.
func Open(t *testing.T, path string) *checkpoints.File {
	t.Helper()
	f, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// Floats reads a tensor of numbers.
func Floats(t *testing.T, f *checkpoints.File, name string) ([]float32, []int) {
	t.Helper()
	v, shape, err := f.Float32s(name)
	if err != nil {
		t.Fatal(err)
	}
	return v, shape
}

// Labels reads a tensor of labels.
func Labels(t *testing.T, f *checkpoints.File, name string) []int32 {
	t.Helper()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := x.Int64s()
	if err != nil {
		t.Fatal(err)
	}
	y := make([]int32, len(v))
	for i := range y {
		y[i] = int32(v[i])
	}
	return y
}

// Copy reads a result of a computation.
func Copy(t *testing.T, x *tensors.Tensor) []float32 {
	t.Helper()
	v, err := tensors.CopyFlatData[float32](x)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// NHWC turns [...,C,H,W] into [...,H,W,C].
func NHWC(v []float32, shape []int) []float32 {
	c, h, w := shape[len(shape)-3], shape[len(shape)-2], shape[len(shape)-1]
	out := make([]float32, len(v))
	for n := range len(v) / (c * h * w) {
		for k := range c {
			for p := range h * w {
				out[n*c*h*w+p*c+k] = v[n*c*h*w+k*h*w+p]
			}
		}
	}
	return out
}

// RelL2 is ||got-want||/||want||.
func RelL2(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.NaN()
	}
	var d, n float64
	for i := range want {
		d += math.Pow(float64(got[i])-float64(want[i]), 2)
		n += math.Pow(float64(want[i]), 2)
	}
	return math.Sqrt(d / n)
}

// MaxAbs is the largest difference; NaN where a value of one is NaN.
func MaxAbs(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.NaN()
	}
	var m float64
	for i := range want {
		m = math.Max(m, math.Abs(float64(got[i])-float64(want[i])))
	}
	return m
}

// Check fails where a difference is not within its tolerance, and logs it where it is.
func Check(t *testing.T, what string, got, tolerance float64) {
	t.Helper()
	t.Logf("%-32s %.3g (tolerance %g)", what, got, tolerance)
	if !(got <= tolerance) {
		t.Errorf("%s: %g exceeds %g", what, got, tolerance)
	}
}

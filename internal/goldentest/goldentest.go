// Package goldentest reads the golden fixtures, numbers made with the reference implementation, and compares with them. Tests skip where the
// folder is absent.
//
//	f := goldentest.Open(t, "classifier_cifar")
//	x, shape := f.Floats("io", "x")
//	...
//	f.Compare("logits", got, want, goldentest.Abs(1e-4))
//
// Shapes, sizes and file names come from the fixtures, so that another folder, made with other seeds and sizes, serves as well. Under CARSO_PARITY,
// which make parity sets, every comparison is one line of its table.
package goldentest

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"carsokit/checkpoints"
	"carsokit/internal/setup"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
)

// Folder is an environment variable that names the folder of all fixtures; without it, it is shared/golden beside the checkout.
const Folder = "CARSO_GOLDEN"

// Fixture is one folder of fixtures.
type Fixture struct {
	Name, Dir string

	t     testing.TB
	mu    sync.Mutex
	files map[string]*checkpoints.File
}

// NeedECharts skips a test that draws where set-up could not bring ECharts; `make test` sets it up first, and says so where it cannot.
func NeedECharts(t testing.TB) {
	t.Helper()
	if _, err := setup.ECharts(); err != nil {
		t.Skip(err)
	}
}

// folder is that of all fixtures.
func folder(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(Folder); dir != "" {
		return dir
	}
	root, err := setup.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "..", "shared", "golden")
}

// Names lists the fixtures whose names match a pattern, or skips the test if there are none.
func Names(t testing.TB, pattern string) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(folder(t), pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) == 0 {
		t.Skipf("no golden fixtures %s (set %s)", pattern, Folder)
	}
	for i := range dirs {
		dirs[i] = filepath.Base(dirs[i])
	}
	return dirs
}

// Open finds the fixture of that name, or skips the test.
func Open(t testing.TB, name string) *Fixture {
	t.Helper()
	f := &Fixture{Name: name, Dir: filepath.Join(folder(t), name), t: t, files: map[string]*checkpoints.File{}}
	if _, err := os.Stat(f.Dir); err != nil {
		t.Skipf("no golden fixtures (set %s): %v", Folder, err)
	}
	t.Cleanup(func() {
		for _, file := range f.files {
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return f
}

// In returns the same fixture for a subtest.
func (f *Fixture) In(t testing.TB) *Fixture { return Open(t, f.Name) }

// Slow skips unless CARSO_PARITY is set, as make parity does: graphs of 26 compressors take a minute to compile.
func Slow(t testing.TB) {
	t.Helper()
	if os.Getenv("CARSO_PARITY") == "" {
		t.Skip("takes a minute to compile; make parity runs it")
	}
}

// Backend opens the backend of the environment.
func Backend(t testing.TB) compute.Backend {
	t.Helper()
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	return be
}

// Go opens the backend in pure Go, on which graphs of a few small images are ready long before XLA has compiled them.
func Go(t testing.TB) compute.Backend {
	t.Helper()
	be, err := compute.NewWithConfig(xlaenv.Go)
	if err != nil {
		t.Fatal(err)
	}
	return be
}

// JSON reads a file of JSON, named without its ending.
func (f *Fixture) JSON(file string, v any) {
	f.t.Helper()
	path := filepath.Join(f.Dir, file+".json")
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		f.t.Fatalf("%s: %v", path, err)
	}
}

// File opens a file of tensors, named without its ending and relative to the fixture.
func (f *Fixture) File(file string) *checkpoints.File {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	file = strings.TrimSuffix(file, ".safetensors")
	if f.files[file] == nil {
		open, err := checkpoints.Open(filepath.Join(f.Dir, file+".safetensors"))
		if err != nil {
			f.t.Fatal(err)
		}
		f.files[file] = open
	}
	return f.files[file]
}

// HasFile reports whether the fixture has a file of tensors.
func (f *Fixture) HasFile(file string) bool {
	_, err := os.Stat(filepath.Join(f.Dir, file+".safetensors"))
	return err == nil
}

// Has reports whether a file has a tensor.
func (f *Fixture) Has(file, name string) bool {
	for _, n := range f.File(file).Names() {
		if n == name {
			return true
		}
	}
	return false
}

func (f *Fixture) tensor(file, name string) checkpoints.Tensor {
	f.t.Helper()
	x, err := f.File(file).Tensor(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return x
}

// Floats reads a tensor of float32 numbers and its shape.
func (f *Fixture) Floats(file, name string) (values []float32, shape []int) {
	f.t.Helper()
	values, shape, err := f.File(file).Float32s(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return values, shape
}

// Doubles reads a tensor of float64 numbers.
func (f *Fixture) Doubles(file, name string) []float64 {
	f.t.Helper()
	v, err := f.tensor(file, name).Float64s()
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// Ints reads a tensor of integers: labels, flags, bytes.
func (f *Fixture) Ints(file, name string) (values []int64, shape []int) {
	f.t.Helper()
	x := f.tensor(file, name)
	v, err := x.Int64s()
	if err != nil {
		f.t.Fatal(err)
	}
	return v, x.Shape
}

// Labels reads a tensor of labels.
func (f *Fixture) Labels(file, name string) []int32 {
	f.t.Helper()
	v, _ := f.Ints(file, name)
	y := make([]int32, len(v))
	for i := range y {
		y[i] = int32(v[i])
	}
	return y
}

// Images reads a tensor [...,C,H,W] as [...,H,W,C]; shape is the stored one.
func (f *Fixture) Images(file, name string) (values []float32, shape []int) {
	f.t.Helper()
	v, shape := f.Floats(file, name)
	return NHWC(v, shape), shape
}

// Copy reads a result of a computation.
func Copy(t testing.TB, x *tensors.Tensor) []float32 {
	t.Helper()
	v, err := tensors.CopyFlatData[float32](x)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// NHWC turns [...,C,H,W] into [...,H,W,C].
func NHWC[T any](v []T, shape []int) []T {
	c, h, w := shape[len(shape)-3], shape[len(shape)-2], shape[len(shape)-1]
	out := make([]T, len(v))
	for n := range len(v) / (c * h * w) {
		for k := range c {
			for p := range h * w {
				out[n*c*h*w+p*c+k] = v[n*c*h*w+k*h*w+p]
			}
		}
	}
	return out
}

// LastTwo turns [...,a,b] into [...,b,a].
func LastTwo[T any](v []T, shape []int) []T {
	a, b := shape[len(shape)-2], shape[len(shape)-1]
	out := make([]T, len(v))
	for n := range len(v) / (a * b) {
		for i := range a {
			for j := range b {
				out[n*a*b+j*a+i] = v[n*a*b+i*b+j]
			}
		}
	}
	return out
}

// Tolerance is what may differ, in one of the measures that the fixtures' description uses.
type Tolerance struct {
	abs, rel float64 // each value: |got-want| <= abs + rel·|want|
	l2       float64 // all together: ||got-want|| <= l2·||want||; 0: by value
}

// Abs bounds the difference of each value.
func Abs(v float64) Tolerance { return Tolerance{abs: v} }

// Rel bounds the difference of each value relative to the wanted one.
func Rel(v float64) Tolerance { return Tolerance{rel: v} }

// AbsRel bounds the difference of each value by abs + rel·|want|.
func AbsRel(abs, rel float64) Tolerance { return Tolerance{abs: abs, rel: rel} }

// RelL2 bounds the length of the difference relative to the length of the wanted values.
func RelL2(v float64) Tolerance { return Tolerance{l2: v} }

func (o Tolerance) String() string {
	switch {
	case o.l2 > 0:
		return fmt.Sprintf("%g rel-L2", o.l2)
	case o.abs > 0 && o.rel > 0:
		return fmt.Sprintf("%g + %g rel", o.abs, o.rel)
	case o.rel > 0:
		return fmt.Sprintf("%g rel", o.rel)
	case o.abs > 0:
		return fmt.Sprintf("%g abs", o.abs)
	}
	return "equal"
}

// Number is what Compare takes.
type Number interface{ ~float32 | ~float64 }

// Compare fails where got is not want within the tolerance, and writes the line of the comparison. Infinities and NaN must stand where the reference has
// them; they are not part of the differences.
func (f *Fixture) Compare(quantity string, got, want []float32, o Tolerance) {
	f.t.Helper()
	Compare(f, quantity, got, want, o)
}

// Compare is the method of the same name, for any kind of number.
func Compare[T Number](f *Fixture, quantity string, got, want []T, o Tolerance) {
	f.t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		f.line(quantity, "", "", o.String(), fmt.Sprintf("%d values for %d", len(got), len(want)))
		return
	}
	d := measure(o, got, want)
	relative := fmt.Sprintf("%.2g", d.rel)
	if o.l2 > 0 {
		relative = fmt.Sprintf("%.2g L2", d.l2)
	}
	if d.trouble == "" && !(d.share <= 1) {
		d.trouble = fmt.Sprintf("%.3g times the tolerance", d.share)
	}
	f.line(quantity, fmt.Sprintf("%.2g", d.abs), relative, o.String(), d.trouble)
}

// Share is how much of the tolerance the difference of two sets of values takes up, infinite where they are not comparable.
func (o Tolerance) Share(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	d := measure(o, got, want)
	if d.trouble != "" || d.share != d.share {
		return math.Inf(1)
	}
	return d.share
}

// difference is what two sets of values differ by.
type difference struct {
	abs, rel, l2 float64
	share        float64 // of the tolerance
	trouble      string  // an infinity or NaN that only one of them has
}

func measure[T Number](o Tolerance, got, want []T) (d difference) {
	var d2, w2 float64
	for i := range want {
		g, w := float64(got[i]), float64(want[i])
		if !finite(g) || !finite(w) {
			if g != w && !(math.IsNaN(g) && math.IsNaN(w)) && d.trouble == "" {
				d.trouble = fmt.Sprintf("value %d is %g, the reference's %g", i, g, w)
			}
			continue
		}
		e := math.Abs(g - w)
		d.abs, d2, w2 = max(d.abs, e), d2+e*e, w2+w*w
		if w != 0 {
			d.rel = max(d.rel, e/math.Abs(w))
		}
		if e > 0 {
			d.share = max(d.share, e/(o.abs+o.rel*math.Abs(w)))
		}
	}
	d.l2 = math.Sqrt(d2 / max(w2, math.SmallestNonzeroFloat64))
	if o.l2 > 0 {
		d.share = 0
		if d2 > 0 {
			d.share = math.Sqrt(d2/w2) / o.l2
		}
	}
	return d
}

func finite(v float64) bool { return v-v == 0 }

// Count fails where more than allowed of the given number of flags, pixels or names differ from the reference's.
func (f *Fixture) Count(quantity string, differing, of, allowed int) {
	f.t.Helper()
	trouble := ""
	if differing > allowed || of == 0 {
		trouble = "too many"
	}
	f.line(quantity, fmt.Sprintf("%d of %d", differing, of), "", fmt.Sprintf("%d of %d", allowed, of), trouble)
}

// Same fails where a statement about the fixture does not hold.
func (f *Fixture) Same(quantity string, holds bool, trouble string) {
	f.t.Helper()
	if holds {
		trouble = ""
	} else if trouble == "" {
		trouble = "does not hold"
	}
	f.line(quantity, "", "", "equal", trouble)
}

// line reports one comparison. Trouble makes it a failure.
func (f *Fixture) line(quantity, abs, rel, tolerance, trouble string) {
	f.t.Helper()
	verdict := "ok"
	if trouble != "" {
		verdict = "FAIL: " + trouble
	}
	text := fmt.Sprintf("%-18s %-44s %-12s %-12s %-18s %s", f.Name, quantity, abs, rel, tolerance, verdict)
	if os.Getenv("CARSO_PARITY") != "" {
		fmt.Println("parity " + text)
	} else {
		f.t.Log(text)
	}
	if trouble != "" {
		f.t.Errorf("%s: %s: %s (tolerance %s)", f.Name, quantity, trouble, tolerance)
	}
}

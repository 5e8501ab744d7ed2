package checkpoints

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A training checkpoint of DataParallel around Sequential becomes the same file as the bare state dict in the legacy form: the same tensors, under the same
// names, in the same order.
func TestConvertUnifies(t *testing.T) {
	specs, good := net(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.safetensors")
	r, err := Convert(pytorchFile(t, "training_zip.pt"), out, Conversion{Want: specs})
	if err != nil || len(r.Stripped) != 1 || r.Stripped[0] != (Strip{"module.0.", len(specs)}) {
		t.Fatal(r, err)
	}
	a, errA := Parse(good)
	b, errB := Open(out)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	defer b.Close()
	ca, errA := a.Content()
	cb, errB := b.Content()
	if errA != nil || errB != nil || ca.SHA256 != cb.SHA256 || !slices.Equal(a.Names(), b.Names()) || b.Meta["converted_sha256"] == "" {
		t.Errorf("%+v %v, %+v %v, %v", ca, errA, cb, errB, b.Meta)
	}
	if ca.Statistics != 4 || ca.Counters != 1 || len(ca.Tensors) != len(specs) {
		t.Errorf("content %+v", ca)
	}
	// Without knowing the network only what all names share is removed.
	if _, err := Convert(pytorchFile(t, "training_zip.pt"), out, Conversion{}); err != nil {
		t.Fatal(err)
	}
	c, err := Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Names()[0] != "0.init_conv.weight" {
		t.Errorf("names %v", c.Names())
	}
}

// A safetensors file that is converted to itself does not change.
func TestConvertCopies(t *testing.T) {
	path, out := filepath.Join(t.TempDir(), "valid"), filepath.Join(t.TempDir(), "out")
	mustWrite(t, path, string(valid(t)))
	if _, err := Convert(path, out, Conversion{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, out), valid(t)) {
		t.Error("other bytes")
	}
}

func TestConvertDTypes(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	half, err := F16("half", []int{1}, []float32{0.5})
	if err != nil {
		t.Fatal(err)
	}
	double := Tensor{Name: "double", DType: "F64", Shape: []int{1}, Data: []byte{0x9a, 0x99, 0x99, 0x99, 0x99, 0x99, 0xb9, 0x3f}} // 0.1
	if err := Write(in, []Tensor{half, double, F32("single", []int{1}, []float32{0.1}), I64("whole", nil, []int64{7})}, nil); err != nil {
		t.Fatal(err)
	}
	for dtype, want := range map[string][]string{"": {"F16", "F64", "F32", "I64"}, "F32": {"F32", "F32", "F32", "I64"}, "F16": {"F16", "F16", "F16", "I64"}} {
		if _, err := Convert(in, out, Conversion{DType: dtype}); err != nil {
			t.Error(err)
			continue
		}
		f, err := Open(out)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for tensor, err := range f.All() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, tensor.DType)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", dtype, got, want)
		}
		if v, _, err := f.Float32s("double"); dtype == "F32" && (err != nil || v[0] != 0.1) {
			t.Errorf("0.1 became %v, %v", v, err)
		}
		f.Close()
	}
	if _, err := Convert(in, out, Conversion{DType: "I8"}); err == nil || !strings.Contains(err.Error(), "F32 and F16 are possible") {
		t.Errorf("I8: %v", err)
	}
}

// What state dicts of other people have more or less than the network is told apart from what must not be.
func TestMatchState(t *testing.T) {
	want := []Spec{{"conv.weight", []int{2}}, {"bn.weight", []int{2}}, {"bn.num_batches_tracked", nil}, {"bn2.num_batches_tracked", nil}}
	mean, std := Spec{"model.mean", []int{3, 1, 1}}, Spec{"model.std", []int{3, 1, 1}}
	all := []Spec{{"model.conv.weight", []int{2}}, {"model.bn.weight", []int{2}}, {"model.bn.num_batches_tracked", nil}, {"model.bn2.num_batches_tracked", nil}}
	for _, c := range []struct {
		name              string
		have              []Spec
		ok                bool
		filled, constants int
	}{
		{"as it is", all, true, 0, 0},
		{"constants", append([]Spec{mean, std}, all...), true, 0, 2},
		{"no counters", all[:2], true, 2, 0},
		{"one counter", all[:3], false, 0, 0},
		{"mean of another shape", append([]Spec{{"model.mean", []int{3}}}, all...), false, 0, 0},
		{"no counter and no weight", all[:1], false, 2, 0},
	} {
		r := MatchState(c.have, want)
		if r.OK() != c.ok || len(r.Filled) != c.filled || len(r.Constants) != c.constants {
			t.Errorf("%s: %v", c.name, r)
		}
	}
	path, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
	const m = 0.4914
	if err := Write(path, []Tensor{F32("module.conv.weight", []int{1}, []float32{1}), F32("module.mean", []int{3, 1, 1}, []float32{m, m, m})}, nil); err != nil {
		t.Fatal(err)
	}
	c := Conversion{Want: []Spec{{"conv.weight", []int{1}}, {"bn.num_batches_tracked", nil}}, Constants: map[string][]float32{"mean": {m, m, m}}}
	if r, err := Convert(path, out, c); err != nil || !strings.Contains(r.String(), "filled") || !strings.Contains(r.String(), `"module.mean"`) {
		t.Errorf("%v, %v", r, err)
	}
	f, err := Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if counter, err := f.Tensor("bn.num_batches_tracked"); err != nil || counter.DType != "I64" || len(f.Names()) != 2 {
		t.Errorf("%v %v %v", counter, f.Names(), err)
	}
	c.Constants["mean"] = []float32{m, m, math.Nextafter32(m, 1) + 0.01}
	if _, err := Convert(path, out, c); err == nil || !strings.Contains(err.Error(), "data set") {
		t.Errorf("another normalisation: %v", err)
	}
	c = Conversion{Want: []Spec{{"conv.weight", []int{1}}, {"mean", []int{3, 1, 1}}}}
	if err := Write(path, []Tensor{I64("conv.weight", []int{1}, []int64{1}), F32("mean", []int{3, 1, 1}, []float32{m, m, m})}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Convert(path, out, c); err == nil || !strings.Contains(err.Error(), "dtype I64") || !strings.Contains(err.Error(), "conv.weight") {
		t.Errorf("whole numbers as weights: %v", err)
	}
}

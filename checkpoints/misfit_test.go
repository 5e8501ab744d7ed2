package checkpoints

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMisfits: files that are in order and are not the weights that they should be. One error names the file, the tensor and what to do; nothing is written.
func TestMisfits(t *testing.T) {
	specs := []Spec{{"conv.weight", []int{2, 3}}, {"bn.running_var", []int{2}}, {"bn.num_batches_tracked", nil}, {"logits.weight", []int{10, 2}}}
	tensors := func() []Tensor {
		var ts []Tensor
		for _, s := range specs {
			if isCounter(s) {
				ts = append(ts, I64(s.Name, nil, []int64{5}))
				continue
			}
			n := 1
			for _, d := range s.Shape {
				n *= d
			}
			ts = append(ts, F32(s.Name, s.Shape, make([]float32, n)))
		}
		return ts
	}
	rename := func(ts []Tensor, change func(string) string) []Tensor {
		for i := range ts {
			ts[i].Name = change(ts[i].Name)
		}
		return ts
	}
	for _, c := range []struct {
		name   string
		change func(ts []Tensor) []Tensor
		says   []string // nil: the file is accepted
	}{
		{"as it should be", func(ts []Tensor) []Tensor { return ts }, nil},
		{"in another order", func(ts []Tensor) []Tensor { slices.Reverse(ts); return ts }, nil},
		{"prefixed by wrappers", func(ts []Tensor) []Tensor { return rename(ts, func(n string) string { return "module.model.0." + n }) }, nil},
		{"prefixed otherwise", func(ts []Tensor) []Tensor { return rename(ts, func(n string) string { return "net." + n }) }, []string{"net.conv.weight", "no name agrees", "prefix"}},
		{"prefixed in part", func(ts []Tensor) []Tensor { ts[0].Name = "other." + ts[0].Name; return ts }, []string{`missing    "conv.weight"`, `unexpected "other.conv.weight"`}},
		{"prefix and bare name at once", func(ts []Tensor) []Tensor {
			return append(ts, F32("module.conv.weight", []int{2, 3}, make([]float32, 6)))
		}, []string{`unexpected "module.conv.weight"`}},
		{"tensor missing", func(ts []Tensor) []Tensor { return ts[1:] }, []string{`missing    "conv.weight" [2 3]`}},
		{"running variance missing", func(ts []Tensor) []Tensor { return slices.Delete(ts, 1, 2) }, []string{`missing    "bn.running_var" [2]`}},
		{"tensor too many", func(ts []Tensor) []Tensor { return append(ts, F32("extra", []int{1}, []float32{1})) }, []string{`unexpected "extra" [1]`}},
		{"swapped scenario", func(ts []Tensor) []Tensor {
			ts[3] = F32("logits.weight", []int{100, 2}, make([]float32, 200))
			return ts
		},
			[]string{`"logits.weight": file has [100 2], model wants [10 2]`, "another data set"}},
		{"transposed", func(ts []Tensor) []Tensor { ts[0].Shape = []int{3, 2}; return ts }, []string{"file has [3 2], model wants [2 3]"}},
		{"flattened", func(ts []Tensor) []Tensor { ts[0].Shape = []int{6}; return ts }, []string{"file has [6], model wants [2 3]"}},
		{"whole numbers", func(ts []Tensor) []Tensor {
			ts[0] = Tensor{"conv.weight", "I32", []int{2, 3}, make([]byte, 24)}
			return ts
		}, []string{"conv.weight", "dtype I32"}},
		{"bytes", func(ts []Tensor) []Tensor {
			ts[0] = Tensor{"conv.weight", "U8", []int{2, 3}, make([]byte, 6)}
			return ts
		}, []string{"conv.weight", "dtype U8"}},
		{"counter of fractions", func(ts []Tensor) []Tensor { ts[2] = F32("bn.num_batches_tracked", nil, []float32{5}); return ts }, []string{"bn.num_batches_tracked", "dtype F32"}},
		{"NaN", func(ts []Tensor) []Tensor { ts[3].Data[3], ts[3].Data[2] = 0x7f, 0xc0; return ts }, []string{"logits.weight", "1 of 20 values are not finite", "NaN at index 0", "earlier checkpoint"}},
		{"infinity", func(ts []Tensor) []Tensor { ts[1].Data[7], ts[1].Data[6] = 0xff, 0x80; return ts }, []string{"bn.running_var", "-Inf at index 1"}},
		{"beyond float32", func(ts []Tensor) []Tensor {
			big := make([]byte, 48)
			copy(big[8:], le64(math.Float64bits(1e300)))
			ts[0] = Tensor{"conv.weight", "F64", []int{2, 3}, big}
			return ts
		}, []string{"conv.weight", "value 1 is 1e+300", "F32 cannot hold"}},
		{"empty file", func(ts []Tensor) []Tensor { return nil }, []string{"3 missing", "no name agrees"}},
	} {
		dir := t.TempDir()
		in, out := filepath.Join(dir, "in.safetensors"), filepath.Join(dir, "out.safetensors")
		if err := Write(in, c.change(tensors()), nil); err != nil {
			t.Fatal(err)
		}
		_, err := Convert(in, out, Conversion{Want: specs})
		if c.says == nil {
			f, openErr := Open(out)
			if err != nil || openErr != nil || !slices.Equal(f.Names(), []string{"conv.weight", "bn.running_var", "bn.num_batches_tracked", "logits.weight"}) {
				t.Errorf("%s: %v, %v", c.name, err, openErr)
			}
			continue
		}
		for _, s := range append(c.says, in) {
			if err == nil || !strings.Contains(err.Error(), s) {
				t.Errorf("%s: error does not say %q: %v", c.name, s, err)
			}
		}
		mustFolder(t, dir, "in.safetensors")
	}
}

package checkpoints

import (
	"archive/zip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// pytorchArchive holds files that PyTorch wrote, and want.json: testdata/make.py.
var pytorchArchive = sync.OnceValues(func() (*zip.ReadCloser, error) { return zip.OpenReader(filepath.Join("testdata", "pytorch.zip")) })

// pytorch is the content of one of them.
func pytorch(name string) []byte {
	r, err := pytorchArchive()
	if err != nil {
		panic(err)
	}
	b, err := fs.ReadFile(r, name)
	if err != nil {
		panic(err)
	}
	return b
}

// pytorchFile is the path of one of them, in a folder of the test.
func pytorchFile(t *testing.T, name string) string {
	path := filepath.Join(t.TempDir(), name)
	mustWrite(t, path, string(pytorch(name)))
	return path
}

// Every PyTorch file that PyTorch itself wrote holds what PyTorch itself reads from it: names, dtypes, shapes and the bytes of every tensor, whatever its
// strides. want.json is written by the script that wrote the files.
func TestPyTorchFiles(t *testing.T) {
	var want map[string]map[string]struct {
		DType string `json:"dtype"`
		Shape []int  `json:"shape"`
		Data  string `json:"data"`
	}
	if err := json.Unmarshal(pytorch("want.json"), &want); err != nil {
		t.Fatal(err)
	}
	dtypes := map[string]string{"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
		"int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
	if len(want) < 7 {
		t.Errorf("only %d files", len(want))
	}
	for name, tensors := range want {
		f, err := OpenAny(pytorchFile(t, name), "")
		if err != nil {
			t.Error(err)
			continue
		}
		_, form, _ := strings.Cut(strings.TrimSuffix(strings.TrimSuffix(name, ".pth"), ".pt"), "_")
		if form = form[strings.LastIndexByte(form, '_')+1:]; !strings.Contains(f.Form, strings.TrimPrefix(form, "dict_")) {
			t.Errorf("%s is read as %s", name, f.Form)
		}
		if len(f.Names()) != len(tensors) {
			t.Errorf("%s: %d tensors %v, want %d", name, len(f.Names()), f.Names(), len(tensors))
		}
		for key, w := range tensors {
			got, err := f.Tensor(key)
			if err != nil {
				t.Error(err)
				continue
			}
			if got.DType != dtypes[w.DType] || !slices.Equal(got.Shape, w.Shape) || hex.EncodeToString(got.Data) != w.Data {
				t.Errorf("%s: %s is %s %v %x, want %s %v %s", name, key, got.DType, got.Shape, got.Data, w.DType, w.Shape, w.Data)
			}
			if v, _, err := f.Float32s(key); got.wantFloat32() == nil {
				direct, _ := got.Float32s()
				if err != nil || !slices.Equal(v, direct) {
					t.Errorf("%s: %s read directly is %v (%v), want %v", name, key, v, err, direct)
				}
			}
		}
		if err := errors.Join(f.CheckFinite(), f.Close()); err != nil {
			t.Error(err)
		}
	}
}

// The training checkpoint holds three dictionaries of tensors; without a key the one that is meant is taken and the rest is named.
func TestStateDictIsChosen(t *testing.T) {
	path := pytorchFile(t, "training_zip.pt")
	f, err := OpenAny(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if want := []string{"epoch", "best", "note", "unaveraged_model_state_dict", "optimizer_state_dict"}; !slices.Equal(f.Ignored, want) {
		t.Errorf("ignored %v, want %v", f.Ignored, want)
	}
	half, err := OpenAny(path, "unaveraged_model_state_dict")
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if w, err := half.Tensor("module.0.logits.weight"); err != nil || w.DType != "F16" {
		t.Errorf("%v, %v", w, err)
	}
	for key, says := range map[string]string{"absent": "there are: epoch, best", "epoch": "no dictionary", "optimizer_state_dict.state": "no dictionary of tensors|no tensors under names"} {
		_, err := OpenAny(path, key)
		if err == nil || !slices.ContainsFunc(strings.Split(says, "|"), func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("key %s: %v", key, err)
		}
	}
}

// Nothing but a state dict is loaded, and what a file asked for is named.
func TestForeignClassesAreNamed(t *testing.T) {
	for name, class := range map[string]string{"evil_zip.pt": "posix.system", "evil_legacy.pt": "posix.system", "module_zip.pt": "torch.nn.modules.linear.Linear"} {
		path := pytorchFile(t, name)
		_, err := OpenAny(path, "")
		e, ok := errors.AsType[*FormatError](err)
		if !ok || e.File != path || !strings.Contains(e.Problem, class) || !strings.Contains(e.Remedy, "state_dict") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package checkpoints

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Finds of go test -fuzz stay in testdata/fuzz.

// mustHold checks what every parser promises of bytes that somebody else made: they are refused with a FormatError, or every tensor can be read and is of the size
// that its shape says; and neither takes much more memory than the bytes.
func mustHold(t *testing.T, b []byte, open func([]byte) (*File, error)) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := open(b)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > uint64(2*len(b))+pickleOverhead+1<<20 {
		t.Fatalf("%d bytes made the parser allocate %d", len(b), got)
	}
	if err != nil {
		if _, ok := errors.AsType[*FormatError](err); !ok {
			t.Fatalf("error %T: %v", err, err)
		}
		if len(err.Error()) > 2000 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
		return
	}
	total := 0
	for tensor, err := range f.All() {
		if err != nil {
			t.Fatal(err)
		}
		if err := tensor.check(); err != nil {
			t.Fatal(err)
		}
		total += len(tensor.Data)
		if v, shape, err := f.Float32s(tensor.Name); tensor.wantFloat32() == nil && (err != nil || !slices.Equal(shape, tensor.Shape) || len(v)*int(elementBytes[tensor.DType]) != len(tensor.Data)) {
			t.Fatalf("%s: %d values of shape %v, %v", tensor.Name, len(v), shape, err)
		}
	}
	if total > 2*len(b) {
		t.Fatalf("%d bytes hold tensors of %d", len(b), total)
	}
}

// archives are the files that PyTorch wrote of that pattern.
func archives(f *testing.F, pattern string) (all [][]byte) {
	f.Helper()
	r, err := pytorchArchive()
	if err != nil {
		f.Fatal(err)
	}
	names, err := fs.Glob(r, pattern)
	if err != nil || len(names) == 0 {
		f.Fatal("no archives to begin with: ", err)
	}
	for _, name := range names {
		all = append(all, pytorch(name))
	}
	return all
}

func FuzzPyTorchZip(f *testing.F) {
	for _, content := range archives(f, "*_zip.pt") {
		f.Add(content)
	}
	for _, h := range hostilePyTorch() {
		if strings.HasPrefix(string(h.file), "PK") && len(h.file) < 1<<12 {
			f.Add(h.file)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mustHold(t, append([]byte("PK\x03\x04"), b[min(len(b), 4):]...), func(b []byte) (*File, error) { return ParseAny(b, "") })
	})
}

// FuzzPickle puts any pickle into a good archive, beside a storage.
func FuzzPickle(f *testing.F) {
	f.Add(proto2+dict(text8("w"), whole(4))+".", []byte(strings.Repeat("\x00", 16)))
	f.Add(proto2+dict(text8("model"), dict(text8("w"), view(stored("HalfStorage", "0", 6), 0, []int64{2, 3}, []int64{1, 2})))+".", []byte(strings.Repeat("\x00", 12)))
	f.Add("\x80\x02}(X\x05\x00\x00\x00epochK\x03X\x05\x00\x00\x00model}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\a\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00(K\x04t(K\x01t\x89ccollections\nOrderedDict\n)RtRuu.", make([]byte, 16))
	f.Add("\x80\x02}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_parameter\n(ctorch._utils\n_rebuild_tensor_v2\n((X\a\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00(K\x04t(K\x01t\x89ccollections\nOrderedDict\n)RtR\x88ccollections\nOrderedDict\n)RtRu.", make([]byte, 16))
	f.Add("\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x05torch\x94\x8c\x0cFloatStorage\x94\x93.", []byte{})
	f.Fuzz(func(t *testing.T, pickle string, storage []byte) {
		b := archive(member{name: "archive/data.pkl", data: pickle}, member{name: "archive/data/0", data: string(storage)})
		mustHold(t, b, func(b []byte) (*File, error) { return ParseAny(b, "") })
	})
}

func FuzzPyTorchLegacy(f *testing.F) {
	for _, content := range archives(f, "*_legacy.pt*") {
		_, rest, _ := bytes.Cut(content, []byte("u.")) // behind the description of the machine
		f.Add(rest)
	}
	for _, h := range hostilePyTorch() {
		if strings.HasPrefix(string(h.file), legacyStart) && len(h.file) < 1<<12 {
			f.Add(h.file[len(legacyStart):])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mustHold(t, append([]byte(legacyStart), b...), func(b []byte) (*File, error) { return ParseAny(b, "") })
	})
}

// FuzzPyTorchTar puts any members into an archive of 2016.
func FuzzPyTorchTar(f *testing.F) {
	four := strings.Repeat("\x00\x00\x80\x3f", 4)
	var seed map[string]string
	tarOf("]("+numbers(9, 1, 1, 2)+"e", le64(4)+four, "w", 4, func(m map[string]string) { seed = m })
	f.Add(seed["storages"], seed["tensors"], seed["pickle"])
	f.Fuzz(func(t *testing.T, storages, tensors, pickle string) {
		b := tarFile("sys_info", proto2+"}.", "storages", storages, "tensors", tensors, "pickle", pickle)
		mustHold(t, b, func(b []byte) (*File, error) { return ParseAny(b, "") })
	})
}

// FuzzState reads any bytes as a generation of training state: what is accepted is what its own digest says, and survives saving.
func FuzzState(f *testing.F) {
	dir := f.TempDir()
	if err := SaveState(dir, "run", 1, metaAt(1), []Tensor{F32("w", []int{2}, []float32{1, 2})}); err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(dir, "run.g1.safetensors")
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, h := range hostile {
		f.Add(h.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse(b)
		var s state
		if err == nil {
			s, err = file.state()
		}
		if err != nil {
			if _, ok := errors.AsType[*FormatError](err); !ok {
				t.Fatalf("error %T: %v", err, err)
			}
			return
		}
		if digest(s.step, s.meta, s.tensors) != file.Meta["sha256"] {
			t.Fatal("accepted with another digest")
		}
		mustEncode(t, s.tensors...)
	})
}

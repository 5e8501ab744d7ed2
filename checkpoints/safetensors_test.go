package checkpoints

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// raw assembles a file from a header as it stands, so that tests can write what Write refuses to.
func raw(header string, dataBytes int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	return append(b, make([]byte, dataBytes)...)
}

// claim assembles a file whose header claims a length of its own.
func claim(length uint64, rest string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, length), rest...)
}

// valid returns a small good file.
func valid(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "valid.safetensors")
	err := Write(path, []Tensor{
		{Name: "flags", DType: "U8", Shape: []int{3}, Data: []byte{1, 0, 1}},
		F32("conv.weight", []int{2, 1, 1, 2}, []float32{1, -2, 3.5, 0}),
		I64("steps", nil, []int64{-7}),
		F32("none", []int{0, 4}, nil),
	}, map[string]string{"b": "2", "a": "é\"<"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const w4 = `{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}` // a good header for 16 bytes

// hostile are files that must be refused: what they are, the bytes, the tensor that the error must name and a part of what it must say.
var hostile = []struct {
	name   string
	file   []byte
	tensor string
	says   string
}{
	{"empty", nil, "", "empty"},
	{"one byte", []byte{1}, "", "too few"},
	{"seven bytes", make([]byte, 7), "", "too few"},
	{"no header", claim(0, ""), "", "not a JSON object"},
	{"no header before data", claim(0, "0123456789abcdef"), "", "not a JSON object"},
	{"header of one byte", claim(1, "{"), "", "not a JSON object"},
	{"header beyond the file by one", claim(uint64(len(w4)+1), w4), "", "only"},
	{"header of 2^31 bytes", claim(1<<31, w4), "", "only"},
	{"header of 2^63 bytes", claim(1<<63, w4), "", "only"},
	{"header of 2^63-1 bytes", claim(1<<63-1, w4), "", "only"},
	{"header of 2^64-1 bytes", claim(math.MaxUint64, w4), "", "only"},
	{"header of 2^64-8 bytes", claim(math.MaxUint64-7, w4), "", "only"},
	{"header not UTF-8", raw("{\"\xff\xfe\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16), "", "UTF-8"},
	{"header starts with a blank", raw(" "+w4, 16), "", "not a JSON object"},
	{"header is a list", raw(`[{"dtype":"F32"}]`, 0), "", "not a JSON object"},
	{"header cut short", raw(w4[:len(w4)-1], 16), "", "too early"},
	{"header cut within a tensor", raw(w4[:20], 16), "w", "too early"},
	{"header with a trailing comma", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},}`, 16), "", "malformed"},
	{"header without a colon", raw(`{"w"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, 16), "w", "invalid character"},
	{"two objects", raw(w4+"{}", 16), "", "follows the JSON object"},
	{"header padded with zeros", raw(w4+"\x00\x00", 16), "", "follows the JSON object"},
	{"tensor twice", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}`, 32), "", `"w" occurs twice`},
	{"tensor twice, escaped", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"\u0077":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}`, 32), "", `"w" occurs twice`},
	{"field twice", raw(`{"w":{"dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16]}}`, 16), "w", `"shape" occurs twice`},
	{"metadata twice", raw(`{"__metadata__":{},"__metadata__":{}}`, 0), "", "occurs twice"},
	{"metadata key twice", raw(`{"__metadata__":{"a":"1","a":"2"}}`, 0), "", `"a" occurs twice`},
	{"metadata is a number", raw(`{"__metadata__":3}`, 0), "", "an object is wanted"},
	{"metadata holds a number", raw(`{"__metadata__":{"epoch":3}}`, 0), "", "a string is wanted"},
	{"tensor without a name", raw(`{"":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, 16), "", "empty name"},
	{"tensor is null", raw(`{"w":null}`, 0), "w", "null stands where an object is wanted"},
	{"tensor is a list", raw(`{"w":["F32",[4],[0,16]]}`, 16), "w", "an object is wanted"},
	{"tensor is empty", raw(`{"w":{}}`, 0), "w", "lacks one of"},
	{"no dtype", raw(`{"w":{"shape":[4],"data_offsets":[0,16]}}`, 16), "w", "lacks one of"},
	{"no shape", raw(`{"w":{"dtype":"F32","data_offsets":[0,16]}}`, 16), "w", "lacks one of"},
	{"no offsets", raw(`{"w":{"dtype":"F32","shape":[4]}}`, 16), "w", "lacks one of"},
	{"unknown field", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"strides":[1]}}`, 16), "w", `unknown field "strides"`},
	{"unknown dtype", raw(`{"w":{"dtype":"F7","shape":[4],"data_offsets":[0,16]}}`, 16), "w", `dtype "F7"`},
	{"dtype in lower case", raw(`{"w":{"dtype":"f32","shape":[4],"data_offsets":[0,16]}}`, 16), "w", `dtype "f32"`},
	{"dtype is a number", raw(`{"w":{"dtype":32,"shape":[4],"data_offsets":[0,16]}}`, 16), "w", "a string is wanted"},
	{"wrong dtype of another size", raw(`{"w":{"dtype":"I64","shape":[4],"data_offsets":[0,16]}}`, 16), "w", "takes 32"},
	{"shape too small", raw(`{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}}`, 16), "w", "takes 12"},
	{"shape is a number", raw(`{"w":{"dtype":"F32","shape":4,"data_offsets":[0,16]}}`, 16), "w", "a list is wanted"},
	{"shape is nested", raw(`{"w":{"dtype":"F32","shape":[[4]],"data_offsets":[0,16]}}`, 16), "w", "whole number"},
	{"shape holds a fraction", raw(`{"w":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}}`, 16), "w", "whole number"},
	{"shape holds an exponent", raw(`{"w":{"dtype":"F32","shape":[4e0],"data_offsets":[0,16]}}`, 16), "w", "whole number"},
	{"shape holds a string", raw(`{"w":{"dtype":"F32","shape":["4"],"data_offsets":[0,16]}}`, 16), "w", "whole number"},
	{"shape holds 2^64", raw(`{"w":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,16]}}`, 16), "w", "whole number"},
	{"shape is negative", raw(`{"w":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}`, 16), "w", "negative dimension"},
	{"shape is doubly negative", raw(`{"w":{"dtype":"F32","shape":[-2,-2],"data_offsets":[0,16]}}`, 16), "w", "negative dimension"},
	{"shape overflows to 0", raw(`{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "w", "overflows"},
	{"shape overflows to 16", raw(`{"w":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}`, 16), "w", "overflows"},
	{"shape overflows before a zero", raw(`{"w":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}`, 0), "w", "overflows"},
	{"offsets run backwards", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}`, 16), "w", "backwards"},
	{"offsets negative", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[-16,0]}}`, 16), "w", "negative"},
	{"offsets overflow", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[9223372036854775807,-9223372036854775808]}}`, 16), "w", "negative or run backwards"},
	{"one offset", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[16]}}`, 16), "w", "1 data_offsets"},
	{"three offsets", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,8,16]}}`, 16), "w", "3 data_offsets"},
	{"offset 2^63", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,9223372036854775808]}}`, 16), "w", "whole number"},
	{"data truncated", raw(w4, 15), "w", "truncated to 15 of 16"},
	{"data missing", raw(w4, 0), "w", "truncated to 0 of 16"},
	{"offsets far outside", raw(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"U8","shape":[1099511627776],"data_offsets":[16,1099511627792]}}`, 16), "w", "beyond the end"},
	{"overlap", raw(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[4],"data_offsets":[12,28]}}`, 28), "w", `overlaps that of tensor "a"`},
	{"same data twice", raw(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, 16), "w", "overlaps"},
	{"one tensor within another", raw(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 16), "w", "overlaps"},
	{"hole between", raw(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[4],"data_offsets":[20,36]}}`, 36), "w", "4 bytes before its data"},
	{"hole at the start", raw(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}`, 24), "w", "8 bytes before its data"},
	{"empty tensor outside", raw(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[0],"data_offsets":[99,99]}}`, 16), "w", "83 bytes before its data"},
	{"trailing byte", raw(w4, 17), "", "1 bytes follow"},
	{"trailing data without tensors", raw(`{}`, 8), "", "8 bytes follow"},
	{"web page", []byte("<!DOCTYPE html>\n<html><head><title>404</title></head></html>"), "", "web page"},
	{"web page after blanks", []byte("\r\n\n  <HTML>\n<body>Sign in</body></HTML>"), "", "web page"},
	{"web page of 7 bytes", []byte("<html>\n"), "", "web page"},
	{"storage error", []byte(`<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>`), "", "XML"},
	{"git-LFS pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 145979832\n"), "", "git-LFS pointer"},
	{"PyTorch zip", []byte("PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00archive/data.pkl"), "", "zip archive"},
	{"PyTorch pickle", []byte("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."), "", "pickle"},
	{"pickle protocol 4", []byte("\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94"), "", "pickle"},
	{"gzip", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff0123456789"), "", "gzip"},
	{"HDF5", []byte("\x89HDF\r\n\x1a\n\x00\x00\x00\x00\x00\x08\x08\x00"), "", "HDF5"},
	{"plain text", []byte("weights go here, please\n"), "", "not safetensors"},
}

func TestHostileFiles(t *testing.T) {
	if len(hostile) < 40 {
		t.Errorf("only %d hostile files", len(hostile))
	}
	dir := t.TempDir()
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(h.name, " ", "-"))
			if err := os.WriteFile(path, h.file, 0o644); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, err := Open(path)
			runtime.ReadMemStats(&after)
			if got, most := after.TotalAlloc-before.TotalAlloc, uint64(2*len(h.file)+1<<16); got > most {
				t.Errorf("refusing %d bytes allocated %d", len(h.file), got)
			}
			if err == nil {
				f.Close()
				t.Fatalf("opened: %v", f.Names())
			}
			e, ok := errors.AsType[*FormatError](err)
			if !ok {
				t.Fatalf("error %T is no FormatError: %v", err, err)
			}
			if e.File != path || e.Tensor != h.tensor || !strings.Contains(e.Problem, h.says) || e.Remedy == "" {
				t.Errorf("file %q, tensor %q, problem %q, remedy %q; want tensor %q and a problem with %q",
					e.File, e.Tensor, e.Problem, e.Remedy, h.tensor, h.says)
			}
			if len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is not one readable line: %s", err)
			}
			if _, err := Parse(h.file); err == nil {
				t.Error("Parse accepts what Open refuses")
			}
		})
	}
}

func TestConversionIsExplained(t *testing.T) {
	_, err := Parse([]byte("PK\x03\x04\x00\x00\x08\x08 and so on"))
	for _, want := range []string{"PyTorch", "carso checkpoint convert"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
}

func TestHostileTextStaysShort(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, header := range []string{
		`{"` + long + `":{"dtype":"F32","shape":[4],"data_offsets":[0,17]}}`,
		`{"w":{"dtype":"` + long + `","shape":[4],"data_offsets":[0,16]}}`,
		`{"w":{"dtype":"F32","` + long + `":[4],"data_offsets":[0,16]}}`,
		`{"w":{"dtype":"F32","shape":[` + strings.Repeat("1,", 1<<16) + `4],"data_offsets":[0,17]}}`,
		`{"w":{"dtype":"F32","shape":[` + strings.Repeat("9", 1<<16) + `],"data_offsets":[0,17]}}`,
	} {
		_, err := Parse(raw(header, 16))
		if err == nil || len(err.Error()) > 1000 {
			t.Errorf("header %.40q: error of %d bytes", header, len(fmt.Sprint(err)))
		}
	}
}

func TestOpenMissingAndFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("folder: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	f, err := Parse(valid(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"flags", "conv.weight", "steps", "none"}; !slices.Equal(f.Names(), want) {
		t.Errorf("names %v, want the order of writing, %v", f.Names(), want)
	}
	if want := map[string]string{"b": "2", "a": "é\"<"}; !reflect.DeepEqual(f.Meta, want) {
		t.Errorf("metadata %v, want %v", f.Meta, want)
	}
	var all []Tensor
	for tensor, err := range f.All() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tensor)
	}
	again := filepath.Join(t.TempDir(), "again")
	if err := Write(again, all, f.Meta); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(again); err != nil || !bytes.Equal(got, valid(t)) {
		t.Errorf("writing what was read gives other bytes (%v)", err)
	}
	values, shape, err := f.Float32s("conv.weight")
	if err != nil || !slices.Equal(values, []float32{1, -2, 3.5, 0}) || !slices.Equal(shape, []int{2, 1, 1, 2}) {
		t.Errorf("conv.weight: %v %v %v", values, shape, err)
	}
	steps, err := all[2].Int64s()
	if err != nil || !slices.Equal(steps, []int64{-7}) || len(all[2].Shape) != 0 {
		t.Errorf("steps: %v %v %v", steps, all[2].Shape, err)
	}
	if values, shape, err := f.Float32s("none"); err != nil || len(values) != 0 || !slices.Equal(shape, []int{0, 4}) {
		t.Errorf("none: %v %v %v", values, shape, err)
	}
	if err := f.CheckFinite(); err != nil {
		t.Error(err)
	}
}

// The bytes are part of the contract: digests of weights are recorded with results.
func TestBytesArePinned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pinned")
	if err := Write(path, []Tensor{{Name: "u", DType: "U8", Shape: []int{1}, Data: []byte{9}}, F32("w", []int{1}, []float32{1})}, nil); err != nil {
		t.Fatal(err)
	}
	header := `{"u":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	header += strings.Repeat(" ", -len(header)&7)
	want := append(claim(uint64(len(header)), header), 0, 0, 0x80, 0x3f, 9)
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n got %q\nwant %q", err, got, want)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if sum, err := f.SHA256(); err != nil || sum != sha(want) {
		t.Errorf("SHA256 %s, %v; want %s", sum, err, sha(want))
	}
}

func TestDataIsAlignedAndHeaderPadded(t *testing.T) {
	b := valid(t)
	if n := binary.LittleEndian.Uint64(b); n%8 != 0 {
		t.Errorf("header of %d bytes", n)
	}
	f, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range f.entries {
		if (f.data+e.begin)%elementBytes[e.dtype] != 0 {
			t.Errorf("%s (%s) lies at byte %d", e.name, e.dtype, f.data+e.begin)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	one := F32("w", []int{1}, []float32{1})
	for _, c := range []struct {
		says string
		ts   []Tensor
		meta map[string]string
	}{
		{"given twice", []Tensor{one, one}, nil},
		{"takes 8", []Tensor{F32("w", []int{2}, []float32{1})}, nil},
		{"negative", []Tensor{F32("w", []int{-1}, []float32{1})}, nil},
		{"does not know", []Tensor{{Name: "w", DType: "C64", Shape: []int{1}, Data: make([]byte, 8)}}, nil},
		{"reserved", []Tensor{F32(metadataKey, []int{1}, []float32{1})}, nil},
		{"no name", []Tensor{F32("", []int{1}, []float32{1})}, nil},
		{"not UTF-8", []Tensor{F32("\xff", []int{1}, []float32{1})}, nil},
		{"not UTF-8", []Tensor{one}, map[string]string{"k": "\xff"}},
	} {
		err := Write(path, c.ts, c.meta)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v does not say %q of %s", err, c.says, path)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file was written", c.says)
		}
	}
}

// Half precision against its definition, for every one of the 65,536 patterns.
func TestHalfPrecision(t *testing.T) {
	for b := range 1 << 16 {
		sign, e, m := 1.0, b>>10&31, float64(b&1023)
		if b>>15 == 1 {
			sign = -1
		}
		var want float64
		switch {
		case e == 31 && m != 0:
			want = math.NaN()
		case e == 31:
			want = math.Inf(int(sign))
		case e == 0:
			want = sign * math.Ldexp(m/1024, -14)
		default:
			want = sign * math.Ldexp(1+m/1024, e-15)
		}
		got := float64(half(uint16(b)))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != (b>>15 == 1) {
			t.Fatalf("%#04x: got %v, want %v", b, got, want)
		}
	}
}

func TestConversions(t *testing.T) {
	bytesOf := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		dtype, data string
		want        any // []float32, []float64, []int64 or nil for a refusal by all but none
	}{
		{"F32", "0000803f000000c0", []float32{1, -2}},
		{"F16", "003c00c0", []float32{1, -2}},
		{"BF16", "803f00c0", []float32{1, -2}},
		{"F64", "000000000000f03f9a9999999999b93f", []float64{1, 0.1}},
		{"I64", "ffffffffffffffff0200000000000000", []int64{-1, 2}},
		{"I32", "ffffffff02000000", []int64{-1, 2}},
		{"U32", "ffffffff02000000", []int64{math.MaxUint32, 2}},
		{"I16", "ffff0200", []int64{-1, 2}},
		{"U16", "ffff0200", []int64{65535, 2}},
		{"I8", "ff02", []int64{-1, 2}},
		{"U8", "ff02", []int64{255, 2}},
		{"BOOL", "0100", []int64{1, 0}},
		{"U64", "ffffffffffffffff0200000000000000", nil},
	} {
		tensor := Tensor{Name: "w", DType: c.dtype, Shape: []int{2}, Data: bytesOf(c.data)}
		f32, err32 := tensor.Float32s()
		f64, err64 := tensor.Float64s()
		i64, errInt := tensor.Int64s()
		file, err := Parse(mustEncode(t, tensor))
		if err != nil {
			t.Fatal(err)
		}
		direct, _, errDirect := file.Float32s("w")
		if !slices.Equal(direct, f32) || (errDirect == nil) != (err32 == nil) {
			t.Errorf("%s: File.Float32s gives %v, %v; Tensor.Float32s %v, %v", c.dtype, direct, errDirect, f32, err32)
		}
		switch want := c.want.(type) {
		case []float32:
			if err32 != nil || err64 != nil || errInt == nil || !slices.Equal(f32, want) || f64[1] != float64(want[1]) {
				t.Errorf("%s: %v %v, %v %v, %v", c.dtype, f32, err32, f64, err64, errInt)
			}
		case []float64:
			if err32 == nil || err64 != nil || errInt == nil || !slices.Equal(f64, want) {
				t.Errorf("%s: %v, %v %v, %v", c.dtype, err32, f64, err64, errInt)
			}
		case []int64:
			if err32 == nil || err64 == nil || errInt != nil || !slices.Equal(i64, want) {
				t.Errorf("%s: %v, %v, %v %v", c.dtype, err32, err64, i64, errInt)
			}
		case nil:
			if err32 == nil || err64 == nil || errInt == nil {
				t.Errorf("%s: %v, %v, %v", c.dtype, err32, err64, errInt)
			}
		}
	}
	if _, err := (Tensor{Name: "w", DType: "F32", Shape: []int{2}, Data: make([]byte, 7)}).Float32s(); err == nil {
		t.Error("7 bytes were read as 2 float32")
	}
}

func mustEncode(t testing.TB, ts ...Tensor) []byte {
	t.Helper()
	header, order, err := encodeHeader(ts, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := encode(&b, header, order); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCheckFinite(t *testing.T) {
	good := F32("good", []int{2}, []float32{math.MaxFloat32, -0})
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	big := make([]float32, 100_000) // several chunks, so that the index is counted across them
	big[70_000], big[99_999] = inf, nan
	for _, c := range []struct {
		bad  Tensor
		says string
	}{
		{F32("bad", []int{3}, []float32{1, nan, inf}), "2 of 3 values are not finite (the first is NaN at index 1)"},
		{F32("bad", []int{100_000}, big), "2 of 100000 values are not finite (the first is -Inf at index 70000)"},
		{Tensor{Name: "bad", DType: "F16", Shape: []int{2}, Data: []byte{0, 0, 0, 0x7c}}, "the first is +Inf at index 1"},
		{Tensor{Name: "bad", DType: "BF16", Shape: []int{1}, Data: []byte{0xc0, 0x7f}}, "the first is NaN at index 0"},
		{Tensor{Name: "bad", DType: "F64", Shape: []int{1}, Data: []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x7f}}, "the first is +Inf at index 0"},
	} {
		f, err := Parse(mustEncode(t, good, c.bad))
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{f.CheckFinite(), c.bad.CheckFinite()} {
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), `"bad"`) {
				t.Errorf("error %v does not say %q", err, c.says)
			}
		}
	}
	// All ones is NaN as a float and fine as an integer.
	if err := (Tensor{Name: "i", DType: "I32", Shape: []int{1}, Data: []byte{255, 255, 255, 255}}).CheckFinite(); err != nil {
		t.Error(err)
	}
}

func TestUnknownTensor(t *testing.T) {
	f, err := Parse(valid(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := f.Tensor("absent")
	_, _, err2 := f.Float32s("absent")
	_, _, err3 := f.Float32s("steps") // an integer
	for _, err := range []error{err1, err2, err3} {
		if e, ok := errors.AsType[*FormatError](err); !ok || e.File == "" || e.Tensor == "" {
			t.Errorf("error %v does not name file and tensor", err)
		}
	}
}

func TestFileThatShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shrinks")
	if err := os.WriteFile(path, raw(w4, 16), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, int64(8+len(w4)+3)); err != nil {
		t.Fatal(err)
	}
	_, err1 := f.Tensor("w")
	_, _, err2 := f.Float32s("w")
	for _, err := range []error{err1, err2, f.CheckFinite()} {
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `"w"`) {
			t.Errorf("error %v does not name file and tensor", err)
		}
	}
}

// All that loading allocates, garbage included, stays well below twice the file: the float32 values themselves plus headers and buffers.
func TestMemory(t *testing.T) {
	var ts []Tensor
	for i := range 8 {
		ts = append(ts, F32(fmt.Sprint("w", i), []int{1 << 18}, make([]float32, 1<<18)))
	}
	path := filepath.Join(t.TempDir(), "big")
	if err := Write(path, ts, nil); err != nil {
		t.Fatal(err)
	}
	const fileBytes = 8 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var model [][]float32
	for _, name := range f.Names() {
		values, _, err := f.Float32s(name)
		if err != nil {
			t.Fatal(err)
		}
		model = append(model, values)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > fileBytes*3/2 {
		t.Errorf("loading %d bytes allocated %d", fileBytes, got)
	}
	runtime.KeepAlive(model)
}

// A header may not make the reader allocate what its tensors claim.
func TestHostileSizesAllocateLittle(t *testing.T) {
	b := raw(`{"w":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}`, 4)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Parse(b); err == nil {
		t.Fatal("accepted")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("refusing %d bytes allocated %d", len(b), got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(valid(f))
	f.Add(raw(w4, 16))
	f.Add(raw(`{}`, 0))
	f.Add(raw(`{"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}`, 8))
	for _, h := range hostile {
		f.Add(h.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse(b)
		if err != nil {
			if _, ok := errors.AsType[*FormatError](err); !ok {
				t.Fatalf("error %T: %v", err, err)
			}
			return
		}
		// What is accepted is covered by its tensors, and survives writing and reading.
		var ts []Tensor
		var total int
		for tensor, err := range file.All() {
			if err != nil {
				t.Fatal(err)
			}
			if err := tensor.check(); err != nil {
				t.Fatal(err)
			}
			total += len(tensor.Data)
			ts = append(ts, tensor)
		}
		if int64(total) != file.size-file.data {
			t.Fatalf("%d of %d data bytes belong to tensors", total, file.size-file.data)
		}
		header, order, err := encodeHeader(ts, file.Meta)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := encode(&out, header, order); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again.Meta, file.Meta) || !reflect.DeepEqual(again.Specs(), file.Specs()) {
			t.Fatalf("%v %v became %v %v", file.Meta, file.Specs(), again.Meta, again.Specs())
		}
	})
}

// hostileFile returns one of the hostile files.
func hostileFile(name string) []byte {
	for _, h := range hostile {
		if h.name == name {
			return h.file
		}
	}
	panic("no hostile file " + name)
}

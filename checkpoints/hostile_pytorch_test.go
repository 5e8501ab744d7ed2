package checkpoints

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The pieces of a pickle, as torch.save writes them.

const proto2 = "\x80\x02"

func le32(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
func le64(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }

func text8(s string) string { return "X" + le32(uint32(len(s))) + s } // BINUNICODE

// number is an int as pickle writes it, of up to 64 bits.
func number(n int64) string {
	if n >= 0 && n < 256 {
		return "K" + string([]byte{byte(n)})
	}
	return "\x8a\x08" + le64(uint64(n)) // LONG1 of 8 bytes
}

func tuple(items ...string) string { return "(" + strings.Join(items, "") + "t" }

func numbers(ns ...int64) string {
	var items []string
	for _, n := range ns {
		items = append(items, number(n))
	}
	return tuple(items...)
}

// dict is a dictionary of keys and values in turn.
func dict(items ...string) string { return "}(" + strings.Join(items, "") + "u" }

func global(module, name string) string { return "c" + module + "\n" + name + "\n" }

// stored refers to a storage; legacy adds the view, which is None.
func stored(class, key string, numel int64) string {
	return tuple(text8("storage"), global("torch", class), text8(key), text8("cpu"), number(numel)) + "Q"
}

// view is a tensor on a storage reference.
func view(storage string, offset int64, shape, strides []int64) string {
	return global("torch._utils", "_rebuild_tensor_v2") + tuple(storage, number(offset), numbers(shape...), numbers(strides...), "\x89", global("collections", "OrderedDict")+")R") + "R"
}

func whole(n int64) string { return view(stored("FloatStorage", "0", n), 0, []int64{n}, []int64{1}) }

type member struct {
	name, data string
	method     uint16
}

// archive is a zip file of members, stored unless they say otherwise.
func archive(members ...member) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		// Without a data descriptor, as torch.save writes.
		f, err := w.CreateHeader(&zip.FileHeader{Name: m.name, Method: m.method})
		if err == nil {
			_, err = f.Write([]byte(m.data))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// pt is a zip checkpoint with an object and one storage of 4 float32 under key 0.
func pt(object string, more ...member) []byte {
	return archive(append([]member{{name: "archive/data.pkl", data: proto2 + object + "."}, {name: "archive/data/0", data: strings.Repeat("\x00\x00\x80\x3f", 4)}}, more...)...)
}

const (
	legacyStart = proto2 + "\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + proto2 + "M\xe9\x03." + proto2 + "}(X\x0d\x00\x00\x00little_endian\x88u."
	noView      = "N"
)

// old is a legacy checkpoint with an object, the list of storages and what follows.
func old(object, keys, rest string) []byte {
	return []byte(legacyStart + proto2 + object + "." + proto2 + keys + "." + rest)
}

func storedOld(key string, numel int64) string {
	return tuple(text8("storage"), global("torch", "FloatStorage"), text8(key), text8("cpu"), number(numel), noView) + "Q"
}

func wholeOld(n int64) string { return view(storedOld("0", n), 0, []int64{n}, []int64{1}) }

// fixture is a file that PyTorch wrote, changed.
func fixture(name string, change func(b []byte) []byte) []byte {
	return change(pytorch(name))
}

func deep(n int) string {
	object := dict(text8("w"), whole(4))
	for range n {
		object = dict(text8("a"), object+"q\x00", text8("b"), "h\x00")
	}
	return object
}

// hostilePyTorch are PyTorch files that must be refused: what they are, the bytes, the tensor that the error must name and a part of what it must say.
func hostilePyTorch() []struct {
	name   string
	file   []byte
	tensor string
	says   string
} {
	four := strings.Repeat("\x00\x00\x80\x3f", 4)
	return []struct {
		name   string
		file   []byte
		tensor string
		says   string
	}{
		{"zip without members", []byte("PK\x03\x04" + strings.Repeat("\x00", 40)), "", "truncated or damaged"},
		{"zip cut in half", fixture("dtypes_zip.pt", func(b []byte) []byte { return b[:len(b)/2] }), "", "truncated or damaged"},
		{"zip cut by a byte", fixture("dtypes_zip.pt", func(b []byte) []byte { return b[:len(b)-1] }), "", "truncated or damaged"},
		{"zip without a pickle", archive(member{name: "a.txt", data: "hello"}), "", "without data.pkl"},
		{"zip bomb", archive(member{name: "archive/data.pkl", data: proto2 + dict(text8("w"), whole(1<<24)) + "."}, member{name: "archive/data/0", data: strings.Repeat("\x00", 1<<26), method: zip.Deflate}), "", "compressed"},
		{"zip with a compressed pickle", archive(member{name: "archive/data.pkl", data: strings.Repeat("(", 1<<24), method: zip.Deflate}), "", "compressed"},
		{"member that leaves its folder", pt(dict(text8("w"), whole(4)), member{name: "archive/../../etc/passwd"}), "", "leave its folder"},
		{"absolute member", pt(dict(text8("w"), whole(4)), member{name: "/etc/passwd"}), "", "leave its folder"},
		{"member with a backslash", pt(dict(text8("w"), whole(4)), member{name: `archive\data\1`}), "", "leave its folder"},
		{"two pickles", pt(dict(text8("w"), whole(4)), member{name: "other/data.pkl"}), "", "two pickles"},
		{"member twice", pt(dict(text8("w"), whole(4)), member{name: "archive/data/0"}), "", "two members"},
		{"encrypted member", encrypted(pt(dict(text8("w"), whole(4)))), "", "encrypted"},
		{"TorchScript", pt(dict(text8("w"), whole(4)), member{name: "archive/constants.pkl"}), "", "TorchScript"},
		{"big-endian", pt(dict(text8("w"), whole(4)), member{name: "archive/byteorder", data: "big"}), "", "byte order"},
		{"long directory", archive(manyMembers(60_000)...), "", "directory has more than"},
		{"overlapping members", overlapping(), "", "overlap"},
		{"storage missing", pt(dict(text8("w"), view(stored("FloatStorage", "7", 4), 0, []int64{4}, []int64{1}))), "w", "not in the file"},
		{"storage key that leaves the folder", pt(dict(text8("w"), view(stored("FloatStorage", "../data.pkl", 4), 0, []int64{4}, []int64{1}))), "w", "not in the file"},
		{"storage too short", pt(dict(text8("w"), whole(5))), "w", "should have 5 elements"},
		{"storage of a fraction", pt(dict(text8("w"), view(stored("FloatStorage", "1", 1), 0, []int64{1}, []int64{1})), member{name: "archive/data/1", data: "12345"}), "w", "has 5 bytes"},
		{"storage of negative length", pt(dict(text8("w"), view(stored("FloatStorage", "0", -4), 0, []int64{4}, []int64{1}))), "", "lacks its class, key or length"},
		{"storage as another dtype", pt(dict(text8("w"), view(stored("DoubleStorage", "0", 4), 0, []int64{4}, []int64{1}))), "w", "4 elements of 8 bytes"},
		{"complex storage", pt(dict(text8("w"), view(stored("ComplexFloatStorage", "0", 2), 0, []int64{2}, []int64{1}))), "", "torch.ComplexFloatStorage"},
		{"quantised tensor", pt(dict(text8("w"), global("torch._utils", "_rebuild_qtensor")+")R")), "", "torch._utils._rebuild_qtensor"},
		{"offset negative", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), -1, []int64{1}, []int64{1}))), "w", "offset -1"},
		{"offset beyond", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 5, []int64{0}, []int64{1}))), "w", "offset 5"},
		{"view beyond", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 2, []int64{3}, []int64{1}))), "w", "needs elements 2 to 4"},
		{"stride beyond", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 0, []int64{2}, []int64{4}))), "w", "outside of its storage|needs elements 0 to 4"},
		{"stride of 2^62", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 0, []int64{3}, []int64{1 << 62}))), "w", "outside of its storage"},
		{"stride negative", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 3, []int64{4}, []int64{-1}))), "w", "more than once"},
		{"expanded to a terabyte", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 0, []int64{1 << 38}, []int64{0}))), "w", "more than once"},
		{"overlapping windows", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 0, []int64{2, 3}, []int64{1, 1}))), "w", "more than once"},
		{"shape overflows", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 0, []int64{1 << 32, 1 << 32}, []int64{1, 1}))), "w", "overflows"},
		{"shape negative", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 0, []int64{-4}, []int64{1}))), "w", "negative dimension"},
		{"shape longer than strides", pt(dict(text8("w"), view(stored("FloatStorage", "0", 4), 0, []int64{2, 2}, []int64{1}))), "", "as many strides"},
		{"shape of text", pt(dict(text8("w"), global("torch._utils", "_rebuild_tensor_v2")+tuple(stored("FloatStorage", "0", 4), number(0), tuple(text8("4")), numbers(1))+"R")), "", "makes no sense"},
		{"tensor of nothing", pt(dict(text8("w"), global("torch._utils", "_rebuild_tensor_v2")+")R")), "", "0 values"},
		{"tensor as a storage", pt(dict(text8("w"), tuple(text8("module"), text8("w"))+"Q")), "", "not to a storage"},
		{"one storage a thousand times", pt(dict(repeated(1000)...), member{name: "archive/data/1", data: strings.Repeat(four, 1<<10)}), "w", "more than twice the file"},
		{"name twice", pt(dict(text8("w"), whole(4), text8("w"), whole(4))), "w", "twice"},
		{"name is a number", pt(dict(number(3), whole(4))), "", "not text"},
		{"name is empty", pt(dict(text8(""), whole(4))), "", "empty or reserved"},
		{"name is reserved", pt(dict(text8(metadataKey), whole(4))), metadataKey, "empty or reserved"},
		{"list instead of a dictionary", pt("](" + whole(4) + "e"), "", "no dictionary"},
		{"tensor instead of a dictionary", pt(whole(4)), "", "no dictionary"},
		{"no tensors", pt(dict(text8("epoch"), number(3))), "", "no dictionary of tensors"},
		{"two state dicts", pt(dict(text8("last"), dict(text8("w"), whole(4)), text8("best"), dict(text8("w"), whole(4)))), "", "several state dicts: last, best"},
		{"dictionaries in dictionaries", pt(deep(50)), "", "no dictionary of tensors"},
		{"dictionary in itself", pt("}q\x00(" + text8("a") + "h\x00u"), "", "no dictionary of tensors"},
		{"list as a key", pt("c__main__\nX\n."), "", "__main__.X"},
		{"tuple as a key", pt(global("collections", "OrderedDict") + ")R(" + global("torch", "Size") + tuple(numbers(1)) + "R" + whole(4) + "u"), "", "is *types.Tuple, not text"},
		{"size of nothing", pt(dict(text8("w"), global("torch", "Size")+")R")), "", "torch.Size wants one tuple"},
		{"tensor called", pt(dict(text8("w"), whole(4)+")R")), "", "makes no sense"},
		{"tuple of tuples of tuples called", pt(")q\x01" + strings.Repeat("h\x01h\x01\x86q\x010h\x01", 60) + ")R"), "", "makes no sense"},
		{"foreign function", pt(global("posix", "system") + tuple(text8("true")) + "R"), "", "posix.system"},
		{"foreign class", pt(dict(text8("w"), global("my_project.models", "WideResNet")+")\x81")), "", "my_project.models.WideResNet"},
		{"eval", pt(global("builtins", "eval") + tuple(text8("1")) + "R"), "", "builtins.eval"},
		{"class of Python 2", pt(global("__builtin__", "object") + ")R"), "", "__builtin__.object"},
		{"reconstructor", pt(global("copy_reg", "_reconstructor") + ")R"), "", "copy_reg._reconstructor"},
		{"NumPy", pt(dict(text8("best"), global("numpy.core.multiarray", "scalar")+")R")), "", "numpy.core.multiarray.scalar"},
		{"class by text", pt("\x8c\x05posix\x8c\x06system\x93)R"), "", "posix.system"},
		{"class by remembered text", pt("\x8c\x05posix\x94\x8c\x06system\x940" + "0h\x00h\x01\x93)R"), "", "posix.system"},
		{"class by computed text", pt(text8("posix") + "N0" + text8("system") + "N0\x93)R"), "", "computes the name"},
		{"class of one text", pt(text8("system") + "\x93)R"), "", "computes the name"},
		{"very long class", pt(global(strings.Repeat("m", 1<<20), "x")), "", "more than 4096 bytes"},
		{"long class", pt(global(strings.Repeat("m", 1000), "x")), "", "mmm..."},
		{"new object", pt(global("collections", "OrderedDict") + ")\x81"), "", "0x81"},
		{"instance", pt("(iposix\nsystem\n"), "", "0x69"},
		{"extension", pt("\x82\x01"), "", "0x82"},
		{"protocol 0", pt("S'text'\n"), "", "0x53"},
		{"instruction 255", pt("\xff"), "", "0xff"},
		{"pickle without an end", archive(member{name: "a/data.pkl", data: proto2 + "}"}), "", "truncated"},
		{"empty pickle", archive(member{name: "a/data.pkl"}), "", "truncated"},
		{"text of 4 GB", pt("X" + le32(math.MaxUint32)), "", "truncated"},
		{"text of 2^63 bytes", pt("\x8d" + le64(1<<63)), "", "truncated"},
		{"frame of 2^63 bytes", pt("\x95" + le64(1<<63)), "", "truncated"},
		{"frame of 2^64-1 bytes", pt("\x95" + le64(math.MaxUint64)), "", "truncated"},
		{"number of no bytes", pt("\x8a\x00"), "", "makes no sense"},
		{"nested marks", pt(strings.Repeat("(", 1000)), "", "nested more than"},
		{"a million tuples", pt(strings.Repeat("(t", 1<<20)), "", "far more memory"},
		{"large pickle", pt(strings.Repeat("N0", 9<<20)), "", "far more memory|more than 16 MB"},
		{"value never made", pt("h\x05"), "", "has not made"},
		{"empty stack", pt("0000"), "", "makes no sense"},
		{"end without a value", pt(""), "", "makes no sense"},
		{"mark without an end", pt("(t" + "t"), "", "makes no sense"},
		{"half an item", pt("}(" + text8("w") + "u"), "", "makes no sense"},

		{"legacy: foreign pickle", []byte(proto2 + "}."), "", "not one that torch.save wrote"},
		{"legacy: other number", []byte(proto2 + "\x8a\x0aX\xfc\x9cF\xf9 j\xa8P\x19." + proto2 + "M\xe9\x03."), "", "not one that torch.save wrote"},
		{"legacy: other protocol", []byte(strings.Replace(legacyStart, "M\xe9\x03", "M\xea\x03", 1)), "", "protocol is 1002"},
		{"legacy: big-endian", []byte(strings.Replace(legacyStart, "\x88", "\x89", 1) + proto2 + "}."), "", "big-endian"},
		{"legacy: header alone", []byte(legacyStart), "", "truncated"},
		{"legacy: cut in half", fixture("dtypes_legacy.pt", func(b []byte) []byte { return b[:len(b)/2] }), "", "truncated"},
		{"legacy: cut by a byte", fixture("dtypes_legacy.pt", func(b []byte) []byte { return b[:len(b)-1] }), "", "truncated"},
		{"legacy: one byte more", fixture("dtypes_legacy.pt", func(b []byte) []byte { return append(b, 0) }), "", "1 bytes follow"},
		{"legacy: no storages", old(dict(text8("w"), wholeOld(4)), "}", ""), "", "list of its storages"},
		{"legacy: storage not listed", old(dict(text8("w"), wholeOld(4)), "]", ""), "w", "not in the file"},
		{"legacy: storage of 2^63", old(dict(text8("w"), wholeOld(4)), "]("+text8("0")+"e", le64(1<<63)), "", "truncated"},
		{"legacy: storage of 2^62", old(dict(text8("w"), wholeOld(4)), "]("+text8("0")+"e", le64(1<<62)), "", "truncated"},
		{"legacy: shorter storage", old(dict(text8("w"), wholeOld(4)), "]("+text8("0")+"e", le64(3)+four[:12]), "w", "should have 4"},
		{"legacy: storage twice", old(dict(text8("w"), wholeOld(4)), "]("+text8("0")+text8("0")+"e", le64(4)+four+le64(4)+four), "", "or twice"},
		{"legacy: unused storage", old(dict(text8("w"), wholeOld(4)), "]("+text8("1")+"e", le64(4)+four), "", "no tensor uses"},
		{"legacy: view beyond", old(dict(text8("w"), view(strings.Replace(storedOld("0", 4), "NtQ", tuple(text8("1"), number(3), number(2))+"tQ", 1), 0, []int64{1}, []int64{1})),
			"]("+text8("0")+"e", le64(4)+four), "", "outside of it"},
		{"legacy: foreign class", old(global("posix", "system")+tuple(text8("true"))+"R", "]", ""), "", "posix.system"},
		{"legacy: class in the header", []byte(strings.Replace(legacyStart, "\x88u.", global("posix", "system")+"u.", 1)), "", "posix.system"},
		{"legacy: storage in the header", []byte(strings.Replace(legacyStart, "\x88u.", tuple(text8("storage"))+"Qu.", 1)), "", "makes no sense"},

		{"tar: header alone", append(append(make([]byte, 257), "ustar\x0000"...), make([]byte, 1024)...), "", "tar archive"},
		{"tar: of other files", tarFile("a.txt", "hello"), "", "without a member sys_info"},
		{"tar: cut in half", fixture("old_tar.pth", func(b []byte) []byte { return b[:2500] }), "", "truncated|without a member"},
		{"tar: member twice", tarFile("pickle", "", "pickle", ""), "", "twice"},
		{"tar: many members", tarFile(strings.Split("a,,b,,c,,d,,e,,f,,g,,h,,i,,j,,k,,l,,m,,n,,o,,p,,q,,r,", ",")...), "", "many files"},
		{"tar: big-endian", tarOf("]", le64(4)+four, "w", 4, func(m map[string]string) { m["sys_info"] = proto2 + dict(text8("little_endian"), "\x89") + "." }), "", "big-endian"},
		{"tar: shorter storage", tarOf("]", le64(3)+four[:12], "w", 4, nil), "w", "needs elements 0 to 3"},
		{"tar: storage of 2^63", tarOf("]", le64(1<<63), "w", 4, nil), "", "truncated"},
		{"tar: a billion storages", tarOf("]", "", "w", 4, func(m map[string]string) { m["storages"] = proto2 + number(1<<30) + "." }), "", "storages of its archive is malformed"},
		{"tar: view beyond", tarOf("]("+numbers(9, 1, 2, 3)+"e", le64(4)+four, "w", 4, nil), "", "storages of its archive is malformed"},
		{"tar: view of nothing", tarOf("]("+numbers(9, 8, 0, 1)+"e", le64(4)+four, "w", 4, nil), "", "storages of its archive is malformed"},
		{"tar: tensor beyond", tarOf("]", le64(4)+four, "w", 5, nil), "w", "needs elements 0 to 4"},
		{"tar: rank of 2^32-1", tarOf("]", le64(4)+four, "w", 4, func(m map[string]string) {
			m["tensors"] = strings.Replace(m["tensors"], le64(1), le64(math.MaxUint32), 1)
		}), "", "tensors of its archive is malformed"},
		{"tar: tensors cut", tarOf("]", le64(4)+four, "w", 4, func(m map[string]string) { m["tensors"] = m["tensors"][:len(m["tensors"])-1] }), "", "truncated"},
		{"tar: no such tensor", tarOf("]", le64(4)+four, "w", 4, func(m map[string]string) { m["pickle"] = proto2 + dict(text8("w"), text8("77")+"Q") + "." }), "", "which is no tensor"},
		{"tar: foreign class", tarOf("]", le64(4)+four, "w", 4, func(m map[string]string) {
			m["pickle"] = proto2 + global("posix", "system") + tuple(text8("true")) + "R."
		}), "", "posix.system"},
		{"tar: foreign class among the storages", tarOf("]", le64(4)+four, "w", 4, func(m map[string]string) { m["storages"] = proto2 + global("posix", "system") + "." }), "", "posix.system"},
	}
}

// tarFile is a tar archive of names and contents in turn.
func tarFile(items ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i+1 < len(items); i += 2 {
		err := w.WriteHeader(&tar.Header{Name: items[i], Size: int64(len(items[i+1])), Mode: 0o644, Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write([]byte(items[i+1]))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// tarOf is a checkpoint of 2016 with one storage, of which elements are the length and the bytes, and one tensor of extent n and stride 1; change may spoil it.
func tarOf(views, elements, name string, n int64, change func(members map[string]string)) []byte {
	m := map[string]string{
		"sys_info": proto2 + dict(text8("little_endian"), "\x88") + ".",
		"storages": proto2 + number(1) + "." + proto2 + tuple(number(1), text8("cpu"), global("torch", "FloatStorage")) + "." + elements + proto2 + views + ".",
		"tensors":  proto2 + number(1) + "." + proto2 + tuple(number(2), number(1), global("torch", "FloatTensor")) + "." + le64(1) + le64(uint64(n)) + le64(1) + le64(0),
		"pickle":   proto2 + dict(text8(name), text8("2")+"Q") + ".",
	}
	if change != nil {
		change(m)
	}
	var items []string
	for _, k := range []string{"sys_info", "pickle", "tensors", "storages"} {
		items = append(items, k, m[k])
	}
	return tarFile(items...)
}

// encrypted sets the flag of encryption of every member.
func encrypted(b []byte) []byte {
	for _, magic := range []struct {
		text string
		flag int
	}{{"PK\x03\x04", 6}, {"PK\x01\x02", 8}} {
		for at := 0; ; at += 4 {
			i := bytes.Index(b[at:], []byte(magic.text))
			if i < 0 {
				break
			}
			at += i
			b[at+magic.flag] |= 1
		}
	}
	return b
}

// overlapping is an archive whose directory lists one member's bytes ten times under different names.
func overlapping() []byte {
	b := archive(member{name: "a/data/0", data: strings.Repeat("x", 1000)})
	directory := bytes.Index(b, []byte("PK\x01\x02"))
	end := bytes.Index(b, []byte("PK\x05\x06"))
	entry := b[directory:end]
	out := append([]byte(nil), b[:directory]...)
	for i := range 10 {
		e := bytes.Replace(entry, []byte("data/0"), []byte("data/"+string(rune('0'+i))), 1)
		out = append(out, e...)
	}
	tail := append([]byte(nil), b[end:]...)
	binary.LittleEndian.PutUint16(tail[8:], 10)
	binary.LittleEndian.PutUint16(tail[10:], 10)
	binary.LittleEndian.PutUint32(tail[12:], uint32(10*len(entry)))
	return append(out, tail...)
}

func manyMembers(n int) []member {
	all := make([]member, n)
	for i := range all {
		all[i].name = fmt.Sprintf("archive/data/%040d", i)
	}
	return all
}

// repeated are n tensors on all of storage 1.
func repeated(n int) (items []string) {
	for i := range n {
		tensor := "h\x01"
		if i == 0 {
			tensor = view(stored("FloatStorage", "1", 1<<12), 0, []int64{1 << 12}, []int64{1}) + "q\x01"
		}
		items = append(items, text8(fmt.Sprint("w", i)), tensor)
	}
	return items
}

// TestHostilePyTorch: each file gives one error that names it, the tensor where there is one, and a remedy, and costs little memory: all that is allocated on
// the way, garbage included, stays below twice the file and a megabyte.
func TestHostilePyTorch(t *testing.T) {
	dir, all := t.TempDir(), hostilePyTorch()
	if len(all) < 80 {
		t.Errorf("only %d hostile files", len(all))
	}
	for _, h := range all {
		t.Run(h.name, func(t *testing.T) {
			path := filepath.Join(dir, "file.pt")
			mustWrite(t, path, string(h.file))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, err := OpenAny(path, "")
			runtime.ReadMemStats(&after)
			if err == nil {
				f.Close()
				t.Fatalf("opened: %d tensors", len(f.Names()))
			}
			e, ok := errors.AsType[*FormatError](err)
			if !ok {
				t.Fatalf("error %T is no FormatError: %v", err, err)
			}
			says := false
			for _, s := range strings.Split(h.says, "|") {
				says = says || strings.Contains(e.Problem, s)
			}
			if e.File != path || !strings.HasPrefix(e.Tensor, h.tensor) || h.tensor == "" && e.Tensor != "" || !says || e.Remedy == "" {
				t.Errorf("file %q, tensor %q, problem %q, remedy %q; want tensor %q and a problem with %q", e.File, e.Tensor, e.Problem, e.Remedy, h.tensor, h.says)
			}
			if len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is not one readable line: %s", err)
			}
			if got, most := after.TotalAlloc-before.TotalAlloc, uint64(2*len(h.file)+1<<20); got > most {
				t.Errorf("refusing %d bytes allocated %d", len(h.file), got)
			}
			if _, err := ParseAny(h.file, ""); err == nil {
				t.Error("ParseAny accepts what OpenAny refuses")
			}
		})
	}
}

// The pieces above make good files, too: what the hostile ones are refused for is what is wrong with them.
func TestGoodPyTorchPieces(t *testing.T) {
	for name, b := range map[string][]byte{
		"zip":    pt(dict(text8("w"), whole(4))),
		"tar":    tarOf("]", le64(4)+strings.Repeat("\x00\x00\x80\x3f", 4), "w", 4, nil),
		"legacy": old(dict(text8("w"), wholeOld(4)), "]("+text8("0")+"e", le64(4)+strings.Repeat("\x00\x00\x80\x3f", 4)),
		"view": old(dict(text8("w"), view(strings.Replace(storedOld("0", 5), "NtQ", tuple(text8("1"), number(1), number(4))+"tQ", 1), 0, []int64{4}, []int64{1})),
			"]("+text8("0")+"e", le64(5)+strings.Repeat("\x00\x00\x80\x3f", 5)),
		"sizes":       pt(dict(text8("w"), strings.Replace(whole(4), numbers(4)+numbers(1), global("torch", "Size")+tuple(numbers(4))+"R"+numbers(1), 1))),
		"old rebuild": pt(dict(text8("w"), strings.Replace(strings.Replace(whole(4), "_rebuild_tensor_v2", "_rebuild_tensor", 1), "\x89"+global("collections", "OrderedDict")+")R", "", 1))),
	} {
		f, err := ParseAny(b, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v, shape, err := f.Float32s("w"); err != nil || len(v) != 4 || v[3] != 1 || len(shape) != 1 {
			t.Errorf("%s: %v %v %v", name, v, shape, err)
		}
	}
}

// Files in order whose numbers are not: found where weights are converted or checked.
func TestPyTorchNaN(t *testing.T) {
	b := pt(dict(text8("good"), whole(4), text8("bad"), view(stored("FloatStorage", "1", 6), 0, []int64{2, 3}, []int64{1, 2})),
		member{name: "archive/data/1", data: strings.Repeat("\x00\x00\x80\x3f", 4) + "\x00\x00\xc0\x7f" + "\x00\x00\x80\x3f"})
	f, err := ParseAny(b, "")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	_, converted := f.Convert(out, Conversion{})
	for _, err := range []error{f.CheckFinite(), converted} {
		// Element 4 of the storage is element (0, 2) of the tensor.
		if err == nil || !strings.Contains(err.Error(), `"bad"`) || !strings.Contains(err.Error(), "NaN at index 2") {
			t.Error(err)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a file was written")
	}
}

// All that loading a PyTorch file allocates stays below twice the file, as for safetensors; also where tensors are transposed.
func TestPyTorchMemory(t *testing.T) {
	const n = 1 << 20
	for name, strides := range map[string][]int64{"row-major": {1024, 1}, "transposed": {1, 1024}} {
		b := archive(member{name: "archive/data.pkl", data: proto2 + dict(text8("w"), view(stored("FloatStorage", "0", n), 0, []int64{1024, 1024}, strides)) + "."},
			member{name: "archive/data/0", data: strings.Repeat("\x00\x00\x80\x3f", n)})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := ParseAny(b, "")
		if err != nil {
			t.Fatal(err)
		}
		v, _, err := f.Float32s("w")
		if err != nil || len(v) != n {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(len(b))*3/2 {
			t.Errorf("%s: loading %d bytes allocated %d", name, len(b), got)
		}
		runtime.KeepAlive(v)
	}
}

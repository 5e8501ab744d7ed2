package checkpoints

import (
	"archive/zip"
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// The forms that [OpenAny] reads, as [File.Form] says.
const (
	Safetensors   = "safetensors"
	PyTorchZip    = "PyTorch zip"    // torch.save since version 1.6
	PyTorchLegacy = "PyTorch legacy" // torch.save before, and with _use_new_zipfile_serialization=False
	PyTorchTar    = "PyTorch tar"    // torch.save of 2016
)

// OpenAny opens a weight file in any form that this package reads: safetensors, or what torch.save wrote. Of a PyTorch file only the few
// classes are loaded that a state dict consists of; another one is an error that names it, and nothing of the file is ever executed.
// Tensors may be any views of their storages; they are read in row-major order.
//
// A checkpoint may hold the state dict under a key, beside other things: key says which, with dots between levels. Empty, it is the file's only state
// dict, or the one under the first of [StateDictKeys] that it has; what else is there is listed in [File.Ignored].
func OpenAny(path, key string) (*File, error) { return open(path, readerOf(key)) }

// ParseAny is [OpenAny] for a file held in memory.
func ParseAny(b []byte, key string) (*File, error) { return parse(b, readerOf(key)) }

// StateDictKeys are the usual keys of the weights in a training checkpoint, in the order of preference.
var StateDictKeys = []string{"model_state_dict", "state_dict", "model", "net"}

func readerOf(key string) func(*File) error {
	return func(f *File) error {
		start := make([]byte, min(f.size, 512))
		if n, err := f.r.ReadAt(start, 0); n < len(start) {
			return fmt.Errorf("its header: %w", err)
		}
		switch {
		case looksSafetensors(start):
		case strings.HasPrefix(string(start), "PK\x03\x04"):
			return f.readZip(key)
		case len(start) > 262 && string(start[257:262]) == "ustar":
			return f.readTar(key)
		case len(start) > 2 && start[0] == 0x80 && start[1] >= 2 && start[1] <= 5:
			return f.readLegacy(key)
		}
		if key != "" {
			return &FormatError{Problem: fmt.Sprintf("it is no PyTorch file, so it has no key %s", quoted(key)), Remedy: "leave the key out"}
		}
		return f.readHeader()
	}
}

// looksSafetensors reports whether a file may be safetensors by its beginning. This is asked before anything else: a header of 640 bytes begins like a pickle.
func looksSafetensors(start []byte) bool {
	return len(start) > 8 && start[8] == '{' && binary.LittleEndian.Uint64(start) <= maxHeader
}

// storage is where the elements of a PyTorch storage lie in the file.
type storage struct {
	at, bytes int64
}

// maxDirectory is how much of a zip file its directory may be: about 50,000 entries.
const maxDirectory = 4 << 20

// plainKey is what PyTorch calls a storage: a number, in the file as in the archive.
var plainKey = regexp.MustCompile(`^[0-9A-Za-z_]{1,40}$`)

// readZip reads an archive that torch.save wrote. Its members are stored without compression, so that tensors are read where they lie.
func (f *File) readZip(key string) error {
	f.Form = PyTorchZip
	limited := &limitedReaderAt{r: f.r, left: maxDirectory + 1<<17}
	z, err := zip.NewReader(limited, f.size)
	if limited.left < 0 {
		return &FormatError{Problem: fmt.Sprintf("its zip directory has more than %d MB: it is not what torch.save writes", maxDirectory>>20), Remedy: resave}
	}
	if err != nil {
		return &FormatError{Problem: fmt.Sprintf("it begins like a zip archive, but is truncated or damaged (%v)", err), Remedy: again}
	}
	limited.left = 1 << 62
	members := map[string]storage{}
	var root string
	var total int64
	for _, m := range z.File {
		name := m.Name
		switch {
		case strings.Contains(name, "\\") || strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), ".."):
			return &FormatError{Problem: fmt.Sprintf("its archive has a member %s, which would leave its folder", quoted(name)), Remedy: again}
		case m.Flags&1 != 0:
			return &FormatError{Problem: fmt.Sprintf("member %s of its archive is encrypted", quoted(name)), Remedy: again}
		case m.Method != zip.Store:
			return &FormatError{Problem: fmt.Sprintf("member %s of its archive is compressed, which torch.save never does", quoted(name)),
				Remedy: "unpack what it contains: the checkpoint may lie inside"}
		}
		if _, twice := members[name]; twice {
			return &FormatError{Problem: fmt.Sprintf("its archive has two members called %s", quoted(name)), Remedy: again}
		}
		at, err := m.DataOffset()
		size := int64(min(m.UncompressedSize64, 1<<62))
		if err != nil || at < 0 || size > f.size-at || m.CompressedSize64 != m.UncompressedSize64 {
			return &FormatError{Problem: fmt.Sprintf("member %s of its archive lies outside of the file", quoted(name)), Remedy: again}
		}
		if total += size; total > f.size {
			return &FormatError{Problem: "the members of its archive overlap", Remedy: again}
		}
		members[name] = storage{at, size}
		if path.Base(name) == "data.pkl" {
			if root != "" {
				return &FormatError{Problem: fmt.Sprintf("its archive has two pickles, %s and %s", quoted(root), quoted(name)), Remedy: again}
			}
			root = name
		}
	}
	if root == "" {
		return &FormatError{Problem: "it is a zip archive without data.pkl: not a PyTorch checkpoint", Remedy: "give the .pt or .pth file itself"}
	}
	dir := path.Dir(root)
	if _, script := members[path.Join(dir, "constants.pkl")]; script {
		return &FormatError{Problem: "it is a TorchScript program, not a state dict", Remedy: "save the state dict of torch.jit.load(path) with torch.save"}
	}
	if m, ok := members[path.Join(dir, "byteorder")]; ok {
		order := make([]byte, min(m.bytes, 8))
		if n, err := f.r.ReadAt(order, m.at); n < len(order) {
			return fmt.Errorf("reading its byte order: %w", err)
		}
		if string(order) != "little" {
			return &FormatError{Problem: fmt.Sprintf("its byte order is %.8q; only little-endian files are read", order), Remedy: "save it again on a little-endian machine"}
		}
	}
	p := newPickles(f.r, members[root].at, members[root].bytes)
	v, err := p.next(persistentStorage)
	if err != nil {
		return err
	}
	return f.fill(v, key, func(k string) (storage, bool) {
		s, ok := members[path.Join(dir, "data", k)]
		return s, ok && plainKey.MatchString(k)
	})
}

// persistentStorage reads the reference to a storage: ("storage", class, key, device, elements) and, in legacy files, a view of it: None or
// (key of the view, offset, elements).
func persistentStorage(id any) (any, error) {
	t, ok := id.(*types.Tuple)
	if !ok || t.Len() < 5 || t.Get(0) != "storage" {
		return nil, errors.New("a reference is not to a storage")
	}
	dtype, ok1 := t.Get(1).(storageClass)
	key, ok2 := t.Get(2).(string)
	numel, ok3 := t.Get(4).(int)
	if !ok1 || !ok2 || !ok3 || numel < 0 {
		return nil, errors.New("a reference to a storage lacks its class, key or length")
	}
	s := storageRef{key: key, dtype: string(dtype), numel: int64(numel)}
	if t.Len() > 5 && t.Get(5) != nil {
		view, ok := t.Get(5).(*types.Tuple)
		if !ok || view.Len() != 3 {
			return nil, errors.New("a view of a storage is malformed")
		}
		offset, ok1 := view.Get(1).(int)
		n, ok2 := view.Get(2).(int)
		if !ok1 || !ok2 || offset < 0 || n < 0 || offset > numel || n > numel-offset {
			return nil, errors.New("a view of a storage lies outside of it")
		}
		s.offset, s.numel = int64(offset), int64(n)
	}
	return s, nil
}

// What a legacy file begins with: two pickled numbers.
const (
	legacyMagic    = "1950a86a20f9469cfc6c" // hexadecimal
	legacyProtocol = 1001
)

// readLegacy reads five pickles (magic, protocol, machine, object, keys of the storages) and then the storages one after the other.
func (f *File) readLegacy(key string) error {
	f.Form = PyTorchLegacy
	p := newPickles(f.r, 0, f.size)
	magic, err := p.next(nil)
	if err != nil {
		return err
	}
	if n, ok := magic.(*big.Int); !ok || n.Text(16) != legacyMagic {
		return &FormatError{Problem: "it is a Python pickle, but not one that torch.save wrote", Remedy: resave}
	}
	if v, err := p.next(nil); err != nil {
		return err
	} else if v != legacyProtocol {
		return &FormatError{Problem: fmt.Sprintf("its PyTorch protocol is %.40s instead of %d", valueText(v), legacyProtocol), Remedy: "save it again with a current PyTorch"}
	}
	if err := littleEndian(p); err != nil {
		return err
	}
	dtypes := map[string]string{} // of the storages
	v, err := p.next(func(id any) (any, error) {
		s, err := persistentStorage(id)
		if s, ok := s.(storageRef); ok {
			dtypes[s.key] = s.dtype
		}
		return s, err
	})
	if err != nil {
		return err
	}
	keys, err := p.next(nil)
	if err != nil {
		return err
	}
	list, ok := keys.(*types.List)
	if !ok {
		return &FormatError{Problem: "it lacks the list of its storages", Remedy: again}
	}
	storages := map[string]storage{}
	for _, k := range *list {
		k, ok := k.(string) // else empty, which no storage is called
		dtype, known := dtypes[k]
		if _, twice := storages[k]; !ok || !known || twice {
			return &FormatError{Problem: fmt.Sprintf("it lists a storage %.40q that no tensor uses, or twice", k), Remedy: again}
		}
		n, err := p.uint64()
		if err != nil {
			return err
		}
		size := elementBytes[dtype]
		if n > uint64(p.left/size) {
			return &FormatError{Problem: fmt.Sprintf("it is truncated: storage %.40q has %d elements of %d bytes, but only %d bytes follow", k, n, size, p.left), Remedy: again}
		}
		storages[k] = storage{p.at, int64(n) * size}
		if err := p.skip(int64(n) * size); err != nil {
			return err
		}
	}
	if p.left > 0 {
		return &FormatError{Problem: fmt.Sprintf("%d bytes follow the last storage", p.left), Remedy: again}
	}
	return f.fill(v, key, func(k string) (storage, bool) { s, ok := storages[k]; return s, ok })
}

// fill makes the entries from the object that a PyTorch file holds.
func (f *File) fill(v any, key string, find func(key string) (storage, bool)) error {
	f.Meta, f.index = map[string]string{}, map[string]int{}
	dict, err := f.choose(v, key)
	if err != nil {
		return err
	}
	var total int64
	for _, item := range dict {
		name, ok := item.Key.(string)
		t, isTensor := item.Value.(*pickledTensor)
		switch {
		case !ok && isTensor:
			return &FormatError{Problem: fmt.Sprintf("a tensor's name is %.40s, not text", valueText(item.Key)), Remedy: resave}
		case !isTensor:
			f.ignore(valueText(item.Key))
			continue
		case name == "" || name == metadataKey:
			return &FormatError{Tensor: name, Problem: "its name is empty or reserved", Remedy: resave}
		}
		e, err := t.entry(name, find)
		if err != nil {
			return err
		}
		if total += e.end - e.begin; total > 2*f.size {
			return &FormatError{Tensor: name, Problem: "its tensors together are more than twice the file: they share storages to a degree that weights do not", Remedy: resave}
		}
		if _, twice := f.index[name]; twice {
			return &FormatError{Tensor: name, Problem: "occurs twice", Remedy: again}
		}
		f.index[name] = len(f.entries)
		f.entries = append(f.entries, e)
	}
	if len(f.entries) == 0 {
		return &FormatError{Problem: "it holds no tensors under names", Remedy: resave}
	}
	return nil
}

// ignore notes something of the file that is not weights.
func (f *File) ignore(name string) {
	if len(f.Ignored) < 100 {
		f.Ignored = append(f.Ignored, fmt.Sprintf("%.80s", name))
	}
}

// choose finds the state dict in the object that a file holds, which is one itself or has it under a key.
func (f *File) choose(v any, key string) ([]types.DictEntry, error) {
	items, ok := dictItems(v)
	if !ok {
		return nil, &FormatError{Problem: "it holds no dictionary of tensors", Remedy: resave}
	}
	if key != "" {
		first, rest, _ := strings.Cut(key, ".")
		value, ok := lookUp(items, key)
		if !ok {
			if value, ok = lookUp(items, first); !ok {
				return nil, &FormatError{Problem: fmt.Sprintf("it has no key %s (there are: %s)", quoted(first), keysText(items)), Remedy: "give one of those"}
			}
			return f.choose(value, rest)
		}
		if items, ok = dictItems(value); !ok {
			return nil, &FormatError{Problem: fmt.Sprintf("under key %s there is no dictionary", quoted(key)), Remedy: "give another key"}
		}
		return items, nil
	}
	var nested []string
	for _, item := range items {
		if _, ok := item.Value.(*pickledTensor); ok {
			return items, nil // a state dict itself
		}
		if inner, ok := dictItems(item.Value); ok && slices.ContainsFunc(inner, func(i types.DictEntry) bool { _, ok := i.Value.(*pickledTensor); return ok }) {
			nested = append(nested, valueText(item.Key))
		}
	}
	pick := ""
	for _, k := range slices.Backward(StateDictKeys) {
		if slices.Contains(nested, k) {
			pick = k
		}
	}
	switch {
	case pick != "":
	case len(nested) == 1:
		pick = nested[0]
	case len(nested) == 0:
		return nil, &FormatError{Problem: fmt.Sprintf("it holds no dictionary of tensors (there are: %s)", keysText(items)), Remedy: "give the key under which the weights are, or " + resave}
	default:
		return nil, &FormatError{Problem: fmt.Sprintf("it holds several state dicts: %.200s", strings.Join(nested, ", ")), Remedy: "say which with the key (-key)"}
	}
	for _, item := range items {
		if item.Key != pick {
			f.ignore(valueText(item.Key))
		}
	}
	value, _ := lookUp(items, pick)
	items, _ = dictItems(value)
	return items, nil
}

// dictItems returns the items of a dict or OrderedDict, later values of a key replacing earlier ones as in Python.
func dictItems(v any) ([]types.DictEntry, bool) {
	switch d := v.(type) {
	case *types.Dict:
		return *d, true
	case *types.OrderedDict:
		items := make([]types.DictEntry, 0, d.Len())
		for e := d.List.Front(); e != nil; e = e.Next() {
			entry := e.Value.(*types.OrderedDictEntry)
			items = append(items, types.DictEntry{Key: entry.Key, Value: entry.Value})
		}
		return items, true
	}
	return nil, false
}

func lookUp(items []types.DictEntry, key string) (any, bool) {
	i := slices.IndexFunc(items, func(i types.DictEntry) bool { return i.Key == any(key) })
	if i < 0 {
		return nil, false
	}
	return items[i].Value, true
}

// valueText writes a value of a pickle for a message. Of a compound one, which may be of any size or hold itself, only the kind is said.
func valueText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil, bool, int, float64:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%T", v)
}

func keysText(items []types.DictEntry) string {
	var names []string
	for _, i := range items[:min(len(items), 10)] {
		names = append(names, fmt.Sprintf("%.40s", valueText(i.Key)))
	}
	if len(items) > 10 {
		names = append(names, "...")
	}
	return strings.Join(names, ", ")
}

// entry checks a view of a storage and says where it lies.
func (t *pickledTensor) entry(name string, find func(string) (storage, bool)) (e entry, err error) {
	fail := func(remedy, problem string, args ...any) (entry, error) {
		return e, &FormatError{Tensor: name, Problem: fmt.Sprintf(problem, args...), Remedy: remedy}
	}
	s, ok := find(t.storage.key)
	if !ok {
		return fail(again, "its storage %.60q is not in the file", t.storage.key)
	}
	size := elementBytes[t.storage.dtype]
	if have := s.bytes / size; s.bytes%size != 0 || t.storage.offset > have || t.storage.numel > have-t.storage.offset {
		return fail(again, "its storage should have %d elements of %d bytes from %d on, but has %d bytes in the file", t.storage.numel, size, t.storage.offset, s.bytes)
	}
	n, problem := dataBytes(t.storage.dtype, t.shape)
	if problem != "" {
		return fail(again, "%s", problem)
	}
	if t.offset < 0 || t.offset > t.storage.numel {
		return fail(again, "its offset %d lies outside of its storage of %d elements", t.offset, t.storage.numel)
	}
	e = entry{name: name, dtype: t.storage.dtype, shape: t.shape}
	e.begin = s.at + (t.storage.offset+t.offset)*size
	e.end = e.begin + n
	if n == 0 {
		return e, nil
	}
	// From the slowest axis to the fastest, each must step over all that the faster ones cover: no element is used twice.
	axes := make([]int, 0, len(t.shape))
	for i, d := range t.shape {
		if d > 1 {
			axes = append(axes, i)
		}
	}
	slices.SortStableFunc(axes, func(a, b int) int { return cmp.Compare(t.strides[b], t.strides[a]) })
	last, rows := int64(0), int64(1) // the last element that the axes so far reach; what row-major order would step
	contiguous := true
	for _, i := range slices.Backward(axes) {
		step, d := int64(t.strides[i]), int64(t.shape[i])
		if step <= last {
			return fail("save it with .contiguous()", "its strides %s over shape %s use elements more than once", shapeText(t.strides), shapeText(t.shape))
		}
		if step > (t.storage.numel-last)/(d-1) {
			return fail(again, "its shape %s with strides %s lies outside of its storage of %d elements", shapeText(t.shape), shapeText(t.strides), t.storage.numel)
		}
		last += step * (d - 1)
	}
	if last >= t.storage.numel-t.offset {
		return fail(again, "it needs elements %d to %d of its storage, which has %d", t.offset, t.offset+last, t.storage.numel)
	}
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] > 1 && int64(t.strides[i]) != rows {
			contiguous = false
		}
		rows *= int64(t.shape[i])
	}
	if !contiguous {
		e.strides = t.strides
	}
	return e, nil
}

// scattered hands the elements of a tensor that is not in row-major order to fn one by one, in the order in which they lie in the file; at is where an element
// belongs, in bytes from the start of the tensor in row-major order. The file is read once, forwards.
func (f *File) scattered(e entry, fn func(at int64, b []byte)) error {
	type axis struct{ n, from, to int64 } // extent; step in the file and in row-major order, in bytes
	size := elementBytes[e.dtype]
	var axes []axis
	for i, to := len(e.shape)-1, size; i >= 0; i-- {
		if n := int64(e.shape[i]); n > 1 {
			axes = append(axes, axis{n, int64(e.strides[i]) * size, to})
		}
		to *= int64(e.shape[i])
	}
	slices.SortStableFunc(axes, func(a, b axis) int { return cmp.Compare(b.from, a.from) })
	start := f.data + e.begin
	r := pickles{r: bufio.NewReaderSize(io.NewSectionReader(f.r, start, f.size-start), 1<<16), left: f.size - start}
	var b [8]byte
	var walk func(axes []axis, from, to int64) error
	walk = func(axes []axis, from, to int64) error {
		if len(axes) > 0 {
			for i := range axes[0].n {
				if err := walk(axes[1:], from+i*axes[0].from, to+i*axes[0].to); err != nil {
					return err
				}
			}
			return nil
		}
		if err := r.skip(from - r.at); err != nil {
			return err
		}
		if _, err := io.ReadFull(r.r, b[:size]); err != nil {
			return err
		}
		r.at, r.left = r.at+size, r.left-size
		fn(to, b[:size])
		return nil
	}
	if err := walk(axes, 0, 0); err != nil {
		return fmt.Errorf("checkpoints: %s: reading tensor %s: %w (did the file change while it was open?)", f.name, quoted(e.name), err)
	}
	return nil
}

// limitedReaderAt fails once more than a number of bytes has been read.
type limitedReaderAt struct {
	r    io.ReaderAt
	left int64
}

func (l *limitedReaderAt) ReadAt(b []byte, at int64) (int, error) {
	if l.left -= int64(len(b)); l.left < 0 {
		return 0, errors.New("too much is read")
	}
	return l.r.ReadAt(b, at)
}

package checkpoints

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"carsokit/internal/atomicfile"
)

// maxHeader is the limit that the format sets for its header.
const maxHeader = 100_000_000

// metadataKey is the header entry that holds the free metadata instead of a tensor.
const metadataKey = "__metadata__"

// FormatError says what is wrong with a file or tensor, and what to do about it.
type FormatError struct {
	File    string // path or name; empty for a tensor that is in no file
	Tensor  string // empty when the whole file is meant
	Problem string
	Remedy  string
}

func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString("checkpoints: ")
	if e.File != "" {
		fmt.Fprintf(&b, "%s: ", e.File)
	}
	if e.Tensor != "" {
		fmt.Fprintf(&b, "tensor %s: ", quoted(e.Tensor))
	}
	fmt.Fprintf(&b, "%s; %s", e.Problem, e.Remedy)
	return b.String()
}

// quoted quotes a name of any length for an error message.
func quoted(name string) string {
	if len(name) > 120 {
		return fmt.Sprintf("%.120q...", name)
	}
	return strconv.Quote(name)
}

// File is an open weight file whose header has been validated completely. Its methods read tensor data on demand and may be called
// concurrently.
type File struct {
	// Meta is the file's free metadata; never nil.
	Meta map[string]string
	// Form is the container: [Safetensors], [PyTorchZip], [PyTorchLegacy] or [PyTorchTar].
	Form string
	// Ignored names what a PyTorch file holds beside the weights.
	Ignored []string

	name    string // what errors call it
	r       io.ReaderAt
	closer  io.Closer
	size    int64
	data    int64 // where tensor data begins
	entries []entry
	index   map[string]int
}

// entry is one tensor of the header; begin counts from the start of the data, and end is begin and the bytes of its elements.
type entry struct {
	name, dtype string
	shape       []int
	begin, end  int64
	strides     []int // in elements; nil: row-major, so that the data ends at end
}

// Open opens a safetensors file and validates its header: after that, only reading errors are possible. Close it when done.
// A file that is not safetensors gives a *[FormatError].
func Open(path string) (*File, error) { return open(path, (*File).readHeader) }

// Parse is [Open] for a file held in memory. It keeps b, which must not change; tensors are copies.
func Parse(b []byte) (*File, error) { return parse(b, (*File).readHeader) }

func parse(b []byte, read func(*File) error) (*File, error) {
	return newFile("weights in memory", bytes.NewReader(b), int64(len(b)), read)
}

// open opens a file whose header read reads.
func open(path string, read func(*File) error) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoints: opening weights: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &FormatError{File: path, Problem: "is not a regular file", Remedy: "give the path of a weight file"}
	}
	var file *File
	if err == nil {
		file, err = newFile(path, f, info.Size(), read)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	file.closer = f
	return file, nil
}

// Close releases the file.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Names returns the tensors' names in the order of the header.
func (f *File) Names() []string {
	names := make([]string, len(f.entries))
	for i, e := range f.entries {
		names[i] = e.name
	}
	return names
}

// Specs returns the tensors' names and shapes in the order of the header, for [Match].
func (f *File) Specs() []Spec {
	specs := make([]Spec, len(f.entries))
	for i, e := range f.entries {
		specs[i] = Spec{Name: e.name, Shape: slices.Clone(e.shape)}
	}
	return specs
}

// Tensor reads one tensor.
func (f *File) Tensor(name string) (Tensor, error) {
	e, err := f.entry(name)
	if err != nil {
		return Tensor{}, err
	}
	t := Tensor{Name: e.name, DType: e.dtype, Shape: slices.Clone(e.shape), Data: make([]byte, e.end-e.begin)}
	if e.strides == nil {
		err = f.readAt(t.Data, e, 0)
	} else {
		err = f.chunks(e, func(at int64, b []byte) { copy(t.Data[at:], b) })
	}
	if err != nil {
		return Tensor{}, err
	}
	return t, nil
}

// Float32s reads one F32, F16 or BF16 tensor straight into float32 values, and returns its shape. It needs no second copy of the data,
// so that loading a model takes about its size in memory.
func (f *File) Float32s(name string) (values []float32, shape []int, err error) {
	e, err := f.entry(name)
	if err != nil {
		return nil, nil, err
	}
	if err := (Tensor{Name: e.name, DType: e.dtype}).wantFloat32(); err != nil {
		return nil, nil, f.blame(err)
	}
	size := elementBytes[e.dtype]
	values = make([]float32, (e.end-e.begin)/size)
	err = f.chunks(e, func(at int64, b []byte) {
		from, n := at/size, int64(len(b))/size
		decodeFloat32(values[from:from+n], e.dtype, b)
	})
	return values, slices.Clone(e.shape), err
}

// All reads the tensors one after the other, in the order of the header. It stops after the first error.
func (f *File) All() iter.Seq2[Tensor, error] {
	return func(yield func(Tensor, error) bool) {
		for _, e := range f.entries {
			t, err := f.Tensor(e.name)
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// CheckFinite reads every float and returns an error naming the first tensor that holds NaN or an infinity, or nil.
func (f *File) CheckFinite() error {
	for _, e := range f.entries {
		var n nonFinite
		if err := f.chunks(e, func(at int64, b []byte) { n.scan(e.dtype, at, b) }); err != nil {
			return err
		}
		if err := n.err(e.name); err != nil {
			return f.blame(err)
		}
	}
	return nil
}

// SHA256 reads the whole file and returns its digest as lower-case hex.
func (f *File) SHA256() (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f.r, 0, f.size)); err != nil {
		return "", fmt.Errorf("checkpoints: %s: computing the SHA-256: %w", f.name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (f *File) entry(name string) (entry, error) {
	i, ok := f.index[name]
	if !ok {
		return entry{}, &FormatError{File: f.name, Tensor: name, Problem: fmt.Sprintf("is not among the file's %d tensors", len(f.entries)),
			Remedy: "compare the file with the model through Match"}
	}
	return f.entries[i], nil
}

// readAt fills b with the data of e from the offset on.
func (f *File) readAt(b []byte, e entry, offset int64) error {
	// A ReaderAt may return io.EOF together with all the bytes.
	if n, err := f.r.ReadAt(b, f.data+e.begin+offset); n < len(b) {
		return fmt.Errorf("checkpoints: %s: reading tensor %s: %w (did the file change while it was open?)", f.name, quoted(e.name), err)
	}
	return nil
}

// chunks hands the data of e to fn piece by piece, in whole elements; at is where a piece belongs, in bytes from the start of the tensor in
// row-major order. Unless the tensor is strided, the pieces come in that order.
func (f *File) chunks(e entry, fn func(at int64, b []byte)) error {
	if e.strides != nil {
		return f.scattered(e, fn)
	}
	buf := make([]byte, min(1<<16, e.end-e.begin))
	for at, n := int64(0), e.end-e.begin; at < n; at += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), n-at)]
		if err := f.readAt(b, e, at); err != nil {
			return err
		}
		fn(at, b)
	}
	return nil
}

// blame adds the file's name to an error about a tensor.
func (f *File) blame(err error) error { return inFile(f.name, err) }

func inFile(name string, err error) error {
	if e, ok := errors.AsType[*FormatError](err); ok && e.File == "" {
		e.File = name
	}
	if e, ok := errors.AsType[*FitError](err); ok && e.File == "" {
		e.File = name
	}
	return err
}

// newFile has the header read, so that every error names the file.
func newFile(name string, r io.ReaderAt, size int64, read func(*File) error) (*File, error) {
	f := &File{name: name, r: r, size: size}
	err := read(f)
	if _, told := errors.AsType[*FormatError](err); err != nil && !told {
		err = fmt.Errorf("checkpoints: reading %s: %w", name, err)
	}
	if err != nil {
		return nil, inFile(name, err)
	}
	return f, nil
}

const again = "download or export the file again"

// readHeader fills f from the header, having checked everything that can be checked without reading the data.
func (f *File) readHeader() error {
	f.Form = Safetensors
	if f.size == 0 {
		return &FormatError{Problem: "the file is empty", Remedy: again}
	}
	start := make([]byte, min(f.size, 512))
	if n, err := f.r.ReadAt(start, 0); n < len(start) {
		return fmt.Errorf("its header: %w", err)
	}
	// What else the file may be is asked only once it has turned out not to be safetensors: any 8 bytes may be a header's length.
	not := func(problem string) error {
		if e := otherFormat(start); e != nil {
			return e
		}
		return &FormatError{Problem: problem, Remedy: again}
	}
	if f.size < 8 {
		return not(fmt.Sprintf("the file has %d bytes, too few for safetensors", f.size))
	}
	length := binary.LittleEndian.Uint64(start)
	switch {
	case length > uint64(f.size-8):
		return not(fmt.Sprintf("it is not safetensors or is truncated: its header claims %d bytes, but only %d follow", length, f.size-8))
	case length > maxHeader:
		return not(fmt.Sprintf("its header claims %d bytes, more than the format's limit of %d", length, maxHeader))
	case length < 2 || start[8] != '{':
		return not("it is not safetensors: its header is not a JSON object")
	}
	header := make([]byte, length)
	if n, err := f.r.ReadAt(header, 8); n < len(header) {
		return fmt.Errorf("its header: %w", err)
	}
	if !utf8.Valid(header) {
		return &FormatError{Problem: "its header is not UTF-8", Remedy: again}
	}
	f.data = 8 + int64(length)
	if err := f.parseHeader(header); err != nil {
		return err
	}
	return f.checkOffsets()
}

// parseHeader reads tokens rather than decoding into a map, because a map would hide duplicate keys.
func (f *File) parseHeader(header []byte) error {
	dec := json.NewDecoder(bytes.NewReader(header))
	dec.UseNumber()
	f.Meta, f.index = map[string]string{}, map[string]int{}
	err := object(dec, func(key string) error {
		switch key {
		case metadataKey:
			return object(dec, func(key string) (err error) {
				f.Meta[key], err = text(dec)
				return err
			})
		case "":
			return errors.New("a tensor has an empty name")
		}
		e, err := readEntry(dec)
		if err != nil {
			return &FormatError{Tensor: key, Problem: err.Error(), Remedy: again}
		}
		e.name = key
		f.index[key] = len(f.entries)
		f.entries = append(f.entries, e)
		return nil
	})
	if err == nil {
		if _, trailing := dec.Token(); trailing != io.EOF {
			err = errors.New("something follows the JSON object")
		}
	}
	if _, told := errors.AsType[*FormatError](err); err == nil || told {
		return err
	}
	return &FormatError{Problem: "its header is malformed: " + err.Error(), Remedy: again}
}

// readEntry reads {"dtype":...,"shape":[...],"data_offsets":[begin,end]} and checks it in itself.
func readEntry(dec *json.Decoder) (e entry, err error) {
	var offsets []int
	var have int
	err = object(dec, func(key string) (err error) {
		have++
		switch key {
		case "dtype":
			e.dtype, err = text(dec)
		case "shape":
			e.shape, err = integers(dec)
		case "data_offsets":
			offsets, err = integers(dec)
		default:
			return fmt.Errorf("has an unknown field %s", quoted(key))
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", key, err)
		}
		return err
	})
	switch {
	case err != nil:
		return e, err
	case have != 3: // object refuses duplicates, so three are all three
		return e, errors.New("lacks one of dtype, shape and data_offsets")
	case len(offsets) != 2:
		return e, fmt.Errorf("has %d data_offsets instead of 2", len(offsets))
	}
	e.begin, e.end = int64(offsets[0]), int64(offsets[1])
	n, problem := dataBytes(e.dtype, e.shape)
	switch {
	case problem != "":
		return e, errors.New(problem)
	case e.begin < 0 || e.end < e.begin:
		return e, fmt.Errorf("has data_offsets %v, which are negative or run backwards", offsets)
	case e.end-e.begin != n:
		return e, fmt.Errorf("has data_offsets %v, %d bytes, but %s with shape %s takes %d", offsets, e.end-e.begin, e.dtype, shapeText(e.shape), n)
	}
	return e, nil
}

// object reads a JSON object; fn reads the value of each key. Duplicate keys are an error.
func object(dec *json.Decoder, fn func(key string) error) error {
	if tok, err := token(dec); err != nil {
		return err
	} else if tok != json.Delim('{') {
		return fmt.Errorf("%s stands where an object is wanted", tokenText(tok))
	}
	seen := map[string]bool{}
	for {
		tok, err := token(dec)
		if err != nil {
			return err
		}
		key, ok := tok.(string)
		if !ok { // the decoder lets nothing else stand here than a key or the end
			return nil
		}
		if seen[key] {
			return fmt.Errorf("key %s occurs twice", quoted(key))
		}
		seen[key] = true
		if err := fn(key); err != nil {
			return err
		}
	}
}

func text(dec *json.Decoder) (string, error) {
	tok, err := token(dec)
	if err != nil {
		return "", err
	}
	s, ok := tok.(string)
	if !ok {
		return "", fmt.Errorf("%s stands where a string is wanted", tokenText(tok))
	}
	return s, nil
}

// integers reads a JSON array of whole numbers that fit an int.
func integers(dec *json.Decoder) ([]int, error) {
	if tok, err := token(dec); err != nil {
		return nil, err
	} else if tok != json.Delim('[') {
		return nil, fmt.Errorf("%s stands where a list is wanted", tokenText(tok))
	}
	list := []int{}
	for {
		tok, err := token(dec)
		if err != nil {
			return nil, err
		}
		if tok == json.Delim(']') {
			return list, nil
		}
		number, ok := tok.(json.Number)
		n, err := strconv.Atoi(number.String())
		if !ok || err != nil {
			return nil, fmt.Errorf("%s is not a whole number below 2^63", tokenText(tok))
		}
		list = append(list, n)
	}
}

func token(dec *json.Decoder) (json.Token, error) {
	tok, err := dec.Token()
	if err == io.EOF {
		return nil, errors.New("it ends too early")
	}
	return tok, err
}

func tokenText(tok json.Token) string {
	if tok == nil {
		return "null"
	}
	return fmt.Sprintf("%.40q", fmt.Sprint(tok))
}

// checkOffsets demands that the tensors cover the data without a gap, an overlap or a rest.
func (f *File) checkOffsets() error {
	have := f.size - f.data
	order := slices.Clone(f.entries)
	slices.SortStableFunc(order, func(a, b entry) int { return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end)) })
	var need int64
	for _, e := range order {
		need = max(need, e.end)
	}
	var at int64
	for i, e := range order {
		switch {
		case e.begin < at:
			return &FormatError{Tensor: e.name, Problem: fmt.Sprintf("its data [%d, %d) overlaps that of tensor %s", e.begin, e.end, quoted(order[i-1].name)), Remedy: again}
		case e.begin > at:
			return &FormatError{Tensor: e.name, Problem: fmt.Sprintf("%d bytes before its data belong to no tensor", e.begin-at), Remedy: again}
		case e.end > have:
			return &FormatError{Tensor: e.name, Problem: fmt.Sprintf("its data [%d, %d) lies beyond the end: the file is truncated to %d of %d data bytes",
				e.begin, e.end, have, need), Remedy: again}
		}
		at = e.end
	}
	if at < have {
		return &FormatError{Problem: fmt.Sprintf("%d bytes follow the last tensor", have-at), Remedy: again}
	}
	return nil
}

const convert = "convert it: carso checkpoint convert FILE OUT.safetensors"

const webPage = "the server answered with an error or a login page: open the address in a browser and download the file itself"

// otherFormats are what is commonly found where weights were expected. Magic that starts with '<' is text: its case and the white space
// before it do not count.
var otherFormats = []struct{ magic, problem, remedy string }{
	{"version https://git-lfs", "it is a git-LFS pointer, not the weights", "run 'git lfs pull', or download the file itself"},
	{"PK\x03\x04", "it is a zip archive, most likely a PyTorch checkpoint", convert},
	{"\x80\x02", "it is a Python pickle, most likely an old PyTorch checkpoint", convert},
	{"\x80\x03", "it is a Python pickle, most likely an old PyTorch checkpoint", convert},
	{"\x80\x04", "it is a Python pickle, most likely an old PyTorch checkpoint", convert},
	{"\x80\x05", "it is a Python pickle, most likely an old PyTorch checkpoint", convert},
	{"<!doctype", "it is a web page, not weights", webPage},
	{"<html", "it is a web page, not weights", webPage},
	{"<?xml", "it is an XML document, not weights", webPage},
	{"\x1f\x8b", "it is compressed with gzip", "decompress it first"},
	{"\xfd7zXZ\x00", "it is compressed with xz", "decompress it first"},
	{"\x28\xb5\x2f\xfd", "it is compressed with zstd", "decompress it first"},
	{"\x89HDF\r\n\x1a\n", "it is an HDF5 file", "export the weights as safetensors"},
	{"\x93NUMPY", "it is a NumPy array", "export the weights as safetensors"},
}

// otherFormat recognises another format by its first bytes; nil if it does not.
func otherFormat(start []byte) *FormatError {
	text := bytes.TrimLeft(bytes.TrimPrefix(start, []byte("\xef\xbb\xbf")), " \t\r\n")
	for _, k := range otherFormats {
		page := k.magic[0] == '<' && len(text) >= len(k.magic) && strings.EqualFold(string(text[:len(k.magic)]), k.magic)
		if page || bytes.HasPrefix(start, []byte(k.magic)) {
			return &FormatError{Problem: k.problem, Remedy: k.remedy}
		}
	}
	return nil
}

// Write writes tensors and free metadata as a safetensors file. The bytes depend on the arguments alone; a kill at any instant leaves the
// old file or the new one. The header lists the tensors in the order given; the data lies in order of decreasing element size, so that
// every element is aligned.
func Write(path string, ts []Tensor, meta map[string]string) error {
	for _, t := range ts {
		if err := t.check(); err != nil {
			return inFile(path, err)
		}
	}
	return writeEach(path, ts, meta, func(t Tensor) (Tensor, error) { return t, nil })
}

// writeEach is Write for tensors whose data load brings, one at a time: heads lack it.
func writeEach(path string, heads []Tensor, meta map[string]string, load func(head Tensor) (Tensor, error)) error {
	header, order, err := encodeHeader(heads, meta)
	if err != nil {
		return inFile(path, err)
	}
	err = atomicfile.Write(path, func(w io.Writer) error {
		if _, err := w.Write(header); err != nil {
			return err
		}
		for _, head := range order {
			t, err := load(head)
			if err == nil {
				err = t.check()
			}
			if err != nil {
				return err
			}
			if _, err := w.Write(t.Data); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("checkpoints: %w", err) // it names the path
	}
	return nil
}

// encode writes what encodeHeader returned.
func encode(w io.Writer, header []byte, order []Tensor) error {
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range order {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}

// encodeHeader checks names, dtypes and shapes, and returns the header with its length in front, and the tensors in the order of their data, which it does
// not look at.
func encodeHeader(ts []Tensor, meta map[string]string) (header []byte, order []Tensor, err error) {
	for _, t := range ts {
		if _, err := t.bytes(); err != nil {
			return nil, nil, err
		}
		if t.Name == metadataKey || !utf8.ValidString(t.Name) {
			return nil, nil, &FormatError{Tensor: t.Name, Problem: "its name is reserved or not UTF-8", Remedy: "rename it"}
		}
	}
	order = slices.Clone(ts)
	slices.SortStableFunc(order, func(a, b Tensor) int { return cmp.Compare(elementBytes[b.DType], elementBytes[a.DType]) })
	offsets := map[string][2]int64{}
	var at int64
	for _, t := range order {
		if _, twice := offsets[t.Name]; twice {
			return nil, nil, &FormatError{Tensor: t.Name, Problem: "is given twice", Remedy: "give every tensor its own name"}
		}
		n, _ := t.bytes()
		if n > math.MaxInt64-at {
			return nil, nil, &FormatError{Tensor: t.Name, Problem: "the file would be too long", Remedy: "split it"}
		}
		offsets[t.Name] = [2]int64{at, at + n}
		at += n
	}

	var b bytes.Buffer
	b.Write(make([]byte, 8)) // the length, filled in below
	b.WriteByte('{')
	comma := ""
	if len(meta) > 0 {
		for _, k := range slices.Sorted(maps.Keys(meta)) {
			if !utf8.ValidString(k) || !utf8.ValidString(meta[k]) {
				return nil, nil, &FormatError{Problem: fmt.Sprintf("the metadata %s is not UTF-8", quoted(k)), Remedy: "write it as text"}
			}
		}
		fmt.Fprintf(&b, "%q:%s", metadataKey, jsonText(meta)) // encoding/json sorts the keys
		comma = ","
	}
	for _, t := range ts {
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		fmt.Fprintf(&b, `%s%s:{"dtype":%q,"shape":%s,"data_offsets":%s}`, comma, jsonText(t.Name), t.DType, jsonText(shape), jsonText(offsets[t.Name]))
		comma = ","
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	length := b.Len() - 8
	if length > maxHeader {
		return nil, nil, &FormatError{Problem: fmt.Sprintf("the header would take %d bytes, more than the format's limit of %d", length, maxHeader),
			Remedy: "write fewer tensors or less metadata"}
	}
	header = b.Bytes()
	binary.LittleEndian.PutUint64(header, uint64(length))
	return header, order, nil
}

// jsonText encodes strings, integers, and lists and maps of them, which cannot fail.
func jsonText(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}

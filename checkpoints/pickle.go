package checkpoints

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// A pickle is a program. Before it runs, [scanPickle] reads it once without running anything: every opcode, every length and every class it
// names must be of the few that a saved state dict consists of. What passes is run by gopickle, whose classes are those of [torchClass].

// Limits that no honest checkpoint comes near: a full-size purifier's pickle has 50 KB.
const (
	maxPickle      = 16 << 20 // bytes of one pickle
	maxPickleNest  = 64       // open marks
	pickleOverhead = 32 << 20 // memory that running a pickle may take beyond the size of its file
	markCost       = 320      // about what gopickle allocates for a mark, and for any other opcode
	opcodeCost     = 64
)

// resave is the remedy for a pickle that is more than a state dict.
const resave = "load it in a Python process that you trust with it and save the state dict alone: torch.save(model.state_dict(), path)"

// storageTypes are PyTorch's storage classes in module torch, with the dtypes of their elements.
var storageTypes = map[string]string{
	"FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16",
	"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
}

// torchClass returns what stands for a class or function that a pickle may name, or an error with the name of one that it may not.
func torchClass(module, name string) (any, error) {
	switch module + "." + name {
	case "collections.OrderedDict":
		return &types.OrderedDictClass{}, nil
	case "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor":
		return callable(rebuildTensor), nil
	case "torch._utils._rebuild_parameter":
		return callable(func(args []any) (any, error) {
			if len(args) == 0 {
				return nil, errors.New("a parameter without a tensor")
			}
			return args[0], nil
		}), nil
	case "torch.Size":
		// It takes one tuple, and is one. No value here is a bare slice, so that nothing can nest by value.
		return callable(func(args []any) (any, error) {
			if len(args) == 1 {
				if t, ok := args[0].(*types.Tuple); ok {
					return t, nil
				}
			}
			return nil, errors.New("torch.Size wants one tuple")
		}), nil
	}
	if dtype, ok := storageTypes[name]; ok && module == "torch" {
		return storageClass(dtype), nil
	}
	// Tar files say of which class a tensor was.
	if kind, ok := strings.CutSuffix(name, "Tensor"); ok && module == "torch" && storageTypes[kind+"Storage"] != "" {
		return tensorClass{}, nil
	}
	full := module + "." + name
	if len(full) > 120 {
		full = full[:120] + "..."
	}
	return nil, &FormatError{Problem: fmt.Sprintf("its pickle wants to load %q, which is not among the few classes that weights consist of: it may run code", full),
		Remedy: resave}
}

// callable makes a function callable from a pickle.
type callable func(args []any) (any, error)

// Call implements types.Callable.
func (c callable) Call(args ...any) (any, error) { return c(args) }

// storageClass stands for a storage class; it is the dtype of the elements.
type storageClass string

// tensorClass stands for a class of tensors, of which nothing is made.
type tensorClass struct{}

// storageRef is a storage that a pickle refers to, or a part of one.
type storageRef struct {
	key    string
	dtype  string
	offset int64 // in elements, from the start of the storage called key
	numel  int64
}

// pickledTensor is a tensor as a pickle describes it: a view of a storage. Extents, strides and offset count elements.
type pickledTensor struct {
	storage        storageRef
	offset         int64
	shape, strides []int
}

// rebuildTensor reads the arguments of torch._utils._rebuild_tensor_v2: storage, offset, shape, strides, and more that does not concern values.
func rebuildTensor(args []any) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("a tensor is described by %d values instead of at least 4", len(args))
	}
	s, ok1 := args[0].(storageRef)
	offset, ok2 := args[1].(int)
	shape, ok3 := extents(args[2])
	strides, ok4 := extents(args[3])
	if !ok1 || !ok2 || !ok3 || !ok4 || len(shape) != len(strides) {
		return nil, errors.New("a tensor is not described by a storage, an offset, a shape and as many strides")
	}
	return &pickledTensor{storage: s, offset: int64(offset), shape: shape, strides: strides}, nil
}

// extents reads a tuple of whole numbers.
func extents(v any) ([]int, bool) {
	t, ok := v.(*types.Tuple)
	if !ok {
		return nil, false
	}
	out := make([]int, t.Len())
	for i := range out {
		if out[i], ok = t.Get(i).(int); !ok {
			return nil, false
		}
	}
	return out, true
}

// pickles reads one pickle after the other from a section of a file.
type pickles struct {
	r    *bufio.Reader
	at   int64 // in the file
	left int64 // bytes of the section not read yet
	cost int64 // memory that may still be spent on running pickles
}

func newPickles(r io.ReaderAt, offset, size int64) *pickles {
	return &pickles{r: bufio.NewReaderSize(io.NewSectionReader(r, offset, size), 1<<12), at: offset, left: size, cost: size + pickleOverhead}
}

// next scans the next pickle and runs it. persistent answers the references to storages; nil: there may be none.
func (p *pickles) next(persistent func(id any) (any, error)) (v any, err error) {
	b, err := p.scan()
	if err != nil {
		return nil, err
	}
	u := pickle.NewUnpickler(bytes.NewReader(b))
	u.FindClass = torchClass
	u.PersistentLoad = persistent
	defer func() { // gopickle panics on some nonsense, such as a list as the key of a dict
		if r := recover(); r != nil {
			v, err = nil, &FormatError{Problem: fmt.Sprintf("its pickle makes no sense: %.200v", r), Remedy: again}
		}
	}()
	v, err = u.Load()
	if err != nil {
		if _, told := errors.AsType[*FormatError](err); !told {
			err = &FormatError{Problem: fmt.Sprintf("its pickle makes no sense: %.200v", err), Remedy: again}
		}
	}
	return v, err
}

// skip reads n bytes that belong to no pickle.
func (p *pickles) skip(n int64) error {
	if n < 0 || n > p.left {
		return p.cut()
	}
	for done := int64(0); done < n; {
		k, err := p.r.Discard(int(min(n-done, 1<<30)))
		done, p.at, p.left = done+int64(k), p.at+int64(k), p.left-int64(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// uint64 reads 8 little-endian bytes that belong to no pickle.
func (p *pickles) uint64() (uint64, error) {
	var b [8]byte
	if p.left < 8 {
		return 0, p.cut()
	}
	if _, err := io.ReadFull(p.r, b[:]); err != nil {
		return 0, err
	}
	p.at, p.left = p.at+8, p.left-8
	return binary.LittleEndian.Uint64(b[:]), nil
}

func (p *pickles) cut() error {
	return &FormatError{Problem: fmt.Sprintf("it is truncated: it ends at byte %d, in the middle of something", p.at+p.left), Remedy: again}
}

// scan returns the bytes of the next pickle after checking all that can be checked without running it.
func (p *pickles) scan() ([]byte, error) {
	var b []byte
	take := func(n uint64) ([]byte, error) {
		if n > uint64(p.left) {
			return nil, p.cut()
		}
		if uint64(len(b))+n > maxPickle {
			return nil, &FormatError{Problem: fmt.Sprintf("its pickle has more than %d MB: it is not the pickle of a state dict", maxPickle>>20), Remedy: resave}
		}
		from := len(b)
		b = append(b, make([]byte, n)...)
		if _, err := io.ReadFull(p.r, b[from:]); err != nil {
			return nil, fmt.Errorf("reading a pickle: %w", err)
		}
		p.at, p.left = p.at+int64(n), p.left-int64(n)
		return b[from:], nil
	}
	line := func() (string, error) {
		from := len(b)
		for {
			c, err := take(1)
			if err != nil {
				return "", err
			}
			if c[0] == '\n' {
				return string(b[from : len(b)-1]), nil
			}
			if len(b)-from > 1<<12 {
				return "", &FormatError{Problem: "its pickle names a class of more than 4096 bytes", Remedy: resave}
			}
		}
	}
	// The last two values if they were strings: the module and the name of a class in protocol 4.
	var last [2]*string
	memo := map[uint64]*string{}
	push := func(s *string) { last[0], last[1] = last[1], s }
	spend := func(n int64) error {
		if p.cost -= n; p.cost < 0 {
			return &FormatError{Problem: "its pickle would take far more memory than the file has bytes: it is not the pickle of a state dict", Remedy: resave}
		}
		return nil
	}
	nest := 0
	for {
		op, err := take(1)
		if err != nil {
			return nil, err
		}
		code := op[0]
		kind, ok := pickleOps[code]
		if !ok {
			return nil, &FormatError{Problem: fmt.Sprintf("its pickle has the instruction %#02x, which no state dict needs", code), Remedy: resave}
		}
		if err := spend(opcodeCost); err != nil {
			return nil, err
		}
		var length uint64
		if kind.lengthBytes > 0 {
			a, err := take(uint64(kind.lengthBytes))
			if err != nil {
				return nil, err
			}
			var le [8]byte
			copy(le[:], a)
			length = binary.LittleEndian.Uint64(le[:])
		}
		switch code {
		case '.':
			return b, nil
		case '(':
			if nest++; nest > maxPickleNest {
				return nil, &FormatError{Problem: fmt.Sprintf("its pickle is nested more than %d deep", maxPickleNest), Remedy: resave}
			}
			if err := spend(markCost); err != nil {
				return nil, err
			}
		case 't', 'l', 'd', 'e', 'u', '1':
			nest--
		case 0x95: // FRAME: how many bytes follow; they are looked at one by one
			if length > uint64(p.left) {
				return nil, p.cut()
			}
			if err := spend(int64(length)); err != nil {
				return nil, err
			}
			continue
		case 'c':
			module, err := line()
			if err != nil {
				return nil, err
			}
			name, err := line()
			if err != nil {
				return nil, err
			}
			if _, err := torchClass(module, name); err != nil {
				return nil, err
			}
		case 0x93: // STACK_GLOBAL
			if last[0] == nil || last[1] == nil {
				return nil, &FormatError{Problem: "its pickle computes the name of a class: it may run code", Remedy: resave}
			}
			if _, err := torchClass(*last[0], *last[1]); err != nil {
				return nil, err
			}
		case 'q', 'r':
			memo[length] = last[1]
			continue
		case 0x94: // MEMOIZE
			memo[uint64(len(memo))] = last[1]
			continue
		case 'h', 'j':
			s, known := memo[length]
			if !known {
				return nil, &FormatError{Problem: "its pickle refers to a value that it has not made", Remedy: again}
			}
			push(s)
			continue
		}
		if kind.text || kind.bytes {
			s, err := take(length)
			if err == nil {
				err = spend(2 * int64(length))
			}
			if err != nil {
				return nil, err
			}
			if kind.text {
				text := strings.Clone(string(s))
				push(&text)
				continue
			}
		} else if kind.argument > 0 {
			if _, err := take(uint64(kind.argument)); err != nil {
				return nil, err
			}
		}
		push(nil)
	}
}

// pickleOp says what follows an opcode: the bytes of an index or of a length (and then that many bytes), or an argument of fixed size.
type pickleOp struct {
	lengthBytes, argument int
	text, bytes           bool
}

// pickleOps are the instructions that torch.save, in any protocol of Python's, writes for dicts, lists, tuples, numbers, strings and tensors.
// Those that make objects of arbitrary classes (INST, OBJ, NEWOBJ, extensions) and text forms of protocol 0 are missing on purpose.
var pickleOps = map[byte]pickleOp{
	0x80: {argument: 1},        // PROTO
	0x95: {lengthBytes: 8},     // FRAME
	'.':  {},                   // STOP
	'(':  {},                   // MARK
	'}':  {}, ']': {}, ')': {}, // EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE
	't': {}, 'l': {}, 'd': {}, '1': {}, // TUPLE, LIST, DICT, POP_MARK
	0x85: {}, 0x86: {}, 0x87: {}, // TUPLE1, TUPLE2, TUPLE3
	'e': {}, 'a': {}, // APPENDS, APPEND
	'u': {}, 's': {}, // SETITEMS, SETITEM
	'0': {},                                      // POP
	'q': {lengthBytes: 1}, 'r': {lengthBytes: 4}, // BINPUT, LONG_BINPUT
	'h': {lengthBytes: 1}, 'j': {lengthBytes: 4}, // BINGET, LONG_BINGET
	0x94: {},           // MEMOIZE
	'c':  {}, 0x93: {}, // GLOBAL, STACK_GLOBAL
	'R': {}, 'b': {}, 'Q': {}, // REDUCE, BUILD, BINPERSID
	'N': {}, 0x88: {}, 0x89: {}, // NONE, NEWTRUE, NEWFALSE
	'J': {argument: 4}, 'K': {argument: 1}, 'M': {argument: 2}, // BININT, BININT1, BININT2
	0x8a: {lengthBytes: 1, bytes: true},                                   // LONG1
	'G':  {argument: 8},                                                   // BINFLOAT
	'X':  {lengthBytes: 4, text: true},                                    // BINUNICODE
	0x8c: {lengthBytes: 1, text: true},                                    // SHORT_BINUNICODE
	0x8d: {lengthBytes: 8, text: true},                                    // BINUNICODE8
	'U':  {lengthBytes: 1, text: true}, 'T': {lengthBytes: 4, text: true}, // SHORT_BINSTRING, BINSTRING
	'C': {lengthBytes: 1, bytes: true}, 'B': {lengthBytes: 4, bytes: true}, // SHORT_BINBYTES, BINBYTES
}

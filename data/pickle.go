package data

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// A pickle is a program. This reader knows the few instructions, of protocols 2 and 3, that dicts, lists, numbers, strings and NumPy arrays of bytes
// consist of, builds plain values from them, and calls nothing. Anything else is an error that names it.

// pickledArray is a NumPy array of unsigned bytes.
type pickledArray struct {
	shape   []int
	fortran bool // the first index runs fastest
	bytes   []byte
}

// pickledName is a class or function that a pickle names, or what NumPy's becomes before its state is set.
type pickledName string

const (
	npReconstruct pickledName = "numpy _reconstruct"
	npArray       pickledName = "numpy ndarray"
	npDtype       pickledName = "numpy dtype"
	npUint8       pickledName = "numpy dtype u1"
)

var pickledNames = map[string]pickledName{
	"numpy.core.multiarray._reconstruct":  npReconstruct,
	"numpy._core.multiarray._reconstruct": npReconstruct,
	"numpy.ndarray":                       npArray,
	"numpy.dtype":                         npDtype,
}

type (
	pickledTuple []any
	pickledList  struct{ items []any }
	pickledMark  struct{}
)

// pickleLength are the bytes of the length before an instruction's content.
var pickleLength = map[byte]int{'U': 1, 'T': 4, 'X': 4, 'C': 1, 'B': 4}

// unpickle returns the value of a pickle: a map[string]any, *pickledList, pickledTuple, *pickledArray, string, int64, bool or nil.
func unpickle(b []byte) (_ any, err error) {
	var stack []any
	memo := map[uint32]any{}
	at := 0
	cut := fmt.Errorf("is truncated at byte %d", len(b))
	take := func(n int) ([]byte, error) {
		if n < 0 || n > len(b)-at {
			return nil, cut
		}
		at += n
		return b[at-n : at], nil
	}
	pop := func() (v any, err error) {
		if len(stack) == 0 {
			return nil, errors.New("takes more values than it has made")
		}
		v, stack = stack[len(stack)-1], stack[:len(stack)-1]
		return v, nil
	}
	push := func(v any) { stack = append(stack, v) }
	marked := func() ([]any, error) { // the values above the last mark
		for k := len(stack) - 1; k >= 0; k-- {
			if _, ok := stack[k].(pickledMark); ok {
				items := append([]any(nil), stack[k+1:]...)
				stack = stack[:k]
				return items, nil
			}
		}
		return nil, errors.New("lacks a mark")
	}
	for {
		op, err := take(1)
		if err != nil {
			return nil, err
		}
		if len(stack) > 1<<20 || len(memo) > 1<<20 {
			return nil, errors.New("makes more than a million values")
		}
		number := func(n int) (uint32, error) {
			raw, err := take(n)
			var le [4]byte
			copy(le[:], raw)
			return binary.LittleEndian.Uint32(le[:]), err
		}
		var n uint32
		var v any
		switch op[0] {
		case 0x80: // PROTO
			if n, err = number(1); err == nil && n > 3 {
				err = fmt.Errorf("is of protocol %d, only 2 and 3 are read", n)
			}
		case '.': // STOP
			if len(stack) != 1 {
				return nil, fmt.Errorf("ends with %d values instead of one", len(stack))
			}
			return stack[0], nil
		case '(':
			push(pickledMark{})
		case '}':
			push(map[string]any{})
		case ']':
			push(&pickledList{})
		case ')':
			push(pickledTuple(nil))
		case 'N':
			push(nil)
		case 0x88, 0x89: // NEWTRUE, NEWFALSE
			push(op[0] == 0x88)
		case 'K':
			n, err = number(1)
			push(int64(n))
		case 'M':
			n, err = number(2)
			push(int64(n))
		case 'J':
			n, err = number(4)
			push(int64(int32(n)))
		case 'U', 'T', 'X', 'C', 'B':
			var content []byte
			if n, err = number(pickleLength[op[0]]); err == nil {
				content, err = take(int(n))
			}
			push(pickledText(content))
		case 'q':
			n, err = number(1)
			if len(stack) > 0 {
				memo[n] = stack[len(stack)-1]
			}
		case 'r':
			n, err = number(4)
			if len(stack) > 0 {
				memo[n] = stack[len(stack)-1]
			}
		case 'h', 'j':
			n, err = number(map[byte]int{'h': 1, 'j': 4}[op[0]])
			known, ok := memo[n]
			if err == nil && !ok {
				err = errors.New("refers to a value that it has not made")
			}
			push(known)
		case 'c':
			var name string
			for range 2 {
				end := bytes.IndexByte(b[at:], '\n')
				if end < 0 || end > 100 {
					return nil, errors.New("names a class of more than 100 bytes")
				}
				name += "." + string(b[at:at+end])
				at += end + 1
			}
			known, ok := pickledNames[name[1:]]
			if !ok {
				return nil, fmt.Errorf("wants to load %q, which no data set needs: it may run code", name[1:])
			}
			push(known)
		case 0x85, 0x86, 0x87: // TUPLE1 to TUPLE3
			size := int(op[0]) - 0x84
			if len(stack) < size {
				return nil, errors.New("takes more values than it has made")
			}
			t := append(pickledTuple(nil), stack[len(stack)-size:]...)
			stack = stack[:len(stack)-size]
			push(t)
		case 't':
			var items []any
			items, err = marked()
			push(pickledTuple(items))
		case 'a', 'e':
			var items []any
			if op[0] == 'a' {
				v, err = pop()
				items = []any{v}
			} else {
				items, err = marked()
			}
			if err == nil {
				err = appendTo(stack, items)
			}
		case 's', 'u':
			var items []any
			if op[0] == 's' {
				if len(stack) < 2 {
					return nil, errors.New("takes more values than it has made")
				}
				items = append(items, stack[len(stack)-2:]...)
				stack = stack[:len(stack)-2]
			} else {
				items, err = marked()
			}
			if err == nil {
				err = setIn(stack, items)
			}
		case 'R':
			var f any
			if v, err = pop(); err == nil {
				f, err = pop()
			}
			if err == nil {
				v, err = reduce(f, v)
				push(v)
			}
		case 'b':
			if v, err = pop(); err == nil {
				err = build(stack, v)
			}
		default:
			err = fmt.Errorf("has the instruction %#02x, which no data set needs", op[0])
		}
		if err != nil {
			return nil, err
		}
	}
}

// pickledText keeps the bytes of a string where they are: an array's are most of the file.
type pickledText []byte

func appendTo(stack, items []any) error {
	if len(stack) == 0 {
		return errors.New("appends to nothing")
	}
	l, ok := stack[len(stack)-1].(*pickledList)
	if !ok {
		return errors.New("appends to what is no list")
	}
	l.items = append(l.items, items...)
	return nil
}

func setIn(stack, items []any) error {
	if len(stack) == 0 || len(items)%2 != 0 {
		return errors.New("sets what is no pair in a dict")
	}
	m, ok := stack[len(stack)-1].(map[string]any)
	if !ok {
		return errors.New("sets an item of what is no dict")
	}
	for k := 0; k < len(items); k += 2 {
		key, ok := items[k].(pickledText)
		if !ok {
			return errors.New("has a key that is no text")
		}
		m[string(key)] = items[k+1]
	}
	return nil
}

// reduce is what calling f gives, for NumPy's two functions.
func reduce(f, args any) (any, error) {
	t, ok := args.(pickledTuple)
	switch {
	case ok && f == npReconstruct && len(t) == 3 && t[0] == npArray:
		return &pickledArray{}, nil
	case ok && f == npDtype && len(t) == 3:
		if name, ok := t[0].(pickledText); ok && string(name) == "u1" {
			return npUint8, nil
		}
		return nil, errors.New("holds an array that is not of unsigned bytes")
	}
	return nil, errors.New("calls something that no data set needs")
}

// build sets the state of the last value: (version, shape, dtype, Fortran's order, bytes) of an array. A dtype's says nothing more about bytes.
func build(stack []any, state any) error {
	if len(stack) == 0 {
		return errors.New("sets the state of nothing")
	}
	switch v := stack[len(stack)-1].(type) {
	case pickledName:
		if v == npUint8 {
			return nil
		}
	case *pickledArray:
		t, ok := state.(pickledTuple)
		if !ok || len(t) != 5 || t[2] != npUint8 {
			break
		}
		shape, ok1 := t[1].(pickledTuple)
		fortran, ok2 := t[3].(bool)
		content, ok3 := t[4].(pickledText)
		if !ok1 || !ok2 || !ok3 {
			break
		}
		size := 1
		for _, e := range shape {
			n, ok := e.(int64)
			if !ok || n < 0 || n > 0 && size > len(content)/int(n) {
				return errors.New("holds an array whose shape is not that of its bytes")
			}
			v.shape = append(v.shape, int(n))
			size *= int(n)
		}
		if size != len(content) {
			return errors.New("holds an array whose shape is not that of its bytes")
		}
		v.fortran, v.bytes = fortran, content
		return nil
	}
	return errors.New("sets the state of something that no data set needs")
}

// field is the value of a dict's key, as NumPy's and Python's bytes and text are written alike.
func field[T any](v any, key string) (T, error) {
	var none T
	m, ok := v.(map[string]any)
	if !ok {
		return none, errors.New("is no pickled dict")
	}
	if v, ok := m[key].(T); ok {
		return v, nil
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return none, fmt.Errorf("lacks %s as it should be; it has: %.200s", key, strings.Join(keys, ", "))
}

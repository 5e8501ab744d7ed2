package checkpoints

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Tensor is one named array. Data holds its elements in row-major order, little endian, and has exactly the length that DType and Shape
// imply; [Write] and the conversions check that. Shape is empty for a scalar.
type Tensor struct {
	Name  string
	DType string // F32, F64, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8 or BOOL
	Shape []int
	Data  []byte
}

// elementBytes are the bytes of one element of each dtype that the package knows.
var elementBytes = map[string]int64{
	"F64": 8, "I64": 8, "U64": 8,
	"F32": 4, "I32": 4, "U32": 4,
	"F16": 2, "BF16": 2, "I16": 2, "U16": 2,
	"I8": 1, "U8": 1, "BOOL": 1,
}

// F32 makes a float32 tensor; it copies both slices. A shape that does not fit the values is reported when the tensor is used.
func F32(name string, shape []int, values []float32) Tensor {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return Tensor{Name: name, DType: "F32", Shape: slices.Clone(shape), Data: data}
}

// F16 makes a half-precision tensor, rounding to nearest, ties to even. A value that float16 cannot hold is an error.
func F16(name string, shape []int, values []float32) (Tensor, error) {
	data := make([]byte, 2*len(values))
	for i, v := range values {
		h, ok := toHalf(v)
		if !ok {
			return Tensor{}, fmt.Errorf("tensor %s: value %d is %g, which float16 cannot hold: keep it in float32", name, i, v)
		}
		binary.LittleEndian.PutUint16(data[2*i:], h)
	}
	return Tensor{Name: name, DType: "F16", Shape: shape, Data: data}, nil
}

// I64 makes an int64 tensor; it copies both slices. A shape that does not fit the values is reported when the tensor is used.
func I64(name string, shape []int, values []int64) Tensor {
	data := make([]byte, 8*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(data[8*i:], uint64(v))
	}
	return Tensor{Name: name, DType: "I64", Shape: slices.Clone(shape), Data: data}
}

// Float32s returns the elements of an F32, F16 or BF16 tensor as a new slice, without loss. F64 is refused: see [Tensor.Float64s].
func (t Tensor) Float32s() ([]float32, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if err := t.wantFloat32(); err != nil {
		return nil, err
	}
	out := make([]float32, len(t.Data)/int(elementBytes[t.DType]))
	decodeFloat32(out, t.DType, t.Data)
	return out, nil
}

// Float64s returns the elements of an F64, F32, F16 or BF16 tensor as a new slice, without loss.
func (t Tensor) Float64s() ([]float64, error) {
	if t.DType != "F64" {
		narrow, err := t.Float32s()
		if err != nil {
			return nil, err
		}
		out := make([]float64, len(narrow))
		for i, v := range narrow {
			out[i] = float64(v)
		}
		return out, nil
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	out := make([]float64, len(t.Data)/8)
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:]))
	}
	return out, nil
}

// Int64s returns the elements of an integer or BOOL tensor as a new slice, without loss. Floats and U64 are refused.
func (t Tensor) Int64s() ([]int64, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	le, d := binary.LittleEndian, t.Data
	var at func(i int) int64
	switch t.DType {
	case "I64":
		at = func(i int) int64 { return int64(le.Uint64(d[8*i:])) }
	case "I32":
		at = func(i int) int64 { return int64(int32(le.Uint32(d[4*i:]))) }
	case "U32":
		at = func(i int) int64 { return int64(le.Uint32(d[4*i:])) }
	case "I16":
		at = func(i int) int64 { return int64(int16(le.Uint16(d[2*i:]))) }
	case "U16":
		at = func(i int) int64 { return int64(le.Uint16(d[2*i:])) }
	case "I8":
		at = func(i int) int64 { return int64(int8(d[i])) }
	case "U8", "BOOL":
		at = func(i int) int64 { return int64(d[i]) }
	default:
		return nil, &FormatError{Tensor: t.Name, Problem: fmt.Sprintf("has dtype %s where an integer is wanted", t.DType),
			Remedy: "check the tensor's name, or read it with Float32s"}
	}
	out := make([]int64, len(d)/int(elementBytes[t.DType]))
	for i := range out {
		out[i] = at(i)
	}
	return out, nil
}

// CheckFinite returns an error that counts the NaN and infinite elements, or nil if there are none. Integers are always finite.
func (t Tensor) CheckFinite() error {
	if err := t.check(); err != nil {
		return err
	}
	var n nonFinite
	n.scan(t.DType, 0, t.Data)
	return n.err(t.Name)
}

const agree = "make the shape, the dtype and the data agree"

// check returns an error unless dtype, shape and data agree.
func (t Tensor) check() error {
	n, err := t.bytes()
	if err == nil && n != int64(len(t.Data)) {
		return &FormatError{Tensor: t.Name, Problem: fmt.Sprintf("has %d bytes of data, but %s with shape %v takes %d", len(t.Data), t.DType, t.Shape, n), Remedy: agree}
	}
	return err
}

// bytes returns how long the data must be.
func (t Tensor) bytes() (int64, error) {
	if t.Name == "" {
		return 0, &FormatError{Problem: "a tensor has no name", Remedy: "give every tensor a name"}
	}
	n, problem := dataBytes(t.DType, t.Shape)
	if problem != "" {
		return 0, &FormatError{Tensor: t.Name, Problem: problem, Remedy: agree}
	}
	return n, nil
}

func (t Tensor) wantFloat32() error {
	switch t.DType {
	case "F32", "F16", "BF16":
		return nil
	case "F64":
		return &FormatError{Tensor: t.Name, Problem: "has dtype F64, which float32 cannot hold without loss",
			Remedy: "read it with Float64s, or export the weights as float32"}
	}
	return &FormatError{Tensor: t.Name, Problem: fmt.Sprintf("has dtype %s where a float is wanted", t.DType),
		Remedy: "check the tensor's name, or read it with Int64s"}
}

// dataBytes returns the bytes that a tensor takes, or what is wrong with its dtype or shape.
func dataBytes(dtype string, shape []int) (n int64, problem string) {
	n, known := elementBytes[dtype]
	if !known {
		return 0, fmt.Sprintf("has dtype %.20q, which this reader does not know", dtype)
	}
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Sprintf("has a negative dimension in its shape %s", shapeText(shape))
		}
		// A zero further right does not excuse an overflow here: no honest writer makes such a shape.
		if d > 0 && n > math.MaxInt64/int64(d) {
			return 0, fmt.Sprintf("has shape %s, whose number of bytes overflows", shapeText(shape))
		}
		n *= int64(d)
	}
	return n, ""
}

// shapeText writes a shape for an error message; a hostile one may have any length.
func shapeText(shape []int) string {
	if len(shape) > 8 {
		return fmt.Sprintf("%v... (%d dimensions)", shape[:8], len(shape))
	}
	return fmt.Sprint(shape)
}

// decodeFloat32 fills dst with the elements of src, of dtype F32, F16 or BF16.
func decodeFloat32(dst []float32, dtype string, src []byte) {
	le := binary.LittleEndian
	for i := range dst {
		switch dtype {
		case "F32":
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		case "BF16":
			dst[i] = math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
		case "F16":
			dst[i] = half(le.Uint16(src[2*i:]))
		}
	}
}

// half widens an IEEE 754 binary16 number.
func half(b uint16) float32 {
	sign := uint32(b>>15) << 31
	exponent, fraction := uint32(b>>10)&0x1f, uint32(b)&0x3ff
	switch exponent {
	case 0: // zero and subnormals: fraction * 2^-24, exact in float32
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f: // infinity and NaN
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// nonFinite counts the NaN and infinite elements of one tensor, fed in whole elements and in any order.
type nonFinite struct {
	seen, bad, first int64
	value            float64 // the first bad one
}

// scan counts data, which lies at byte at of the tensor.
func (n *nonFinite) scan(dtype string, at int64, data []byte) {
	le := binary.LittleEndian
	size := int(elementBytes[dtype])
	for i := at / int64(size); len(data) >= size; i, data = i+1, data[size:] {
		var v float64
		switch dtype {
		case "F64":
			v = math.Float64frombits(le.Uint64(data))
		case "F32":
			v = float64(math.Float32frombits(le.Uint32(data)))
		case "BF16":
			v = float64(math.Float32frombits(uint32(le.Uint16(data)) << 16))
		case "F16":
			v = float64(half(le.Uint16(data)))
		default:
			return
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if n.bad == 0 || i < n.first {
				n.first, n.value = i, v
			}
			n.bad++
		}
		n.seen++
	}
}

func (n *nonFinite) err(tensor string) error {
	if n.bad == 0 {
		return nil
	}
	return &FormatError{Tensor: tensor, Problem: fmt.Sprintf("%d of %d values are not finite (the first is %v at index %d)", n.bad, n.seen, n.value, n.first),
		Remedy: "the training that made them diverged: use an earlier checkpoint"}
}

// toHalf rounds to IEEE 754 binary16; ok is false for NaN, infinities and overflow.
func toHalf(v float32) (h uint16, ok bool) {
	b := math.Float32bits(v)
	sign := uint16(b >> 16 & 0x8000)
	exp, frac := int(b>>23&0xff)-127, b&0x7fffff
	switch {
	case exp > 15:
		return 0, false
	case exp >= -14:
		h = uint16(exp+15)<<10 | uint16(frac>>13)
		h += roundBit(frac, 13, h) // a carry runs into the exponent, as it should
	case exp >= -25:
		frac |= 0x800000
		shift := uint(-exp - 1) // the unit of subnormals is 2^-24
		h = uint16(frac >> shift)
		h += roundBit(frac, shift, h)
	}
	return sign | h, h < 0x7c00
}

// roundBit is 1 if dropping the low bits of frac rounds up, ties to even.
func roundBit(frac uint32, bits uint, kept uint16) uint16 {
	rest, half := frac&(1<<bits-1), uint32(1)<<(bits-1)
	if rest > half || rest == half && kept&1 == 1 {
		return 1
	}
	return 0
}

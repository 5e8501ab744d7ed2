package checkpoints

import "fmt"

// OIHWToHWIO turns the weights of a convolution from PyTorch's layout [out, in, kh, kw] into [kh, kw, in, out]. The slices given are not
// changed.
func OIHWToHWIO(shape []int, values []float32) ([]int, []float32, error) {
	return relayout("OIHW to HWIO", shape, values, [4]int{2, 3, 1, 0})
}

// HWIOToOIHW undoes [OIHWToHWIO].
func HWIOToOIHW(shape []int, values []float32) ([]int, []float32, error) {
	return relayout("HWIO to OIHW", shape, values, [4]int{3, 2, 0, 1})
}

// ConvTransposeToHWIO turns the weights of a transposed convolution from PyTorch's layout [in, out, kh, kw] into [kh, kw, in, out] and
// flips both spatial axes. With them a transposed convolution is a plain one over the dilated input, so that the graph needs no Reverse,
// which has no gradient. The slices given are not changed.
func ConvTransposeToHWIO(shape []int, values []float32) ([]int, []float32, error) {
	return relayout("ConvTranspose to HWIO", shape, values, [4]int{2, 3, 0, 1}, 0, 1)
}

// HWIOToConvTranspose undoes [ConvTransposeToHWIO].
func HWIOToConvTranspose(shape []int, values []float32) ([]int, []float32, error) {
	return relayout("HWIO to ConvTranspose", shape, values, [4]int{2, 3, 0, 1}, 2, 3)
}

// relayout copies four-dimensional values: axis i of the result is axis order[i] of the argument, and the flipped axes of the result run
// backwards.
func relayout(what string, shape []int, values []float32, order [4]int, flipped ...int) ([]int, []float32, error) {
	if len(shape) != 4 {
		return nil, nil, fmt.Errorf("checkpoints: converting weights from %s: shape %s has %d axes instead of 4", what, shapeText(shape), len(shape))
	}
	if n, problem := dataBytes("F32", shape); problem != "" || n != 4*int64(len(values)) {
		return nil, nil, fmt.Errorf("checkpoints: converting weights from %s: shape %v does not fit %d values", what, shape, len(values))
	}
	strides := [4]int{shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1}
	var size, step [4]int // of the result's axes, step in the argument
	for i, axis := range order {
		size[i], step[i] = shape[axis], strides[axis]
	}
	if len(values) == 0 { // one axis is 0, but the others may have any length
		return size[:], []float32{}, nil
	}
	start := 0
	for _, i := range flipped {
		start += (size[i] - 1) * step[i]
		step[i] = -step[i]
	}
	out := make([]float32, 0, len(values))
	for a := range size[0] {
		for b := range size[1] {
			for c := range size[2] {
				from := start + a*step[0] + b*step[1] + c*step[2]
				for d := range size[3] {
					out = append(out, values[from+d*step[3]])
				}
			}
		}
	}
	return size[:], out, nil
}

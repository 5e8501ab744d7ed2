package checkpoints

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func count(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i)
	}
	return v
}

// Every element lands where the definition of the layout says, for random shapes, and the way back restores the original.
func TestLayouts(t *testing.T) {
	type convert func([]int, []float32) ([]int, []float32, error)
	for _, c := range []struct {
		name     string
		to, back convert
		// where element (a,b,y,x) of PyTorch's weights of shape s lies in [kh, kw, in, out]
		at func(s []int, a, b, y, x int) [4]int
	}{
		{"OIHW", OIHWToHWIO, HWIOToOIHW, func(_ []int, o, i, y, x int) [4]int { return [4]int{y, x, i, o} }},
		{"ConvTranspose", ConvTransposeToHWIO, HWIOToConvTranspose, func(s []int, i, o, y, x int) [4]int { return [4]int{s[2] - 1 - y, s[3] - 1 - x, i, o} }},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		for range 50 {
			shape := []int{1 + r.IntN(5), 1 + r.IntN(5), 1 + r.IntN(4), 1 + r.IntN(4)}
			values := count(shape[0] * shape[1] * shape[2] * shape[3])
			original := slices.Clone(values)
			s, v, err := c.to(shape, values)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for a := range shape[0] {
				for b := range shape[1] {
					for y := range shape[2] {
						for x := range shape[3] {
							p := c.at(shape, a, b, y, x)
							if got := v[((p[0]*s[1]+p[1])*s[2]+p[2])*s[3]+p[3]]; got != values[n] {
								t.Fatalf("%s %v: element %d lies elsewhere (%v there)", c.name, shape, n, got)
							}
							n++
						}
					}
				}
			}
			s2, v2, err := c.back(s, v)
			if err != nil || !slices.Equal(s2, shape) || !slices.Equal(v2, original) || !slices.Equal(values, original) {
				t.Fatalf("%s %v: the way back gives %v %v, %v", c.name, shape, s2, v2, err)
			}
		}
	}
}

// A transposed convolution of a line by PyTorch's definition, y[s*i+k] += x[i]*w[k], against the plain one over the dilated input that
// the flipped weights are made for.
func TestFlippedWeightsMakeItAPlainConvolution(t *testing.T) {
	const stride, k, n = 2, 3, 4
	x, w := []float32{1, -2, 3, 5}, []float32{2, 7, -1}
	want := make([]float32, stride*(n-1)+k)
	for i, v := range x {
		for j, u := range w {
			want[stride*i+j] += v * u
		}
	}
	_, flipped, err := ConvTransposeToHWIO([]int{1, 1, 1, k}, w)
	if err != nil {
		t.Fatal(err)
	}
	padded := make([]float32, len(want)+k-1) // k-1 zeros on both sides of the dilated input
	for i, v := range x {
		padded[k-1+stride*i] = v
	}
	for o := range want {
		var got float32
		for j, u := range flipped {
			got += padded[o+j] * u
		}
		if got != want[o] { // small integers: exact
			t.Errorf("output %d is %v, want %v", o, got, want[o])
		}
	}
}

func TestLayoutErrors(t *testing.T) {
	for _, c := range []struct {
		shape []int
		n     int
	}{{[]int{2, 2}, 4}, {[]int{2, 2, 2, 2}, 15}, {[]int{-1, -1, 4, 4}, 16}, {[]int{1 << 40, 1 << 40, 1, 1}, 0}, {nil, 1}} {
		for _, f := range []func([]int, []float32) ([]int, []float32, error){OIHWToHWIO, HWIOToOIHW, ConvTransposeToHWIO, HWIOToConvTranspose} {
			if _, _, err := f(c.shape, count(c.n)); err == nil {
				t.Errorf("shape %v was accepted for %d values", c.shape, c.n)
			}
		}
	}
	if s, v, err := ConvTransposeToHWIO([]int{0, 1 << 40, 1 << 10, 3}, nil); err != nil || len(v) != 0 || s[0] != 1<<10 {
		t.Errorf("empty weights: %v %v %v", s, v, err)
	}
}

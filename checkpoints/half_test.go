package checkpoints

import (
	"math"
	"testing"
)

// TestHalf: every finite float16 survives the way to float32 and back, and values between two neighbours round to the nearer one, ties to even.
func TestHalf(t *testing.T) {
	for b := range 0x7c00 {
		v := half(uint16(b))
		for _, sign := range []uint16{0, 0x8000} {
			if got, ok := toHalf(half(uint16(b) | sign)); !ok || got != uint16(b)|sign {
				t.Fatalf("%#04x became %g and then %#04x", b, v, got)
			}
		}
		if b == 0x7bff {
			break
		}
		next := half(uint16(b + 1))
		middle := v + (next-v)/2 // exact: float32 has 13 more bits
		even := uint16(b + b&1)
		for _, c := range []struct {
			v    float32
			want uint16
		}{{middle, even}, {math.Nextafter32(middle, 0), uint16(b)}, {math.Nextafter32(middle, math.MaxFloat32), uint16(b + 1)}} {
			if got, ok := toHalf(c.v); !ok || got != c.want {
				t.Fatalf("%g became %#04x, want %#04x", c.v, got, c.want)
			}
		}
	}
	for _, v := range []float32{65520, 1e30, float32(math.Inf(1)), float32(math.NaN())} {
		if _, err := F16("w", []int{1}, []float32{v}); err == nil {
			t.Errorf("%g was accepted", v)
		}
	}
}

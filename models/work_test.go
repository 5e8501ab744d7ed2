package models

import (
	"math"
	"testing"
)

func TestWork(t *testing.T) {
	narrow := CIFAR10WRN(10, 1)
	// By hand, layer by layer: the first convolution; two convolutions of 32x32 maps; two and a shortcut of 16x16 ones and of 8x8 ones; the logits.
	const (
		first  = 2 * 3 * 16 * 9 * 32 * 32
		second = 2 * 2 * 16 * 16 * 9 * 32 * 32
		third  = 2 * 16 * 16 * (16*32*9 + 32*32*9 + 16*32)
		fourth = 2 * 8 * 8 * (32*64*9 + 64*64*9 + 32*64)
		logits = 2 * 64 * 10
		values = 3*16*32*32 + 3*32*16*16 + 3*64*8*8
	)
	if got, want := narrow.Work(), (Work{first + second + third + fourth + logits, values + 10}); got != want {
		t.Errorf("%s: %+v, want %+v", narrow, got, want)
	}
	for tap, want := range map[string]int{
		"layer.2.block.0.shortcut": first + second + third + fourth,
		"layer.2.block.0.conv_1":   first + second + third + fourth - 2*32*64*8*8,
		"layer.0.block.0.conv_0":   first + second/2,
	} {
		if got := narrow.WorkTo(tap).FLOPs; got != want {
			t.Errorf("%s to %s: %d, want %d", narrow, tap, got, want)
		}
	}
	// A stride of 2 makes a 64-pixel image cost what a 32-pixel one does, but for the classes.
	strided := TinyImageNetWRN(10, 1)
	strided.Stride = 2
	if a, b := strided.WorkTo(""), narrow.WorkTo(""); a != b {
		t.Errorf("%s: %+v, %s: %+v", strided, a, narrow, b)
	}
	// Zagoruyko and Komodakis's network takes 5.2 G multiply-adds, as everybody counts them.
	if g := float64(CIFAR10WRN(28, 10).Work().FLOPs) / 2e9; math.Abs(g-5.2) > 0.06 {
		t.Errorf("WRN-28-10: %.3f G multiply-adds", g)
	}
}

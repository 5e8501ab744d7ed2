package models

import (
	"carsokit/internal/nn"

	. "github.com/gomlx/gomlx/core/graph"
)

// Graph builds the network on x [B,H,W,3] in [0,1], from variables under n's scope. It returns the logits [B,Classes] and the representations
// of Taps, each [B,h,w,c]. With headless set it stops at the last representation and the logits are nil. Pooling is over the whole last map, which is
// 8x8 for 32x32 images, so that the reference's fixed 8x8 window is the same.
func (w WRN) Graph(n nn.Net, x *Node, headless bool) (logits *Node, taps []*Node) {
	x.AssertDims(-1, w.Size, w.Size, 3)
	act := func(x *Node, name string) *Node { return nn.SiLU(n.BatchNorm(x, name, w.BNMomentum)) }
	x = n.Conv(nn.Normalize(x, w.Mean, w.Std), "init_conv", w.stride(), 1, 1)
	for _, b := range w.blocks() {
		lo := 1
		if b.stride == 2 {
			lo = 0 // the strided convolutions pad at the right and bottom only
		}
		strided := n.Conv
		if w.blurred(b) {
			strided = n.BlurConv
		}
		a := act(x, b.name+"batchnorm_0")
		h := strided(a, b.name+"conv_0", b.stride, lo, 1)
		taps = append(taps, h)
		h = n.Conv(act(h, b.name+"batchnorm_1"), b.name+"conv_1", 1, 1, 1)
		taps = append(taps, h)
		if b.shortcut {
			x = strided(a, b.name+"shortcut", b.stride, 0, 0) // it sees the activated input, the identity sees the raw one
			if b.stride == 2 {
				taps = append(taps, x)
			}
		}
		x = Add(x, h)
	}
	if headless {
		return nil, taps
	}
	x = ReduceMean(act(x, "batchnorm"), 1, 2)
	return n.Linear(x, "logits", true), taps
}

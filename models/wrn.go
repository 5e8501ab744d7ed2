// Package models holds the classifiers: the pre-activation wide residual networks of the paper at any depth and width, with named
// representations, and their adversarial training.
package models

import (
	"fmt"

	"carsokit/internal/nn"
)

// WRN is the configuration of a pre-activation wide residual network with SiLU, as DeepMind's adversarially trained ones are built and as
// the reference uses them (spec: architecture 2). The zero value is not valid; see Validate.
type WRN struct {
	Depth      int        `json:"depth"`       // 6·blocks + 4
	Width      int        `json:"width"`       // channels are 16·Width, 32·Width, 64·Width
	Classes    int        `json:"classes"`     // size of the logits
	Size       int        `json:"size"`        // side of the square input image, a multiple of 4
	Mean       [3]float32 `json:"mean"`        // normalisation inside the network, per channel of [0,1] pixels
	Std        [3]float32 `json:"std"`         //
	BNMomentum float64    `json:"bn_momentum"` // PyTorch's: the share of the new batch; used in training only
	// BlurPool puts a 3x3 blur before every strided convolution, as the authors' recipe of the plain classifier does. Tensor names differ with it.
	BlurPool bool `json:"blurpool,omitempty"`
	// Stride of the first convolution; 0 is 1, as in all published networks. With 2 a 64-pixel image costs what a 32-pixel one does.
	Stride int `json:"stride,omitempty"`
}

// Channel means and standard deviations of the reference, which are inside its networks (spec: data 1).
var (
	CIFAR10Mean      = [3]float32{0.4914, 0.4822, 0.4465}
	CIFAR10Std       = [3]float32{0.2471, 0.2435, 0.2616}
	CIFAR100Mean     = [3]float32{0.5071, 0.4865, 0.4409}
	CIFAR100Std      = [3]float32{0.2673, 0.2564, 0.2762}
	TinyImageNetMean = [3]float32{0.4802, 0.4481, 0.3975}
	TinyImageNetStd  = [3]float32{0.2302, 0.2265, 0.2262}
)

// CIFAR10WRN is a network for CIFAR-10 of the given depth and width.
func CIFAR10WRN(depth, width int) WRN {
	return WRN{Depth: depth, Width: width, Classes: 10, Size: 32, Mean: CIFAR10Mean, Std: CIFAR10Std, BNMomentum: 0.1}
}

// CIFAR100WRN is a network for CIFAR-100 of the given depth and width.
func CIFAR100WRN(depth, width int) WRN {
	return WRN{Depth: depth, Width: width, Classes: 100, Size: 32, Mean: CIFAR100Mean, Std: CIFAR100Std, BNMomentum: 0.1}
}

// TinyImageNetWRN is a network for TinyImageNet-200 of the given depth and width.
func TinyImageNetWRN(depth, width int) WRN {
	return WRN{Depth: depth, Width: width, Classes: 200, Size: 64, Mean: TinyImageNetMean, Std: TinyImageNetStd, BNMomentum: 0.1}
}

// Validate reports the first field that cannot be.
func (w WRN) Validate() error {
	switch {
	case w.Depth < 10 || (w.Depth-4)%6 != 0:
		return fmt.Errorf("wide residual network: depth %d is not 6·blocks + 4", w.Depth)
	case w.Width < 1:
		return fmt.Errorf("wide residual network: width %d is not positive", w.Width)
	case w.Classes < 2:
		return fmt.Errorf("wide residual network: %d classes", w.Classes)
	case w.Size < 8 || w.Size%4 != 0:
		return fmt.Errorf("wide residual network: image side %d is not a multiple of 4 of at least 8", w.Size)
	case w.Stride < 0 || w.Size%(4*w.stride()) != 0:
		return fmt.Errorf("wide residual network: stride %d of the first convolution does not divide a quarter of the image side %d", w.Stride, w.Size)
	case w.Std[0] <= 0 || w.Std[1] <= 0 || w.Std[2] <= 0:
		return fmt.Errorf("wide residual network: standard deviation %v is not positive", w.Std)
	case w.BNMomentum <= 0 || w.BNMomentum > 1:
		return fmt.Errorf("wide residual network: BatchNorm momentum %g is not in (0,1]", w.BNMomentum)
	}
	return nil
}

func (w WRN) String() string {
	s := fmt.Sprintf("WRN-%d-%d", w.Depth, w.Width)
	if w.BlurPool {
		s += " with BlurPool"
	}
	if w.stride() > 1 {
		s += fmt.Sprintf(" of stride %d", w.Stride)
	}
	return s
}

func (w WRN) stride() int { return max(1, w.Stride) }

// block is one residual block.
type block struct {
	name         string
	in, out      int
	stride, side int // side of its output
	shortcut     bool
}

func (w WRN) blocks() []block {
	var bs []block
	in, side := 16, w.Size/w.stride()
	for g := range 3 {
		out := (16 << g) * w.Width
		for b := range (w.Depth - 4) / 6 {
			stride := 1
			if g > 0 && b == 0 {
				stride, side = 2, side/2
			}
			bs = append(bs, block{fmt.Sprintf("layer.%d.block.%d.", g, b), in, out, stride, side, in != out})
			in = out
		}
	}
	return bs
}

// Params lists the state in PyTorch's order and layout, under the reference's names.
func (w WRN) Params() []nn.Param {
	ps := []nn.Param{nn.Conv("init_conv", 3, 16, 3)}
	for _, b := range w.blocks() {
		ps = append(ps, nn.BN(b.name+"batchnorm_0", b.in)...)
		ps = append(ps, w.conv(b, "conv_0", 3)...)
		ps = append(ps, nn.BN(b.name+"batchnorm_1", b.out)...)
		ps = append(ps, nn.Conv(b.name+"conv_1", b.out, b.out, 3))
		if b.shortcut {
			ps = append(ps, w.conv(b, "shortcut", 1)...)
		}
	}
	last := 64 * w.Width
	ps = append(ps, nn.BN("batchnorm", last)...)
	return append(ps, nn.Linear("logits", last, w.Classes, true)...)
}

// conv lists the state of a convolution that has its block's stride.
func (w WRN) conv(b block, name string, k int) []nn.Param {
	if w.blurred(b) {
		return nn.BlurConv(b.name+name, b.in, b.out, k)
	}
	return []nn.Param{nn.Conv(b.name+name, b.in, b.out, k)}
}

func (w WRN) blurred(b block) bool { return w.BlurPool && b.stride > 1 }

// Tap is a representation that may condition a purifier: the raw output of a convolution.
type Tap struct {
	Name    string
	H, W, C int
}

// Taps lists the representations in the order in which they are computed (spec: architecture 3): of each block conv_0, conv_1 and, in the
// strided groups, the shortcut. A WRN-28 has 26, a WRN-10 has 8.
func (w WRN) Taps() []Tap {
	var ts []Tap
	add := func(b block, layer string) {
		ts = append(ts, Tap{b.name + layer, b.side, b.side, b.out})
	}
	for _, b := range w.blocks() {
		add(b, "conv_0")
		add(b, "conv_1")
		if b.shortcut && b.stride == 2 {
			add(b, "shortcut")
		}
	}
	return ts
}

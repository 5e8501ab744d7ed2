// Package carso implements the method of Ballarin, Ansuini and Bortolussi (arXiv 2306.06081): a frozen classifier's internal
// representations of an image condition a generative purifier, whose sampled reconstructions are classified and aggregated.
//
// Config describes a purifier, Defence is the whole as a classifier that can be attacked end to end, Trainer trains the purifier. Graph code is
// in the *_graph.go files.
package carso

import (
	"fmt"
	"slices"

	"carsokit/internal/nn"
	"carsokit/models"
)

// Config is the shape of a purifier around a representation classifier. The reference's settings are Cond 512, Latent 128, Channels 256 for 32x32
// images and 768, 192, 256 for 64x64 ones (spec: architecture 4); smaller numbers give a smaller purifier of the same structure.
type Config struct {
	Base     models.WRN `json:"base"`           // the classifier whose representations condition the purifier
	Final    models.WRN `json:"final"`          // the classifier of the reconstructions
	Taps     []string   `json:"taps,omitempty"` // names of the representations used; empty: all of Base.Taps()
	Cond     int        `json:"cond"`           // K, size of the condition
	Latent   int        `json:"latent"`         // J, size of the latent sample
	Channels int        `json:"channels"`       // of the decoder's first map, a multiple of 8
	// Spatial, beyond the reference, gives the decoder maps beside the condition: of each size that it goes through, the last representation used, compressed to as many
	// channels as the decoder has there. What the condition's few numbers cannot hold of an image need not be guessed. The decoder then doubles its maps from the
	// beginning, from a sixteenth of the image's size.
	Spatial bool `json:"spatial,omitempty"`
	// Residual, beyond the reference, lets the decoder correct the attacked image instead of drawing it anew: its output is added, before the sigmoid, to the image's own
	// logit. It begins with zeros, so that the untrained purifier changes next to nothing and the defence starts as the classifier that it has to better.
	Residual bool `json:"residual,omitempty"`
	// Direct, beyond the reference, lets the attacked image reach the decision beside its purification: the logits of each sample are averaged with those of Base
	// on the image itself. What the purifier then learns is to correct the classifier.
	Direct bool `json:"direct,omitempty"`
}

// Validate reports the first field that cannot be.
func (c Config) Validate() error {
	if err := c.Base.Validate(); err != nil {
		return fmt.Errorf("purifier: representation classifier: %w", err)
	}
	if err := c.Final.Validate(); err != nil {
		return fmt.Errorf("purifier: final classifier: %w", err)
	}
	switch {
	case c.Final.Size != c.Base.Size:
		return fmt.Errorf("purifier: final classifier takes %d-pixel images, the representation classifier %d", c.Final.Size, c.Base.Size)
	case c.Base.Size != 32 && c.Base.Size != 64:
		return fmt.Errorf("purifier: images of side %d; the decoders make 32 or 64", c.Base.Size)
	case c.Direct && c.Final.Classes != c.Base.Classes:
		return fmt.Errorf("purifier: direct averages logits of %d and of %d classes; both classifiers must have the same", c.Base.Classes, c.Final.Classes)
	case c.Cond < 1 || c.Latent < 1:
		return fmt.Errorf("purifier: cond %d and latent %d must be positive", c.Cond, c.Latent)
	case c.Channels < 8 || c.Channels%8 != 0:
		return fmt.Errorf("purifier: channels %d is not a positive multiple of 8", c.Channels)
	}
	if len(c.Taps) > 0 && len(c.taps()) != len(c.Taps) {
		return fmt.Errorf("purifier: taps %v: %s has only %v in this order", c.Taps, c.Base, c.Base.Taps())
	}
	for _, t := range c.taps() {
		if least := 2*c.compressorBlocks() + 1; min(t.H, t.W) < least {
			return fmt.Errorf("purifier: taps: %s of %s is %dx%d, and a compressor takes maps of at least %dx%d: leave it out", t.Name, c.Base, t.H, t.W, least, least)
		}
	}
	return nil
}

// taps are the representations used, in the order in which they are computed.
func (c Config) taps() []models.Tap {
	all := c.Base.Taps()
	if len(c.Taps) == 0 {
		return all
	}
	var ts []models.Tap
	for _, t := range all {
		if len(ts) < len(c.Taps) && c.Taps[len(ts)] == t.Name {
			ts = append(ts, t)
		}
	}
	return ts
}

// big reports whether the purifier is the one for 64x64 images.
func (c Config) big() bool { return c.Base.Size == 64 }

// compressorBlocks is the number of convolution blocks of a representation compressor.
func (c Config) compressorBlocks() int {
	if c.big() {
		return 4
	}
	return 3
}

// compressed is the channel count after b of a compressor's blocks: c halved b times, rounded up.
func compressed(channels, b int) int { return (channels + 1<<b - 1) >> b }

// flattened is the length of all compressed representations together.
func (c Config) flattened() int {
	n, b := 0, c.compressorBlocks()
	for _, t := range c.taps() {
		n += compressed(t.C, b) * (t.H - 2*b) * (t.W - 2*b)
	}
	return n
}

// doubles reports whether the decoder's maps double from its first one to the image, as those for 64x64 images do.
func (c Config) doubles() bool { return c.big() || c.Spatial }

// decoderSide is the side of the decoder's first map.
func (c Config) decoderSide() int {
	if c.doubles() {
		return c.Base.Size / 16
	}
	return 3
}

// skip is the representation that the decoder sees as a map behind its layer l: the last one used of the size that its map has there.
func (c Config) skip(l int) (t models.Tap, ok bool) {
	if !c.Spatial {
		return t, false
	}
	for _, t = range slices.Backward(c.taps()) {
		if side := c.decoderSide() << l; t.H == side && t.W == side {
			return t, true
		}
	}
	return t, false
}

// decoderInput is the number of channels that layer l of the decoder, from the first that convolves, sees.
func (c Config) decoderInput(l int) int {
	n := c.decoderChannels()[l-1]
	if _, ok := c.skip(l - 1); ok {
		n *= 2
	}
	return n
}

// mapValues is the length of all maps that the decoder sees together, flattened.
func (c Config) mapValues() (n int) {
	for l := range decoderLayers {
		if t, ok := c.skip(l); ok {
			n += t.H * t.W * c.decoderChannels()[l]
		}
	}
	return n
}

// pixels is the number of values of an image.
func (c Config) pixels() int { return c.Base.Size * c.Base.Size * 3 }

// decoderLayers is the number of the decoder's maps.
const decoderLayers = 5

// imageCode is the length of the flattened output of the image compressor.
func (c Config) imageCode() int { return 12 * (c.Base.Size / 4) * (c.Base.Size / 4) }

// Part is one module of the purifier with its state, which lives in a scope, and for the three that inference needs a weight file, of that name.
type Part struct {
	Name   string
	Params []nn.Param
	// TrainOnly parts form the encoder, which inference does not use.
	TrainOnly bool
}

// Parts lists the modules in the order of the reference's files, the encoder's last; parameters have the reference's names and order.
func (c Config) Parts() []Part {
	var compressors []nn.Param
	for i, t := range c.taps() {
		for b := range c.compressorBlocks() {
			in, out := compressed(t.C, b), compressed(t.C, b+1)
			name := fmt.Sprintf("%d.%d.", i, b)
			compressors = append(compressors, nn.Conv(name+"0", in, out, 3))
			compressors = append(compressors, nn.BN(name+"1", out)...)
		}
	}
	fcn := func(in, out int) []nn.Param { return append(nn.Linear("1.0", in, out, false), nn.BN("1.1", out)...) }
	side, ch := c.decoderSide(), c.decoderChannels()
	decoder := nn.Linear("0.1", c.Latent+c.Cond, ch[0]*side*side, true)
	for l := 1; l <= 4; l++ {
		decoder = append(decoder, nn.ConvT(fmt.Sprintf("%d.0", l), c.decoderInput(l), ch[l], 3))
		decoder = append(decoder, nn.BN(fmt.Sprintf("%d.1", l), ch[l])...)
	}
	last := 2
	if c.doubles() {
		last = 3
	}
	decoder = append(decoder, nn.ConvT("5", c.decoderInput(5), 3, last),
		nn.Param{Name: "5.bias", Shape: []int{3}, Kind: nn.Bias, FanIn: 3 * last * last})
	image := append([]nn.Param{nn.Conv("0.0", 3, 6, 3)}, nn.BN("0.1", 6)...)
	image = append(append(image, nn.Conv("1.0", 6, 12, 3)), nn.BN("1.1", 12)...)
	parts := []Part{
		{"repr_compressors", compressors, false},
		{"repr_fcn_compressor", fcn(c.flattened(), c.Cond), false},
		{"decoder", decoder, false},
	}
	if c.Spatial {
		var skips []nn.Param
		for l := range decoderLayers {
			if t, ok := c.skip(l); ok {
				skips = append(append(skips, nn.Conv(fmt.Sprintf("%d.0", l), t.C, ch[l], 1)), nn.BN(fmt.Sprintf("%d.1", l), ch[l])...)
			}
		}
		parts = append(parts, Part{"skips", skips, false})
	}
	return append(parts, []Part{
		{"input_compressor", image, true},
		{"joint_fcn_compressor", fcn(c.imageCode()+c.Cond, c.Latent), true},
		{"neck", append(nn.Linear("x_to_mu", c.Latent, c.Latent, true), nn.Linear("x_to_log_var", c.Latent, c.Latent, true)...), true},
	}...)
}

// decoderChannels are those of the decoder's maps, from the first to the last hidden one.
func (c Config) decoderChannels() []int {
	return []int{c.Channels, c.Channels, c.Channels / 2, c.Channels / 4, c.Channels / 8}
}

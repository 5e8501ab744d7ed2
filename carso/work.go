package carso

import "carsokit/models"

// Work is what one pass of one image takes: to the condition, which all draws and samples of a step share, and then, for each sample, to decode and classify it.
// Aggregating is next to nothing.
func (c Config) Work() (condition, sample models.Work) {
	taps := c.taps()
	condition = c.Base.WorkTo(taps[len(taps)-1].Name)
	if c.Direct {
		condition = c.Base.Work()
	}
	for _, t := range taps {
		for b := range c.compressorBlocks() {
			condition = condition.Add(models.ConvWork(compressed(t.C, b), compressed(t.C, b+1), 3, t.H-2*(b+1)))
		}
	}
	condition = condition.Add(models.LinearWork(c.flattened(), c.Cond))

	side, ch, grow, last := c.decoderSide(), c.decoderChannels(), -1, 2
	if c.doubles() {
		grow, last = 0, 3
	}
	for l := range decoderLayers {
		if t, ok := c.skip(l); ok {
			condition = condition.Add(models.ConvWork(t.C, ch[l], 1, t.H))
		}
	}
	sample = models.LinearWork(c.Latent+c.Cond, ch[0]*side*side)
	for l := 1; l <= 4; l++ {
		// A transposed convolution of stride 2 is computed as one with a 2x2 kernel to four times the channels (nn.Net.ConvTranspose).
		sample = sample.Add(models.ConvWork(c.decoderInput(l), 4*ch[l], 2, side))
		side = 2*side + grow
	}
	sample = sample.Add(models.ConvWork(c.decoderInput(5), 3, last, c.Base.Size))
	return condition, sample.Add(c.Final.Work())
}

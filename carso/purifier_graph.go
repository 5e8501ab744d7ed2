package carso

import (
	"fmt"

	"carsokit/internal/nn"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// momentum of the purifier's BatchNorms (PyTorch's default).
const momentum = 0.1

// net builds the purifier's modules from the scopes of its parts under one scope.
type net struct {
	Config
	scope         *model.Scope
	train, update bool
}

func (n net) part(name string) nn.Net {
	return nn.Net{Scope: n.scope.At("%s", name), Train: n.train, Update: n.update}
}

// convBlock is convolution, BatchNorm, LeakyReLU; the last two are named 0 and 1 under name.
func convBlock(p nn.Net, x *Node, name string, stride, pad int) *Node {
	return nn.LeakyReLU(p.BatchNorm(p.Conv(x, name+"0", stride, pad, pad), name+"1", momentum))
}

// fcn is the block of a linear layer without bias, BatchNorm, LeakyReLU.
func fcn(p nn.Net, x *Node) *Node {
	return nn.LeakyReLU(p.BatchNorm(p.Linear(x, "1.0", false), "1.1", momentum))
}

// compress flattens and concatenates the compressed representations: taps each [B,h,w,c] -> [B,flattened].
func (n net) compress(taps []*Node) *Node {
	names := map[string]int{}
	for i, t := range n.Base.Taps() {
		names[t.Name] = i
	}
	p := n.part("repr_compressors")
	var flat []*Node
	for i, t := range n.taps() {
		x := taps[names[t.Name]]
		for b := range n.compressorBlocks() {
			x = convBlock(p, x, fmt.Sprintf("%d.%d.", i, b), 1, 0)
		}
		flat = append(flat, nn.FlattenCHW(x))
	}
	return Concatenate(flat, 1)
}

// maps compresses the representations that the decoder sees as maps, by its layers: nil where it sees none, else [B,side,side,channels].
func (n net) maps(taps []*Node) []*Node {
	at := map[string]*Node{}
	for i, t := range n.Base.Taps() {
		at[t.Name] = taps[i]
	}
	maps := make([]*Node, decoderLayers)
	for l := range maps {
		if t, ok := n.skip(l); ok {
			maps[l] = convBlock(n.part("skips"), at[t.Name], fmt.Sprintf("%d.", l), 1, 0)
		}
	}
	return maps
}

// condition maps the representations to the condition [B,Cond].
func (n net) condition(taps []*Node) *Node {
	return fcn(n.part("repr_fcn_compressor"), n.compress(taps))
}

// encode maps an image x [B,S,S,3] in [0,1] and its condition to the parameters of the posterior, each [B,Latent]. Training only.
func (n net) encode(x, cond *Node) (mu, logvar *Node) {
	p := n.part("input_compressor")
	x = convBlock(p, nn.Normalize(x, n.Base.Mean, n.Base.Std), "0.", 2, 1)
	x = convBlock(p, x, "1.", 2, 1)
	h := fcn(n.part("joint_fcn_compressor"), Concatenate([]*Node{nn.FlattenCHW(x), cond}, 1))
	neck := n.part("neck")
	return neck.Linear(h, "x_to_mu", true), neck.Linear(h, "x_to_log_var", true)
}

// pixelLogits are what a residual decoder's output is added to, for an image x in [0,1]. It is squeezed by a hundredth at either end: logits are then finite, and an attack
// meets no pixel without a gradient, as it would where values are clipped.
func pixelLogits(x *Node) *Node {
	const margin = 0.01
	p := AddScalar(MulScalar(x, 1-2*margin), margin)
	return Sub(Log(p), Log(OneMinus(p)))
}

// decode maps latent samples z [M,Latent], conditions [M,Cond] and maps as maps makes them, of M images, to images before the final sigmoid, [M,S,S,3].
func (n net) decode(z, cond *Node, maps []*Node) *Node {
	p := n.part("decoder")
	side, outPad := n.decoderSide(), 0
	if n.doubles() {
		outPad = 1
	}
	see := func(h *Node, l int) *Node {
		if maps[l] == nil {
			return h
		}
		return Concatenate([]*Node{h, maps[l]}, -1)
	}
	h := nn.LeakyReLU(p.Linear(Concatenate([]*Node{z, cond}, 1), "0.1", true))
	h = TransposeAllAxes(Reshape(h, -1, n.Channels, side, side), 0, 2, 3, 1) // the linear layer's rows are in (C,H,W) order
	h = see(h, 0)
	for l := 1; l < decoderLayers; l++ {
		h = p.ConvTranspose(h, fmt.Sprintf("%d.0", l), 2, outPad)
		h = see(nn.LeakyReLU(p.BatchNorm(h, fmt.Sprintf("%d.1", l), momentum)), l)
	}
	h = p.ConvTranspose(h, "5", 1, 0)
	return Add(h, Reshape(p.Var(h, "5.bias"), 1, 1, 1, 3))
}

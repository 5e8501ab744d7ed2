package carso

import (
	"carsokit/internal/nn"

	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

func (d *Defence) net() net { return net{Config: d.Config, scope: d.store.RootScope()} }

// Condition builds x [B,S,S,3] in [0,1] -> c [B,K]: what a decision depends on. It is the condition, of Cond numbers; then the maps that the decoder sees
// (Config.Spatial); then what the decoder adds to of the image itself (Config.Residual) and its logits (Config.Direct), where they take part.
func (d *Defence) Condition(_ *model.Scope, x *Node) *Node {
	logits, taps := d.Base.Graph(nn.Net{Scope: d.store.Scope(baseScope)}, x, !d.Direct)
	parts := []*Node{d.net().condition(taps)}
	for _, m := range d.net().maps(taps) {
		if m != nil {
			parts = append(parts, Reshape(m, m.Shape().Dimensions[0], -1))
		}
	}
	if d.Residual {
		parts = append(parts, Reshape(pixelLogits(x), -1, d.pixels()))
	}
	if d.Direct {
		parts = append(parts, logits)
	}
	return Concatenate(parts, -1)
}

// LogitsGiven builds the rest: c and latent samples [B,N,Latent] (nil for the deterministic defence) -> [B,Classes].
func (d *Defence) LogitsGiven(_ *model.Scope, cond, noise *Node) *Node {
	return d.Aggregate(d.MemberLogits(nil, cond, noise))
}

// MemberLogits classifies any number M of samples: c as Condition makes it, latent samples [B,M,Latent] -> [B,M,Classes].
func (d *Defence) MemberLogits(_ *model.Scope, cond, noise *Node) *Node {
	return d.classify(cond, d.Reconstruct(cond, noise))
}

// classify gives each of the reconstructions [B,N,S,S,3] its part in the decision: [B,N,Classes].
func (d *Defence) classify(cond, images *Node) *Node {
	l := d.SampleLogits(images)
	if d.Direct {
		l = withDirect(l, SliceAxis(cond, 1, AxisRange(cond.Shape().Dimensions[1]-d.Base.Classes)))
	}
	return l
}

// withDirect averages the logits of each sample [B,N,Classes] with those of the image itself [B,Classes].
func withDirect(samples, direct *Node) *Node {
	return MulScalar(Add(samples, ExpandAxes(direct, 1)), 0.5)
}

// Aggregate makes one vector of the samples' logits: [B,N,Classes] -> [B,Classes].
func (d *Defence) Aggregate(members *Node) *Node { return d.Output.graph(members) }

// Logits builds one pass over images.
func (d *Defence) Logits(scope *model.Scope, x, noise *Node) *Node {
	return d.LogitsGiven(scope, d.Condition(scope, x), noise)
}

// Reconstruct decodes any number N of latent samples: c as Condition makes it, noise [B,N,Latent] or nil -> images [B,N,S,S,3] in [0,1].
func (d *Defence) Reconstruct(cond, noise *Node) *Node {
	b := cond.Shape().Dimensions[0]
	if noise == nil {
		noise = Zeros(cond.Graph(), shapes.Make(cond.DType(), b, 1, d.Latent))
	}
	n := noise.Shape().Dimensions[1]
	noise.AssertDims(b, n, d.Latent)
	// each takes the next values of the condition and repeats them for the samples.
	at := 0
	each := func(dims ...int) *Node {
		size := 1
		for _, k := range dims {
			size *= k
		}
		v := SliceAxis(cond, 1, AxisRange(at, at+size))
		at += size
		return Reshape(BroadcastToDims(ExpandAxes(v, 1), b, n, size), append([]int{b * n}, dims...)...)
	}
	c, maps := each(d.Cond), make([]*Node, decoderLayers)
	for l := range maps {
		if t, ok := d.skip(l); ok {
			maps[l] = each(t.H, t.W, d.decoderChannels()[l])
		}
	}
	x := d.net().decode(Reshape(noise, b*n, d.Latent), c, maps)
	if s := d.Base.Size; d.Residual {
		x = Add(x, each(s, s, 3))
	}
	return Reshape(Sigmoid(x), b, n, d.Base.Size, d.Base.Size, 3)
}

// SampleLogits classifies reconstructions [B,N,S,S,3] -> [B,N,Classes].
func (d *Defence) SampleLogits(images *Node) *Node {
	s := images.Shape().Dimensions
	scope := d.store.Scope(finalScope)
	if scope.GetVariable("logits.weight") == nil {
		scope = d.store.Scope(baseScope)
	}
	l, _ := d.Final.Graph(nn.Net{Scope: scope}, Reshape(images, s[0]*s[1], s[2], s[3], s[4]), false)
	return Reshape(l, s[0], s[1], d.Final.Classes)
}

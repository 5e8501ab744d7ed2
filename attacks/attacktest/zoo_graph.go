package attacktest

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// The graphs of the zoo. All take x [B,H,W,C] in [0,1] and return [B,Classes].

type node = Node

// pass is what one forward pass is given.
type pass struct {
	scope    *model.Scope
	x, noise *Node // noise is nil for a deterministic animal
}

func (p pass) with(x *Node) pass { return pass{p.scope, x, p.noise} }

func (a *animal) Logits(s *model.Scope, x, noise *Node) *Node { return a.build(a, pass{s, x, noise}) }

// linear correlates the image with the patterns.
func (a *animal) linear(in pass) *Node {
	return dense(in.scope, AddScalar(flat(in.x), -0.5), "pattern")
}

// hidden is [B,zooHidden], and mlp the network that the zoo shares.
func (a *animal) hidden(in pass) *Node {
	return Tanh(dense(in.scope, AddScalar(flat(in.x), -0.5), "v"))
}

func (a *animal) mlp(in pass) *Node { return dense(in.scope, a.hidden(in), "w") }

// purifier pulls the image towards the span of the patterns before it classifies: everything outside is halved.
func (a *animal) purifier(in pass) *Node {
	x := AddScalar(flat(in.x), -0.5)
	// The patterns are nearly orthogonal, each of squared length D.
	along := DivScalar(dense(in.scope, x, "pattern"), x.Shape().Dimensions[1])
	inside := DotGeneral(along, []int{1}, nil, weight(in.scope, x, "pattern"), []int{0}, nil)
	return a.mlp(in.with(AddScalar(MulScalar(Add(x, inside), 0.5), 0.5)))
}

// smoothing averages the logits over smoothDraws noisy copies of the image: noise [B,smoothDraws,H,W,C].
func (a *animal) smoothing(in pass) *Node {
	b := in.x.Shape().Dimensions[0]
	copies := Add(BroadcastToDims(ExpandAxes(in.x, 1), b, smoothDraws, side, side, channels), MulScalar(in.noise, 0.05))
	logits := a.mlp(in.with(Reshape(copies, b*smoothDraws, side, side, channels)))
	return ReduceMean(Reshape(logits, b, smoothDraws, zooClasses), 1)
}

// hiddenNoiseDeclared disturbs the hidden units: noise [B,zooHidden].
func (a *animal) hiddenNoiseDeclared(in pass) *Node {
	return given(in.scope, a.hidden(in), MulScalar(in.noise, 0.2))
}

func (a stagedAnimal) Condition(s *model.Scope, x *Node) *Node { return a.hidden(pass{scope: s, x: x}) }

func (a stagedAnimal) LogitsGiven(s *model.Scope, cond, noise *Node) *Node {
	return given(s, cond, MulScalar(noise, 0.2))
}

func (a detachedAnimal) Condition(s *model.Scope, x *Node) *Node {
	return StopGradient(a.stagedAnimal.Condition(s, x))
}

func (a otherAnimal) LogitsGiven(s *model.Scope, cond, noise *Node) *Node {
	return given(s, Tanh(cond), MulScalar(noise, 0.2))
}

func (a *animal) gradientKiller(in pass) *Node { return a.mlp(in.with(StopGradient(in.x))) }

func (a *animal) nanGradient(in pass) *Node {
	zero := MulScalar(ExpandAxes(ReduceSum(Square(flat(in.x)), 1), 1), 0)
	return Add(a.mlp(in), Sqrt(zero))
}

func (a *animal) saturatedPeel(in pass) *Node {
	p := Softmax(Exp(a.mlp(in)), -1)
	return Log(Div(p, OneMinus(p)))
}

func (a *animal) roundedInput(in pass) *Node {
	return a.mlp(in.with(StopGradient(DivScalar(Round(MulScalar(in.x, 15)), 15))))
}

// thermometer counts the thresholds below a pixel.
func (a *animal) thermometer(in pass) *Node {
	const levels = 10
	var bits *Node
	for k := range levels {
		bit := Where(GreaterThan(in.x, AddScalar(ZerosLike(in.x), (float64(k)+0.5)/levels)), OnesLike(in.x), ZerosLike(in.x))
		if bits == nil {
			bits = bit
		} else {
			bits = Add(bits, bit)
		}
	}
	return a.mlp(in.with(StopGradient(DivScalar(bits, levels))))
}

// jpeg splits the image into the mean of 2x2 blocks and the rest, and rounds the rest.
func (a *animal) jpeg(in pass) *Node {
	b := in.x.Shape().Dimensions[0]
	blocks := Reshape(in.x, b, side/2, 2, side/2, 2, channels)
	mean := DivScalar(ReduceAndKeep(ReduceAndKeep(blocks, ReduceSum, 2), ReduceSum, 4), 4)
	rest := StopGradient(DivScalar(Round(MulScalar(Sub(blocks, mean), 20)), 20))
	return a.mlp(in.with(Reshape(Add(rest, mean), b, side, side, channels)))
}

func (a *animal) randomLogits(in pass) *Node {
	like := a.mlp(in)
	return Add(MulScalar(like, 1e-3), in.scope.RandomNormal(in.x.Graph(), like.Shape()))
}

func (a *animal) hiddenNoise(in pass) *Node {
	return a.mlp(in.with(Add(in.x, MulScalar(in.scope.RandomNormal(in.x.Graph(), in.x.Shape()), 0.05))))
}

// stuckNoise disturbs the image by the same numbers in every draw.
func (a *animal) stuckNoise(in pass) *Node {
	stuck := Sin(MulScalar(IotaFull(in.x.Graph(), in.x.Shape()), 7))
	one := Slice(stuck, AxisRange(0, 1))
	return a.mlp(in.with(Add(in.x, MulScalar(BroadcastToDims(one, in.x.Shape().Dimensions...), 0.05))))
}

func (a *animal) probabilities(in pass) *Node { return Softmax(a.mlp(in), -1) }

func (a *animal) temperature(in pass) *Node { return MulScalar(a.mlp(in), 1e4) }

func (a *animal) clippedLogSoftmax(in pass) *Node {
	return ClipScalar(LogSoftmax(MulScalar(a.mlp(in), 20), -1), -9.2, -1e-3)
}

// saturatedUnits amplifies what enters tanh: in float32 it is exactly +-1, with derivative 0, from 9 on.
func (a *animal) saturatedUnits(in pass) *Node {
	return dense(in.scope, Tanh(MulScalar(dense(in.scope, AddScalar(flat(in.x), -0.5), "v"), 1e4)), "w")
}

func (a *animal) byteScale(in pass) *Node { return a.mlp(in.with(DivScalar(in.x, 255))) }

func (a *animal) batchNorm(in pass) *Node {
	h := dense(in.scope, AddScalar(flat(in.x), -0.5), "v")
	h = Sub(h, ReduceAndKeep(h, ReduceMean, 0))
	return dense(in.scope, Tanh(Div(h, Sqrt(AddScalar(ReduceAndKeep(Square(h), ReduceMean, 0), 1e-3)))), "w")
}

func (a *animal) neighbour(in pass) *Node {
	z := a.mlp(in)
	b := z.Shape().Dimensions[0]
	if b == 1 {
		return z
	}
	before := Concatenate([]*Node{Slice(z, AxisRange(b-1, b)), Slice(z, AxisRange(0, b-1))}, 0)
	return Add(z, MulScalar(before, 0.3))
}

// abstaining answers by class zooClasses where no other class has two thirds of the probability.
func (a *animal) abstaining(in pass) *Node {
	z := a.mlp(in)
	best := ReduceAndKeep(Softmax(z, -1), ReduceMax, -1)
	unsure := LessThan(best, AddScalar(ZerosLike(best), 2./3))
	reject := Where(unsure, AddScalar(ZerosLike(best), 50), AddScalar(ZerosLike(best), -50))
	return Concatenate([]*Node{z, StopGradient(reject)}, 1)
}

func (a *animal) signFlip(in pass) *Node {
	return a.mlp(in.with(IdentityWithCustomGradient(in.x, func(_, v *Node) *Node { return Neg(v) })))
}

// gradientNoise multiplies the gradient by numbers of both signs.
func (a *animal) gradientNoise(in pass) *Node {
	return a.mlp(in.with(IdentityWithCustomGradient(in.x, func(_, v *Node) *Node {
		return Mul(v, Sin(MulScalar(IotaFull(v.Graph(), v.Shape()), 7)))
	})))
}

// shattered adds a wave of a length far below one grey level, by class.
func (a *animal) shattered(in pass) *Node {
	wave := Sin(MulScalar(dense(in.scope, flat(in.x), "pattern"), 3e4))
	return Add(a.mlp(in), MulScalar(wave, 0.3))
}

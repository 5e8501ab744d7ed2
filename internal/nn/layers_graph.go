package nn

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/pkg/errors"
)

// BNEps is PyTorch's default of BatchNorm.
const BNEps = 1e-5

// Net builds layers from the variables of one scope.
type Net struct {
	Scope *model.Scope
	Train bool // BatchNorm uses batch statistics
	// Update makes a training BatchNorm also move its running statistics; off for the pass that only makes adversarial examples.
	Update bool
	// BF16 computes Conv in bfloat16, which the matrix units of GPUs do many times as fast as float32. Weights and normalisation stay float32; the gradients of a kernel are rounded
	// to bfloat16 once, after their sum.
	BF16 bool
}

// Var reads a variable into x's graph.
func (n Net) Var(x *Node, name string) *Node {
	v := n.Scope.GetVariable(name)
	if v == nil {
		panic(errors.Errorf("no variable %q in scope %q", name, n.Scope.Scope()))
	}
	return v.NodeValue(x.Graph())
}

// Has reports whether the scope holds a variable.
func (n Net) Has(name string) bool { return n.Scope.GetVariable(name) != nil }

// channels shapes a [C] vector so that it broadcasts along the last axis of x.
func channels(v, x *Node) *Node {
	d := make([]int, x.Rank())
	for i := range d {
		d[i] = 1
	}
	d[len(d)-1] = v.Shape().Dimensions[0]
	return Reshape(v, d...)
}

// Conv is a convolution without bias, x [B,H,W,in] -> [B,H',W',out], with lo zeros before and hi after each spatial axis. Kernels must be
// odd-sized: GoMLX's input gradient is wrong for even ones (use Conv2x2).
func (n Net) Conv(x *Node, name string, stride, lo, hi int) *Node {
	w := n.Var(x, name+".weight")
	if w.Shape().Dimensions[0]%2 == 0 {
		panic(errors.Errorf("convolution %q: even kernel %s", name, w.Shape()))
	}
	return n.inBF16(x, w, func(x, w *Node) *Node { return convolve(x, w, stride, lo, hi, n.Train) })
}

// inBF16 computes a convolution of x with w in bfloat16 where the net is to, and returns x's type. Its gradients are rounded to bfloat16 likewise.
func (n Net) inBF16(x, w *Node, conv func(x, w *Node) *Node) *Node {
	if !n.BF16 {
		return conv(x, w)
	}
	return ConvertDType(conv(ConvertDType(x, dtypes.BFloat16), ConvertDType(w, dtypes.BFloat16)), x.DType())
}

// Linear is x·W^T (+ bias), x [B,in] -> [B,out], with PyTorch's [out,in] weight.
func (n Net) Linear(x *Node, name string, bias bool) *Node {
	y := DotGeneral(x, []int{1}, nil, n.Var(x, name+".weight"), []int{1}, nil)
	if bias {
		y = Add(y, channels(n.Var(x, name+".bias"), y))
	}
	return y
}

// BatchNorm normalises over every axis but the last. Evaluation uses the running statistics as one multiply-add; training uses the batch's
// (biased variance), differentiated in full, and moves the running values by momentum as PyTorch does (unbiased variance).
func (n Net) BatchNorm(x *Node, name string, momentum float64) *Node {
	w, b := n.Var(x, name+".weight"), n.Var(x, name+".bias")
	if !n.Train {
		scale := Div(w, Sqrt(AddScalar(n.Var(x, name+".running_var"), BNEps)))
		shift := Sub(b, Mul(n.Var(x, name+".running_mean"), scale))
		return Add(Mul(x, channels(scale, x)), channels(shift, x))
	}
	axes := make([]int, x.Rank()-1)
	for i := range axes {
		axes[i] = i
	}
	mean := ReduceMean(x, axes...)
	xc := Sub(x, channels(mean, x))
	variance := ReduceMean(Square(xc), axes...)
	if n.Update {
		count := float64(x.Shape().Size() / mean.Shape().Size())
		n.move(x, name+".running_mean", mean, momentum, 1)
		n.move(x, name+".running_var", variance, momentum, count/(count-1))
	}
	scale := Div(w, Sqrt(AddScalar(variance, BNEps)))
	return Add(Mul(xc, channels(scale, x)), channels(b, x))
}

// move sets a running value to (1-momentum) of itself plus momentum times the batch's value times factor.
func (n Net) move(x *Node, name string, batch *Node, momentum, factor float64) {
	v := n.Scope.GetVariable(name)
	v.SetNodeValue(Add(MulScalar(v.NodeValue(x.Graph()), 1-momentum), MulScalar(StopGradient(batch), momentum*factor)))
}

// SiLU is x·sigmoid(x).
func SiLU(x *Node) *Node { return Mul(x, Sigmoid(x)) }

// LeakyReLU has slope 0.2 below zero, the only one the method uses.
func LeakyReLU(x *Node) *Node { return Max(x, MulScalar(x, 0.2)) }

// FlattenCHW flattens [B,H,W,C] in PyTorch's (C,H,W) order, so that linear weights of the reference fit.
func FlattenCHW(x *Node) *Node {
	return Reshape(TransposeAllAxes(x, 0, 3, 1, 2), x.Shape().Dimensions[0], -1)
}

// Normalize is (x-mean)/std per channel.
func Normalize(x *Node, mean, std [3]float32) *Node {
	g := x.Graph()
	return Div(Sub(x, channels(Const(g, mean[:]), x)), channels(Const(g, std[:]), x))
}

// BinaryCrossEntropy is -x·log(p) - (1-x)·log(1-p) of each value for p = sigmoid(d) and targets x in [0,1], all of one shape. It is computed from d as
// softplus(d) - x·d: equal to PyTorch's on p except where that clamps its logarithms at -100, and with the gradient p - x at any magnitude.
func BinaryCrossEntropy(d, x *Node) *Node {
	softplus := Add(Max(d, ZerosLike(d)), Log1P(Exp(Neg(Abs(d)))))
	return Sub(softplus, Mul(x, d))
}

// GaussianKL is the divergence of N(mu, exp(logvar)) from N(0, 1) of each value.
func GaussianKL(mu, logvar *Node) *Node {
	return MulScalar(AddScalar(Sub(Add(Square(mu), Exp(logvar)), logvar), -1), 0.5)
}

// CrossEntropy is -log softmax(logits)_y per sample: logits [B,C], y int32 [B] -> [B].
func CrossEntropy(logits, y *Node) *Node {
	return SoftCrossEntropy(logits, OneHot(y, logits.Shape().Dimensions[1], logits.DType()))
}

// SoftCrossEntropy is -sum over classes of target·log softmax(logits) per sample: logits and targets [B,C] -> [B].
func SoftCrossEntropy(logits, targets *Node) *Node {
	return Neg(ReduceSum(Mul(targets, LogSoftmax(logits, -1)), -1))
}

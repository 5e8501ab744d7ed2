package carso

import (
	"fmt"
	"math"
	"slices"

	. "github.com/gomlx/gomlx/core/graph"
)

// Aggregation names how the logits of the samples become one vector. Some are the reference's, some make the same decisions with
// gradients that survive float32 (spec: inference 3).
type Aggregation string

// The aggregations. S_c = sum_n exp(l_cn), P = softmax(S).
const (
	// PeelReference is the paper's, as its code computes it: log(P/(1-P)). It overflows to infinities, and its gradients to NaN, as soon as one
	// S exceeds the others by about 17.
	PeelReference Aggregation = "peel-reference"
	// PeelStable is the same function, S_c - logsumexp of the other S: finite as long as exp(l) is. Cross-entropy on it still saturates.
	PeelStable Aggregation = "peel-stable"
	// LogSum is log S_c. It is monotone in S, so it decides as peel does, and does not saturate: the honest output to attack.
	LogSum Aggregation = "log-sum"
	// MeanLogit is the mean of the logits.
	MeanLogit Aggregation = "logit"
	// Prob is the log-odds of the mean of the element-wise sigmoids, as the reference computes it.
	Prob Aggregation = "prob"
	// SoftmaxProb is the log of the mean of the softmaxes.
	SoftmaxProb Aggregation = "softmax-prob"
	// Count is the reference's: sum_n floor(l_cn / max_j l_jn). It is no vote unless the largest logit is positive, and has no gradient.
	Count Aggregation = "count"
	// Vote counts the samples that predict a class. It has no gradient: attack another output and decide by this one.
	Vote Aggregation = "vote"
)

// Aggregations lists all, in the order of documentation.
var Aggregations = []Aggregation{PeelReference, PeelStable, LogSum, MeanLogit, Prob, SoftmaxProb, Count, Vote}

// Validate reports an unknown name.
func (a Aggregation) Validate() error {
	if slices.Contains(Aggregations, a) {
		return nil
	}
	return fmt.Errorf("no aggregation %q: there are %v", string(a), Aggregations)
}

// graph aggregates logits [B,N,C] to [B,C].
func (a Aggregation) graph(l *Node) *Node {
	switch a {
	case PeelReference:
		p := Softmax(ReduceSum(Exp(l), 1), -1)
		return Log(Div(p, OneMinus(p)))
	case PeelStable:
		return peelStable(ReduceSum(Exp(l), 1))
	case LogSum:
		return logSumExp(l, 1)
	case MeanLogit:
		return ReduceMean(l, 1)
	case Prob:
		// The sigmoid is written out because the reference's is: its gradient is NaN where exp(-l) overflows.
		q := ReduceMean(Reciprocal(OnePlus(Exp(Neg(l)))), 1)
		return Log(Div(q, OneMinus(q)))
	case SoftmaxProb:
		n := float64(l.Shape().Dimensions[1])
		return AddScalar(logSumExp(LogSoftmax(l, -1), 1), -math.Log(n))
	case Count:
		most := ReduceAndKeep(l, ReduceMax, -1)
		return withGradient(ReduceSum(Floor(Div(l, most)), 1), l, Div(ZerosLike(l), most)) // 0/0 where the reference divides by 0
	case Vote:
		classes := l.Shape().Dimensions[2]
		return withGradient(ReduceSum(OneHot(ArgMax(l, -1), classes, l.DType()), 1), l, ZerosLike(l))
	}
	panic(a.Validate())
}

// withGradient gives y [B,C] a gradient of its own with respect to l [B,N,C], whatever follows: attacks then meet the zeros that the reference has.
func withGradient(y, l, gradient *Node) *Node {
	zero := IdentityWithCustomGradient(l, func(_, _ *Node) *Node { return gradient })
	return Add(StopGradient(y), ReduceSum(Sub(zero, StopGradient(zero)), 1))
}

// logSumExp over an axis, stable.
func logSumExp(x *Node, axis int) *Node {
	m := StopGradient(ReduceAndKeep(x, ReduceMax, axis))
	return Add(Log(ReduceSum(Exp(Sub(x, m)), axis)), Squeeze(m, axis))
}

// peelStable is s_c - logsumexp_{j != c} s_j for s [B,C], by masking the diagonal of a [B,C,C] broadcast.
func peelStable(s *Node) *Node {
	g := s.Graph()
	b, c := s.Shape().Dimensions[0], s.Shape().Dimensions[1]
	others := BroadcastToDims(ExpandAxes(s, 1), b, c, c)
	diagonal := BroadcastToDims(ExpandAxes(Diagonal(g, c), 0), b, c, c)
	lowest := BroadcastToDims(Scalar(g, s.DType(), -math.MaxFloat32), b, c, c)
	return Sub(s, logSumExp(Where(diagonal, lowest, others), -1))
}

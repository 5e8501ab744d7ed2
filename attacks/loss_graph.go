package attacks

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// Graph builds the loss of every image: logits [B,C], y and target int32 [B] -> [B]. target is read by the targeted losses only and may be
// nil otherwise. Infinite logits give what PyTorch gives: NaN for DLR, and for CE where the maximum is +Inf. It panics with an error
// for an unknown loss or mismatching shapes.
func (l Loss) Graph(logits, y, target *Node) *Node {
	if logits.Rank() != 2 || y.Rank() != 1 || y.Shape().Dimensions[0] != logits.Shape().Dimensions[0] {
		panic(fmt.Errorf("attacks: loss %q wants logits [B,C] and labels [B], got %s and %s", string(l), logits.Shape(), y.Shape()))
	}
	isY := isClass(logits, y)
	if l.targeted() && target == nil {
		panic(fmt.Errorf("attacks: loss %q wants a target class for every image", string(l)))
	}
	switch l {
	case CE:
		// Selecting before summing keeps a -Inf of another class out of the sum (0 * -Inf would be NaN).
		return Neg(sumWhere(isY, LogSoftmax(logits, -1)))
	case DLR:
		r := ranks(logits)
		first, second, third := nth(logits, r, 0), nth(logits, r, 1), nth(logits, r, 2)
		// The two products are the reference's way to select; with infinite logits they make the loss NaN, which Where would hide.
		right := StopGradient(ConvertDType(Equal(sumWhere(isY, r), ZerosLike(y)), logits.DType()))
		gap := Sub(Sub(sumWhere(isY, logits), Mul(second, right)), Mul(first, OneMinus(right)))
		return Neg(Div(gap, AddScalar(Sub(first, third), 1e-12)))
	case DLRTargeted:
		r := ranks(logits)
		spread := Sub(nth(logits, r, 0), MulScalar(Add(nth(logits, r, 2), nth(logits, r, 3)), 0.5))
		gap := Sub(sumWhere(isY, logits), sumWhere(isClass(logits, target), logits))
		return Neg(Div(gap, AddScalar(spread, 1e-12)))
	case MarginTargeted:
		return Sub(sumWhere(isClass(logits, target), logits), sumWhere(isY, logits))
	case Margin:
		// The best rival is the top class, or the second where the label is on top.
		r := ranks(logits)
		rank := sumWhere(isY, r)
		rivalRank := ConvertDType(Equal(rank, ZerosLike(rank)), dtypes.Int32)
		return Sub(sumWhere(Equal(r, ExpandAxes(rivalRank, 1)), logits), sumWhere(isY, logits))
	}
	panic(l.Validate())
}

// isClass is true in column class[b] of row b: [B,C] bool.
func isClass(logits, class *Node) *Node {
	columns := Iota(logits.Graph(), shapes.Make(class.DType(), 1, logits.Shape().Dimensions[1]), 1)
	return Equal(BroadcastToDims(ExpandAxes(class, 1), logits.Shape().Dimensions...), BroadcastToDims(columns, logits.Shape().Dimensions...))
}

// ranks says at which place of the descending order each logit stands: [B,C] -> int32 [B,C]. Ties go to the lower index; NaN comes first, as
// in PyTorch's sort. Comparing all pairs costs C*C a row, which is nothing beside a pass; GoMLX's Sort has no gradient.
func ranks(logits *Node) *Node {
	b, c := logits.Shape().Dimensions[0], logits.Shape().Dimensions[1]
	z := StopGradient(logits)
	mine, other := BroadcastToDims(ExpandAxes(z, 2), b, c, c), BroadcastToDims(ExpandAxes(z, 1), b, c, c)
	mineNaN, otherNaN := NotEqual(mine, mine), NotEqual(other, other)
	index := shapes.Make(dtypes.Int32, b, c, c)
	earlier := LessThan(Iota(logits.Graph(), index, 2), Iota(logits.Graph(), index, 1))
	tie := LogicalOr(Equal(mine, other), LogicalAnd(mineNaN, otherNaN))
	ahead := LogicalOr(LogicalOr(GreaterThan(other, mine), LogicalAnd(otherNaN, LogicalNot(mineNaN))), LogicalAnd(tie, earlier))
	return StopGradient(ReduceSum(ConvertDType(ahead, dtypes.Int32), 2))
}

func isRank(ranks *Node, n int) *Node { return Equal(ranks, MulScalar(OnesLike(ranks), n)) }

// nth selects the logit at place n (0 is the largest) of each row: [B]. The gradient is that of a gather.
func nth(logits, ranks *Node, n int) *Node { return sumWhere(isRank(ranks, n), logits) }

// sumWhere sums the selected entries of each row: [B,C] -> [B].
func sumWhere(mask, values *Node) *Node {
	return ReduceSum(Where(mask, values, ZerosLike(values)), 1)
}

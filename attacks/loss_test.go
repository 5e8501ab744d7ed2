package attacks_test

import (
	"math"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"carsokit/attacks"
	"carsokit/internal/rng"
)

// evaluate computes a loss and its gradient for rows of logits.
func evaluate(t *testing.T, l attacks.Loss, logits [][]float32, y, target []int32) (value []float32, gradient [][]float32) {
	t.Helper()
	e := MustNewExec(backend, func(z, y, target *Node) (*Node, *Node) {
		v := l.Graph(z, y, target)
		return v, Gradient(ReduceAllSum(v), z)[0]
	})
	defer e.Finalize()
	out, err := e.Call(logits, y, target)
	if err != nil {
		t.Fatalf("loss %s: %v", l, err)
	}
	value = tensors.MustCopyFlatData[float32](out[0])
	return value, out[1].Value().([][]float32)
}

// losses in float64, by the definitions; z sorted descending for the ranks.
func reference64(l attacks.Loss, z []float64, y, target int) float64 {
	sorted := slices.Clone(z)
	slices.Sort(sorted)
	slices.Reverse(sorted)
	rival := sorted[0]
	if z[y] == sorted[0] {
		rival = sorted[1]
	}
	switch l {
	case attacks.CE:
		sum := 0.0
		for _, v := range z {
			sum += math.Exp(v - z[y])
		}
		return math.Log(sum)
	case attacks.DLR:
		return -(z[y] - rival) / (sorted[0] - sorted[2] + 1e-12)
	case attacks.DLRTargeted:
		return -(z[y] - z[target]) / (sorted[0] - (sorted[2]+sorted[3])/2 + 1e-12)
	}
	if l == attacks.MarginTargeted {
		return z[target] - z[y]
	}
	return rival - z[y]
}

func TestLossesAgainstDefinitions(t *testing.T) {
	const rows, classes, h = 24, 7, 1e-6
	all := make([]float32, rows*classes)
	rng.Seed(3).Normal(all)
	var logits [][]float32
	var y, target []int32
	for i := range rows {
		logits = append(logits, all[i*classes:(i+1)*classes])
		y, target = append(y, int32(i%classes)), append(target, int32((i+3)%classes))
	}
	for _, l := range []attacks.Loss{attacks.CE, attacks.DLR, attacks.DLRTargeted, attacks.Margin, attacks.MarginTargeted} {
		value, gradient := evaluate(t, l, logits, y, target)
		for i, row := range logits {
			z := make([]float64, classes)
			for c, v := range row {
				z[c] = float64(v)
			}
			at := func() float64 { return reference64(l, z, int(y[i]), int(target[i])) }
			// float32 logits of size 1 in quotients with denominators of about 1: some ten roundings of 6e-8.
			if want := at(); math.Abs(float64(value[i])-want) > 2e-6*(1+math.Abs(want)) {
				t.Errorf("%s of row %d: %v, want %v", l, i, value[i], want)
			}
			for c := range z {
				saved := z[c]
				z[c] = saved + h
				up := at()
				z[c] = saved - h
				slope := (up - at()) / (2 * h)
				z[c] = saved
				// The quotient's derivative has squared denominators; central differences err by h*h.
				if math.Abs(float64(gradient[i][c])-slope) > 2e-5*(1+math.Abs(slope)) {
					t.Errorf("%s of row %d: derivative by logit %d is %v, want %v", l, i, c, gradient[i][c], slope)
				}
			}
		}
	}
}

// Infinite and equal logits give what PyTorch gives.
func TestLossesAtTheEdges(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	logits := [][]float32{
		{inf, -inf, -inf, -inf}, // saturated, right
		{inf, -inf, -inf, -inf}, // saturated, wrong
		{2, 1, -inf, -inf},      // finite label, others impossible
		{nan, 1, 2, 3},
		{1, 1, 1, 1},
		{5, 5, 1, 0},
	}
	y := []int32{0, 1, 0, 1, 2, 1}
	target := []int32{1, 0, 1, 0, 3, 0}
	want := map[attacks.Loss][]float64{
		attacks.CE:          {math.NaN(), math.NaN(), math.Log1p(math.Exp(-1)), math.NaN(), math.Log(4), math.Log(2 + math.Exp(-4) + math.Exp(-5))},
		attacks.DLR:         {math.NaN(), math.NaN(), math.Copysign(0, -1), math.NaN(), 0, 0},
		attacks.DLRTargeted: {math.NaN(), math.NaN(), math.Copysign(0, -1), math.NaN(), 0, 0},
		attacks.Margin:      {math.Inf(-1), math.Inf(1), -1, math.NaN(), 0, 0},
	}
	for l, want := range want {
		value, gradient := evaluate(t, l, logits, y, target)
		for i, w := range want {
			got := float64(value[i])
			if math.IsNaN(w) != math.IsNaN(got) || !math.IsNaN(w) && got != w && !(math.Abs(got-w) < 1e-6) {
				t.Errorf("%s of %v, label %d: %v, want %v", l, logits[i], y[i], got, w)
			}
		}
		if l == attacks.Margin { // ties go to the lower index; one rival only
			for i, w := range map[int][]float32{1: {1, -1, 0, 0}, 4: {1, 0, -1, 0}, 5: {1, -1, 0, 0}} {
				if !slices.Equal(gradient[i], w) {
					t.Errorf("margin of %v, label %d: gradient %v, want %v", logits[i], y[i], gradient[i], w)
				}
			}
		}
	}
}

func TestPredict(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		logits []float32
		want   int32
	}{{[]float32{1, 3, 2}, 1}, {[]float32{3, 3, 2}, 0}, {[]float32{1, nan, inf, nan}, 1}, {[]float32{-inf, -inf, -inf}, 0}, {[]float32{-inf, inf, inf}, 1}} {
		if got := attacks.Predict(c.logits); got != c.want {
			t.Errorf("prediction of %v is %d, want %d", c.logits, got, c.want)
		}
	}
}

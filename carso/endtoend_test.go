package carso

import (
	"context"
	"math"
	"testing"

	"carsokit/attacks"
	"carsokit/internal/goldentest"
	"carsokit/models"
)

// TestEndToEndTraining: the adversary that knows the defence raises the loss of the whole defence within its bound, attacks the share that the recipe says and
// leaves the rest alone; the class loss falls when the same batch is learnt again and again; free bits charge nothing for a posterior that they cover.
func TestEndToEndTraining(t *testing.T) {
	be := goldentest.Backend(t)
	base := models.CIFAR10WRN(10, 1)
	const n, side = 16, 32
	set, file := noise(t, base, n)
	r, err := SmallRecipe("cifar10", "tiny", base)
	if err != nil {
		t.Fatal(err)
	}
	r.Epochs, r.Batch, r.HeldOut, r.Fraction, r.ScheduleEvery = 40, n, 0, 0.7, 5
	r.EpsMultiplier, r.EndToEnd, r.ClassLoss, r.FreeBits, r.KLWeight = 1, 2, 1000, 1000, 0.5 // more free bits than any posterior here has
	tr, err := NewTrainer(be, r, set, file, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	x, y := make([]float32, n*side*side*3), make([]int32, n)
	if err := tr.loader.Fill(0, 0, x, y); err != nil {
		t.Fatal(err)
	}
	attacked, err := tr.attack(ctx, x, y)
	if err != nil {
		t.Fatal(err)
	}
	const d, clean = side * side * 3, n - 11 // 11 is 70 % of 16, rounded down
	for i := range n {
		var far float64
		for k := i * d; k < (i+1)*d; k++ {
			far = max(far, math.Abs(float64(attacked[k])-float64(x[k])))
			if attacked[k] < 0 || attacked[k] > 1 {
				t.Fatalf("image %d leaves [0,1]: %g", i, attacked[k])
			}
		}
		// The iterate is x plus a clipped change, rounded once: half a unit in the last place of 1.
		if bound := 8./255 + 6e-8; far > bound || (far == 0) != (i < clean) {
			t.Errorf("image %d of %d clean ones is moved by %g, bound %g", i, clean, far, bound)
		}
	}
	defence := &Defence{r.Config, 1, LogSum, tr.Store}
	o, err := attacks.NewOracle(be, defence, attacks.OracleOptions{Buckets: []int{n}})
	if err != nil {
		t.Fatal(err)
	}
	loss := func(v []float32) (sum float64) {
		b := attacks.Batch{X: v, Y: y, H: side, W: side, C: 3}
		for i := range n {
			b.ID = append(b.ID, i)
		}
		g, err := o.Gradient(ctx, attacks.CE, b, 5, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range g.Loss {
			sum += float64(l)
		}
		return sum
	}
	first, err := tr.Advance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// KL is covered by the free bits: what is charged is their constant, and beta is 0 in the beginning anyway.
	if want := first.BCE + r.ClassLoss*first.CE; math.Abs(first.Total-want) > 1e-4*want {
		t.Errorf("loss %g, want reconstruction %g + %g x class loss %g", first.Total, first.BCE, r.ClassLoss, first.CE)
	}
	last := first
	for tr.Step() < tr.Total() {
		if last, err = tr.Advance(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if want := last.BCE + float64(r.Config.Latent)*r.FreeBits*last.Beta + r.ClassLoss*last.CE; math.Abs(last.Total-want) > 1e-4*want || last.Beta != 0.5 {
		t.Errorf("loss %g at beta %g, want %g with all free bits charged", last.Total, last.Beta, want)
	}
	if !(last.CE < first.CE) {
		t.Errorf("class loss %g after %d steps on one batch, %g before", last.CE, tr.Total(), first.CE)
	}
	// Not before: with the statistics that BatchNorm starts with, the defence does not yet depend on the image.
	if attacked, err = tr.attack(ctx, x, y); err != nil {
		t.Fatal(err)
	}
	if before, after := loss(x), loss(attacked); !(after > before) {
		t.Errorf("the attack takes the loss of the defence from %g to %g", before, after)
	}
}

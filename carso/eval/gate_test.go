package eval

import (
	"context"
	"errors"
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/gomlx/ml/model"
)

// The tolerance against its definition: none but the slack on the whole set, the binomial one on a sample that is small beside it.
func TestGateTolerance(t *testing.T) {
	whole := Gate{Published: checkpoints.Accuracy{Percent: 80, Images: 10000}, Images: 10000}
	if got := whole.Tolerance(); got != gateSlack {
		t.Errorf("on all images %g", got)
	}
	part := Gate{Published: checkpoints.Accuracy{Percent: 80, Images: 1_000_000_000}, Images: 100}
	if got, want := part.Tolerance(), 400*0.04+gateSlack; got < want-1e-4 || got > want+1e-4 { // sqrt(0.8*0.2/100) = 0.04
		t.Errorf("on 100 images %g, want %g", got, want)
	}
}

// TestGate: the shipped plain classifier passes with its own accuracy; with other constants of normalisation, labels in another order, or another
// figure, the gate closes and says what may be wrong.
func TestGate(t *testing.T) {
	if _, err := xlaenv.Prepare(); err != nil {
		t.Fatal(err)
	}
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	set, err := data.Sample()
	if err != nil {
		t.Fatal(err)
	}
	s, err := carso.FindScenario("a", "small")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Shipped(s.Plain)
	if err != nil {
		t.Fatal(err)
	}
	c, err := carso.OpenClassifier(model.NewStore(), "/f", f, s.Plain)
	if err != nil {
		t.Fatal(err)
	}
	const n = 96
	truth, err := Check(context.Background(), be, c, set, n, checkpoints.Accuracy{Percent: 50, Images: 10000, Source: "test"}, nil)
	if err != nil || truth.Images != n || truth.Percent() < 50 { // it is a trained network
		t.Fatal(truth, err)
	}
	own := checkpoints.Accuracy{Percent: truth.Percent(), Images: n, Source: "the line above"} // tolerance: the slack alone
	if err := (Gate{Published: own, Images: n, Correct: truth.Correct}).Err(); err != nil {
		t.Error(err)
	}
	if err := (Gate{Published: own, Images: n, Correct: truth.Correct + 3, Chance: 10}).Err(); err == nil || !strings.Contains(err.Error(), "better than it should be") {
		t.Error(err)
	}
	wrong := *c
	for i := range wrong.Net.Std {
		wrong.Net.Std[i] *= 2
	}
	g, err := Check(context.Background(), be, &wrong, set, n, own, nil)
	if err != nil {
		t.Fatal(err)
	}
	var closed *GateError
	if err := g.Err(); !errors.As(err, &closed) || !strings.Contains(err.Error(), "normalised") {
		t.Errorf("with twice the standard deviation: %v, %v", g, err)
	}
	mixed, err := set.Head(n)
	if err != nil {
		t.Fatal(err)
	}
	for i := range mixed.Labels {
		mixed.Labels[i] = (mixed.Labels[i] + 1) % 10
	}
	if g, err = Check(context.Background(), be, c, mixed, n, own, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.Err(); err == nil || !strings.Contains(err.Error(), "labels are in another order") {
		t.Errorf("with other labels: %v, %v", g, err)
	}
	if _, err := Check(context.Background(), be, c, mixed, n+1, own, nil); err == nil {
		t.Error("more images than there are")
	}
}

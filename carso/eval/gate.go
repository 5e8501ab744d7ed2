package eval

import (
	"context"
	"fmt"
	"math"

	"carsokit/attacks"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/rng"

	"github.com/gomlx/compute"
)

// Gate compares a classifier's accuracy on real, unattacked images with a published one: the cheapest proof that weights, data and preprocessing belong
// together, to be had before any attack.
type Gate struct {
	Published checkpoints.Accuracy
	Images    int // classified: the first ones of the test set
	Correct   int
	Chance    float64 // accuracy of guessing, percent
}

// GateError says that an accuracy is not the published one.
type GateError struct{ Gate }

// gateSlack is what a right network may differ by beyond chance, in percentage points: sums in another order, decoders that differ by a level.
const gateSlack = 0.5

// Percent is the accuracy found.
func (g Gate) Percent() float64 { return 100 * float64(g.Correct) / float64(max(g.Images, 1)) }

// Tolerance is how far, in percentage points, the accuracy on Images of the Published.Images images may lie from the published one: four standard deviations
// of a sample drawn without replacement, which one right network in 15,000 exceeds, and half a point beside.
func (g Gate) Tolerance() float64 {
	p, n, all := g.Published.Percent/100, float64(max(g.Images, 1)), float64(g.Published.Images)
	return 400*math.Sqrt(p*(1-p)/n*max(all-n, 0)/max(all-1, 1)) + gateSlack
}

// Err returns nil if the accuracy found is the published one within the tolerance, or a *GateError.
func (g Gate) Err() error {
	if math.Abs(g.Percent()-g.Published.Percent) <= g.Tolerance() {
		return nil
	}
	return &GateError{g}
}

// String says what was found and what was expected.
func (g Gate) String() string {
	return fmt.Sprintf("clean accuracy %.2f %% on %d images; published: %.2f %% (%s), tolerance here %.2f points", g.Percent(), g.Images, g.Published.Percent, g.Published.Source, g.Tolerance())
}

func (e *GateError) Error() string {
	text := e.String() + ": "
	switch got := e.Percent(); {
	case got > e.Published.Percent:
		return text + "better than it should be: these are other weights (a plain classifier's?), or the images are not the test set's"
	case got < 1.5*e.Chance+gateSlack:
		return text + "no better than guessing: the labels are in another order than the network's outputs, or the file belongs to another data set"
	}
	return text + "the images are not normalised as in training (mean and standard deviation, [0,1] range, channel order), these are other weights than the name says, " +
		"or the images were encoded again"
}

// Check classifies the first n images of a test set in one clean pass. The set must be the one that the published figure is about; progress may be nil.
func Check(ctx context.Context, be compute.Backend, c attacks.Classifier, set *data.Set, n int, published checkpoints.Accuracy, progress func(done int)) (Gate, error) {
	g := Gate{Published: published, Chance: 100 / float64(c.Classes())}
	if n < 1 || n > set.Len() {
		return g, fmt.Errorf("clean accuracy on %d images: %s %s here has %d", n, set.Name, set.Split, set.Len())
	}
	oracle, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: []int{16}})
	if err != nil {
		return g, err
	}
	defer oracle.Close()
	for _, chunk := range data.Chunks(n, 16) {
		at := chunk.Indices()
		b := attacks.Batch{X: make([]float32, len(at)*set.H*set.W*3), Y: make([]int32, len(at)), ID: at, H: set.H, W: set.W, C: 3}
		set.Floats(b.X, at...)
		logits, err := oracle.Logits(ctx, b, rng.Seed(0).Child("gate"), 1)
		if err != nil {
			return g, fmt.Errorf("clean accuracy: %w", err)
		}
		for i, index := range at {
			if argmax(logits[i*c.Classes():(i+1)*c.Classes()]) == int(set.Labels[index]) {
				g.Correct++
			}
		}
		g.Images += len(at)
		if progress != nil {
			progress(g.Images)
		}
	}
	return g, nil
}

// argmax is the first index of the largest value; a NaN anywhere makes it -1, which is no class.
func argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x != x {
			return -1
		}
		if x > v[best] {
			best = i
		}
	}
	return best
}

package check_test

import (
	"context"
	"fmt"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/attacks/check"
)

// brightness calls an image dark (class 0) or light (class 1) by its mean pixel; rounded, it looks at eight grey levels only.
type brightness struct {
	store   *model.Store
	rounded bool
}

func (b brightness) Store() *model.Store { return b.store }
func (brightness) Classes() int          { return 2 }
func (brightness) NoiseDims() []int      { return nil }

func (b brightness) Logits(_ *model.Scope, x, _ *Node) *Node {
	if b.rounded {
		x = StopGradient(DivScalar(Round(MulScalar(x, 7)), 7)) // Round has no gradient
	}
	light := AddScalar(ReduceMean(x, 1, 2), -0.5) // [B,1]
	return Concatenate([]*Node{Neg(light), light}, 1)
}

// Two classifiers of 2x1 pixels. Attacks break fewer images of the second one, which rounds its input, and the findings say why that means nothing.
func Example() {
	images := attacks.Batch{H: 2, W: 1, C: 1}
	for i := range 12 {
		v := 0.4 + 0.2*float32(i)/11
		images.X, images.Y, images.ID = append(images.X, v, v), append(images.Y, int32(i/6)), append(images.ID, i)
	}
	for _, rounded := range []bool{false, true} {
		r, err := check.Run(context.Background(), compute.MustNew(), brightness{model.NewStore(), rounded}, images, check.Options{Steps: 10})
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d of %d broken; failed: %v\n", r.Broken, r.Right, r.Named(check.Fail))
	}
	// Output:
	// 4 of 12 broken; failed: []
	// 3 of 12 broken; failed: [zero-gradient-ce zero-gradient-margin loss-rises unbounded]
}

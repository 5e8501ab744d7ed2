package attacks_test

import (
	"context"
	"fmt"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
)

// brightness calls an image dark (class 0) or light (class 1) by its mean pixel. Any GoMLX model becomes attackable by these four methods.
type brightness struct{ store *model.Store }

func (b brightness) Store() *model.Store { return b.store }
func (brightness) Classes() int          { return 2 }
func (brightness) NoiseDims() []int      { return nil }

func (brightness) Logits(_ *model.Scope, x, _ *Node) *Node {
	light := AddScalar(ReduceMean(x, 1, 2), -0.5) // [B,1]
	return Concatenate([]*Node{Neg(light), light}, 1)
}

// Three images of 2x1 pixels are attacked with budget 8/255: one is far from the border, one is near it, one is wrong to begin with.
func Example() {
	o, err := attacks.NewOracle(compute.MustNew(), brightness{model.NewStore()}, attacks.OracleOptions{})
	if err != nil {
		panic(err)
	}
	defer o.Close()
	images := attacks.Batch{H: 2, W: 1, C: 1, X: []float32{0.1, 0.3, 0.5, 0.52, 0.4, 0.3}, Y: []int32{0, 1, 1}, ID: []int{0, 1, 2}}
	apgd := attacks.Stage{Oracle: o, Attack: attacks.StandardAPGD(attacks.CE, 8.0/255, 1)}
	out, err := attacks.Sequence{Decide: o, Stages: []attacks.Stage{apgd}}.Run(context.Background(), images, 42)
	if err != nil {
		panic(err)
	}
	fmt.Println("right before the attack:", out.Remaining[0], "after it:", out.Remaining[1])
	for i := range images.Len() {
		fmt.Println("image", i, "wrong already:", out.Initially[i], "broken:", out.BrokenBy[i] != attacks.NotBroken, "NaN gradient:", out.Diag[0][i].NaNEver)
	}
	// Output:
	// right before the attack: 2 after it: 1
	// image 0 wrong already: false broken: false NaN gradient: false
	// image 1 wrong already: false broken: true NaN gradient: false
	// image 2 wrong already: true broken: false NaN gradient: false
}

package attacks_test

import (
	"context"
	"fmt"
	"slices"

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

// quadrants says which of four pixels is the brightest.
func quadrants() attacks.Classifier {
	return attacks.Deterministic(model.NewStore(), 4, func(_ *model.Scope, x *Node) *Node { return MulScalar(Reshape(x, -1, 4), 10) })
}

// A version of AutoAttack is a value: it can be looked at, changed and run.
func ExampleAutoAttackStandard() {
	a := attacks.AutoAttackStandard(8.0 / 255)
	for _, each := range a.Attacks {
		fmt.Println(each.Name(), each.Evaluations())
	}
	a.Attacks = a.Attacks[:3] // without Square
	o, err := attacks.NewOracle(compute.MustNew(), quadrants(), attacks.OracleOptions{})
	if err != nil {
		panic(err)
	}
	defer o.Close()
	images := attacks.Batch{H: 2, W: 2, C: 1, X: []float32{0.5, 0.45, 0, 0, 0.5, 0.4, 0, 0}, Y: []int32{0, 0}, ID: []int{0, 1}}
	out, err := a.On(o, "logits").Run(context.Background(), images, 42)
	if err != nil {
		panic(err)
	}
	fmt.Println("right:", out.Remaining[0], "after each attack:", out.Remaining[1:])
	// Output:
	// apgd-ce 101
	// apgd-t 909
	// fab-t 900
	// square 5001
	// right: 2 after each attack: [1 1 1]
}

// A loss curve, and when APGD halved its step size.
func ExampleOracle_Observed() {
	o, err := attacks.NewOracle(compute.MustNew(), quadrants(), attacks.OracleOptions{})
	if err != nil {
		panic(err)
	}
	defer o.Close()
	image := attacks.Batch{H: 2, W: 2, C: 1, X: []float32{0.5, 0.4, 0, 0}, Y: []int32{0}, ID: []int{0}}
	var curve []float32
	halved := 0
	_, err = attacks.StandardAPGD(attacks.Margin, 8.0/255, 1).Run(context.Background(), o.Observed(func(_ []int, g *attacks.Grad) {
		curve, halved = append(curve, g.Loss[0]), g.Halvings[0]
	}), image, 42)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d evaluations, best loss %.2f, %d halvings\n", len(curve), slices.Max(curve), halved)
	// Output: 101 evaluations, best loss -0.37, 8 halvings
}

// The nearest adversarial image, here half of the way to the second brightest pixel.
func ExampleFAB() {
	o, err := attacks.NewOracle(compute.MustNew(), quadrants(), attacks.OracleOptions{})
	if err != nil {
		panic(err)
	}
	defer o.Close()
	image := attacks.Batch{H: 2, W: 2, C: 1, X: []float32{0.5, 0.4, 0, 0}, Y: []int32{0}, ID: []int{0}}
	r, err := attacks.StandardFAB(0.1, 0, 1).Run(context.Background(), o, image, 42)
	if err != nil {
		panic(err)
	}
	fmt.Printf("broken: %v, at distance %.3f\n", r.Broken[0], attacks.Distance(r.Adv, image.X, 1)[0])
	// Output: broken: true, at distance 0.050
}

// Images made against one classifier, scored on another.
func ExampleTransfer() {
	source, err := attacks.NewOracle(compute.MustNew(), brightness{model.NewStore()}, attacks.OracleOptions{})
	if err != nil {
		panic(err)
	}
	defer source.Close()
	// The target sees the first pixel only.
	first := attacks.Deterministic(model.NewStore(), 2, func(_ *model.Scope, x *Node) *Node {
		light := AddScalar(Reshape(Slice(x, AxisRange(), AxisRange(0, 1)), -1, 1), -0.5)
		return Concatenate([]*Node{Neg(light), light}, 1)
	})
	target, err := attacks.NewOracle(compute.MustNew(), first, attacks.OracleOptions{})
	if err != nil {
		panic(err)
	}
	defer target.Close()
	images := attacks.Batch{H: 2, W: 1, C: 1, X: []float32{0.51, 0.6, 0.7, 0.6}, Y: []int32{1, 1}, ID: []int{0, 1}}
	out, err := attacks.Transfer(source, "brightness", target, attacks.FGSM{Eps: 8.0 / 255, EoT: 1}).Run(context.Background(), images, 42)
	if err != nil {
		panic(err)
	}
	fmt.Println("right:", out.Remaining[0], "after the transferred attack:", out.Remaining[1])
	// Output: right: 2 after the transferred attack: 1
}

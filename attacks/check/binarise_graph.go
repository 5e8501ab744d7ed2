package check

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
)

// readout is a classifier of two classes on the features of another one. The linear layer differs from image to image, so it comes with the noise: the input
// [B,M+K+1] holds the M numbers of noise of one pass of the other classifier, K weights and the bias. The logits are 0 and the score.
type readout struct {
	c        attacks.Classifier
	features builder
	noise, k int
}

// builder builds features x, noise -> [B,K].
type builder func(scope *model.Scope, x, noise *Node) *Node

func (r readout) Store() *model.Store { return r.c.Store() }
func (readout) Classes() int          { return 2 }
func (r readout) NoiseDims() []int    { return []int{r.noise + r.k + 1} }

func (r readout) Logits(s *model.Scope, x, in *Node) *Node {
	var noise *Node
	if dims := r.c.NoiseDims(); dims != nil {
		noise = Reshape(Slice(in, AxisRange(), AxisRange(0, r.noise)), append([]int{x.Shape().Dimensions[0]}, dims...)...)
	}
	w, bias := Slice(in, AxisRange(), AxisRange(r.noise, r.noise+r.k)), Slice(in, AxisRange(), AxisRange(r.noise+r.k, r.noise+r.k+1))
	score := Add(ExpandAxes(ReduceSum(Mul(r.features(s, x, noise), w), 1), 1), bias)
	return Concatenate([]*Node{ZerosLike(score), score}, 1)
}

// featurer answers features in the place of logits.
type featurer struct{ Featured }

func (f featurer) Classes() int { return f.FeatureDim() }

func (f featurer) Logits(s *model.Scope, x, noise *Node) *Node { return f.Features(s, x, noise) }

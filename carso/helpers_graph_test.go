package carso

import (
	"carsokit/internal/nn"
	"carsokit/models"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

func sigmoid(x *Node) *Node { return Sigmoid(x) }

// aggregationGraph returns an aggregation's output, the cross-entropies on it, and the gradient of their sum, for logits l [B,N,C].
func aggregationGraph(a Aggregation, l, y *Node) []*Node {
	out := a.graph(l)
	ce := nn.CrossEntropy(out, y)
	return []*Node{out, ce, Gradient(ReduceAllSum(ce), l)[0]}
}

// latents is the noise among optional inputs.
func latents(z []*Node) *Node {
	if len(z) == 0 {
		return nil
	}
	return z[0]
}

// inferenceGraph returns compressed representations, condition, reconstructions and the samples' logits, then for each of aggregationNames the output, the
// cross-entropies and their sum's gradient with respect to the samples' logits.
func inferenceGraph(d *Defence, x, y *Node, z []*Node) []*Node {
	_, taps := d.Base.Graph(nn.Net{Scope: d.store.Scope(baseScope)}, x, true)
	c := d.Condition(nil, x)
	images := d.Reconstruct(c, latents(z))
	l := d.SampleLogits(images)
	out := []*Node{d.net().compress(taps), c, images, l}
	for _, a := range aggregationNames {
		out = append(out, aggregationGraph(a.is, l, y)...)
	}
	return out
}

// backwardGraph leads a gradient with respect to the samples' logits back to the images.
func backwardGraph(d *Defence, x, back *Node, z []*Node) *Node {
	l := d.SampleLogits(d.Reconstruct(d.Condition(nil, x), latents(z)))
	return Gradient(ReduceAllSum(Mul(l, back)), x)[0]
}

func endToEndGraph(d *Defence, s *model.Scope, x, y *Node, z []*Node) *Node {
	return Gradient(ReduceAllSum(nn.CrossEntropy(d.Logits(s, x, latents(z)), y)), x)[0]
}

// finalGraph returns the defence's logits, and a classifier's on the one reconstruction per image.
func finalGraph(d *Defence, c *models.Classifier, scope *model.Scope, x, z *Node) []*Node {
	images := d.Reconstruct(d.Condition(scope, x), z)
	return []*Node{d.Logits(scope, x, z), c.Logits(scope, Squeeze(images, 1), nil)}
}

// withoutMaps returns the reconstructions at z = 0, and those with zeros where the maps are.
func withoutMaps(d *Defence, x *Node) []*Node {
	c := d.Condition(nil, x)
	bare := Concatenate([]*Node{SliceAxis(c, 1, AxisRange(0, d.Cond)), ZerosLike(SliceAxis(c, 1, AxisRange(d.Cond)))}, 1)
	return []*Node{d.Reconstruct(c, nil), d.Reconstruct(bare, nil)}
}

package carso

import (
	"strconv"

	"carsokit/internal/nn"
	"carsokit/models"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

func sigmoid(x *Node) *Node { return Sigmoid(x) }

func itoa(i int) string { return strconv.Itoa(i) }

// aggregationGraph returns an aggregation's output, the cross-entropies on it, and the gradient of their sum, for logits l [B,N,C].
func aggregationGraph(a Aggregation, l, y *Node) []*Node {
	out := a.graph(l)
	ce := nn.CrossEntropy(out, y)
	return []*Node{out, ce, Gradient(ReduceAllSum(ce), l)[0]}
}

// finalGraph returns the defence's logits, and a classifier's on the one reconstruction per image.
func finalGraph(d *Defence, c *models.Classifier, scope *model.Scope, x, z *Node) []*Node {
	images := d.Reconstruct(d.Condition(scope, x), z)
	return []*Node{d.Logits(scope, x, z), c.Logits(scope, Squeeze(images, 1), nil)}
}

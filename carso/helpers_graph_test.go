package carso

import (
	"strconv"

	"carsokit/models"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

func sigmoid(x *Node) *Node { return Sigmoid(x) }

func itoa(i int) string { return strconv.Itoa(i) }

// finalGraph returns the defence's logits, and a classifier's on the one reconstruction per image.
func finalGraph(d *Defence, c *models.Classifier, scope *model.Scope, x, z *Node) []*Node {
	images := d.Reconstruct(d.Condition(scope, x), z)
	return []*Node{d.Logits(scope, x, z), c.Logits(scope, Squeeze(images, 1), nil)}
}

package models

import (
	"carsokit/internal/nn"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// goldenGraph returns logits, losses, input gradient and the representations.
func goldenGraph(w WRN, store *model.Store, x, y *Node) []*Node {
	logits, taps := w.Graph(nn.Net{Scope: store.Scope("/f")}, x, false)
	ce := nn.CrossEntropy(logits, y)
	return append([]*Node{logits, ce, Gradient(ReduceAllSum(ce), x)[0]}, taps...)
}

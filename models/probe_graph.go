package models

import (
	"carsokit/internal/nn"

	. "github.com/gomlx/gomlx/core/graph"
)

type node = Node

// correctGraph counts the images x [B,S,S,3] that n classifies as y int32 [B].
func (r Recipe) correctGraph(n nn.Net, x, y *Node) *Node {
	logits, _ := r.Net.Graph(n, x, false)
	return ReduceAllSum(ConvertDType(Equal(ArgMax(logits, -1, y.DType()), y), x.DType()))
}

// pgdGraph is one step of PGD of a quarter of eps around x0.
func (r Recipe) pgdGraph(n nn.Net, x0, x, y *Node) *Node {
	logits, _ := r.Net.Graph(n, x, false)
	grad := Gradient(ReduceAllSum(nn.CrossEntropy(logits, y)), x)[0]
	delta := ClipScalar(Sub(Add(x, MulScalar(Sign(grad), r.Eps/4)), x0), -r.Eps, r.Eps)
	return ClipScalar(Add(x0, delta), 0, 1)
}

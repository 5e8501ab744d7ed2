package eval

import (
	"carsokit/attacks/attacktest"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// quiet is the noisy toy with a share of its noise, which otherwise decides most images.
type quiet struct {
	*attacktest.Toy
	share float64
}

func (q quiet) Logits(s *model.Scope, x, noise *Node) *Node {
	return q.Toy.Logits(s, x, MulScalar(noise, q.share))
}

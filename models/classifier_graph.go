package models

import (
	"carsokit/internal/nn"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// Logits builds x [B,S,S,3] in [0,1] -> [B,Classes], BatchNorm in evaluation mode.
func (c *Classifier) Logits(_ *model.Scope, x, _ *Node) *Node {
	logits, _ := c.Net.Graph(nn.Net{Scope: c.store.Scope(c.scope)}, x, false)
	return logits
}

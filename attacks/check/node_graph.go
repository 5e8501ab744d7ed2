package check

import (
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

type (
	node  = graph.Node
	scope = model.Scope
)

package eval

import "github.com/gomlx/gomlx/core/graph"

type node = graph.Node

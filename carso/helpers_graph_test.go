package carso

import (
	"strconv"

	. "github.com/gomlx/gomlx/core/graph"
)

func sigmoid(x *Node) *Node { return Sigmoid(x) }

func itoa(i int) string { return strconv.Itoa(i) }

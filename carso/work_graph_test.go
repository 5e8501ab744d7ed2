package carso

import . "github.com/gomlx/gomlx/core/graph"

// countFLOPs is two for each multiply-add of the convolutions and products of matrices that the given nodes need. Convolutions are NHWC, or backwards through such ones.
func countFLOPs(of ...*Node) int {
	sum := 0
	seen := map[*Node]bool{}
	var visit func(n *Node)
	visit = func(n *Node) {
		if seen[n] {
			return
		}
		seen[n] = true
		for _, in := range n.Inputs() {
			visit(in)
		}
		switch n.Type() {
		case NodeTypeConvGeneral:
			out := n.Shape().Dimensions
			sum += 2 * n.Shape().Size() * n.Inputs()[1].Shape().Size() / out[len(out)-1]
		case NodeTypeDotGeneral:
			rows := n.Shape().Dimensions[0]
			sum += 2 * n.Shape().Size() * n.Inputs()[0].Shape().Size() / rows
		}
	}
	for _, n := range of {
		visit(n)
	}
	return sum
}

// workGraph counts what one pass of one image takes: to the condition, for one sample, and both with the gradient of the pixels.
func workGraph(d *Defence, g *Graph, dims func(...int) *Node) (condition, sample, gradient int) {
	size := d.Base.Size
	x := dims(1, size, size, 3)
	c := d.Condition(nil, x)
	given := dims(1, c.Shape().Dimensions[1])
	logits := d.LogitsGiven(nil, given, dims(1, 1, d.Latent))
	whole := d.Logits(nil, x, dims(1, 1, d.Latent))
	return countFLOPs(c), countFLOPs(logits), countFLOPs(Gradient(ReduceAllSum(whole), x)[0])
}

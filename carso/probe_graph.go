package carso

import (
	"carsokit/models"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

type node = Node

// probeGraph returns, for images x [B,S,S,3] and samples z [B,N,Latent], the logits [B,C] of the classifier alone, of the sampled defence and of the one
// with z = 0; then two scalars: the spread of the reconstructions between samples, and their mean squared error.
func probeGraph(sampled, zero *Defence, alone *models.Classifier, s *model.Scope, x, z *Node) []*Node {
	cond := sampled.Condition(s, x)
	images := sampled.Reconstruct(cond, z)
	mean := ReduceAndKeep(images, ReduceMean, 1)
	std := ReduceAllMean(Sqrt(ReduceMean(Square(Sub(images, mean)), 1)))
	return []*Node{
		alone.Logits(s, x, nil),
		sampled.Output.graph(sampled.classify(cond, images)),
		zero.LogitsGiven(s, cond, nil),
		std,
		ReduceAllMean(Square(Sub(images, ExpandAxes(x, 1)))),
	}
}

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

// lossGraph returns the mean loss and its gradient with respect to the logits.
func lossGraph(logits, targets *Node) []*Node {
	loss := ReduceAllMean(nn.SoftCrossEntropy(logits, targets))
	return []*Node{loss, Gradient(loss, logits)[0]}
}

// tradesGraph returns the loss and its gradients with respect to both logits.
func tradesGraph(clean, attacked, targets *Node, beta float64) []*Node {
	loss := tradesLoss(clean, attacked, targets, beta)
	return append([]*Node{loss}, Gradient(loss, clean, attacked)...)
}

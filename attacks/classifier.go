package attacks

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// Classifier is all an attack may know of a defence. A pass is a pure function of its inputs: noise is standard normal, drawn on the host.
type Classifier interface {
	// Store holds the weights that Logits reads.
	Store() *model.Store
	// Classes is the number of columns of Logits.
	Classes() int
	// NoiseDims is the shape of the noise of one image in one pass; nil says that the classifier is deterministic.
	NoiseDims() []int
	// Logits builds one pass: x is [B,H,W,C] in [0,1], noise is [B,NoiseDims...] (nil if deterministic), the result [B,Classes]. Rows must not
	// influence each other (batch normalisation in evaluation mode). It may be called for several graphs and batch sizes.
	Logits(scope *model.Scope, x, noise *Node) *Node
}

// Staged is a Classifier whose pass splits into an expensive deterministic part and a stochastic rest, with
// Logits(x, noise) = LogitsGiven(Condition(x), noise). The chain rule is linear in the draws, so EoT computes the first part, and goes
// back through it, once a step instead of once a draw.
type Staged interface {
	Classifier
	// Condition is the deterministic part: x [B,H,W,C] -> [B,K].
	Condition(scope *model.Scope, x *Node) *Node
	// LogitsGiven is the rest: condition [B,K], noise [B,NoiseDims...] -> [B,Classes].
	LogitsGiven(scope *model.Scope, cond, noise *Node) *Node
}

// Represents is a Staged classifier whose condition holds more than its representation of the image, for example the image itself. The first Represented values of it
// are what [Representation] moves.
type Represents interface {
	Staged
	Represented() int
}

// Ensemble is a Staged classifier that aggregates independent members, each with its own share of the noise: NoiseDims()[0] is their number N, and
// LogitsGiven(cond, noise) = Aggregate(MemberLogits(cond, noise)). Where there are more of them than OracleOptions.Members, a pass is computed in parts of that many, so that
// its memory does not grow with N. The price is a second forward pass of every member when a gradient is asked for.
type Ensemble interface {
	Staged
	// MemberLogits is the part of any number M of members: condition [B,K], noise [B,M,NoiseDims()[1:]...] -> [B,M,Classes].
	MemberLogits(scope *model.Scope, cond, noise *Node) *Node
	// Aggregate is the rest: [B,N,Classes] -> [B,Classes].
	Aggregate(members *Node) *Node
}

// Deterministic makes a Classifier without noise of a function that builds the logits [B,classes] of x [B,H,W,C] from the weights in store.
func Deterministic(store *model.Store, classes int, logits func(scope *model.Scope, x *Node) *Node) Classifier {
	return plain{store, classes, logits}
}

type plain struct {
	store   *model.Store
	classes int
	logits  func(*model.Scope, *Node) *Node
}

func (c plain) Store() *model.Store                         { return c.store }
func (c plain) Classes() int                                { return c.classes }
func (plain) NoiseDims() []int                              { return nil }
func (c plain) Logits(scope *model.Scope, x, _ *Node) *Node { return c.logits(scope, x) }

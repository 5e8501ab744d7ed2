package carso

import (
	"fmt"

	"carsokit/attacks"

	"github.com/gomlx/gomlx/ml/model"
)

// Defence is the whole method as one classifier: representation classifier, purifier, final classifier and aggregation, everything
// differentiable from the pixels to the aggregated logits. It satisfies the contract of package attacks, including its staged form: the condition is
// computed once for all draws. The attacked image reaches the final classifier only through the condition.
type Defence struct {
	Config
	// Samples is N, the reconstructions per image. 0 means one with z = 0, which makes the defence deterministic.
	Samples int
	// Output is how their logits become one vector: what decides, or what an attack differentiates.
	Output Aggregation

	store *model.Store
}

var (
	_ attacks.Ensemble   = (*Defence)(nil)
	_ attacks.Represents = (*Defence)(nil)
)

// Scopes of a store that holds a defence; the purifier's parts have scopes of their names beside them.
const (
	baseScope  = "/f" // the representation classifier
	finalScope = "/g" // the final classifier, absent where it is the representation classifier itself
)

// NewDefence wraps the weights in store, which Load or a Trainer filled.
func NewDefence(store *model.Store, c Config, samples int, output Aggregation) (*Defence, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if samples < 0 {
		return nil, fmt.Errorf("defence: %d samples", samples)
	}
	if err := output.Validate(); err != nil {
		return nil, fmt.Errorf("defence: %w", err)
	}
	for _, scope := range []string{baseScope + "/logits.weight", "/decoder/5.weight"} {
		if store.GetVariable(scope) == nil {
			return nil, fmt.Errorf("defence: the store has no %s; load the weights first", scope)
		}
	}
	return &Defence{c, samples, output, store}, nil
}

// With returns the same defence, on the same weights, with another output.
func (d *Defence) With(output Aggregation) (*Defence, error) {
	return NewDefence(d.store, d.Config, d.Samples, output)
}

// DrawFree is the deterministic defence of one reconstruction at z = 0, under log S: what an attack that saves the draws would differentiate.
func (d *Defence) DrawFree() (*Defence, error) { return NewDefence(d.store, d.Config, 0, LogSum) }

// Store holds the weights.
func (d *Defence) Store() *model.Store { return d.store }

// Classes is the number of classes of the final classifier.
func (d *Defence) Classes() int { return d.Final.Classes }

// Represented is how many values of the condition the purifier's compressors make: all, but for the image's own (Config.Residual) and its logits (Config.Direct).
func (d *Defence) Represented() int { return d.Cond + d.mapValues() }

// NoiseDims is the shape of the latent samples of one pass: [N, Latent], or nil where there is no noise.
func (d *Defence) NoiseDims() []int {
	if d.Samples == 0 {
		return nil
	}
	return []int{d.Samples, d.Latent}
}

package attacks

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"carsokit/internal/rng"
)

// Seed is the root or a branch of all randomness of an attack: every draw is a function of the seed, the image's ID and its own name. A number converts to one.
type Seed = rng.Seed

// Attack is a value: its exported fields are its whole specification, and so its identity in the records (see Describe).
type Attack interface {
	// Name is short and says the kind and the loss; parameters are in the JSON form.
	Name() string
	// Budget is the largest change of a pixel value.
	Budget() float64
	// Evaluations is the largest number of gradient evaluations that Run makes of one image, each of which is an average over EoT draws; of an attack that
	// uses no gradient, of queries.
	Evaluations() int
	// Validate reports a field that cannot be.
	Validate() error
	// Run attacks every image of b from its clean pixels. The same images, seed and backend give the same bytes. Where ctx ends, Run
	// returns its error before the next device call.
	Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error)
}

// Result is what an attack found; slices are indexed by image. An attack of one's own must return Adv: a Sequence fills in Best and, from what the oracle
// answered, Diag.
type Result struct {
	Adv  []float32 // [n][H*W*C] what the attack returns: APGD the last misclassified iterate, or the clean image; the others their last iterate
	Best []float32 // [n][H*W*C] the point of highest loss; of attacks that do not keep it, the same as Adv
	// What the attack saw of its own iterates, on its own draws; a Sequence decides on fresh ones. nil where the attack does not look.
	Broken   []bool    // some iterate was misclassified
	BestLoss []float32 // the loss of Best; NaN where nothing was evaluated or the start was NaN
	Hit      []int     // the gradient evaluation (0 is the start point) of the iterate in Adv; -1 if that is the clean image
	Diag     []Diag
}

// Diag says of one image whether its attack deserves the name.
type Diag struct {
	NaNStart      bool `json:"nan_start"`       // the first gradient was not finite
	NaNEver       bool `json:"nan_ever"`        // some gradient was not finite
	ZeroStart     bool `json:"zero_start"`      // the first gradient was exactly 0
	ZeroEver      bool `json:"zero_ever"`       // some gradient was exactly 0
	LossZeroStart bool `json:"loss_zero_start"` // the loss at the first point was exactly 0
	Moved         bool `json:"moved"`           // a gradient step led away from the start point
	Steps         int  `json:"steps"`           // gradient evaluations
	Draws         int  `json:"draws"`           // passes with gradient in all of them
	// APGD: how often it halved the step size, over all starts.
	Halvings int `json:"halvings,omitempty"`
	// Attacks without gradient: how often the image was classified. Steps and Draws are 0 then.
	Queries int `json:"queries,omitempty"`
}

// note records one gradient evaluation: image i of g.
func (d *Diag) note(g *Grad, i int) {
	if d.Steps == 0 {
		d.NaNStart, d.ZeroStart, d.LossZeroStart = g.Bad[i], g.Zero[i], g.Loss[i] == 0
	}
	d.NaNEver = d.NaNEver || g.Bad[i]
	d.ZeroEver = d.ZeroEver || g.Zero[i]
	d.Steps++
	d.Draws += g.Draws[i]
}

// Describe is the canonical JSON of an attack, {"kind":"apgd", all fields in order}: equal exactly if the attacks are.
func Describe(a Attack) (json.RawMessage, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("attacks: describing %s: %w", a.Name(), err)
	}
	return text, nil
}

// withKind marshals the fields of an attack behind its kind.
func withKind(kind string, fields any) ([]byte, error) {
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return append([]byte(`{"kind":"`+kind+`",`), text[1:]...), nil
}

// rule is one condition on a field of an attack.
type rule struct {
	ok    bool
	field string
	value any
	want  string
}

func firstBroken(attack string, rules ...rule) error {
	for _, r := range rules {
		if !r.ok {
			return fmt.Errorf("attacks: %s: %s is %v; want %s", attack, r.field, r.value, r.want)
		}
	}
	return nil
}

// Rules that several attacks share.
func epsRule(eps float64) rule { return rule{eps >= 0 && eps <= 1, "Eps", eps, "a number in [0,1]"} }
func stepRule(step float64) rule {
	return rule{step > 0 && !math.IsInf(step, 0), "Step", step, "a positive number"}
}
func shareRule(field string, v float64) rule {
	return rule{v >= 0 && v <= 1, field, v, "a number in [0,1]"}
}
func countRule(field string, n int) rule { return rule{n >= 1, field, n, "at least 1"} }

// ready checks what every Run needs.
func ready(a Attack, o *Oracle, b Batch) error {
	if err := a.Validate(); err != nil {
		return err
	}
	return b.Validate(o.Classes())
}

// moved says whether two images differ.
func moved(a, b []float32) bool {
	for k, v := range a {
		if v != b[k] {
			return true
		}
	}
	return false
}

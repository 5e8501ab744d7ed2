package eval

import (
	"encoding/json"
	"fmt"

	"carsokit/attacks"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/compute"
)

// Model is a classifier of one's own, which [Run] evaluates as it does those of the tables: image by image, into records that it goes on from, in shards where there are many.
type Model struct {
	Name       string // stands for the scenario in its records: lower-case letters, digits, '.', '_' and '-'
	Classifier attacks.Classifier
	// Config and Weights tell it from other models of that name. They are part of the records' key, and nobody else can know: with the same ones, what is recorded counts as
	// this model's.
	Config  map[string]any
	Weights []record.Weight
}

// ModelOutput is how records call the logits of a [Model].
const ModelOutput = "model"

// Job is the evaluation of a model on the first images of a set by attacks, one after the other, each on what those before have left; without attacks that of its clean accuracy.
// A model with noise is scored on ten fresh passes, and four passes confirm that an attack broke an image; a deterministic one takes one of each. eps, in [0,1], is what the
// records say the bound is: no attack's may be larger.
func (m Model) Job(be compute.Backend, set *data.Set, images int, eps float64, seed uint64, by ...attacks.Attack) (Job, error) {
	j := Job{Protocol: Protocol{Decides: ModelOutput, Confirm: 1}, Set: set, Images: images}
	for _, a := range by {
		if err := a.Validate(); err != nil {
			return Job{}, fmt.Errorf("evaluating %s: %w", m.Name, err)
		}
		if a.Budget() > eps*(1+1e-9) {
			return Job{}, fmt.Errorf("evaluating %s within %g/255: %s moves pixels by up to %g/255", m.Name, 255*eps, a.Name(), 255*a.Budget())
		}
		j.Protocol.Stages = append(j.Protocol.Stages, Stage{Output: ModelOutput, Attack: a})
	}
	j.System = System{Defence: m.Config, Weights: m.Weights, Output: func(name string) (attacks.Classifier, error) {
		if name != ModelOutput {
			return nil, fmt.Errorf("%s has one output, %s, not %s", m.Name, ModelOutput, name)
		}
		return m.Classifier, nil
	}}
	j.Spec = record.Spec{Scenario: m.Name, Row: ModelOutput, Column: "attacked", Scale: "own", Eps: eps, Draws: 1, Seed: seed}
	if len(by) == 0 {
		j.Spec.Column, j.Spec.Eps = "clean", 0
	}
	if m.Classifier.NoiseDims() != nil {
		j.Protocol.Confirm, j.Spec.Draws = 4, 10
	}
	if err := j.describe(be); err != nil {
		return Job{}, err
	}
	return j, j.Spec.Validate()
}

// describe fills in what a job's records say of images, weights, defence, attack and program.
func (j *Job) describe(be compute.Backend) (err error) {
	s := &j.Spec
	s.Schema, s.Weights = record.Schema, j.System.Weights
	s.Data = record.Data{Name: j.Set.Name, Split: j.Set.Split, Digest: j.Set.Digest}
	s.Versions = map[string]string{"kit": Kit, "gomlx": GoMLX, "backend": xlaenv.Describe(be)}
	if s.Defence, err = json.Marshal(j.System.Defence); err != nil {
		return fmt.Errorf("describing the defence: %w", err)
	}
	s.Attack = json.RawMessage("null")
	if len(j.Protocol.Stages) > 0 {
		if s.Attack, err = json.Marshal(j.Protocol); err != nil {
			return fmt.Errorf("describing the attack: %w", err)
		}
	}
	return nil
}

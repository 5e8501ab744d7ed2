package carso

import (
	"encoding/json"
	"errors"
	"fmt"

	"carsokit/checkpoints"
	"carsokit/models"

	"github.com/gomlx/gomlx/ml/model"
)

// Scenario names the weight files of one of the paper's settings.
type Scenario struct {
	ID         string
	Dataset    string // as package data names it
	Classifier string // file of the adversarially trained classifier
	Plain      string // file of the same kind of network without adversarial training, for the sanity row
	Stem       string // of the purifier's files, see PartFile
}

// Scenarios lists those whose small weights this kit trains and ships.
func Scenarios() []Scenario {
	return []Scenario{{
		ID: "a", Dataset: "cifar10",
		Classifier: "wrn_10_2_cifar_10_small.safetensors",
		Plain:      "wrn_10_1_cifar_10_plain.safetensors",
		Stem:       "wrn_10_2_cifar_10_small",
	}}
}

// FindScenario returns the scenario of that ID.
func FindScenario(id string) (Scenario, error) {
	for _, s := range Scenarios() {
		if s.ID == id {
			return s, nil
		}
	}
	return Scenario{}, fmt.Errorf("no weights for scenario %q; there are those of a", id)
}

// Classifier configuration and purifier configuration travel in the metadata of the weight files.

// OpenClassifier reads a classifier and its configuration from a weight file into a scope of store, frozen.
func OpenClassifier(store *model.Store, scope string, f *checkpoints.File) (*models.Classifier, error) {
	var net models.WRN
	if err := metadata(f, "config", &net); err != nil {
		return nil, err
	}
	if err := net.Validate(); err != nil {
		return nil, err
	}
	if err := models.LoadParams(f, store.Scope(scope), net.Params(), true); err != nil {
		return nil, err
	}
	return models.NewClassifier(store, scope, net), nil
}

// Alone returns the representation classifier of a defence by itself, on the same weights.
func (d *Defence) Alone() *models.Classifier { return models.NewClassifier(d.store, baseScope, d.Base) }

// OpenDefence reads the classifier and the purifier of a scenario. The classifier must be the one that the purifier was trained around.
func OpenDefence(s Scenario, open Opener, samples int, output Aggregation) (d *Defence, err error) {
	store := model.NewStore()
	base, err := open(s.Classifier)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	decoder, err := open(PartFile(s.Stem, "decoder"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, decoder.Close()) }()
	var trained trainState
	if err := metadata(decoder, "training", &trained); err != nil {
		return nil, err
	}
	sum, err := base.SHA256()
	if err != nil {
		return nil, err
	}
	if sum != trained.Classifier {
		return nil, fmt.Errorf("%s was trained around a classifier with SHA-256 %.12s…, %s has %.12s…: use files that belong together",
			PartFile(s.Stem, "decoder"), trained.Classifier, s.Classifier, sum)
	}
	if err := trained.Recipe.Config.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", PartFile(s.Stem, "decoder"), err)
	}
	if err := LoadBase(store, trained.Recipe.Config.Base, base); err != nil {
		return nil, err
	}
	if err := LoadPurifier(store, trained.Recipe.Config, s.Stem, open); err != nil {
		return nil, err
	}
	return NewDefence(store, trained.Recipe.Config, samples, output)
}

func metadata(f *checkpoints.File, key string, v any) error {
	text, ok := f.Meta[key]
	if !ok {
		return fmt.Errorf("the weight file has no %q in its metadata, where files of this kit keep their configuration", key)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("the weight file's metadata %q: %w", key, err)
	}
	return nil
}

// SmallRecipe is how the purifier of scenario a is trained around a small classifier: the reference's loss, optimiser, schedules (200 ticks), mix of
// adversaries and eps multiplier on a smaller purifier. Beside the sizes one thing differs: PGD takes few large steps instead of 40 of 0.01.
//
// small: about 20 minutes on two cores. tiny: seconds, for tests.
func SmallRecipe(scale string, base models.WRN) (Recipe, error) {
	r := Recipe{
		Config: Config{Base: base, Final: base, Cond: 128, Latent: 32, Channels: 96},
		Epochs: 6, Batch: 128, ScheduleEvery: 12, Fraction: 0.5, WeakEps: 4. / 255, StrongEps: 8. / 255,
		EpsMultiplier: 3 / 0.7522, PGDSteps: 5, PGDStep: 0.03, HeldOut: 1000, Seed: 20230602,
	}
	switch scale {
	case "small":
	case "tiny":
		r.Config.Cond, r.Config.Latent, r.Config.Channels = 16, 8, 16
		r.Epochs, r.Batch, r.ScheduleEvery, r.HeldOut, r.PGDSteps = 3, 16, 5, 100, 2
	default:
		return Recipe{}, fmt.Errorf("no purifier recipe at scale %q: there are tiny and small", scale)
	}
	return r, nil
}

package carso

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"carsokit/checkpoints"
	"carsokit/models"

	"github.com/gomlx/gomlx/ml/model"
)

// Opener opens a weight file by its base name: from a folder (Folder) or those that ship (checkpoints.Shipped).
type Opener func(name string) (*checkpoints.File, error)

// Folder opens the files of dir.
func Folder(dir string) Opener {
	return func(name string) (*checkpoints.File, error) { return checkpoints.Open(filepath.Join(dir, name)) }
}

// Open opens a weight file. Where it is not there the error says how to get it.
func (open Opener) Open(name string) (*checkpoints.File, error) {
	f, err := open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("weights %s: %w%s", name, err, remedy(name))
	}
	return f, err
}

// remedy says where a weight file of the paper or of the small scales comes from.
func remedy(file string) string {
	for _, s := range Scenarios() {
		how := func(what, flags, from string) string {
			return fmt.Sprintf("\n`carso train %s -scenario %s%s` makes it, and `carso export -scenario %s -%s build/train/...` puts it where it is looked for", what, s.ID, flags, s.ID, from)
		}
		switch {
		case file == s.Classifier:
			return how("classifier", "", "classifier")
		case file == s.Plain:
			return how("classifier", " -plain", "plain")
		case isPart(file, s.Stem):
			return how("purifier", "", "purifier")
		}
	}
	for _, s := range PaperScenarios() {
		switch part := isPart(file, s.Stem); {
		case part && s.Unpublished:
			return "\nnobody publishes this purifier: train it around " + s.Classifier
		case part || file == s.Classifier:
			return "\n`carso checkpoint get " + strings.TrimSuffix(file, ".safetensors") + "` brings it; then name the folder that holds it"
		}
	}
	return ""
}

// isPart says whether a file is one of those of a purifier. The stem of one may begin the stem of another.
func isPart(file, stem string) bool {
	for _, part := range (Config{Base: models.CIFAR10WRN(10, 1), Spatial: true}).Parts() { // their names are those around any classifier
		if !part.TrainOnly && file == PartFile(stem, part.Name) {
			return true
		}
	}
	return false
}

// use calls fn with an open file, closes it, and puts its name before every error.
func (open Opener) use(name string, fn func(*checkpoints.File) error) error {
	f, err := open.Open(name)
	if err != nil {
		return err
	}
	if err := errors.Join(fn(f), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// PartFile is the reference's name of the file of a purifier's part, for example wrn_28_10_cifar_10_cui_2023_decoder.safetensors for stem
// wrn_28_10_cifar_10_cui_2023.
func PartFile(stem, part string) string { return stem + "_" + part + ".safetensors" }

// LoadBase reads the representation classifier, which is also the final one unless LoadFinal follows.
func LoadBase(store *model.Store, c models.WRN, f *checkpoints.File) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return models.LoadParams(f, store.Scope(baseScope), c.Params(), true)
}

// LoadFinal reads a final classifier that differs from the representation classifier.
func LoadFinal(store *model.Store, c models.WRN, f *checkpoints.File) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return models.LoadParams(f, store.Scope(finalScope), c.Params(), true)
}

// LoadPurifier reads the three files that inference needs, frozen.
func LoadPurifier(store *model.Store, c Config, stem string, open Opener) error {
	first := true
	var training string
	for _, p := range c.Parts() {
		if p.TrainOnly {
			continue
		}
		err := open.use(PartFile(stem, p.Name), func(f *checkpoints.File) error {
			if !first && f.Meta["training"] != training {
				return errors.New("it stems from another training than the parts before it: export them together")
			}
			first, training = false, f.Meta["training"]
			return models.LoadParams(f, store.RootScope().At("%s", p.Name), p.Params, true)
		})
		if err != nil {
			return fmt.Errorf("loading the purifier: %w", err)
		}
	}
	return nil
}

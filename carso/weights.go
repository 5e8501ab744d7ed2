package carso

import (
	"errors"
	"fmt"
	"path/filepath"

	"carsokit/checkpoints"
	"carsokit/models"

	"github.com/gomlx/gomlx/ml/model"
)

// Opener opens a weight file by its base name: from a folder (Folder) or from those that ship (checkpoints.Shipped).
type Opener func(name string) (*checkpoints.File, error)

// Folder opens files of a directory.
func Folder(dir string) Opener {
	return func(name string) (*checkpoints.File, error) { return checkpoints.Open(filepath.Join(dir, name)) }
}

// PartFile is the reference's name of the file of a purifier's part, for example wrn_28_10_cifar_10_cui_2023_decoder.safetensors for stem
// wrn_28_10_cifar_10_cui_2023.
func PartFile(stem, part string) string { return stem + "_" + part + ".safetensors" }

// LoadBase reads the representation classifier, which is also the final one unless LoadFinal follows.
func LoadBase(store *model.Store, c models.WRN, f *checkpoints.File) error {
	return models.LoadParams(f, store.Scope(baseScope), c.Params(), true)
}

// LoadFinal reads a final classifier that differs from the representation classifier.
func LoadFinal(store *model.Store, c models.WRN, f *checkpoints.File) error {
	return models.LoadParams(f, store.Scope(finalScope), c.Params(), true)
}

// LoadPurifier reads the three files that inference needs, frozen.
func LoadPurifier(store *model.Store, c Config, stem string, open Opener) error {
	for _, p := range c.Parts() {
		if p.TrainOnly {
			continue
		}
		f, err := open(PartFile(stem, p.Name))
		if err != nil {
			return err
		}
		err = models.LoadParams(f, store.RootScope().At("%s", p.Name), p.Params, true)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("loading the purifier: %w", err)
		}
	}
	return nil
}

package carso

import (
	"math"
	"os"
	"slices"
	"testing"

	"carsokit/internal/goldentest"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// TestSpatial: where the decoder sees maps, they reach its images, all draws share them, and the files of a run open as the defence that it trained.
func TestSpatial(t *testing.T) {
	be := goldentest.Go(t)
	const n = 8
	tr, file := spatialTrainer(t, be, n, func(r *Recipe) { r.Epochs, r.ClassLoss = 12, 10 })
	first, last := advance(t, tr, tr.Total())
	if !(last.BCE < first.BCE) {
		t.Errorf("reconstruction loss %g after %d steps on one batch, %g before", last.BCE, tr.Total(), first.BCE)
	}
	files := t.TempDir()
	export(t, tr, files, "p")
	d := reopened(t, file, files, "p", 5)
	if !d.Spatial {
		t.Fatal("its files do not say spatial")
	}
	// Exactly the files that are there are asked for; of one whose decoder is missing, those of the reference's structure.
	var there []string
	entries, err := os.ReadDir(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		there = append(there, e.Name())
	}
	asked := Scenario{Stem: "p"}.PurifierFiles(Folder(files))
	slices.Sort(asked)
	if !slices.Equal(asked, there) {
		t.Errorf("asks for %v, its files are %v", asked, there)
	}
	if other := (Scenario{Stem: "q"}).PurifierFiles(Folder(files)); len(other) != len(asked)-1 {
		t.Errorf("of a purifier that is not there it asks for %v", other)
	}
	images := trainingImages(t, tr)
	sameStaged(t, be, d, images)

	// Reconstructions with the maps, and with zeros in their place.
	e, err := model.NewExec(be, d.store, func(_ *model.Scope, x *node) []*node { return withoutMaps(d, x) })
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Call(tensors.FromFlatDataAndDimensions(images.X, n, 32, 32, 3))
	if err != nil {
		t.Fatal(err)
	}
	full, bare := tensors.MustCopyFlatData[float32](out[0]), tensors.MustCopyFlatData[float32](out[1])
	var moved float64
	for i := range full {
		moved = max(moved, math.Abs(float64(full[i]-bare[i])))
	}
	if moved < 1e-2 {
		t.Errorf("without its maps the decoder's images differ by %g at most", moved)
	}
}

package carso

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"carsokit/checkpoints"
	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
	"carsokit/models"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// TestStart: a run that starts at a purifier has that purifier's weights, current and averaged, says so in its state, and refuses one that does not belong to it.
// It continues without the files that it started at being others.
func TestStart(t *testing.T) {
	be := goldentest.Go(t)
	base := models.CIFAR10WRN(10, 1)
	set, file := noise(t, base, 16)
	r, err := SmallRecipe("cifar10", "tiny", base)
	if err != nil {
		t.Fatal(err)
	}
	r.Epochs, r.Batch, r.HeldOut, r.Fraction, r.ScheduleEvery = 20, 16, 0, 0, 5
	first, err := NewTrainer(be, r, set, file, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	advance(t, first, 8) // two of Lookahead's rounds, so that averaged weights are neither the first nor the current ones
	files := t.TempDir()
	export(t, first, files, "p")

	r.Start, r.ClassLoss, r.Seed = "p", 1, 9
	dir := t.TempDir()
	second, err := NewTrainer(be, r, set, file, Folder(files), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range r.Config.Parts() {
		for _, p := range part.Params {
			if p.Kind == nn.BNCount {
				continue
			}
			path := "/" + part.Name + "/" + p.Name
			slow := slowScope + path
			if p.Buffer() {
				slow = path
			}
			want := value(t, first, slow)
			if got := value(t, second, path); slices.Equal(got, want) == part.TrainOnly && !constant(want) {
				t.Errorf("%s: equal to the purifier's: %v; only the encoder, which has no file, is new", path, !part.TrainOnly)
			}
			if !p.Buffer() && !slices.Equal(value(t, second, path), value(t, second, slow)) {
				t.Errorf("%s: averaged weights begin elsewhere than the current ones", path)
			}
		}
	}
	if _, err := second.Advance(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Save(dir); err != nil {
		t.Fatal(err)
	}
	if again, err := NewTrainer(be, r, set, file, Folder(files), dir); err != nil || again.Step() != 1 {
		t.Errorf("continuing: %v", err)
	}

	// A part of the purifier as it was some steps before, or after, belongs to another training only where its description says so.
	foreign := t.TempDir()
	export(t, second, foreign, "p")
	mixed := t.TempDir()
	for from, parts := range map[string][]string{files: {"repr_compressors", "decoder"}, foreign: {"repr_fcn_compressor"}} {
		for _, part := range parts {
			if err := checkpoints.CopyFile(filepath.Join(from, PartFile("p", part)), filepath.Join(mixed, PartFile("p", part))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := LoadPurifier(model.NewStore(), r.Config, "p", Folder(mixed)); err == nil || !strings.Contains(err.Error(), "another training") {
		t.Errorf("parts of two trainings: %v", err)
	}

	other := r
	other.Config.Latent = 4
	for want, try := range map[string]func() (*Trainer, error){
		"nothing says where": func() (*Trainer, error) { return NewTrainer(be, r, set, file, nil, "") },
		"its shape is":       func() (*Trainer, error) { return NewTrainer(be, other, set, file, Folder(files), "") },
		"p_decoder":          func() (*Trainer, error) { return NewTrainer(be, r, set, file, Folder(t.TempDir()), "") },
	} {
		if _, err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	// Weights that are no numbers give losses that are none: the run ends there, and says at which step and which weights.
	path := "/decoder/0.1.bias"
	sick := value(t, second, path)
	sick[0] = float32(math.NaN())
	if err := second.Store.GetVariable(path).SetValue(tensors.FromFlatDataAndDimensions(sick, len(sick))); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Advance(t.Context()); err == nil || !strings.Contains(err.Error(), "training step 1: the loss is NaN") || !strings.Contains(err.Error(), "variables are not finite, /") {
		t.Errorf("a weight that is NaN: %v", err)
	}

	// Another purifier under the same name: the run that started elsewhere does not go on with it.
	advance(t, first, 4)
	export(t, first, files, "p")
	if _, err := NewTrainer(be, r, set, file, Folder(files), dir); err == nil || !strings.Contains(err.Error(), "another run") {
		t.Errorf("continuing where the start has changed: %v", err)
	}
}

// spatialTrainer is a tiny run on one batch of n images, unattacked, of a decoder that sees maps.
func spatialTrainer(t *testing.T, be compute.Backend, n int, change func(*Recipe)) (*Trainer, *checkpoints.File) {
	t.Helper()
	base := models.CIFAR10WRN(10, 1)
	set, file := noise(t, base, n)
	r, err := SmallRecipe("cifar10", "tiny", base)
	if err != nil {
		t.Fatal(err)
	}
	r.Batch, r.HeldOut, r.Fraction, r.ScheduleEvery = n, 0, 0, 5
	r.Config.Spatial, r.Config.Taps = true, lastConvolutions(r.Config)
	change(&r)
	tr, err := NewTrainer(be, r, set, file, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return tr, file
}

// advance makes steps and returns the losses of the first and of the last.
func advance(t *testing.T, tr *Trainer, steps int) (first, last Losses) {
	t.Helper()
	for k := range steps {
		l, err := tr.Advance(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if last = l; k == 0 {
			first = l
		}
	}
	return first, last
}

// export writes the files of a purifier as it stands.
func export(t *testing.T, tr *Trainer, files, stem string) {
	t.Helper()
	state := t.TempDir()
	if err := tr.Save(state); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ExportState(state, files, stem, false); err != nil {
		t.Fatal(err)
	}
}

// reopened is the defence whose purifier's files export wrote, around the classifier in file.
func reopened(t *testing.T, file *checkpoints.File, files, stem string, samples int) *Defence {
	t.Helper()
	cfg, _, err := purifierConfig(stem, Folder(files))
	if err != nil {
		t.Fatal(err)
	}
	store := model.NewStore()
	if err := LoadBase(store, cfg.Base, file); err != nil {
		t.Fatal(err)
	}
	if err := LoadPurifier(store, cfg, stem, Folder(files)); err != nil {
		t.Fatal(err)
	}
	d, err := NewDefence(store, cfg, samples, LogSum)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func value(t *testing.T, tr *Trainer, path string) []float32 {
	t.Helper()
	ts, err := models.Variables(tr.Store)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range ts {
		if v.Name == path {
			all, err := v.Float32s()
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
	}
	t.Fatalf("no variable %s", path)
	return nil
}

// constant says whether all values are one, as biases and BatchNorm's scales begin.
func constant(v []float32) bool {
	for _, x := range v {
		if x != v[0] {
			return false
		}
	}
	return true
}

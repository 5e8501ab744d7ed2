package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/rng"
	"carsokit/internal/training"
	"carsokit/internal/xlaenv"
	"carsokit/models"

	"github.com/gomlx/compute"
)

func backend(t *testing.T) compute.Backend {
	t.Helper()
	if _, err := xlaenv.Prepare(); err != nil {
		t.Fatal(err)
	}
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(be.Name(), "Go") {
		t.Skip("training a classifier and a purifier takes too long on the Go backend; make test sets up XLA")
	}
	return be
}

// interrupt stops a training after some steps, as Ctrl-C does.
func interrupt[P training.Point](dir string, after int) (context.Context, training.Options[P]) {
	ctx, cancel := context.WithCancel(context.Background())
	return ctx, training.Options[P]{Dir: dir, Progress: func(step, _ int, _ float64) {
		if step == after {
			cancel()
		}
	}}
}

// TestEndToEnd walks the whole path at tiny scale on real images: train a classifier adversarially, interrupt and continue it, train a purifier around it,
// likewise, export both as files, evaluate them under both protocols, interrupt and continue, and print the table.
func TestEndToEnd(t *testing.T) {
	be := backend(t)
	ctx := context.Background()
	set, err := data.Sample()
	if err != nil {
		t.Fatal(err)
	}
	train, err := set.Head(420)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	weights := filepath.Join(dir, "weights")
	if err := os.Mkdir(weights, 0o777); err != nil {
		t.Fatal(err)
	}
	s := carso.Scenarios()[0]

	// The classifier, once straight and once interrupted after three steps.
	recipe, err := models.SmallRecipe(s.Dataset, "tiny", false)
	if err != nil {
		t.Fatal(err)
	}
	classifier := func(name string, stop bool) string {
		out := filepath.Join(dir, name)
		if stop {
			tr, err := models.NewTrainer(be, recipe, train, nil, out)
			if err != nil {
				t.Fatal(err)
			}
			c, o := interrupt[models.Point](out, 3)
			if err := tr.Run(c, o); c.Err() == nil || err == nil {
				t.Fatalf("an interrupted training returned %v", err)
			}
		}
		tr, err := models.NewTrainer(be, recipe, train, nil, out)
		if err != nil {
			t.Fatal(err)
		}
		if stop && tr.Step() != 3 {
			t.Fatalf("continued from step %d, interrupted after 3", tr.Step())
		}
		if err := tr.Run(ctx, training.Options[models.Point]{Dir: out}); err != nil {
			t.Fatal(err)
		}
		if tr.Step() != tr.Total() {
			t.Fatalf("ended at step %d of %d", tr.Step(), tr.Total())
		}
		return out
	}
	straight := classifier("straight", false)
	sameWeights(t, filepath.Join(straight, models.BestFile), filepath.Join(classifier("stopped", true), models.BestFile))
	if _, err := checkpoints.Convert(filepath.Join(straight, models.BestFile), filepath.Join(weights, s.Classifier), checkpoints.Conversion{DType: "F16"}); err != nil {
		t.Fatal(err)
	}

	// The purifier around the exported classifier, likewise.
	base, err := checkpoints.Open(filepath.Join(weights, s.Classifier))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	pr, err := carso.SmallRecipe(s.Dataset, "tiny", recipe.Net)
	if err != nil {
		t.Fatal(err)
	}
	purifier := func(name string, stop bool) string {
		out := filepath.Join(dir, name)
		if stop {
			tr, err := carso.NewTrainer(be, pr, train, base, nil, out)
			if err != nil {
				t.Fatal(err)
			}
			c, o := interrupt[carso.Point](out, 2)
			if err := tr.Run(c, o); c.Err() == nil || err == nil {
				t.Fatalf("an interrupted training returned %v", err)
			}
		}
		tr, err := carso.NewTrainer(be, pr, train, base, nil, out)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Run(ctx, training.Options[carso.Point]{Dir: out}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := carso.ExportState(out, out, s.Stem, true); err != nil {
			t.Fatal(err)
		}
		return out
	}
	whole, stopped := purifier("purifier", false), purifier("purifier-stopped", true)
	for _, part := range []string{"repr_compressors", "repr_fcn_compressor", "decoder"} {
		sameWeights(t, filepath.Join(whole, carso.PartFile(s.Stem, part)), filepath.Join(stopped, carso.PartFile(s.Stem, part)))
	}
	curve, err := training.ReadCurve[carso.Point](filepath.Join(whole, training.Curve))
	if err != nil || len(curve) == 0 {
		t.Fatalf("the purifier's curve has %d points: %v", len(curve), err)
	}
	// The points are means over three batches each, so compare many of them.
	third := len(curve) / 3
	early, late := 0.0, 0.0
	for i := range third {
		early += curve[i].Loss
		late += curve[len(curve)-1-i].Loss
	}
	if late >= early {
		t.Errorf("the purifier's loss did not fall: %g in its first third, %g in its last", early/float64(third), late/float64(third))
	}

	// Evaluation of every row, from files of both folders.
	open := func(name string) (*checkpoints.File, error) {
		if f, err := checkpoints.Open(filepath.Join(weights, name)); err == nil {
			return f, nil
		}
		return checkpoints.Open(filepath.Join(whole, name))
	}
	store, err := record.Open(filepath.Join(dir, "records"))
	if err != nil {
		t.Fatal(err)
	}
	var last Job
	protocols := []string{"clean", "rand", "pgd-eot"}
	for _, asked := range []struct {
		row     string
		columns []string
	}{
		{"classifier", protocols}, {"carso-paper", protocols}, {"carso-adaptive", []string{"representation", "transfer-z0"}}, {"carso-honest", append([]string{"strict"}, protocols...)},
	} {
		row := asked.row
		for _, column := range asked.columns {
			job, err := NewJob(be, Question{Scenario: "a", Row: row, Column: column, Scale: "tiny", Eps: 8. / 255, Weights: open}, set)
			if err != nil {
				t.Fatal(err)
			}
			run, err := Run(ctx, be, store, job, Options{Chunk: 3, Buckets: []int{8}})
			if err != nil {
				t.Fatalf("%s %s: %v", row, column, err)
			}
			if len(run.Images) != 8 {
				t.Fatalf("%s %s: %d images", row, column, len(run.Images))
			}
			for _, im := range run.Images {
				if im.Label != int(set.Labels[im.Index]) || im.Linf > 8./255+1e-6 {
					t.Errorf("%s %s: %+v", row, column, im)
				}
			}
			last = job
		}
	}

	// The last of them again: interrupted, continued, with another chunking. The images' records must be the same.
	want, err := record.Load(filepath.Join(dir, "records"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := record.Open(filepath.Join(dir, "again"))
	if err != nil {
		t.Fatal(err)
	}
	c, cancel := context.WithCancel(ctx)
	o := Options{Chunk: 3, Workers: 1, Buckets: []int{8}, Progress: func(p Progress) {
		if p.Done >= 3 {
			cancel()
		}
	}}
	if _, err := Run(c, be, again, last, o); err == nil {
		t.Fatal("an interrupted evaluation returned no error")
	}
	run, err := Run(ctx, be, again, last, Options{Chunk: 3, Workers: 2, Buckets: []int{8}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range want {
		if r.Key == run.Key {
			a, _ := json.Marshal(r.Images)
			b, _ := json.Marshal(run.Images)
			if !bytes.Equal(a, b) {
				t.Errorf("interrupted and continued:\n%s\nuninterrupted:\n%s", b, a)
			}
			one, err1 := os.ReadFile(filepath.Join(dir, "records", r.File))
			two, err2 := os.ReadFile(filepath.Join(dir, "again", run.File))
			if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
				t.Errorf("the record files differ (%v, %v)", err1, err2)
			}
		}
	}

	tab, err := paper.Build("main", "tiny", want)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := paper.Render(&text, tab, "json"); err != nil {
		t.Fatal(err)
	}
	var cells []map[string]any
	if err := json.Unmarshal(text.Bytes(), &cells); err != nil {
		t.Fatal(err)
	}
	filled := 0
	for _, cell := range cells {
		if cell["value"] != nil {
			filled++
		} else if cell["reason"] == "" {
			t.Errorf("an empty cell without a reason: %v", cell)
		}
	}
	if filled < 9 {
		t.Errorf("%d cells of the main table are filled from nine runs", filled)
	}
}

// sameWeights compares two weight files bit by bit.
func sameWeights(t *testing.T, a, b string) {
	t.Helper()
	x, err1 := os.ReadFile(a)
	y, err2 := os.ReadFile(b)
	if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ (%v, %v)", filepath.Base(filepath.Dir(a)), filepath.Base(filepath.Dir(b)), err1, err2)
	}
}

// TestOtherScenarios: scenarios b and c go the same way from images to records, here two steps of each training on noise.
func TestOtherScenarios(t *testing.T) {
	be := backend(t)
	for _, s := range carso.Scenarios() {
		if s.Dataset == "cifar10" || s.Final != "" {
			continue
		}
		recipe, err := models.SmallRecipe(s.Dataset, "tiny", false)
		if err != nil {
			t.Fatal(err)
		}
		recipe.Batch, recipe.HeldOut = 8, 0
		set := &data.Set{Name: s.Dataset, Split: "train", Classes: make([]string, recipe.Net.Classes), H: recipe.Net.Size, W: recipe.Net.Size, Labels: make([]int32, 16), Digest: "none"}
		set.Pixels = make([]byte, set.Len()*set.H*set.W*3)
		random := rng.Seed(5).Rand()
		for i := range set.Pixels {
			set.Pixels[i] = byte(random.IntN(256))
		}
		for i := range set.Labels {
			set.Labels[i] = int32(random.IntN(recipe.Net.Classes))
		}
		dir, weights := t.TempDir(), t.TempDir()
		f, err := models.NewTrainer(be, recipe, set, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Run(t.Context(), training.Options[models.Point]{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if err := f.Export(filepath.Join(weights, s.Classifier), models.Point{}); err != nil {
			t.Fatal(err)
		}
		base, err := checkpoints.Open(filepath.Join(weights, s.Classifier))
		if err != nil {
			t.Fatal(err)
		}
		pr, err := carso.SmallRecipe(s.Dataset, "tiny", recipe.Net)
		if err != nil {
			t.Fatal(err)
		}
		pr.Batch, pr.Epochs, pr.HeldOut, pr.Fraction = 8, 1, 0, 0.5 // one image for each adversary
		p, err := carso.NewTrainer(be, pr, set, base, nil, "")
		if err = errors.Join(err, base.Close()); err != nil {
			t.Fatal(err)
		}
		if err := p.Run(t.Context(), training.Options[carso.Point]{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if err := p.Save(dir); err != nil {
			t.Fatal(err)
		}
		if _, _, err := carso.ExportState(dir, weights, s.Stem, true); err != nil {
			t.Fatal(err)
		}
		store, err := record.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		job, err := NewJob(be, Question{Scenario: s.ID, Row: "carso-honest", Column: "clean", Scale: "tiny", Images: 4, Samples: 2, Weights: carso.Folder(weights)}, set)
		if err != nil {
			t.Fatal(err)
		}
		run, err := Run(t.Context(), be, store, job, Options{Chunk: 4})
		if err != nil || len(run.Images) != 4 || run.Spec.Data.Name != s.Dataset {
			t.Errorf("scenario %s: %d images of %s, %v", s.ID, len(run.Images), run.Spec.Data.Name, err)
		}
	}
}

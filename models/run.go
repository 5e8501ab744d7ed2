package models

import (
	"context"
	"fmt"
	"path/filepath"

	"carsokit/checkpoints"
	"carsokit/internal/nn"
	"carsokit/internal/training"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// Point is one line of a training curve: the state of a run at the end of an epoch.
type Point struct {
	Step      int     `json:"step"`
	Epoch     int     `json:"epoch"`
	LR        float64 `json:"lr"`
	Loss      float64 `json:"loss"`           // mean over the epoch's adversarial batches
	TrainAdv  float64 `json:"train_accuracy"` // percent correct on those batches
	HeldClean float64 `json:"held_clean"`     // percent, averaged weights, held-out training images
	HeldPGD   float64 `json:"held_pgd10"`     // percent under 10 steps of PGD at the recipe's eps from the clean image
	Best      bool    `json:"best"`           // highest HeldPGD so far (HeldClean for a plain recipe): these weights are kept
}

// At is the number of steps done.
func (p Point) At() int { return p.Step }

// job is a Trainer in the form that the training loop takes: it adds up the epoch's losses and keeps the best weights.
type job struct {
	*Trainer
	dir   string
	probe func(context.Context) (clean, pgd float64, err error)
}

func (j *job) Every() int { return j.PerEpoch() }

func (j *job) Advance(ctx context.Context) (float64, error) {
	loss, correct, err := j.Trainer.Advance(ctx)
	if err == nil {
		j.since.Loss, j.since.Correct, j.since.Steps = j.since.Loss+loss, j.since.Correct+correct, j.since.Steps+1
	}
	return loss, err
}

func (j *job) Measure(ctx context.Context, before []Point) (p Point, err error) {
	n := float64(j.since.Steps)
	p = Point{Step: j.step, Epoch: j.step / j.PerEpoch(), LR: j.Recipe.LR(j.step-1, j.Total()), Loss: j.since.Loss / n, TrainAdv: 100 * j.since.Correct / n, Best: true}
	j.since = tally{}
	if p.HeldClean, p.HeldPGD, err = j.probe(ctx); err != nil {
		return p, err
	}
	for _, q := range before {
		if j.score(q) >= j.score(p) {
			p.Best = false
		}
	}
	if p.Best {
		err = j.Export(filepath.Join(j.dir, BestFile), p)
	}
	return p, err
}

// BestFile is the name of the weights that were best on the held-out images.
const BestFile = "best.safetensors"

// Run trains until the end or until ctx is done, in which case it saves the state and returns ctx's error: running again continues. The best averaged
// weights are kept in BestFile of the folder.
func (t *Trainer) Run(ctx context.Context, o training.Options[Point]) error {
	probe, err := t.newProbe()
	if err != nil {
		return err
	}
	return training.Run(ctx, &job{Trainer: t, dir: o.Dir, probe: probe}, o)
}

func (t *Trainer) score(p Point) float64 {
	if t.Recipe.Steps == 0 {
		return p.HeldClean
	}
	return p.HeldPGD
}

// Export writes the averaged weights in the reference's names and layout, with the recipe and the point of the run in the file's metadata.
func (t *Trainer) Export(path string, p Point) error {
	ts, err := ExportParams(t.Store.Scope(emaScope), t.Recipe.Net.Params())
	if err != nil {
		return err
	}
	meta := map[string]string{"config": mustJSON(t.Recipe.Net), "recipe": mustJSON(t.Recipe), "data_digest": t.loader.Set.Digest, "point": mustJSON(p)}
	if t.extra != nil {
		meta["extra_digest"] = t.extra.Set.Digest
	}
	return checkpoints.Write(path, ts, meta)
}

// newProbe returns a function that measures the averaged weights on the held-out images, in percent. It is a watch on the training, with ten steps
// from the clean image; evaluations use package attacks.
func (t *Trainer) newProbe() (func(context.Context) (clean, pgd float64, err error), error) {
	scope := t.Store.Scope(emaScope)
	logits, err := model.NewExec(t.backend, t.Store, func(_ *model.Scope, x, y *node) *node {
		return t.Recipe.correctGraph(nn.Net{Scope: scope}, x, y)
	})
	if err != nil {
		return nil, fmt.Errorf("building the probe: %w", err)
	}
	step, err := model.NewExec(t.backend, t.Store, func(_ *model.Scope, x0, x, y *node) *node {
		return t.Recipe.pgdGraph(nn.Net{Scope: scope}, x0, x, y)
	})
	if err != nil {
		return nil, fmt.Errorf("building the probe: %w", err)
	}
	const batch = 100
	s := t.Recipe.Net.Size
	return func(ctx context.Context) (clean, pgd float64, err error) {
		n := t.held.Len() / batch * batch
		if n == 0 {
			return 0, 0, nil
		}
		pixels := make([]float32, batch*s*s*3)
		for first := 0; first < n; first += batch {
			idx := make([]int, batch)
			for i := range idx {
				idx[i] = first + i
			}
			t.held.Floats(pixels, idx...)
			x0 := tensors.FromFlatDataAndDimensions(pixels, batch, s, s, 3)
			y := tensors.FromFlatDataAndDimensions(t.held.Labels[first:first+batch], batch)
			c, err := logits.Call1(x0, y)
			if err != nil {
				return 0, 0, fmt.Errorf("probing the held-out images: %w", err)
			}
			clean += float64(tensors.ToScalar[float32](c))
			x := x0
			for range 10 {
				if err := ctx.Err(); err != nil {
					return 0, 0, err
				}
				next, err := step.Call1(x0, x, y)
				if err != nil {
					return 0, 0, fmt.Errorf("probing the held-out images: %w", err)
				}
				if x != x0 {
					x.MustFinalizeAll()
				}
				x = next
			}
			c, err = logits.Call1(x, y)
			if err != nil {
				return 0, 0, fmt.Errorf("probing the held-out images: %w", err)
			}
			pgd += float64(tensors.ToScalar[float32](c))
			for _, v := range []*tensors.Tensor{x0, x, y} {
				v.MustFinalizeAll()
			}
		}
		return 100 * clean / float64(n), 100 * pgd / float64(n), nil
	}, nil
}

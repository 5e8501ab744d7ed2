package models

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"carsokit/checkpoints"
	"carsokit/internal/atomicfile"
	"carsokit/internal/nn"

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

// RunOptions says where a run keeps its state and whom it tells.
type RunOptions struct {
	Dir       string        // training state, curve.jsonl and best.safetensors
	SaveEvery time.Duration // how often the state is saved inside an epoch; 0: only at epoch ends
	// Progress is told after every step.
	Progress func(step, total int, loss float64)
	// Epoch is told at the end of every epoch.
	Epoch func(Point)
}

// Run trains until the end or until ctx is done, in which case it saves the state and returns ctx's error: running again continues.
func (t *Trainer) Run(ctx context.Context, o RunOptions) error {
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return fmt.Errorf("making the training folder: %w", err)
	}
	curve := filepath.Join(o.Dir, "curve.jsonl")
	points, err := readCurve(curve, t.step)
	if err != nil {
		return err
	}
	if err := writeCurve(curve, points); err != nil {
		return err
	}
	probe, err := t.newProbe()
	if err != nil {
		return err
	}
	saved := time.Now()
	var sum, correct float64
	var n int
	for t.step < t.Total() {
		loss, c, err := t.Advance(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), t.Save(o.Dir))
			}
			return err
		}
		sum, correct, n = sum+loss, correct+c, n+1
		if o.Progress != nil {
			o.Progress(t.step, t.Total(), loss)
		}
		if t.step%t.PerEpoch() != 0 {
			if o.SaveEvery > 0 && time.Since(saved) > o.SaveEvery {
				if err := t.Save(o.Dir); err != nil {
					return err
				}
				saved = time.Now()
			}
			continue
		}
		p := Point{Step: t.step, Epoch: t.step / t.PerEpoch(), LR: t.Recipe.LR(t.step-1, t.Total()), Loss: sum / float64(n), TrainAdv: 100 * correct / float64(n)}
		if p.HeldClean, p.HeldPGD, err = probe(ctx); err != nil {
			return err
		}
		p.Best = true
		for _, q := range points {
			if t.score(q) >= t.score(p) {
				p.Best = false
			}
		}
		if p.Best {
			if err := t.Export(filepath.Join(o.Dir, "best.safetensors"), p); err != nil {
				return err
			}
		}
		points = append(points, p)
		// The curve is written before the state: after a kill in between, the epoch's last steps are redone and its line replaced.
		if err := errors.Join(writeCurve(curve, points), t.Save(o.Dir)); err != nil {
			return err
		}
		saved = time.Now()
		if o.Epoch != nil {
			o.Epoch(p)
		}
		sum, correct, n = 0, 0, 0
	}
	return nil
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
	return checkpoints.Write(path, ts, map[string]string{
		"config": mustJSON(t.Recipe.Net), "recipe": mustJSON(t.Recipe), "data_digest": t.loader.Set.Digest, "point": mustJSON(p),
	})
}

// readCurve reads the lines of a curve up to a step.
func readCurve(path string, step int) ([]Point, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the training curve: %w", err)
	}
	var ps []Point
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		var p Point
		if err := json.Unmarshal(sc.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("reading the training curve %s, line %d: %w: remove the line or the file", path, len(ps)+1, err)
		}
		if p.Step <= step {
			ps = append(ps, p)
		}
	}
	return ps, sc.Err()
}

func writeCurve(path string, ps []Point) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for _, p := range ps {
			if err := enc.Encode(p); err != nil {
				return err
			}
		}
		return nil
	})
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

// Package training is the host loop around a training step: it measures, keeps a curve, saves, can be interrupted and continues.
package training

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

	"carsokit/internal/atomicfile"
	"carsokit/internal/fetch"
)

// Point is one line of a training curve.
type Point interface {
	At() int // the number of steps done
}

// Job is something that is trained step by step.
type Job[P Point] interface {
	Step() int  // steps done
	Total() int // steps of the whole run
	// Advance makes one step and returns its loss for the progress line.
	Advance(ctx context.Context) (loss float64, err error)
	// Every is the number of steps between two points of the curve.
	Every() int
	// Measure makes the next point, given those before it.
	Measure(ctx context.Context, before []P) (P, error)
	// Save writes all that is needed to continue.
	Save(dir string) error
}

// Options says where a run keeps its state and whom it tells.
type Options[P Point] struct {
	Dir       string        // the state and curve.jsonl
	SaveEvery time.Duration // how often the state is saved between two points; 0: only at points
	Progress  func(step, total int, loss float64)
	Point     func(P)
}

// Curve is the name of the file of points.
const Curve = "curve.jsonl"

// Run trains until the end or until ctx is done, in which case it saves the state and returns ctx's error: running again continues.
func Run[P Point](ctx context.Context, job Job[P], o Options[P]) error {
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return fmt.Errorf("making the training folder: %w", err)
	}
	unlock, err := fetch.LockDir(o.Dir, "carso train")
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(o.Dir, Curve)
	points, err := ReadCurve[P](path)
	if err != nil {
		return err
	}
	for len(points) > 0 && points[len(points)-1].At() > job.Step() {
		points = points[:len(points)-1] // written before a state that was never saved
	}
	saved := time.Now()
	for job.Step() < job.Total() {
		loss, err := job.Advance(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), job.Save(o.Dir))
			}
			return err
		}
		if o.Progress != nil {
			o.Progress(job.Step(), job.Total(), loss)
		}
		if job.Step()%job.Every() != 0 && job.Step() != job.Total() {
			if o.SaveEvery > 0 && time.Since(saved) > o.SaveEvery {
				if err := job.Save(o.Dir); err != nil {
					return err
				}
				saved = time.Now()
			}
			continue
		}
		p, err := job.Measure(ctx, points)
		if err != nil {
			return err
		}
		points = append(points, p)
		// The curve is written before the state: after a kill in between, the last steps are redone and their line replaced.
		if err := errors.Join(writeCurve(path, points), job.Save(o.Dir)); err != nil {
			return err
		}
		saved = time.Now()
		if o.Point != nil {
			o.Point(p)
		}
	}
	return nil
}

// ReadCurve reads a file of points; one that does not exist has none.
func ReadCurve[P Point](path string) ([]P, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the training curve: %w", err)
	}
	var ps []P
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		var p P
		if err := json.Unmarshal(sc.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("reading the training curve %s, line %d: %w: remove the line", path, len(ps)+1, err)
		}
		ps = append(ps, p)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("reading the training curve %s: %w", path, err)
	}
	return ps, nil
}

func writeCurve[P Point](path string, ps []P) error {
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

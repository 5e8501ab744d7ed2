package training

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/internal/fetch"
)

type point struct {
	Step int     `json:"step"`
	Sum  float64 `json:"sum"`
}

func (p point) At() int { return p.Step }

// counter is a job whose state is one number in a file; its sum depends on every step, so a step lost or made twice shows.
type counter struct {
	step, total int
	sum         float64
	failAt      int
}

func (c *counter) Step() int  { return c.step }
func (c *counter) Total() int { return c.total }
func (c *counter) Every() int { return 4 }
func (c *counter) Advance(ctx context.Context) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if c.failAt > 0 && c.step == c.failAt {
		return 0, errors.New("the loss is NaN")
	}
	c.step++
	c.sum = c.sum*1.5 + float64(c.step)
	return c.sum, nil
}
func (c *counter) Measure(context.Context, []point) (point, error) { return point{c.step, c.sum}, nil }
func (c *counter) Save(dir string) error {
	return os.WriteFile(filepath.Join(dir, "state"), fmt.Appendf(nil, "%d %g", c.step, c.sum), 0o666)
}

func load(t *testing.T, dir string, total int) *counter {
	t.Helper()
	c := &counter{total: total}
	if b, err := os.ReadFile(filepath.Join(dir, "state")); err == nil {
		if _, err := fmt.Sscan(string(b), &c.step, &c.sum); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestInterruptedAnywhere: a run that is interrupted after each possible step, and continued, has the curve and the state of one that is not.
func TestInterruptedAnywhere(t *testing.T) {
	const total = 11
	straight := t.TempDir()
	if err := Run(context.Background(), load(t, straight, total), Options[point]{Dir: straight}); err != nil {
		t.Fatal(err)
	}
	want := contents(t, straight)
	if points := strings.Count(want, `"step"`); points != 3 { // at 4, 8 and the end
		t.Fatalf("%d points: %s", points, want)
	}
	for stop := 1; stop < total; stop++ {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(context.Background())
		err := Run(ctx, load(t, dir, total), Options[point]{Dir: dir, Progress: func(step, _ int, _ float64) {
			if step == stop {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped after %d: %v", stop, err)
		}
		if err := Run(context.Background(), load(t, dir, total), Options[point]{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, dir); got != want {
			t.Errorf("stopped after %d:\n%s\nnot stopped:\n%s", stop, got, want)
		}
	}
}

func contents(t *testing.T, dir string) string {
	t.Helper()
	var all string
	for _, f := range []string{Curve, "state"} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		all += string(b) + "\n"
	}
	return all
}

// TestCurveAheadOfState: after a kill between the curve and the state, the curve's last line is redone, not doubled.
func TestCurveAheadOfState(t *testing.T) {
	dir := t.TempDir()
	if err := writeCurve(filepath.Join(dir, Curve), []point{{4, 1}, {8, 2}}); err != nil {
		t.Fatal(err)
	}
	if err := Run(context.Background(), &counter{step: 5, total: 8}, Options[point]{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	points, err := ReadCurve[point](filepath.Join(dir, Curve))
	if err != nil || len(points) != 2 || points[1].Sum == 2 {
		t.Errorf("%v, %v", points, err)
	}
}

// Two runs cannot share a folder at once.
func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	unlock, err := fetch.LockDir(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), load(t, dir, 8), Options[point]{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second run in a folder: %v", err)
	}
	unlock()
	if err := Run(t.Context(), load(t, dir, 8), Options[point]{Dir: dir}); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if err := Run(context.Background(), &counter{total: 8, failAt: 6}, Options[point]{Dir: dir}); err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("a failing step gave %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, Curve), []byte("{\"step\":1}\n<html>\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := Run(context.Background(), &counter{total: 8}, Options[point]{Dir: dir}); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a damaged curve gave %v", err)
	}
}

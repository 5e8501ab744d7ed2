package models

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"carsokit/checkpoints"
	"carsokit/internal/training"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/compute"
)

// The child of TestKills: this test binary again, training in the folder of the first variable for as many epochs as the second says.
const childDir, childEpochs = "MODELS_TEST_DIR", "MODELS_TEST_EPOCHS"

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	epochs, err := strconv.Atoi(os.Getenv(childEpochs))
	if err == nil {
		err = trainChild(dir, epochs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// trainChild trains with everything that draws random numbers or keeps a state of its own, saves after every step and says so.
func trainChild(dir string, epochs int) error {
	r := toyRecipe()
	r.Epochs, r.Steps, r.StepSize, r.Crop, r.Flip, r.Cutout, r.ExtraShare = epochs, 1, 0.1, 2, true, 2, 0.25
	be, err := compute.NewWithConfig(xlaenv.Go)
	if err != nil {
		return err
	}
	t, err := NewTrainer(be, r, noise(24, 4, 8), noise(10, 4, 8), dir)
	if err != nil {
		return err
	}
	return t.Run(context.Background(), training.Options[Point]{Dir: dir, SaveEvery: time.Nanosecond, Progress: func(step, _ int, _ float64) { fmt.Println(step) }})
}

func startChild(t *testing.T, dir string, epochs int) (*exec.Cmd, *bufio.Scanner, *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), childDir+"="+dir, childEpochs+"="+strconv.Itoa(epochs))
	complaints := new(bytes.Buffer)
	c.Stderr = complaints
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewScanner(out), complaints
}

// TestKills kills a training again and again at random moments. In the end weights, optimiser, averages and curve are those of an uninterrupted run, bit for bit.
// CARSO_KILLS sets the number of kills (make soak).
func TestKills(t *testing.T) {
	kills := 5
	if text := os.Getenv("CARSO_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	const perEpoch, most = 4, 5 // steps; most is how many are awaited before a kill
	epochs := kills * (most + 3) / perEpoch
	finish := func(dir string) {
		c, out, complaints := startChild(t, dir, epochs)
		for out.Scan() {
		}
		if c.Wait() != nil {
			t.Fatal(complaints)
		}
	}
	straight, killed := t.TempDir(), t.TempDir()
	finish(straight)
	r := rand.New(rand.NewPCG(5, 6))
	reached, redone := 0, 0
	for range kills {
		c, out, complaints := startChild(t, killed, epochs)
		hear := func() bool {
			if !out.Scan() {
				return false
			}
			step, err := strconv.Atoi(out.Text())
			if err != nil {
				t.Fatalf("%q: %v", out.Text(), err)
			}
			if step <= reached {
				redone++
			}
			reached = max(reached, step)
			return true
		}
		for range r.IntN(most) {
			if !hear() {
				break
			}
		}
		time.Sleep(time.Duration(r.IntN(40_000)) * time.Microsecond) // some steps, or most of a start
		c.Process.Signal(syscall.SIGKILL)                            // of this child alone
		for hear() {                                                 // what it said before it died
		}
		if c.Wait() == nil {
			t.Fatalf("the training ended before it was killed %d times: %s", kills, complaints)
		}
	}
	t.Logf("%d kills within %d of %d steps, of which %d were made again", kills, reached, epochs*perEpoch, redone)
	finish(killed)
	for _, name := range []string{training.Curve, BestFile} {
		want, err := os.ReadFile(filepath.Join(straight, name))
		got, err2 := os.ReadFile(filepath.Join(killed, name))
		if err := errors.Join(err, err2); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not that of an uninterrupted run (%v)", name, err)
		}
	}
	var ends [2][]checkpoints.Tensor
	for k, dir := range []string{straight, killed} {
		var step int64
		var err error
		if ends[k], step, _, err = checkpoints.LoadState(dir, stateName, new(trainState)); err != nil || int(step) != epochs*perEpoch {
			t.Fatalf("%s: step %d, %v", dir, step, err)
		}
	}
	if !slices.EqualFunc(ends[0], ends[1], func(a, b checkpoints.Tensor) bool {
		x, err := a.Float32s()
		y, err2 := b.Float32s()
		return err == nil && err2 == nil && a.Name == b.Name && slices.Equal(x, y)
	}) {
		t.Error("the last state is not that of an uninterrupted run")
	}
}

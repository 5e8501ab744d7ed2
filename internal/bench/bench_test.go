package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/internal/xlaenv"
)

func TestEveryCaseHasBothSides(t *testing.T) {
	for _, c := range Cases() {
		if !strings.Contains(string(script), "    def "+strings.ReplaceAll(c.Name, "-", "_")+"(self)") {
			t.Errorf("pytorch.py has no method for %s", c.Name)
		}
	}
}

func TestSpread(t *testing.T) {
	if got := spread([]float64{4, 1, 3}); got != (Spread{3, 1, 4}) {
		t.Errorf("%+v", got)
	}
	if got := spread([]float64{4, 1, 3, 2}); got != (Spread{2.5, 1, 4}) {
		t.Errorf("%+v", got)
	}
}

// A stand-in for PyTorch answers from a script, so that pairing, warm-up and ratios are known.
func TestCompare(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	before := script
	t.Cleanup(func() { script = before })
	script = []byte(`import json, sys
for n, line in enumerate(sys.stdin):
    r = json.loads(line)
    answer = {"seconds": 1000.0 if n == 0 else 2.0, "torch": "0"}
    if r["width"] == 3:
        answer = {"error": "out of memory"}
    print(json.dumps(answer), flush=True)
`)
	runs := 0
	kit := func(context.Context, string, Net, int) error { runs++; return nil }
	rep, err := Compare(context.Background(), "none", kit, Options{Python: python, Nets: []Net{{10, 1}}, Cases: []string{"forward"}, Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	if r := rep.Results[0]; runs != 4 || r.Torch != (Spread{2, 2, 2}) || r.Rounds != 3 {
		t.Errorf("%d runs, %+v; want a warm-up that is not counted and three pairs", runs, r)
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Python: python, Nets: []Net{{10, 3}}, Rounds: 1}, "forward of WRN-10-3: out of memory"},
		{Options{Python: python, Cases: []string{"backward"}}, `no benchmark "backward"; there are forward`},
		{Options{Python: filepath.Join(t.TempDir(), "python")}, "make bench"},
	} {
		if _, err := Compare(context.Background(), "none", kit, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// With PyTorch installed every case runs once on both sides.
func TestAgainstTorch(t *testing.T) {
	python := os.Getenv("CARSO_BENCH_PYTHON")
	if python == "" {
		t.Skip("CARSO_BENCH_PYTHON names no Python with PyTorch: make bench runs the same")
	}
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	kit, err := NewKit(be, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Compare(context.Background(), be.Name(), kit.Run, Options{Python: python, Nets: []Net{{10, 1}}, Rounds: 1, Progress: func(l string) { t.Log(l) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Results) != len(Cases()) {
		t.Errorf("%d of %d cases", len(rep.Results), len(Cases()))
	}
}

package xlaenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
)

// TestCompilesAreNoted runs itself again with the variable set: of two graphs there are two lines where XLA compiles, and none where the backend in pure Go computes.
func TestCompilesAreNoted(t *testing.T) {
	if os.Getenv(CompilesVar) != "" {
		be, err := Backend()
		if err != nil {
			t.Fatal(err)
		}
		double, err := graph.NewExec(be, func(x *graph.Node) *graph.Node { return graph.Add(x, x) })
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range [][]float32{{1, 2}, {3, 4}, {5}} { // two shapes
			if _, err := double.Call(x); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	c, err := Prepare()
	if err != nil {
		t.Fatal(err)
	}
	again := func(file string) (string, error) {
		cmd := exec.Command(os.Args[0], "-test.run", "TestCompilesAreNoted$")
		cmd.Env = append(os.Environ(), CompilesVar+"="+file)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	file := filepath.Join(t.TempDir(), "compiles.tsv")
	if out, err := again(file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^$`)
	if strings.HasPrefix(c.Config, "xla") {
		want = regexp.MustCompile(`^(\d+\.\d{3}\txlaenv\.test\n){2}$`)
	}
	if !want.Match(got) {
		t.Errorf("backend %s noted %q, want %s", c.Config, got, want)
	}
	if out, err := again(t.TempDir()); err == nil || !strings.Contains(out, CompilesVar) {
		t.Errorf("a folder instead of a file: %v\n%s", err, out)
	}
}

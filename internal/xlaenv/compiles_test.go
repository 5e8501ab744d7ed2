package xlaenv

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
)

func TestCompilesAreNoted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "compiles.tsv")
	inGo, err := Open(Go)
	if err != nil {
		t.Fatal(err)
	}
	defer inGo.Finalize()
	var be compute.Backend = timedBackend{inGo, file}
	exec, err := graph.NewExec(be, func(x *graph.Node) *graph.Node { return graph.Add(x, x) })
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []any{[]float32{1, 2}, []float32{3, 4}, []float32{5}} { // two shapes: two graphs
		if _, err := exec.Call(x); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := regexp.MustCompile(`^(\d+\.\d{3}\tGo Backend\txlaenv\.test\t[^\t\n]+\n){2}$`); !want.Match(got) {
		t.Errorf("noted %q, want two lines like %s", got, want)
	}

	be = timedBackend{inGo, t.TempDir()} // a folder
	if exec, err = graph.NewExec(be, func(x *graph.Node) *graph.Node { return graph.Add(x, x) }); err == nil {
		_, err = exec.Call([]float32{1})
	}
	if err == nil {
		t.Error("a folder as file of the notes gives no error")
	}
}

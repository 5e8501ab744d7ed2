package bench

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"carsokit/internal/docblock"
)

var update = flag.Bool("update", false, "write the stored reports into docs/performance.md")

// The tables of docs/performance.md are the stored reports.
func TestDocument(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	path := filepath.Join(docs, "performance.md")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now, err := docblock.Rewrite(string(old), "bench", func(name string) (string, error) {
		r, err := Read(filepath.Join(docs, "bench", name+".json"))
		if err != nil {
			return "", err
		}
		return docblock.Table(r.Table()) + "\nPyTorch " + r.Torch + ".\n", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if now == string(old) {
		return
	}
	if !*update {
		t.Fatal("docs/performance.md does not say what the stored reports say: go test ./internal/bench -run Document -update")
	}
	if err := os.WriteFile(path, []byte(now), 0o666); err != nil {
		t.Fatal(err)
	}
}

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	checks "carsokit/attacks/check"
	"carsokit/internal/docblock"
)

// TestReportsInDocuments: the blocks between <!-- report ... --> comments of docs/checks.md are the pages of the stored reports that they name, written anew with -update.
// The shipped classifier, which is sound, is accused of nothing; the reference's peel is caught.
func TestReportsInDocuments(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "checks.md")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now, err := docblock.Rewrite(string(old), "report", func(name string) (string, error) {
		var out strings.Builder
		err := report(t, name).Render(&out, "markdown")
		return out.String(), err
	})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if now != string(old) {
		if !*update {
			t.Errorf("%s does not say what the reports say; go test ./cmd/carso -run Documents -update", path)
		} else if err := os.WriteFile(path, []byte(now), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if failed := report(t, "a-classifier").Named(checks.Fail); len(failed) > 0 {
		t.Errorf("the shipped classifier fails %v", failed)
	}
	if failed := report(t, "a-carso-paper").Named(checks.Fail); !slices.Contains(failed, "nan-gradient") {
		t.Errorf("the reference's peel fails %v, but not nan-gradient", failed)
	}
}

// report reads a stored report of docs/checks.
func report(t *testing.T, name string) *checks.Report {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "docs", "checks", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := checks.Read(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

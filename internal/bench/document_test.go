package bench

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	var out strings.Builder
	rest := string(old)
	for {
		before, after, found := strings.Cut(rest, "<!-- bench ")
		out.WriteString(before)
		if !found {
			break
		}
		name, after, ok := strings.Cut(after, " -->\n")
		_, tail, closed := strings.Cut(after, "<!-- /bench -->")
		if !ok || !closed {
			t.Fatal("a bench block is not closed")
		}
		r, err := Read(filepath.Join(docs, "bench", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		header, rows := r.Table()
		out.WriteString("<!-- bench " + name + " -->\n| " + strings.Join(header, " | ") + " |\n|" + strings.Repeat(" --- |", len(header)) + "\n")
		for _, row := range rows {
			out.WriteString("| " + strings.Join(row, " | ") + " |\n")
		}
		out.WriteString("\nPyTorch " + r.Torch + ".\n<!-- /bench -->")
		rest = tail
	}
	if out.String() == string(old) {
		return
	}
	if !*update {
		t.Fatal("docs/performance.md does not say what the stored reports say: go test ./internal/bench -run Document -update")
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o666); err != nil {
		t.Fatal(err)
	}
}

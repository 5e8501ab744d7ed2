package attacks_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/attacks"
)

var update = flag.Bool("update", false, "write the table of docs/attacks.md")

// The table in docs/attacks.md is the catalogue.
func TestCatalogIsDocumented(t *testing.T) {
	var table strings.Builder
	table.WriteString("| name | what it does | looks for | evaluations of one image, at most |\n|---|---|---|---|\n")
	aims := map[attacks.Aim]string{attacks.Worst: "the worst point", attacks.Nearest: "the nearest", attacks.Any: "any"}
	for _, p := range attacks.Catalog() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %d |\n", p.Name, p.Doc, aims[p.Aim], p.New(8.0/255).Evaluations())
	}
	const begin, end = "<!-- catalogue -->\n", "<!-- end -->"
	path := filepath.Join("..", "docs", "attacks.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	found, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no %q and %q", path, begin, end)
	}
	if found == table.String() {
		return
	}
	if !*update {
		t.Fatalf("%s differs from the catalogue; go test ./attacks -run Documented -update writes\n%s", path, table.String())
	}
	if err := os.WriteFile(path, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

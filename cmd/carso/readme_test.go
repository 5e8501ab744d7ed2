package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/carso/paper"
)

var update = flag.Bool("update", false, "write the numbers of the records into the documents")

// documents are the paths of all documents for readers.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", filepath.Join("docs", "*.md")} {
		found, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 4 {
		t.Fatalf("only %v", all)
	}
	return all
}

// TestNumbersInDocuments: the blocks between <!-- results ... --> comments of the documents are what the committed records say. With -update they are
// written anew.
func TestNumbersInDocuments(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range documents(t) {
		doc := filepath.Base(path)
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		rest := string(old)
		for {
			before, after, found := strings.Cut(rest, "<!-- results ")
			out.WriteString(before)
			if !found {
				break
			}
			what, after, ok := strings.Cut(after, " -->\n")
			_, rest, found = strings.Cut(after, "<!-- /results -->")
			if !ok || !found {
				t.Fatalf("%s: a results block is not closed", doc)
			}
			fields := strings.Fields(what) // table, scale, row prefix, columns
			if len(fields) < 3 {
				t.Fatalf("%s: results block %q wants table, scale, row prefix and columns", doc, what)
			}
			table, err := paper.Build(fields[0], fields[1], runs)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "<!-- results %s -->\n%s<!-- /results -->", what, markdownTable(table.Plain(fields[2], fields[3:]...)))
		}
		if out.String() == string(old) {
			continue
		}
		if !*update {
			t.Errorf("%s does not say what the records say; go test ./cmd/carso -run Documents -update", doc)
			continue
		}
		if err := os.WriteFile(path, []byte(out.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func markdownTable(header []string, rows [][]string, notes []string) string {
	var out bytes.Buffer
	line := func(cells []string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
	line(header)
	rule := make([]string, len(header))
	for i := range rule {
		rule[i] = "---"
	}
	line(rule)
	for _, r := range rows {
		line(r)
	}
	if len(notes) > 0 {
		fmt.Fprintf(&out, "\nPublished values: %s.\n", strings.Join(notes, "; "))
	}
	return out.String()
}

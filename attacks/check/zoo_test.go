package check_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"

	"carsokit/attacks/attacktest"
	"carsokit/attacks/check"
	"carsokit/internal/xlaenv"
)

// The zoo is of toys: in pure Go their many small graphs are ready at once.
var backend compute.Backend

func TestMain(m *testing.M) {
	os.Setenv(compute.ConfigEnvVar, xlaenv.Go) // GoMLX keeps the state of random numbers on the backend of the environment
	be, err := xlaenv.Backend()
	if err != nil {
		panic(err)
	}
	backend = be
	os.Exit(m.Run())
}

// zooOptions are small: the defects are not subtle.
var zooOptions = check.Options{Steps: 10, EoT: 4, Queries: 100, Seed: 1}

var update = flag.Bool("update", false, "write the table of the zoo into docs/checks.md")

// TestZooDocuments: of every planted defect the expected finding fails, and no finding on a sound classifier does. The table in docs/checks.md is what
// this test found; its first columns are compared, the rest may differ by an image from machine to machine.
func TestZooDocuments(t *testing.T) {
	images, zoo := attacktest.ZooImages(24, 1), attacktest.Zoo()
	defects, sound := 0, 0
	for _, s := range zoo {
		if s.Sound() {
			sound++
		} else {
			defects++
		}
	}
	if defects < 15 || sound < 4 {
		t.Errorf("%d defects and %d sound classifiers; want 15 and 4", defects, sound)
	}
	rows := make([]string, len(zoo))
	t.Run("zoo", func(t *testing.T) {
		for i, s := range zoo {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				r := run(t, s.Classifier, images, zooOptions)
				failed := r.Named(check.Fail)
				if s.Sound() && len(failed) > 0 || !s.Sound() && !slices.Contains(failed, s.Caught) {
					t.Errorf("want %q among the failed findings\n%s", s.Caught, render(t, r, "text"))
				}
				rows[i] = row(s, r)
			})
		}
	})
	if t.Failed() || slices.Contains(rows, "") { // or only some were asked for with -run
		return
	}
	table := "| classifier | planted defect | caught by | broken by white-box attacks | other failed checks |\n| --- | --- | --- | --- | --- |\n" + strings.Join(rows, "")
	const open, shut = "<!-- zoo -->\n", "<!-- /zoo -->"
	path := filepath.Join("..", "..", "docs", "checks.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), open)
	old, tail, closed := strings.Cut(rest, shut)
	if !ok || !closed {
		t.Fatalf("%s has no block %s ... %s", path, strings.TrimSpace(open), shut)
	}
	if *update {
		if err := os.WriteFile(path, []byte(head+open+table+shut+tail), 0o666); err != nil {
			t.Fatal(err)
		}
	} else if columns(old) != columns(table) {
		t.Errorf("%s does not say what this test found: go test ./attacks/check -run Documents -update", path)
	}
}

// row is what the table says of a specimen.
func row(s attacktest.Specimen, r *check.Report) string {
	defect, caught := strings.ReplaceAll(s.Defect, "|", "\\|"), "`"+s.Caught+"`"
	if s.Sound() {
		defect, caught = "none", "nothing, rightly"
	}
	others := slices.DeleteFunc(r.Named(check.Fail), func(name string) bool { return name == s.Caught })
	return fmt.Sprintf("| %s | %s | %s | %d of %d | %s |\n", s.Name, defect, caught, r.Broken, r.Right, strings.Join(others, ", "))
}

// columns keeps the first three columns of a table.
func columns(table string) string {
	var out strings.Builder
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		out.WriteString(strings.Join(cells[:min(3, len(cells))], " | ") + "\n")
	}
	return out.String()
}

package check_test

import (
	"context"
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

var backend compute.Backend

func TestMain(m *testing.M) {
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
	images := attacktest.ZooImages(24, 1)
	defects, sound, rows := 0, 0, 0
	for _, s := range attacktest.Zoo() {
		if s.Sound() {
			sound++
		} else {
			defects++
		}
	}
	if defects < 15 || sound < 4 {
		t.Errorf("%d defects and %d sound classifiers; want 15 and 4", defects, sound)
	}
	var table strings.Builder
	table.WriteString("| classifier | planted defect | caught by | broken by white-box attacks | other failed checks |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range attacktest.Zoo() {
		t.Run(s.Name, func(t *testing.T) {
			r, err := check.Run(context.Background(), backend, s.Classifier, images, zooOptions)
			if err != nil {
				t.Fatal(err)
			}
			failed := r.Named(check.Fail)
			if s.Sound() && len(failed) > 0 || !s.Sound() && !slices.Contains(failed, s.Caught) {
				var page strings.Builder
				if err := r.Render(&page, "text"); err != nil {
					t.Fatal(err)
				}
				t.Errorf("want %q among the failed findings\n%s", s.Caught, page.String())
			}
			defect, caught := s.Defect, "`"+s.Caught+"`"
			if s.Sound() {
				defect, caught = "none", "nothing, rightly"
			}
			rows++
			others := slices.DeleteFunc(failed, func(name string) bool { return name == s.Caught })
			fmt.Fprintf(&table, "| %s | %s | %s | %d of %d | %s |\n", s.Name, strings.ReplaceAll(defect, "|", "\\|"), caught, r.Broken, r.Right, strings.Join(others, ", "))
		})
	}
	if t.Failed() || rows < defects+sound { // or only some were asked for with -run
		return
	}
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
		if err := os.WriteFile(path, []byte(head+open+table.String()+shut+tail), 0o666); err != nil {
			t.Fatal(err)
		}
	} else if columns(old) != columns(table.String()) {
		t.Errorf("%s does not say what this test found: go test ./attacks/check -run Documents -update", path)
	}
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

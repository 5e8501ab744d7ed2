package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/internal/goldentest"
	"carsokit/plots"
)

// TestPicturesInDocuments: the pictures of docs/pictures are drawn from the committed records. With -update they are drawn anew.
func TestPicturesInDocuments(t *testing.T) {
	goldentest.NeedECharts(t)
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	eps, err := paper.Build("ablation-eps", "small", runs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var found []record.Run
	for _, scale := range []string{"small", "small-full"} {
		for _, row := range []string{"classifier", "carso-paper", "carso-honest"} {
			run, err := paper.Find(runs, record.Query{Scenario: "a", Row: row, Column: "rand", Scale: scale})
			if err != nil {
				t.Fatal(err)
			}
			names, found = append(names, fmt.Sprintf("%s %s", row, scale)), append(found, run)
		}
	}
	for name, chart := range map[string]plots.Chart{
		"eps":   plots.Lines("AutoAttack rand over the bound, scale small", "l_inf bound in 1/255", "accuracy (%)", eval.TableCurves(eps, "rand")),
		"fates": eval.FateBars("What became of the images under rand", names, found),
	} {
		svg, err := plots.SVG(chart)
		if err != nil {
			t.Fatal(err)
		}
		svg = strings.Replace(svg, `fill="none"></rect>`, `fill="#fff"></rect>`, 1) // readers may have a dark page
		path := filepath.Join("..", "..", "docs", "pictures", name+".svg")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(svg), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, []byte(svg)) {
			t.Errorf("%s is not what the records draw (%v): go test ./cmd/carso -run Documents -update", path, err)
		}
	}
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
	eps, err := paper.Common("ablation-eps", "small", runs)
	if err != nil {
		t.Fatal(err)
	}
	samples, err := paper.Common("ablation-samples", "small", runs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var found []record.Run
	for _, scale := range []string{"small", paper.ScaleMedium} {
		for _, row := range []string{"classifier", "carso-paper", "carso-honest"} {
			run, err := paper.Find(runs, record.Query{Scenario: "a", Row: row, Column: "rand", Scale: scale})
			if err != nil {
				t.Fatal(err)
			}
			names, found = append(names, fmt.Sprintf("%s %s", row, scale)), append(found, run)
		}
	}
	scaling, err := scalingCurves(filepath.Join("..", "..", "docs", "bench", "cpu-two-cores-scaling.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for name, chart := range map[string]plots.Chart{
		"scaling": plots.Lines("One gradient of CARSO over its samples, draws and images", "how many", "seconds", scaling),
		"eps":     plots.LogLines("AutoAttack rand over the bound, scale small", "l_inf bound in 1/255", "accuracy (%)", eval.TableCurves(eps, "rand")),
		"samples": plots.LogLines("AutoAttack rand over the number of samples, scale small", "N", "accuracy (%)", eval.TableCurves(samples, "rand")),
		"fates":   eval.FateBars("What became of the images under rand", names, found),
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

// scalingCurves are the stored times of the benchmark Scaling of carso/eval, lines like "BenchmarkScaling/draws/4-2  1  496423000 ns/op".
func scalingCurves(path string) ([]plots.Series, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	names := map[string]string{"samples": "samples N (8 images, 1 draw)", "draws": "draws (N = 8, 8 images)", "images": "images (N = 8, 1 draw)"}
	var series []plots.Series
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			continue
		}
		parts := strings.Split(f[0], "/")
		count, _, _ := strings.Cut(parts[len(parts)-1], "-")
		x, err1 := strconv.ParseFloat(count, 64)
		ns, err2 := strconv.ParseFloat(f[2], 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		if name := names[parts[1]]; len(series) == 0 || series[len(series)-1].Name != name {
			series = append(series, plots.Series{Name: name})
		}
		s := &series[len(series)-1]
		s.Points = append(s.Points, plots.Point{X: x, Y: ns / 1e9, Lo: ns / 1e9, Hi: ns / 1e9})
	}
	return series, nil
}

package bench

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/internal/docblock"
	"carsokit/models"
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
		file, what, _ := strings.Cut(name, " ")
		if text, err := os.ReadFile(filepath.Join(docs, "bench", file+".txt")); err == nil {
			if file == "cpu-two-cores-rand" {
				return procedures(string(text))
			}
			return layers(string(text))
		}
		r, err := Read(filepath.Join(docs, "bench", file+".json"))
		if err != nil {
			return "", err
		}
		switch what {
		case "hours":
			return hours(r)
		case "breakdown":
			text, err := os.ReadFile(filepath.Join(docs, "bench", "cpu-two-cores-layers.txt"))
			if err != nil {
				return "", err
			}
			return breakdown(r, string(text))
		}
		text := docblock.Table(r.Table()) + "\nPyTorch " + r.Torch + "."
		if r.Ceiling > 0 {
			text += fmt.Sprintf(" The ceiling, its product of two 8192x8192 matrices in the same precision: %.0f TFLOP/s. It held up to %.1f GiB.", r.Ceiling/1e12, float64(r.Peak)/(1<<30))
		}
		return text + "\n", nil
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

// hours are those of all operations that the paper's main evaluations can take, at the rate of a report's gradients of the paper's network.
func hours(r Report) (string, error) {
	i := slices.IndexFunc(r.Results, func(c Result) bool { return c.Case == "pgd-step" && c.Net() == Net{28, 10} })
	if i < 0 {
		return "", errors.New("no step of PGD on WRN-28-10 in the report")
	}
	c := r.Results[i]
	rate := c.Net().flops(c.Case, c.Batch) / c.Kit.Median
	scale, err := paper.FindScale(paper.ScalePaper)
	if err != nil {
		return "", err
	}
	var rows [][]string
	for _, row := range []struct{ row, column string }{{"classifier", "clean"}, {"classifier", "rand"}, {"classifier", "pgd-eot"}, {"carso-paper", "clean"}, {"carso-paper", "rand"}, {"carso-paper", "pgd-eot"}, {"carso-honest", "rand"}, {"carso-honest", "pgd-eot"}} {
		line := []string{row.row + ", " + row.column}
		for _, net := range []models.WRN{models.CIFAR10WRN(28, 10), models.CIFAR100WRN(28, 10), models.TinyImageNetWRN(28, 10)} {
			n, err := eval.Operations(eval.Question{Row: row.row, Column: row.column, Scale: scale.Name, Eps: paper.Bound}, carso.PaperConfig(net, net))
			if err != nil {
				return "", err
			}
			h := n * float64(scale.Images) / rate / 3600
			text := fmt.Sprintf("%.2g", h)
			if h >= 10 {
				text = fmt.Sprintf("%.0f", h)
			}
			line = append(line, text)
		}
		rows = append(rows, line)
	}
	return docblock.Table([]string{"hours", "CIFAR-10", "CIFAR-100", "TinyImageNet-200"}, rows) +
		fmt.Sprintf("\n%d images, WRN-28-10 and the paper's purifier, at the %.0f TFLOP/s of a step of PGD above.\n", scale.Images, rate/1e12), nil
}

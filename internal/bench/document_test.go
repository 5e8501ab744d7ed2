package bench

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
		if text, err := os.ReadFile(filepath.Join(docs, "bench", name+".txt")); err == nil {
			return layers(string(text))
		}
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

// layers makes a table of the output of Go's benchmarks Ceiling and Convolution of internal/nn: rates, and as shares of the ceiling.
func layers(text string) (string, error) {
	rates, order := map[string]float64{}, []string(nil)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 6 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0][strings.Index(f[0], "/")+1 : strings.LastIndex(f[0], "-")]
		rate, err := strconv.ParseFloat(f[4], 64)
		if err != nil {
			return "", err
		}
		rates[name] = rate
		if layer, is := strings.CutSuffix(name, "/forward"); is && !slices.Contains(order, layer) {
			order = append(order, layer)
		}
	}
	ceiling := rates["product"]
	if ceiling == 0 || rates["pass"] == 0 || rates["small"] == 0 {
		return "", errors.New("no benchmark Ceiling in it")
	}
	var rows [][]string
	for _, l := range order {
		shape, at, _ := strings.Cut(l, "/")
		kernel, rest, _ := strings.Cut(shape, ",")
		channels, side, _ := strings.Cut(rest, ",")
		in, out, _ := strings.Cut(channels, "-")
		row := []string{kernel, in + " to " + out, side + "x" + side, at}
		for _, what := range []string{"forward", "input", "kernel"} {
			row = append(row, fmt.Sprintf("%.0f (%.2f)", rates[l+"/"+what], rates[l+"/"+what]/ceiling))
		}
		rows = append(rows, row)
	}
	return docblock.Table([]string{"kernel", "channels", "maps", "stride", "forwards", "input gradient", "kernel gradient"}, rows) +
		fmt.Sprintf("\nGFLOP/s, and as a share of what a product of two 1024x1024 matrices reaches (%.0f GFLOP/s). One pass of normalisation and activation reads and writes %.0f GB/s on maps of 8 MiB and %.0f GB/s on maps of 128 MiB.\n", ceiling, rates["small"], rates["pass"]), nil
}

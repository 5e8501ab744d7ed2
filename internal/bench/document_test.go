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
		if text, err := os.ReadFile(filepath.Join(docs, "bench", name+".txt")); err == nil {
			return layers(string(text))
		}
		file, isHours := strings.CutSuffix(name, " hours")
		r, err := Read(filepath.Join(docs, "bench", file+".json"))
		if err != nil {
			return "", err
		}
		if isHours {
			return hours(r)
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
	var forward, back, slow float64 // ms an image
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
		if ms, is := multiplyAdds(kernel, in, out, side, at); is {
			f, b := ms/rates[l+"/forward"], ms/rates[l+"/input"]
			forward, back = forward+f, back+b
			if in == "3" || at == "2" {
				slow += b - f
			}
		}
	}
	return docblock.Table([]string{"kernel", "channels", "maps", "stride", "forwards", "input gradient", "kernel gradient"}, rows) +
		fmt.Sprintf("\nGFLOP/s, and as a share of what a product of two 1024x1024 matrices reaches (%.0f GFLOP/s). One pass of normalisation and activation reads and writes %.0f GB/s on maps of 8 MiB and %.0f GB/s on maps of 128 MiB.\n", ceiling, rates["small"], rates["pass"]) +
		fmt.Sprintf("\nAt these rates the convolutions of WRN-10-2 take %.2f ms an image forwards and %.2f ms towards the input; to the image and through strides alone they take %.2f ms longer towards the input than forwards.\n", forward, back, slow), nil
}

// multiplyAdds are the operations of a convolution of the classifier on one map, in units of 1e6, which a rate in GFLOP/s turns into milliseconds; the even kernels
// and narrowing channels are the purifier's.
func multiplyAdds(kernel, in, out, side, stride string) (millions float64, is bool) {
	n := map[string]float64{}
	for _, s := range []string{in, out, side, stride} {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, false
		}
		n[s] = v
	}
	taps := map[string]float64{"3x3": 9, "1x1": 1}[kernel]
	positions := n[side] / n[stride] * n[side] / n[stride]
	return 2 * taps * n[in] * n[out] * positions / 1e6, taps > 0 && n[out] > n[in] || n[in] == n[out]
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
	for _, row := range []struct{ row, column string }{{"classifier", "rand"}, {"carso-paper", "rand"}, {"carso-paper", "pgd-eot"}, {"carso-honest", "rand"}} {
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

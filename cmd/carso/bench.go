package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"carsokit/internal/atomicfile"
	"carsokit/internal/bench"
	"carsokit/internal/xlaenv"
	"carsokit/plots"

	"github.com/gomlx/compute"
)

func benchCommand(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("carso bench", flag.ContinueOnError)
	var o bench.Options
	fs.StringVar(&o.Python, "python", filepath.Join("build", "bench-venv", "bin", "python"), "Python with PyTorch; make bench installs it")
	widths := fs.String("width", "1,2", "of the networks, separated by commas")
	depth := fs.Int("depth", 10, "of the networks: 10, 16, 28, ...")
	cases := fs.String("case", "", "operations, separated by commas (default: all)")
	fs.IntVar(&o.Rounds, "rounds", 7, "pairs of runs")
	compiled := fs.Bool("compile", false, "PyTorch through torch.compile")
	bf16 := fs.Bool("bf16", false, "PyTorch under autocast to bfloat16, and classifiers trained here in bfloat16, which is the only case unless -case names others")
	fs.StringVar(&o.Device, "device", "cpu", "of PyTorch: cpu or cuda")
	fs.BoolVar(&o.TF32, "tf32", false, "PyTorch may round the inputs of products to TF32; here GOMLX_BACKEND says so")
	fs.IntVar(&o.Times, "times", 1, "multiplies the batches, for a GPU")
	out := fs.String("out", filepath.Join("build", "bench"), "folder of the report")
	if err := parse(fs, args); err != nil {
		return err
	}
	for _, text := range strings.Split(*widths, ",") {
		w, err := strconv.Atoi(text)
		if err != nil || w < 1 {
			return fmt.Errorf("-width %q is not a list of positive numbers", *widths)
		}
		o.Nets = append(o.Nets, bench.Net{Depth: *depth, Width: w})
	}
	switch {
	case *compiled && *bf16:
		return errors.New("-compile and -bf16: give one of them")
	case *compiled:
		o.Mode = "compiled"
	case *bf16:
		o.Mode = "bf16"
		if *cases == "" {
			o.Cases = []string{"adversarial-step"} // what is computed in bfloat16 here
		}
	}
	if *cases != "" {
		o.Cases = strings.Split(*cases, ",")
	}
	be, err := xlaenv.Backend()
	if err != nil {
		return err
	}
	// Both sides on one device, and in one precision.
	name := xlaenv.Describe(be)
	if onGPU, rounded := strings.Contains(name, ":cuda"), strings.HasSuffix(name, ",tf32"); onGPU != (o.Device == "cuda") || onGPU && rounded != o.TF32 {
		return fmt.Errorf("the backend is %s, PyTorch would run on %s with -tf32=%v: on a GPU give -device cuda, and -tf32 where %s does not end in ,notf32", name, o.Device, o.TF32, compute.ConfigEnvVar)
	}
	dir, err := os.MkdirTemp("", "carso-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	kit, err := bench.NewKit(be, dir)
	if err != nil {
		return err
	}
	kit.Times, kit.BF16 = o.Times, *bf16
	o.Progress = func(line string) { fmt.Println(line) }
	report, err := bench.Compare(ctx, name, kit.Run, o)
	if err != nil && len(report.Results) == 0 {
		return err
	}
	// What was measured before a case failed is kept.
	failed := err
	if err := os.MkdirAll(*out, 0o777); err != nil {
		return err
	}
	path := filepath.Join(*out, "bench-"+report.Mode+".json")
	if report.Device != "" {
		path = filepath.Join(*out, "bench-"+report.Device+"-"+report.Mode+".json")
	}
	err = atomicfile.Write(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(report)
	})
	if err != nil {
		return err
	}
	chart := strings.TrimSuffix(path, ".json") + ".svg"
	if err := plots.SaveSVG(report.Chart(), chart); err != nil {
		return err
	}
	fmt.Printf("%s and %s\n", path, chart)
	return failed
}

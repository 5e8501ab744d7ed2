package main

import (
	"context"
	"encoding/json"
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
)

func benchCommand(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("carso bench", flag.ContinueOnError)
	var o bench.Options
	fs.StringVar(&o.Python, "python", filepath.Join("build", "bench-venv", "bin", "python"), "Python with PyTorch; make bench installs it")
	widths := fs.String("width", "1,2", "of the WRN-10, separated by commas")
	cases := fs.String("case", "", "operations, separated by commas (default: all)")
	fs.IntVar(&o.Rounds, "rounds", 7, "pairs of runs")
	fs.BoolVar(&o.Compiled, "compile", false, "PyTorch through torch.compile")
	out := fs.String("out", filepath.Join("build", "bench"), "folder of the report")
	if err := parse(fs, args); err != nil {
		return err
	}
	for _, text := range strings.Split(*widths, ",") {
		w, err := strconv.Atoi(text)
		if err != nil || w < 1 {
			return fmt.Errorf("-width %q is not a list of positive numbers", *widths)
		}
		o.Widths = append(o.Widths, w)
	}
	if *cases != "" {
		o.Cases = strings.Split(*cases, ",")
	}
	be, err := xlaenv.Backend()
	if err != nil {
		return err
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
	o.Progress = func(line string) { fmt.Println(line) }
	report, err := bench.Compare(ctx, be.Name(), kit.Run, o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o777); err != nil {
		return err
	}
	path := filepath.Join(*out, "bench-"+report.Mode+".json")
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
	return nil
}

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"carsokit/attacks"
	checks "carsokit/attacks/check"
	"carsokit/carso"
	"carsokit/carso/eval"
	"carsokit/data"
	"carsokit/internal/atomicfile"
	"carsokit/internal/rng"
	"carsokit/internal/xlaenv"
)

// attackCommand has two verbs.
func attackCommand(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "check":
			return attackCheck(ctx, args[1:])
		case "list":
			return attackList(args[1:])
		}
	}
	return fmt.Errorf("usage: carso attack check [flags] or carso attack list [flags]; -h lists the flags")
}

// attackList prints the catalogue of attacks, with -json each one's whole specification.
func attackList(args []string) error {
	fs := flag.NewFlagSet("carso attack list", flag.ContinueOnError)
	eps := fs.Float64("eps", 8, "l_inf bound in 1/255")
	specification := fs.Bool("json", false, "print every field of each attack")
	if err := parse(fs, args); err != nil {
		return err
	}
	for _, p := range attacks.Catalog() {
		if !*specification {
			fmt.Printf("%-22s %s\n", p.Name, p.Doc)
			continue
		}
		a := p.New(*eps / 255)
		if err := a.Validate(); err != nil {
			return err
		}
		text, err := attacks.Describe(a)
		if err != nil {
			return err
		}
		fmt.Printf("%-22s %s\n", p.Name, text)
	}
	return nil
}

// attackCheck says whether attacks on a row of the main table can be believed.
func attackCheck(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("carso attack check", flag.ContinueOnError)
	q := eval.Question{Column: "rand"}
	fs.StringVar(&q.Scenario, "scenario", "a", "scenario of the paper")
	fs.StringVar(&q.Row, "row", "classifier", "row of the main table: classifier, plain, carso-paper, carso-honest, ...")
	fs.StringVar(&q.Scale, "scale", "small", "tiny, quickstart, small, small-full, medium or paper")
	fs.IntVar(&q.Samples, "samples", 8, "N, reconstructions per image")
	decides := fs.String("decides", "", "aggregation that is checked, instead of the row's own")
	weights := fs.String("weights", "", "folder of the weight files (default: those that ship)")
	images := fs.Int("images", 32, "the first images of the test set")
	eps := fs.Float64("eps", 8, "l_inf bound in 1/255")
	var o checks.Options
	fs.IntVar(&o.Steps, "steps", 20, "steps of each gradient attack")
	fs.IntVar(&o.EoT, "eot", 4, "draws averaged in a gradient of a stochastic defence")
	fs.IntVar(&o.Confirm, "confirm", 4, "fresh passes that decide about a stochastic defence")
	fs.IntVar(&o.Queries, "queries", 200, "queries of the black-box attack")
	seed := fs.Uint64("seed", 0, "root of all randomness")
	format := fs.String("format", "text", strings.Join(checks.Formats(), ", "))
	out := fs.String("o", "", "file to write to, instead of the terminal")
	from := fs.String("from", "", "print the report in this JSON file instead of checking anew")
	dir := fs.String("data", "", "folder or archive of the data set, as in carso eval")
	if err := parse(fs, args); err != nil {
		return err
	}
	var report *checks.Report
	if *from != "" {
		f, err := os.Open(*from)
		if err != nil {
			return err
		}
		report, err = checks.Read(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", *from, err)
		}
	} else {
		q.Eps, q.Seed, q.Decides, o.Seed = *eps/255, *seed, carso.Aggregation(*decides), rng.Seed(*seed)
		if *weights != "" {
			q.Weights = carso.Folder(*weights)
		}
		s, err := carso.FindScenario(q.Scenario, q.Scale)
		if err != nil {
			return err
		}
		set, note, err := data.OpenTest(s.Dataset, *dir, ".")
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "data:", note)
		be, err := xlaenv.Backend()
		if err != nil {
			return err
		}
		job, err := eval.NewJob(be, q, set)
		if err != nil {
			return err
		}
		o.Progress = func(what string) { fmt.Fprintf(os.Stderr, "\r\x1b[K%s", what) }
		if report, err = eval.Findings(ctx, be, job, *images, o); err != nil {
			return err
		}
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
	if *out == "" {
		return report.Render(os.Stdout, *format)
	}
	return atomicfile.Write(*out, func(w io.Writer) error { return report.Render(w, *format) })
}

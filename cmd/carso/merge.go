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

	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/carso/record"
)

// merge joins the parts of evaluations.
func merge(_ context.Context, args []string) error {
	fs := flag.NewFlagSet("carso merge", flag.ContinueOnError)
	out := fs.String("out", recordsDir, "folder of the merged records")
	key := fs.String("key", "", "only evaluations whose key begins so")
	images := fs.Int("images", 0, "images that are expected (default: the scale's)")
	chunk := fs.Int("chunk", 25, "images per line, as given to carso eval")
	all := fs.Bool("require-all", false, "fail if images are missing")
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "usage: carso merge [flags] [FILE or FOLDER ...]   (none: the folder -out)")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	from := fs.Args()
	if len(from) == 0 {
		from = []string{*out}
	}
	runs, err := record.Join(from...)
	if err != nil {
		return err
	}
	store, err := record.Open(*out)
	if err != nil {
		return err
	}
	var chosen []record.Run
	for _, r := range runs {
		if strings.HasPrefix(r.Key, *key) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no records of a key %q in %s", *key, strings.Join(from, ", "))
	}
	if err := record.CheckRivals(chosen); err != nil {
		return fmt.Errorf("%w; -key chooses one", err)
	}
	missing := 0
	for _, r := range chosen {
		merged, err := store.Merge(r, *chunk)
		if err != nil {
			return err
		}
		n, err := mergedReport(os.Stdout, *out, r, merged, *images, *chunk)
		if err != nil {
			return err
		}
		missing += n
	}
	if *all && missing > 0 {
		return fmt.Errorf("%d images are missing", missing)
	}
	return nil
}

// mergedReport says what was joined and what is missing, with the command that computes it; it returns how many images are.
func mergedReport(w io.Writer, dir string, from, merged record.Run, images, chunk int) (int, error) {
	own := merged.Spec.Row == eval.ModelOutput // of which no scale says how many images there are, and no command computes them
	if images == 0 && !own {
		scale, err := paper.FindScale(merged.Spec.Scale)
		if err != nil {
			return 0, err
		}
		if images = scale.Images; merged.Spec.Index != nil {
			images = len(merged.Spec.Index)
		}
	}
	fmt.Fprintf(w, "%s: %d images, from %d files\n", filepath.Join(dir, merged.File), len(merged.Images), len(from.Files))
	if from.Torn {
		fmt.Fprintln(w, "  a file ends in a torn line, which was left out")
	}
	if images == 0 {
		return 0, nil
	}
	missing := merged.Missing(images)
	if len(missing) == 0 {
		return 0, nil
	}
	if own {
		fmt.Fprintf(w, "  missing %d of %d: %s\n", len(missing), images, record.Ranges(missing))
		return len(missing), nil
	}
	redo, err := evalLine(merged.Spec, dir, images, chunk)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(w, "  missing %d of %d: %s\n  to compute them (on the same data, weights and backend):\n    %s\n", len(missing), images, record.Ranges(missing), redo)
	return len(missing), nil
}

// evalLine is the command that continues an evaluation.
func evalLine(s record.Spec, dir string, images, chunk int) (string, error) {
	q, err := eval.QuestionOf(s)
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("carso eval -scenario %s -row %s -column %s -scale %s -images %d", q.Scenario, q.Row, q.Column, q.Scale, images)
	if q.Column != "clean" {
		text, err := bound(q.Eps)
		if err != nil {
			return "", err
		}
		line += " -eps " + text
	}
	if q.Samples != 0 && q.Samples != 8 {
		line += fmt.Sprintf(" -samples %d", q.Samples)
	}
	if q.Steps != 0 {
		line += fmt.Sprintf(" -steps %d", q.Steps)
	}
	if q.EoT != 0 {
		line += fmt.Sprintf(" -eot %d", q.EoT)
	}
	if q.Seed != 0 {
		line += fmt.Sprintf(" -seed %d", q.Seed)
	}
	if q.Decides != "" {
		line += " -decides " + string(q.Decides)
	}
	if q.Screen {
		line += " -screen"
	}
	if q.Index != nil {
		text, err := json.Marshal(q.Index)
		if err != nil {
			return "", err
		}
		line += " -index '" + string(text) + "'"
	}
	return fmt.Sprintf("%s -chunk %d -again -records %s", line, chunk, dir), nil
}

// bound is the shortest text that -eps reads as exactly this bound.
func bound(eps float64) (string, error) {
	for digits := 1; digits <= 17; digits++ {
		text := strconv.FormatFloat(eps*255, 'g', digits, 64)
		if x, err := strconv.ParseFloat(text, 64); err == nil && x/255 == eps {
			return strconv.FormatFloat(x, 'f', -1, 64), nil
		}
	}
	return "", errors.New("the bound " + strconv.FormatFloat(eps, 'g', -1, 64) + " is no number of 255ths")
}

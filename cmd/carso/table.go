package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"carsokit/carso"
	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/internal/xlaenv"
)

func table(ctx context.Context, args []string) error {
	id := "main"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		id, args = args[0], args[1:]
	}
	fs := flag.NewFlagSet("carso table", flag.ContinueOnError)
	scale := fs.String("scale", "small", "tiny, quickstart, small, small-full, medium or paper")
	format := fs.String("format", "text", strings.Join(paper.Formats(), ", ")+"; of coverage text, json")
	noRun := fs.Bool("no-run", false, "print from records, computing nothing; an empty cell says which command fills it")
	common := fs.Bool("common", false, "count only the images that all runs of the table hold, as in the curves: rows then differ by their settings alone")
	records := fs.String("records", recordsDir, "folder of further records, beside the program's own, and of those made now")
	dir := fs.String("data", "", "folder or archive of the data set, as in carso eval")
	weights := fs.String("weights", "", "folder of the weight files (default: those that ship)")
	if err := parse(fs, args); err != nil {
		return err
	}
	runs, err := allRuns(*records)
	if err != nil {
		return err
	}
	switch id {
	case "list":
		return listTables(os.Stdout, *scale, runs)
	case "coverage":
		c, err := paper.Cover(*scale, runs)
		if err != nil {
			return err
		}
		return c.Write(os.Stdout, *format)
	}
	sheets, err := allSheets(*scale)
	if err != nil {
		return err
	}
	for _, s := range sheets {
		if s.ID == id {
			return paper.RenderSheet(os.Stdout, s, *format)
		}
	}
	build := paper.Build
	if *common {
		build = paper.Common
	}
	t, err := build(id, *scale, runs)
	if err != nil {
		return err
	}
	if !*noRun && len(t.Missing)+len(t.Blocked) > 0 {
		open := carso.Opener(eval.Shipped)
		if *weights != "" {
			open = carso.Folder(*weights)
		}
		if err := fill(ctx, os.Stderr, t, open, *records, *dir); err != nil {
			return err
		}
		if runs, err = allRuns(*records); err != nil {
			return err
		}
		if t, err = build(id, *scale, runs); err != nil {
			return err
		}
	}
	return paper.Render(os.Stdout, t, *format)
}

// allSheets are the appendix tables, and what the tables cost.
func allSheets(scale string) ([]paper.Sheet, error) {
	sheets, err := eval.Appendix(scale)
	if err != nil {
		return nil, err
	}
	costs, err := paper.Costs(scale)
	return append(sheets, costs), err
}

// listTables writes a line per table, with the number of its cells at a scale.
func listTables(w io.Writer, scale string, runs []record.Run) error {
	c, err := paper.Cover(scale, runs)
	if err != nil {
		return err
	}
	for _, t := range c.Tables {
		fmt.Fprintf(w, "%-17s %5d cells  %s\n", t.ID, t.Declared, t.Title)
	}
	sheets, err := allSheets(scale)
	if err != nil {
		return err
	}
	for _, s := range sheets {
		fmt.Fprintf(w, "%-17s %5d rows   %s\n", s.ID, len(s.Rows), s.Title)
	}
	fmt.Fprintln(w, "coverage                       counts of the cells of all tables: declared, filled, empty and why")
	return nil
}

// fill runs the evaluations that a table lacks, one after the other; what it says goes to w. What cannot be run, because weights are not there, is listed with
// its cost; it is an error only if that is everything. Weights that do not ship may be in the folder that open reads.
func fill(ctx context.Context, w io.Writer, t paper.Table, open carso.Opener, records, dir string) error {
	var missing, refused, blocked []record.Query
	var lacks error // of the first one refused
	images := testSets{dir: dir, sets: map[string]*data.Set{}}
	for i, q := range slices.Concat(t.Missing, t.Blocked) {
		err := weightsThere(q, open)
		if err != nil && i >= len(t.Missing) {
			blocked = append(blocked, q)
			continue
		}
		if err == nil {
			_, err = images.of(q)
		}
		if err != nil {
			refused, lacks = append(refused, q), cmp.Or(lacks, err)
		} else {
			missing = append(missing, q)
		}
	}
	if err := tellBlocked(w, blocked); err != nil {
		return err
	}
	if len(refused) > 0 {
		if err := tellCosts(w, fmt.Sprintf("%d of %d missing evaluations need weights or images that are not there, and are not run:", len(refused), len(refused)+len(missing)), refused); err != nil {
			return err
		}
		if len(missing) == 0 {
			return fmt.Errorf("table %s at scale %s: nothing can be run; -weights names the folder of the weights, -no-run prints without them: %w", t.ID, t.Scale, lacks)
		}
		fmt.Fprintf(w, "  the first of them: %v\n", lacks)
	}
	if len(missing) == 0 {
		return nil
	}
	title := fmt.Sprintf("%d evaluations are missing and run now (-no-run prints without them); data: %s", len(missing), strings.Join(images.notes, "; "))
	if err := tellCosts(w, title, missing); err != nil {
		return err
	}
	be, err := xlaenv.Backend()
	if err != nil {
		return err
	}
	store, err := record.Open(records)
	if err != nil {
		return err
	}
	for i, m := range missing {
		set, err := images.of(m)
		if err != nil {
			return err
		}
		job, err := eval.NewJob(be, question(m, open), set)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d of %d: %s, %d images\n", i+1, len(missing), paper.Command(m), job.Images)
		const chunk, workers = 25, 2
		progress, err := newReporter(w, "text", chunk, workers)
		if err != nil {
			return err
		}
		_, err = eval.Run(ctx, be, store, job, eval.Options{Chunk: chunk, Workers: workers, Progress: progress.tell})
		progress.end()
		if err != nil {
			return err
		}
	}
	return nil
}

// testSets opens the images of scenarios, each data set once.
type testSets struct {
	dir   string
	sets  map[string]*data.Set
	notes []string // which images these are, for people
}

func (t *testSets) of(q record.Query) (*data.Set, error) {
	s, err := carso.FindScenario(q.Scenario, q.Scale)
	if err != nil {
		return nil, err
	}
	if set := t.sets[s.Dataset]; set != nil {
		return set, nil
	}
	set, note, err := data.OpenTest(s.Dataset, t.dir, ".")
	if err != nil {
		return nil, fmt.Errorf("images of scenario %s: %w", s.ID, err)
	}
	t.sets[s.Dataset], t.notes = set, append(t.notes, note)
	return set, nil
}

// question is what an evaluation of a table asks, whose empty settings are the defaults.
func question(m record.Query, open carso.Opener) eval.Question {
	q := eval.Question{Scenario: m.Scenario, Row: m.Row, Column: m.Column, Scale: m.Scale, Eps: m.Eps,
		Samples: m.Samples, Steps: m.Steps, EoT: m.EoT, Decides: carso.Aggregation(m.Decides), Weights: open}
	if q.Eps == 0 {
		q.Eps = paper.Bound
	}
	return q
}

// weightsThere says which weight file an evaluation lacks, if one, and how to get it.
func weightsThere(q record.Query, open carso.Opener) error {
	s, err := carso.FindScenario(q.Scenario, q.Scale)
	if err != nil {
		return err
	}
	files := []string{s.Classifier}
	switch {
	case q.Row == "plain":
		files = []string{s.Plain}
	case q.Row != "classifier":
		if s.Final != "" {
			files = append(files, s.Final)
		}
		files = append(files, s.PurifierFiles(open)...)
	}
	for _, name := range files {
		f, err := open.Open(name)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// tellBlocked says what of a table cannot be run with any weights of its scale.
func tellBlocked(w io.Writer, blocked []record.Query) error {
	if len(blocked) == 0 {
		return nil
	}
	return tellCosts(w, fmt.Sprintf("%d evaluations cannot be run, because their weights do not ship; their cells say what is missing:", len(blocked)), blocked)
}

// tellCosts lists evaluations with what each costs, and the sum.
func tellCosts(w io.Writer, title string, qs []record.Query) error {
	fmt.Fprintln(w, title)
	for _, q := range qs {
		c, err := paper.CostOf(q)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "  %s: %s\n", paper.Command(q), c)
	}
	sum, err := paper.TotalCost(qs)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "  in all %s\n", sum)
	return err
}

// allRuns are the program's own records and those of a folder, which may not exist. Of an evaluation that is in both, the one with more images.
func allRuns(dir string) ([]record.Run, error) {
	runs, err := paper.Committed()
	if err != nil {
		return nil, err
	}
	more, err := record.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return runs, nil
	}
	at := map[string]int{}
	for i, r := range runs {
		at[r.Spec.Key()] = i
	}
	for _, r := range more {
		if i, both := at[r.Spec.Key()]; !both {
			runs = append(runs, r)
		} else if len(r.Images) > len(runs[i].Images) {
			runs[i] = r
		}
	}
	return runs, err
}

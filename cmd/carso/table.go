package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/internal/xlaenv"
)

func table(ctx context.Context, args []string) error {
	id := "main"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		id, args = args[0], args[1:]
	}
	fs := flag.NewFlagSet("carso table", flag.ContinueOnError)
	scale := fs.String("scale", "small", "tiny, quickstart, small, small-full or paper")
	format := fs.String("format", "text", strings.Join(paper.Formats(), ", "))
	noRun := fs.Bool("no-run", false, "print from records, computing nothing; an empty cell says which command fills it")
	records := fs.String("records", recordsDir, "folder of further records, beside the program's own, and of those made now")
	dir := fs.String("data", "", "folder or archive of the data set, as in carso eval")
	if err := parse(fs, args); err != nil {
		return err
	}
	if id == "list" {
		for _, t := range paper.Tables() {
			fmt.Printf("%-10s %s\n", t.ID, t.Title)
		}
		return nil
	}
	build := func() (paper.Table, error) {
		runs, err := allRuns(*records)
		if err != nil {
			return paper.Table{}, err
		}
		return paper.Build(id, *scale, runs)
	}
	t, err := build()
	if err != nil {
		return err
	}
	if len(t.Missing) > 0 && !*noRun {
		if err := fill(ctx, t.Missing, *records, *dir); err != nil {
			return err
		}
		if t, err = build(); err != nil {
			return err
		}
	}
	return paper.Render(os.Stdout, t, *format)
}

// fill runs the evaluations that a table lacks, one after the other; what it says goes to standard error.
func fill(ctx context.Context, missing []record.Query, records, dir string) error {
	set, note, err := testSet(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d evaluations are missing and run now (-no-run prints without them); data: %s\n", len(missing), note)
	be, err := xlaenv.Backend()
	if err != nil {
		return err
	}
	store, err := record.Open(records)
	if err != nil {
		return err
	}
	for i, m := range missing {
		job, err := eval.NewJob(be, eval.Question{Scenario: m.Scenario, Row: m.Row, Column: m.Column, Scale: m.Scale, Eps: paper.Bound}, set)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%d of %d: %s/%s/%s/%s, %d images\n", i+1, len(missing), m.Scenario, m.Row, m.Column, m.Scale, job.Images)
		const chunk, workers = 25, 2
		progress, err := newReporter(os.Stderr, "text", chunk, workers)
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

// allRuns are the program's own records and those of a folder, which may not exist.
func allRuns(dir string) ([]record.Run, error) {
	runs, err := paper.Committed()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err != nil {
		return runs, nil
	}
	more, err := record.Load(dir)
	return append(runs, more...), err
}

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/internal/atomicfile"

	"github.com/parquet-go/parquet-go"
)

// recordsCommand lists, shows, exports and unpacks records.
func recordsCommand(_ context.Context, args []string) error {
	const usage = "usage: carso records list|show|export|unpack [flags]"
	if len(args) == 0 {
		return errors.New(usage)
	}
	verb := args[0]
	if verb == "unpack" {
		return unpackRecords(args[1:])
	}
	fs := flag.NewFlagSet("carso records "+verb, flag.ContinueOnError)
	dir := fs.String("records", recordsDir, "folder of further records, beside the program's own")
	own := fs.Bool("own", true, "also the program's own records")
	var q record.Query
	fs.StringVar(&q.Scenario, "scenario", "", "only this scenario")
	fs.StringVar(&q.Row, "row", "", "only this row")
	fs.StringVar(&q.Column, "column", "", "only this column")
	fs.StringVar(&q.Scale, "scale", "", "only this scale")
	key := fs.String("key", "", "only evaluations whose key begins so")
	var format, what, out string
	if verb == "export" {
		fs.StringVar(&format, "format", "csv", "csv, jsonl or parquet")
		fs.StringVar(&what, "what", "images", "images, a row an image; or parts, a row an attack on an image")
		fs.StringVar(&out, "out", "", "file to write (default: standard output)")
	}
	if err := parse(fs, args[1:]); err != nil {
		return err
	}
	var runs []record.Run
	var err error
	if *own {
		runs, err = allRuns(*dir)
	} else {
		runs, err = record.Load(*dir)
	}
	if err != nil {
		return err
	}
	var chosen []record.Run
	for _, r := range runs {
		if q.Match(r.Spec) && strings.HasPrefix(r.Key, *key) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return errors.New("no records are selected; carso records list shows what there is")
	}
	switch verb {
	case "list":
		return list(os.Stdout, chosen)
	case "show":
		return show(os.Stdout, chosen)
	case "export":
		write := func(w io.Writer) error { return exportRecords(w, chosen, what, format) }
		if out != "" {
			return atomicfile.Write(out, write)
		}
		w := bufio.NewWriter(os.Stdout)
		return errors.Join(write(w), w.Flush())
	}
	return errors.New(usage)
}

// unpackRecords writes the program's own record files into a folder.
func unpackRecords(args []string) error {
	fs := flag.NewFlagSet("carso records unpack", flag.ContinueOnError)
	out := fs.String("out", "", "folder to write the program's own record files to")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *out == "" {
		return errors.New("carso records unpack needs -out, a folder")
	}
	files, err := paper.RecordFiles()
	if err != nil {
		return err
	}
	if err := os.CopyFS(*out, files); err != nil {
		return fmt.Errorf("unpacking the program's own records, of which none may be there already: %w", err)
	}
	return nil
}

// list writes a line per evaluation.
func list(w io.Writer, runs []record.Run) error {
	fmt.Fprintf(w, "%-12s  %-52s  %6s  %7s  %4s  %s\n", "key", "evaluation", "images", "eps*255", "seed", "backend")
	for _, r := range runs {
		s := r.Spec
		note := ""
		if r.Torn {
			note = "  (torn line)"
		}
		if _, err := fmt.Fprintf(w, "%.12s  %-52s  %6d  %7.4g  %4d  %s%s\n", r.Key, strings.Join([]string{s.Scenario, s.Row, s.Column, s.Scale}, "/"), len(r.Images), 255*s.Eps, s.Seed, s.Versions["backend"], note); err != nil {
			return err
		}
	}
	return nil
}

// show writes all that is known of each evaluation: what it was, and every accuracy that its records give.
func show(w io.Writer, runs []record.Run) error {
	for _, r := range runs {
		s := r.Spec
		fmt.Fprintf(w, "%s/%s/%s/%s  key %s\n", s.Scenario, s.Row, s.Column, s.Scale, r.Key)
		fmt.Fprintf(w, "  data      %s %s, digest %s\n", s.Data.Name, s.Data.Split, s.Data.Digest)
		for _, f := range s.Weights {
			fmt.Fprintf(w, "  weights   %s: %s, sha256 %s\n", f.Role, f.File, f.SHA256)
		}
		fmt.Fprintf(w, "  defence   %s\n  attack    %s\n  eps       %.10g/255, %d scoring draws, seed %d\n  versions  %v\n", s.Defence, s.Attack, 255*s.Eps, s.Draws, s.Seed, s.Versions)
		fmt.Fprintf(w, "  images    %d\n", len(r.Images))
		summary(w, r)
	}
	fmt.Fprintln(w, "An image counts as correct:")
	for _, d := range record.Definitions() {
		if _, err := fmt.Fprintf(w, "  %-14s %s (needs of the record: %s)\n", d.Name, d.Says, d.Needs); err != nil {
			return err
		}
	}
	return nil
}

func exportRecords(w io.Writer, runs []record.Run, what, format string) error {
	switch what {
	case "images":
		return exportRows(w, record.ImageRows(runs), format)
	case "parts":
		return exportRows(w, record.PartRows(runs), format)
	}
	return fmt.Errorf("export has no -what %q; there are images and parts", what)
}

func exportRows[R record.ImageRow | record.PartRow](w io.Writer, rows []R, format string) error {
	switch format {
	case "csv":
		return record.WriteCSV(w, rows)
	case "jsonl":
		return record.WriteJSONL(w, rows)
	case "parquet":
		// The names are those of JSON.
		p := parquet.NewGenericWriter[R](w, parquet.Compression(&parquet.Zstd))
		_, err := p.Write(rows)
		if err = errors.Join(err, p.Close()); err != nil {
			return fmt.Errorf("exporting as Parquet: %w", err)
		}
		return nil
	}
	return fmt.Errorf("export has no -format %q; there are csv, jsonl and parquet", format)
}

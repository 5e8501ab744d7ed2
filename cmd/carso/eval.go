package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	checks "carsokit/attacks/check"
	"carsokit/carso"
	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/internal/memory"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/compute"
)

// recordsDir is where evaluations are kept unless something else is said; those behind published numbers are part of the program (paper.Committed).
var recordsDir = filepath.Join("build", "records")

func evalCommand(ctx context.Context, args []string) error {
	var q eval.Question
	fs := flag.NewFlagSet("carso eval", flag.ContinueOnError)
	fs.StringVar(&q.Scenario, "scenario", "a", "scenario of the paper")
	fs.StringVar(&q.Row, "row", "classifier", "classifier, plain, carso-paper, carso-honest or carso-adaptive")
	column := fs.String("column", "rand", "clean, apgd-ce, rand, pgd-eot or, of classifier, plain and carso-honest, strict; of carso-adaptive "+strings.Join(paper.Adaptive(), ", ")+"; several separated by commas")
	fs.StringVar(&q.Scale, "scale", "small", "tiny, quickstart, small, small-full, medium or paper")
	eps := fs.String("eps", "8", "l_inf bound in 1/255; several separated by commas")
	fs.IntVar(&q.Images, "images", 0, "the first images of the test set (default: the scale's)")
	index := fs.String("index", "", "pin the images: a file of positions in the test set, one a line or a JSON list, or such a list itself, like '[3,14,15]'")
	fs.BoolVar(&q.Screen, "screen", false, "cheap attacks first; the protocol's own attack only what these do not break. Another protocol, under another key")
	fs.IntVar(&q.Samples, "samples", paper.Samples, "N, reconstructions per image")
	fs.IntVar(&q.Steps, "steps", 0, "steps of every attack (default: the scale's)")
	fs.IntVar(&q.EoT, "eot", 0, "gradient draws per step of every attack (default: the scale's)")
	fs.Uint64Var(&q.Seed, "seed", 0, "root of all randomness")
	decides := fs.String("decides", "", "aggregation that decides, instead of the row's own; carso-paper attacks it, too")
	records := fs.String("records", recordsDir, "folder of the records")
	weights := fs.String("weights", "", "folder of the weight files (default: those that ship)")
	chunk := fs.Int("chunk", 25, "images per record: at most this much work of each worker is lost at a kill")
	batch := fs.String("batch", "16", "images in the largest compiled step: less takes less memory, and changes results only by the rounding of sums; auto: as many, 4 to 256, as half of the available memory holds")
	workers := fs.Int("workers", 2, "chunks under way at once")
	part := fs.String("shard", "", "part of the images, 0/8 to 7/8, into a file of its own; auto: that of a Slurm array task or a Kubernetes Indexed Job; carso merge joins them")
	plan := fs.Bool("plan", false, "say what would be computed, and how long that takes at the rate of -rate or of the last evaluation like it, and compute nothing")
	images := fs.Float64("rate", 0, "-plan: images per second")
	until := fs.Float64("until", 0, "stop when the 95 % interval of the accuracy so far is at most so many percentage points wide; 0: evaluate all images")
	form := fs.String("progress", "text", "on standard error: text, a line that is rewritten; json, a line a chunk; none")
	checked := fs.Int("check", 0, "also check on so many images whether the attacks can be believed, and keep the findings beside the records")
	save := fs.String("save-images", "", "folder that also gets the adversarial images, as float32 and in 8 bits, which are then judged again")
	rescore := fs.String("rescore", "", "judge the images saved in this folder again, by the row and seed given (default: those that made them), and evaluate nothing else")
	again := fs.Bool("again", false, "run also what the program's own records already answer")
	dir := fs.String("data", "", "folder or archive of the data set (default $"+data.Env+", then build/data, then the built-in sample)")
	if err := parse(fs, args); err != nil {
		return err
	}
	largest, err := parseBatch(*batch)
	if err != nil {
		return err
	}
	if *chunk < 1 || *workers < 1 {
		return fmt.Errorf("-chunk %d -workers %d: want positive numbers", *chunk, *workers)
	}
	shard, err := eval.ParseShard(*part, os.Getenv)
	if err != nil {
		return err
	}
	if *index != "" {
		if q.Index, err = eval.ReadIndex(*index); err != nil {
			return err
		}
	}
	if *rescore != "" {
		if *save != "" || *plan || *part != "" {
			return errors.New("-rescore judges what is saved and evaluates nothing: leave out -save-images, -plan and -shard")
		}
		if q, err = rescoreQuestion(*rescore, q, fs); err != nil {
			return err
		}
	}
	if *decides != "" {
		q.Decides = carso.Aggregation(*decides)
	}
	if *weights != "" {
		q.Weights = carso.Folder(*weights)
	}
	scenario, err := carso.FindScenario(q.Scenario, q.Scale)
	if err != nil {
		return err
	}
	set, note, err := data.OpenTest(scenario.Dataset, *dir, ".")
	if err != nil {
		return err
	}
	fmt.Println("data:", note)
	be, err := xlaenv.Backend()
	if err != nil {
		return err
	}
	store, err := record.Open(*records)
	if err != nil {
		return err
	}
	var known []record.Run
	if !*again {
		if known, err = paper.Committed(); err != nil {
			return err
		}
	}
	if *rescore != "" {
		job, err := eval.NewJob(be, q, set)
		if err != nil {
			return err
		}
		return tellRescored(ctx, os.Stdout, be, job, *rescore)
	}
	for _, q.Column = range strings.Split(*column, ",") {
		for _, text := range strings.Split(*eps, ",") {
			if q.Eps, err = strconv.ParseFloat(text, 64); err != nil {
				return fmt.Errorf("-eps %q is not a number", text)
			}
			q.Eps /= 255
			job, err := eval.NewJob(be, q, set)
			if err != nil {
				return err
			}
			fmt.Printf("%s/%s/%s/%s eps %s/255: %d images, key %.12s\n", q.Scenario, q.Row, q.Column, q.Scale, text, job.Images, job.Spec.Key())
			run, answered := eval.Answered(known, job)
			saves := *save != "" && len(job.Protocol.Stages) > 0
			if !answered || saves {
				o := eval.Options{Chunk: *chunk, Workers: *workers, Shard: shard, Until: *until}
				if saves {
					o.Save = *save
				}
				if o.Buckets, err = buckets(os.Stdout, job, o, largest); err != nil {
					return err
				}
				if err := tellPlan(job, store, o, *records, *images); err != nil {
					return err
				}
				if *plan {
					continue
				}
				progress, err := newReporter(os.Stderr, *form, *chunk, *workers)
				if err != nil {
					return err
				}
				o.Progress = progress.tell
				run, err = eval.Run(ctx, be, store, job, o)
				progress.end()
				if held, ok := memory.Process(memory.Peak); ok && *form == "text" {
					fmt.Fprintf(os.Stderr, "  peak memory of this process so far: %d MB\n", held>>20)
				}
				if r := rate(progress.latest); r > 0 {
					err = errors.Join(err, remember(*records, job.Spec, r))
				}
				if err != nil {
					return err
				}
			}
			if there, here := run.Spec.Versions["backend"], job.Spec.Versions["backend"]; answered && !saves && there != here {
				fmt.Printf("  from a record of backend %s; -again computes it on %s\n", there, here)
			}
			summary(os.Stdout, run)
			switch folder := eval.SavedFolder(*save, job.Spec); {
			case *plan:
			case *save != "" && !saves:
				fmt.Printf("  column %s attacks nothing: there are no images to save\n", q.Column)
			case saves && shard.Count > 1: // the others' images may not be there yet
				fmt.Printf("  saved in %s; when all shards are done, carso eval -rescore %s judges them\n", folder, folder)
			case saves:
				if err := tellRescored(ctx, os.Stdout, be, job, folder); err != nil {
					return err
				}
			}
			if *checked > 0 && !*plan {
				if err := keepFindings(ctx, os.Stdout, be, job, *checked, *records); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// autoBatch stands for -batch auto.
const autoBatch = -1

func parseBatch(text string) (int, error) {
	if text == "auto" {
		return autoBatch, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("-batch %q: want a positive number of images, or auto", text)
	}
	return n, nil
}

// buckets are the batch sizes compiled for a largest one, which auto chooses now, and says so.
func buckets(w io.Writer, job eval.Job, o eval.Options, largest int) ([]int, error) {
	if largest != autoBatch {
		return eval.Buckets(largest), nil
	}
	choice, err := xlaenv.Prepare()
	if err != nil {
		return nil, err
	}
	available, known := memory.Available()
	switch {
	case choice.OwnMemory():
		return nil, errors.New("-batch auto knows the memory of this machine, not that of the device that computes: give a number")
	case !known:
		return nil, errors.New("-batch auto: this system does not say in /proc/meminfo how much memory is available: give a number")
	}
	batch, bytes, err := job.AutoBatch(o, available)
	if err != nil {
		return nil, fmt.Errorf("-batch auto: %w", err)
	}
	fmt.Fprintf(w, "  batch: %d, which is reckoned to take %d MB of the %d MB available\n", batch, bytes>>20, available>>20)
	return eval.Buckets(batch), nil
}

// tellPlan prints what an evaluation will compute, with the time at a given rate or at the one remembered.
func tellPlan(job eval.Job, store *record.Store, o eval.Options, dir string, rate float64) error {
	p, err := job.Plan(store, o)
	if err != nil {
		return err
	}
	source := "as given"
	if rate == 0 {
		known, err := loadRates(dir)
		if err != nil {
			return err
		}
		rate, source = known[rateName(job.Spec)], "measured when this was last evaluated here"
	}
	p.Print(os.Stdout, rate, source)
	return nil
}

// rescoreQuestion is the question whose defence judges saved images: that of the evaluation that made them, but for what the flags say. It attacks nothing.
func rescoreQuestion(dir string, given eval.Question, fs *flag.FlagSet) (eval.Question, error) {
	spec, err := eval.SavedSpec(dir)
	if err != nil {
		return given, err
	}
	q, err := eval.QuestionOf(spec)
	if err != nil {
		return given, err
	}
	fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "scenario":
			q.Scenario = given.Scenario
		case "row":
			q.Row = given.Row
		case "scale":
			q.Scale = given.Scale
		case "samples":
			q.Samples = given.Samples
		case "seed":
			q.Seed = given.Seed
		}
	})
	q.Column, q.Screen, q.Index, q.Steps, q.EoT = "clean", false, nil, 0, 0
	return q, nil
}

// tellRescored judges saved images and prints both verdicts.
func tellRescored(ctx context.Context, w io.Writer, be compute.Backend, job eval.Job, dir string) error {
	r, err := eval.Rescore(ctx, be, job, dir, eval.Options{})
	if err != nil {
		return err
	}
	whole, bytes := r.Estimates()
	for _, form := range []struct {
		name string
		record.Estimate
	}{{"float32", whole}, {"8-bit", bytes}} {
		fmt.Fprintf(w, "  saved %-8s %6.2f %% [%.2f, %.2f]  n %d, one fresh pass of %s, seed %d\n", form.name, form.Value, form.Lo, form.Hi, form.N, job.Spec.Row, job.Spec.Seed)
	}
	fmt.Fprintf(w, "  verdicts: %s\n", r.File)
	return nil
}

// keepFindings checks the attacks on a job and writes the findings beside its records.
func keepFindings(ctx context.Context, w io.Writer, be compute.Backend, job eval.Job, images int, dir string) error {
	report, err := eval.Findings(ctx, be, job, images, checks.Options{})
	if err != nil {
		return err
	}
	file, err := eval.SaveFindings(dir, job.Spec, report)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "  checks: %d failed %v, %d warned; %s\n", len(report.Named(checks.Fail)), report.Named(checks.Fail), len(report.Named(checks.Warn)), file)
	return nil
}

func summary(w io.Writer, run record.Run) {
	for _, d := range record.Definitions() {
		e := run.Estimate(d.Score)
		if e.N == 0 {
			continue
		}
		fmt.Fprintf(w, "  %-14s %6.2f %% [%.2f, %.2f]  n %d", d.Name, e.Value, e.Lo, e.Hi, e.N)
		if draws, err := run.Bootstrap(d.Score, record.DrawsOnly, 1000, 0); err == nil { // of means over passes
			fmt.Fprintf(w, "; on these images, over draws [%.2f, %.2f]", draws.Lo, draws.Hi)
		}
		fmt.Fprintln(w)
	}
	for _, id := range run.PartIDs() {
		ran, attacked := run.Covers(id)
		nan, zero := run.Estimate(record.Share(id, record.NaNStart)), run.Estimate(record.Share(id, record.ZeroStart))
		a := run.Account(id, false)
		fmt.Fprintf(w, "  %-24s on %d of %d: first gradient NaN %.1f %%, zero %.1f %%; survivors %d of %d NaN, %d of %d zero, %d of %d finite\n", id, ran, attacked,
			nan.Value, zero.Value, a.NaN.Survived, a.NaN.Images, a.Zero.Survived, a.Zero.Images, a.Usable.Survived, a.Usable.Images)
	}
	fmt.Fprintf(w, "  record: %s\n", run.File)
}

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carsokit/carso"
	"carsokit/carso/eval"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/fetch"
	"carsokit/internal/xlaenv"
	"carsokit/models"

	"github.com/gomlx/gomlx/ml/model"
)

// weightsDir is where weights are kept unless something else is said.
var weightsDir = filepath.Join("build", "weights")

func checkpoint(ctx context.Context, args []string) error {
	const usage = `usage: carso checkpoint COMMAND [flags] [FILE ...]     carso checkpoint COMMAND -h lists the flags
  inspect    names, shapes, numbers and digests of weight files; without a file: of those that ship
  list       published weights: what they are for, where they are offered, what is here
  get        bring published weights, by name or scenario
  verify     check weight files: header, finite numbers, digest, network; with -gate their clean accuracy
  convert    write a PyTorch or safetensors file as safetensors under the reference's names`
	verbs := map[string]func(context.Context, *flag.FlagSet, []string) error{
		"inspect": inspectCommand, "list": listCommand, "get": getCommand, "verify": verifyCommand, "convert": convertCommand}
	if len(args) < 1 || verbs[args[0]] == nil {
		return errors.New(usage)
	}
	return verbs[args[0]](ctx, flag.NewFlagSet("carso checkpoint "+args[0], flag.ContinueOnError), args[1:])
}

func inspectCommand(_ context.Context, fs *flag.FlagSet, args []string) error {
	key := fs.String("key", "", "of the state dict in a PyTorch file (default: found)")
	digests := fs.Bool("digests", false, "print the SHA-256 of every tensor's values")
	if err := fs.Parse(args); err != nil {
		return err
	}
	open := func(name string) (*checkpoints.File, error) { return checkpoints.OpenAny(name, *key) }
	names := fs.Args()
	if len(names) == 0 {
		open, names = eval.Shipped, checkpoints.ShippedNames()
	}
	for _, name := range names {
		if err := inspect(name, open, *digests); err != nil {
			return err
		}
	}
	return nil
}

func inspect(name string, open func(string) (*checkpoints.File, error), digests bool) (err error) {
	f, err := open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, err := f.SHA256()
	if err != nil {
		return err
	}
	content, err := f.Content()
	if err != nil {
		return err
	}
	fmt.Printf("%s (%s)\n  sha256  %s\n  content %s\n", name, f.Form, sum, content.SHA256)
	total := 0
	for _, t := range content.Tensors {
		fmt.Printf("  %-50s %-4s %v", t.Name, t.DType, t.Shape)
		if digests {
			fmt.Printf("  %s", t.SHA256)
		}
		fmt.Println()
		total += t.Numbers
	}
	fmt.Printf("  %d tensors, %d numbers: %d parameters, %d running statistics, %d counters\n", len(content.Tensors), total,
		total-content.Statistics-content.Counters, content.Statistics, content.Counters)
	if len(f.Ignored) > 0 {
		fmt.Printf("  beside them: %s\n", strings.Join(f.Ignored, ", "))
	}
	return f.CheckFinite()
}

// index is the built-in index of weights, or that of a file.
func index(path string) ([]checkpoints.Known, error) {
	if path == "" {
		return checkpoints.Index()
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return checkpoints.ParseIndex(path, b)
}

func listCommand(_ context.Context, fs *flag.FlagSet, args []string) error {
	dir := fs.String("dir", weightsDir, "folder of the weights")
	file := fs.String("index", "", "index of weights to use instead of the built-in one")
	if err := parse(fs, args); err != nil {
		return err
	}
	known, err := index(*file)
	if err != nil {
		return err
	}
	for _, k := range known {
		here := "not here"
		if _, err := os.Stat(filepath.Join(*dir, k.Name+".safetensors")); err == nil {
			here = "in " + *dir
		}
		fmt.Printf("%s\n  %s of scenarios %s; %s\n  published by %s\n", k.Name, k.Role, uses(k.Name), here, k.Origin)
		if k.Clean != nil {
			fmt.Printf("  clean accuracy %.2f %% on %d images (%s)\n", k.Clean.Percent, k.Clean.Images, k.Clean.Source)
		}
		for _, s := range k.Sources {
			sum := "SHA-256 unknown"
			if s.SHA256 != "" {
				sum = "SHA-256 " + s.SHA256
			}
			fmt.Printf("  %s (%s, %s)\n", s.URL, megabytes(s.Bytes), sum)
		}
	}
	fmt.Printf("part of the program: %s\n", strings.Join(checkpoints.ShippedNames(), ", "))
	return nil
}

func getCommand(ctx context.Context, fs *flag.FlagSet, args []string) error {
	dir := fs.String("dir", weightsDir, "folder to put the weights into")
	from := fs.String("from", "", "take them from this folder or file and use no network")
	url := fs.String("url", "", "mirrors to try before the index's, separated by commas: addresses of the file, or of a folder if they end in /")
	sum := fs.String("sha256", "", "digest that the file of -url must have")
	file := fs.String("index", "", "index of weights to use instead of the built-in one")
	key := fs.String("key", "", "of the state dict in a PyTorch file (default: found)")
	gate := fs.Int("gate", 200, "then classify this many test images and compare with the published clean accuracy, where both are there; 0: do not")
	images := fs.String("data", "", "for -gate: folder or archive of the data sets (default $"+data.Env+", then build/data, then of CIFAR-10 the built-in sample)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	known, err := index(*file)
	if err != nil {
		return err
	}
	var chosen []checkpoints.Known
	for _, name := range fs.Args() {
		n := len(chosen)
		for _, k := range known {
			if strings.Contains(" "+uses(k.Name)+" ", " "+name+" ") {
				chosen = append(chosen, k)
			}
		}
		if len(chosen) == n {
			k, err := checkpoints.Lookup(known, name)
			if err != nil {
				return err
			}
			chosen = append(chosen, k)
		}
	}
	if len(chosen) == 0 {
		return errors.New("usage: carso checkpoint get [flags] NAME|SCENARIO ...   (`carso checkpoint list` shows them)")
	}
	if *sum != "" && (len(chosen) != 1 || *url == "") {
		return errors.New("-sha256 is the digest of one file at one -url")
	}
	for _, k := range chosen {
		opt := checkpoints.GetOptions{From: *from, Sources: mirrors(k, *url, *sum),
			Progress: fetch.Print(os.Stderr, time.Now), Log: func(s string) { fmt.Fprintln(os.Stderr, s) }}
		var ok bool
		if opt.Conversion, ok, err = weights(k.Name, nil); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("%s is in the index, but no network of that name is known", k.Name)
		}
		opt.Conversion.Key = *key
		path, err := k.Get(ctx, *dir, opt)
		if err != nil {
			return err
		}
		fmt.Println(path)
		if *gate > 0 && k.Role == "classifier" {
			if err := checkAccuracy(ctx, k, path, *gate, *images); err != nil {
				return err
			}
		}
	}
	return nil
}

// mirrors puts the addresses that a user gives before those of the index.
func mirrors(k checkpoints.Known, urls, sum string) []checkpoints.Source {
	var all []checkpoints.Source
	for _, u := range strings.Split(urls, ",") {
		if u == "" {
			continue
		}
		if strings.HasSuffix(u, "/") {
			u += k.Name + ".safetensors"
		}
		all = append(all, checkpoints.Source{URL: u, SHA256: sum})
	}
	return append(all, k.Sources...)
}

func convertCommand(_ context.Context, fs *flag.FlagSet, args []string) error {
	as := fs.String("as", "", "published weights whose names and shapes the file must have (default: by the name of OUT, then of IN; none: what the file has)")
	key := fs.String("key", "", "of the state dict in a PyTorch file (default: found)")
	dtype := fs.String("dtype", "", "F32 or F16 for all floating-point numbers (default: F32 for published weights, otherwise as they are)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 2 {
		return errors.New("usage: carso checkpoint convert [flags] IN OUT.safetensors")
	}
	in, out := fs.Arg(0), fs.Arg(1)
	f, err := checkpoints.OpenAny(in, *key)
	if err != nil {
		return err
	}
	var c checkpoints.Conversion
	for _, name := range []string{*as, out, in} {
		var ok bool
		if name == "" {
			continue
		}
		if c, ok, err = weights(name, f); err != nil || ok {
			*as = checkpoints.Stem(name)
			break
		}
		if name == *as {
			err = fmt.Errorf("-as %s: not published weights; `carso checkpoint list` shows them", name)
			break
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.DType = strings.ToUpper(*dtype)
	report, err := f.Convert(out, c)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	name := "under its own names"
	if c.Want != nil {
		name = "as " + *as
	}
	fmt.Printf("%s (%s) %s: %s\n", in, f.Form, name, report)
	if len(f.Ignored) > 0 {
		fmt.Printf("left out: %s\n", strings.Join(f.Ignored, ", "))
	}
	fmt.Println(out)
	return nil
}

func verifyCommand(ctx context.Context, fs *flag.FlagSet, args []string) error {
	gate := fs.Int("gate", 0, "also classify this many test images and compare with the published clean accuracy")
	dir := fs.String("data", "", "with -gate: folder or archive of the data sets (default $"+data.Env+", then build/data, then of CIFAR-10 the built-in sample)")
	file := fs.String("index", "", "index of weights to use instead of the built-in one")
	if err := fs.Parse(args); err != nil {
		return err
	}
	known, err := index(*file)
	if err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("usage: carso checkpoint verify [flags] FILE, or several")
	}
	bad := 0
	for _, path := range fs.Args() {
		if err := verify(ctx, known, path, *gate, *dir); err != nil {
			if ctx.Err() != nil {
				return err
			}
			fmt.Printf("%s: NOT GOOD\n  %v\n", path, err)
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d files are not good", bad, fs.NArg())
	}
	return nil
}

func verify(ctx context.Context, known []checkpoints.Known, path string, gate int, dir string) error {
	k, err := checkpoints.Lookup(known, path)
	if err != nil {
		k = checkpoints.Known{Name: checkpoints.Stem(path)} // still to be read
	}
	f, err := checkpoints.Open(path)
	if err != nil {
		return err
	}
	c, ok, err := weights(path, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	sum, err := k.Verify(path, c)
	if err != nil {
		return err
	}
	fits := "fits " + k.Name
	if !ok {
		fits = "of no published name, so its tensors were not compared"
	}
	fmt.Printf("%s: header, numbers and digest are good\n  SHA-256 %s\n  %s\n", path, sum, fits)
	if gate == 0 {
		return nil
	}
	return checkAccuracy(ctx, k, path, gate, dir)
}

// checkAccuracy compares the clean accuracy of a classifier with the published one, on the first n test images, where there are both.
func checkAccuracy(ctx context.Context, k checkpoints.Known, path string, n int, dir string) error {
	if k.Clean == nil {
		fmt.Println("  clean accuracy not checked: none is published")
		return nil
	}
	reference, err := models.FindReference(path)
	if err != nil {
		return err
	}
	set, note, err := data.OpenTest(reference.Dataset, dir, ".")
	if errors.Is(err, data.ErrNotFound) { // the file may be good all the same
		fmt.Printf("  clean accuracy not checked: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	be, err := xlaenv.Backend()
	if err != nil {
		return err
	}
	f, err := checkpoints.Open(path)
	if err != nil {
		return err
	}
	classifier, err := carso.OpenClassifier(model.NewStore(), "/f", f, path)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	start := time.Now()
	g, err := eval.Check(ctx, be, classifier, set, min(n, set.Len()), *k.Clean, func(done int) {
		rate := float64(done) / time.Since(start).Seconds()
		fmt.Fprintf(os.Stderr, "\r%d/%d images, %.3g images/s, %v left ", done, n, rate, time.Duration(float64(n-done)/rate*float64(time.Second)).Round(time.Second))
	})
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return err
	}
	if err := g.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Printf("  %s\n  images: %s\n", g, note)
	return nil
}

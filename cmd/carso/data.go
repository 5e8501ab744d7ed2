package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"carsokit/data"
)

func dataCommand(ctx context.Context, args []string) error {
	var names []string
	for _, d := range data.Catalog {
		names = append(names, d.Name)
	}
	usage := "usage: carso data get|verify " + strings.Join(names, "|") + " [flags], or carso data verify images -dir FOLDER for images of your own"
	if len(args) < 2 {
		return errors.New(usage)
	}
	verb, name := args[0], args[1]
	fs := flag.NewFlagSet("carso data "+verb, flag.ContinueOnError)
	dir := fs.String("dir", "", "folder of the data sets (default $"+data.Env+", then build/data)")
	from := fs.String("from", "", "get: take it from this folder or archive instead of the network")
	if err := parse(fs, args[2:]); err != nil {
		return err
	}
	switch verb {
	case "get":
		if *dir == "" {
			*dir = os.Getenv(data.Env)
		}
		if *dir == "" {
			*dir = data.DefaultDir
		}
		return data.Get(ctx, name, *dir, data.GetOptions{From: *from, Progress: data.PrintProgress(os.Stderr), Log: func(s string) { fmt.Fprintln(os.Stderr, s) }})
	case "verify":
		if name == ownImages {
			return verifyImages(*dir)
		}
		where, err := data.Find(name, *dir, ".")
		if err != nil {
			return err
		}
		d, err := data.Lookup(name)
		if err != nil {
			return err
		}
		r, err := d.Verify(where)
		if err != nil {
			return err
		}
		fmt.Print(r)
		if !r.OK() {
			return errors.New("the data set is not whole")
		}
		return nil
	}
	return errors.New(usage)
}

// ownImages is what stands for a data set that is in no catalogue.
const ownImages = "images"

// verifyImages decodes a folder of images, and says what it holds.
func verifyImages(dir string) error {
	if dir == "" {
		return errors.New("-dir must name the folder that has a folder of images for each class")
	}
	set, err := data.OpenImages(dir, ownImages, "test")
	if err != nil {
		return err
	}
	counts := make([]int, len(set.Classes))
	for _, y := range set.Labels {
		counts[y]++
	}
	fmt.Printf("%s: %d images, %d high and %d wide, digest %s\n", dir, set.Len(), set.H, set.W, set.Digest)
	for k, n := range counts {
		fmt.Printf("  %3d  %-20s %7d\n", k, set.Classes[k], n)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"

	"carsokit/carso/eval"
	"carsokit/checkpoints"
)

func checkpoint(_ context.Context, args []string) error {
	if len(args) < 1 || args[0] != "inspect" {
		return errors.New("usage: carso checkpoint inspect [FILE ...]   (no file: those that ship)")
	}
	open, names := checkpoints.Open, args[1:]
	if len(names) == 0 {
		open, names = eval.Shipped, checkpoints.ShippedNames()
	}
	for _, name := range names {
		if err := inspect(name, open); err != nil {
			return err
		}
	}
	return nil
}

func inspect(name string, open func(string) (*checkpoints.File, error)) error {
	f, err := open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := f.SHA256()
	if err != nil {
		return err
	}
	fmt.Printf("%s\n  sha256 %s\n", name, sum)
	total := 0
	for _, s := range f.Specs() {
		n := 1
		for _, d := range s.Shape {
			n *= d
		}
		total += n
		fmt.Printf("  %-50s %v\n", s.Name, s.Shape)
	}
	fmt.Printf("  %d tensors, %d numbers\n", len(f.Names()), total)
	return f.CheckFinite()
}

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"carsokit/data"
	"carsokit/models"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/gomlx/backends/default"
)

func train(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "classifier" {
		return fmt.Errorf("usage: carso train classifier|purifier -scenario a -scale small [-out folder]")
	}
	fs := flag.NewFlagSet("train "+args[0], flag.ContinueOnError)
	scale := fs.String("scale", "small", "tiny or small")
	out := fs.String("out", "", "folder of the run's state (default build/train/...)")
	dir := fs.String("data", os.Getenv("CARSO_DATA"), "folder with the data sets")
	plain := fs.Bool("plain", false, "train without an adversary")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	recipe, err := models.SmallRecipe(*scale, *plain)
	if err != nil {
		return err
	}
	set, err := data.OpenCIFAR10(filepath.Join(*dir, "cifar-10-batches-bin"), "train")
	if err != nil {
		return err
	}
	be, err := compute.New()
	if err != nil {
		return err
	}
	if *out == "" {
		*out = filepath.Join("build", "train", "classifier-a-"+*scale)
	}
	tr, err := models.NewTrainer(be, recipe, set, *out)
	if err != nil {
		return err
	}
	start, first, last := time.Now(), tr.Step(), time.Now()
	return tr.Run(ctx, models.RunOptions{Dir: *out, SaveEvery: 2 * time.Minute,
		Progress: func(step, total int, loss float64) {
			if time.Since(last) < 5*time.Second && step < total {
				return
			}
			last = time.Now()
			rate := float64(step-first) / time.Since(start).Seconds()
			fmt.Printf("step %d/%d  loss %.3f  %.0f images/s  ETA %s\n", step, total, loss, rate*float64(recipe.Batch),
				time.Duration(float64(total-step)/rate*float64(time.Second)).Round(time.Second))
		},
		Epoch: func(p models.Point) {
			fmt.Printf("epoch %d  lr %.4f  loss %.4f  train %.2f  held-out clean %.1f  PGD-10 %.1f  best %v\n", p.Epoch, p.LR, p.Loss, p.TrainAdv, p.HeldClean, p.HeldPGD, p.Best)
		}})
}

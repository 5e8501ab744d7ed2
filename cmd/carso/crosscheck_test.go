package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/internal/docblock"
)

// crosscheck is what internal/bench/crosscheck.py writes: attacks made in PyTorch, without this kit. The lists have a number for each image, 1 for yes.
type crosscheck struct {
	Torch, Classifier    string
	Images, Steps, Draws int
	Attacks              []struct {
		Row, Output     string
		Initial, Broken []int
		NaNStart        []int `json:"nan_start"`
	}
}

// both counts what holds by the kit's records, by PyTorch's, and of how many images they say the same.
type both struct{ kit, torch, same int }

func (b *both) add(kit, torch bool) {
	if kit {
		b.kit++
	}
	if torch {
		b.torch++
	}
	if kit == torch {
		b.same++
	}
}

// crosscheckTable compares a report with the first part of the kit's rand on the same images.
func crosscheckTable(runs []record.Run, file string) (string, error) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "bench", file+".json"))
	if err != nil {
		return "", err
	}
	var report crosscheck
	if err := json.Unmarshal(text, &report); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	scale := "small"
	if strings.HasSuffix(report.Classifier, "_"+paper.ScaleMedium) {
		scale = paper.ScaleMedium
	}
	var rows [][]string
	for _, a := range report.Attacks {
		run, err := paper.Find(runs, record.Query{Scenario: "a", Row: a.Row, Column: "rand", Scale: scale})
		if err != nil {
			return "", err
		}
		var is struct {
			Stages []struct {
				Output string
				Attack struct {
					Loss       string
					Steps, EoT int
				}
			}
		}
		if err := json.Unmarshal(run.Spec.Attack, &is); err != nil {
			return "", err
		}
		if s := is.Stages[0]; s.Output != a.Output || s.Attack.Loss != "ce" || s.Attack.Steps != report.Steps || s.Attack.EoT != report.Draws || len(run.Images) < report.Images || len(a.Initial) != report.Images {
			return "", fmt.Errorf("%s, %s: the kit's first part is %+v on %d images", file, a.Row, s, len(run.Images))
		}
		var left, nan both
		for i, im := range run.Images[:report.Images] {
			part, _ := im.Part(run.PartIDs()[0])
			left.add(im.Initial && !part.Broken, a.Initial[i] == 1 && a.Broken[i] == 0)
			nan.add(part.NaNStart, a.NaNStart[i] == 1)
		}
		percent := func(n int) string {
			e := record.Proportion(n, report.Images)
			return fmt.Sprintf("%.0f [%.0f, %.0f]", e.Value, e.Lo, e.Hi)
		}
		rows = append(rows, []string{a.Row + ": apgd-ce on " + a.Output, percent(left.kit), percent(left.torch), strconv.Itoa(left.same), strconv.Itoa(nan.kit), strconv.Itoa(nan.torch), strconv.Itoa(nan.same)})
	}
	return docblock.Table([]string{"attacked", "left by the kit, %", "by PyTorch, %", "same", "NaN at first, kit", "PyTorch", "same"}, rows) +
		fmt.Sprintf("\n%d images, %d steps of %d draws, PyTorch %s. *same*: images of which both say the same.\n", report.Images, report.Steps, report.Draws, report.Torch), nil
}

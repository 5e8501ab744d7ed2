package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/internal/docblock"
	"carsokit/internal/training"
	"carsokit/models"
)

var update = flag.Bool("update", false, "write the numbers of the records into the documents")

// documents are the paths of all documents for readers.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", filepath.Join("docs", "*.md")} {
		found, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 4 {
		t.Fatalf("only %v", all)
	}
	return all
}

// TestNumbersInDocuments: the blocks between <!-- results ... --> comments of the documents are what the committed records say. With -update they are
// written anew.
func TestNumbersInDocuments(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range documents(t) {
		doc := filepath.Base(path)
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		now, err := docblock.Rewrite(string(old), "results", func(what string) (string, error) {
			fields := strings.Fields(what) // table, scale, row prefix, columns
			build := paper.Build
			if len(fields) > 0 && fields[0] == "common" {
				build, fields = paper.Common, fields[1:]
			}
			if len(fields) < 3 {
				return "", errors.New("it wants table, scale, row prefix and columns, behind common where only the images that all runs hold count")
			}
			table, err := build(fields[0], fields[1], runs)
			if err != nil {
				return "", err
			}
			header, rows, notes := table.Plain(fields[2], fields[3:]...)
			text := docblock.Table(header, rows)
			if len(notes) > 0 {
				text += fmt.Sprintf("\nPublished values: %s.\n", strings.Join(notes, "; "))
			}
			return text, nil
		})
		if err == nil {
			now, err = docblock.Rewrite(now, "runs", func(what string) (string, error) { return runsTable(runs, what) })
		}
		if err == nil {
			now, err = docblock.Rewrite(now, "paired", func(what string) (string, error) { return pairedTable(runs, what) })
		}
		if err == nil {
			now, err = docblock.Rewrite(now, "curves", curvesTable)
		}
		if err == nil {
			now, err = docblock.Rewrite(now, "crosscheck", func(file string) (string, error) { return crosscheckTable(runs, file) })
		}
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		if now == string(old) {
			continue
		}
		if !*update {
			t.Errorf("%s does not say what the records say; go test ./cmd/carso -run Documents -update", doc)
			continue
		}
		if err := os.WriteFile(path, []byte(now), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// ablated is how a training of the classifier's ablation ended, on the held-out training images.
type ablated struct {
	models.Ablation
	steps      int // 0: it has no curve yet
	clean, pgd record.Estimate
}

// ablationEnds reads the ends of the curves that ship.
func ablationEnds() ([]ablated, error) {
	var all []ablated
	for _, a := range models.Ablations() {
		recipe, err := a.Recipe()
		if err != nil {
			return nil, err
		}
		points, err := training.ReadCurve[models.Point](filepath.Join("..", "..", "checkpoints", "shipped", "ablation_"+a.Name+".curve.jsonl"))
		if err != nil {
			return nil, err
		}
		if len(points) == 0 {
			all = append(all, ablated{Ablation: a})
			continue
		}
		end := points[len(points)-1]
		if end.Epoch != recipe.Epochs {
			return nil, fmt.Errorf("ablation %s: its curve ends after epoch %d of %d", a.Name, end.Epoch, recipe.Epochs)
		}
		share := func(percent float64) record.Estimate {
			return record.Proportion(int(math.Round(percent/100*float64(recipe.HeldOut))), recipe.HeldOut)
		}
		all = append(all, ablated{a, end.Step, share(end.HeldClean), share(end.HeldPGD)})
	}
	return all, nil
}

// curvesTable says how short trainings ended: what is "classifier ablation" or "short purifiers".
func curvesTable(what string) (string, error) {
	switch what {
	case "classifier ablation":
		return ablationTable()
	case "short purifiers":
		return purifierTable()
	}
	return "", errors.New(`there are only "classifier ablation" and "short purifiers"`)
}

// purifierEnd is the last point of the curve of a training of the purifier, with its name.
type purifierEnd struct {
	Training string `json:"training"`
	carso.Point
}

// purifierTable has a row for each short training of the purifier.
func purifierTable() (string, error) {
	ends, err := training.ReadCurve[purifierEnd](filepath.Join("..", "..", "checkpoints", "shipped", "short_purifiers.jsonl"))
	var rows [][]string
	listed := 0
	for _, s := range carso.Scenarios() {
		if s.Own == "" || rows == nil && s.Own != "short" { // the first of the short ones
			continue
		}
		row := []string{"`a_" + s.Own + "`", "–", "–", "–", "–", "–", "–"}
		for _, e := range ends {
			if e.Training == s.Own {
				row = append(row[:1], fmt.Sprintf("%.1f", e.BCE), fmt.Sprintf("%.3g", e.KL), fmt.Sprintf("%.4f", e.Std), fmt.Sprintf("%.4f", math.Sqrt(e.MSE)),
					fmt.Sprintf("%.1f", e.CARSO), fmt.Sprintf("%.1f", e.Zero))
				listed++
			}
		}
		rows = append(rows, row)
	}
	if err == nil && listed != len(ends) {
		err = fmt.Errorf("of %d ends of curves %d are of a short training", len(ends), listed)
	}
	return docblock.Table([]string{"training", "reconstruction, nats", "KL, nats", "between draws", "RMSE", "clean, N = 8", "clean, z = 0"}, rows), err
}

// ablationTable has a row for each of the classifier's short trainings.
func ablationTable() (string, error) {
	all, err := ablationEnds()
	var rows [][]string
	for _, a := range all {
		row := []string{"`" + a.Name + "`", a.What, "–", "–", "–"}
		if a.steps > 0 {
			for k, e := range []record.Estimate{a.clean, a.pgd} {
				row[3+k] = fmt.Sprintf("%.1f [%.1f, %.1f]", e.Value, e.Lo, e.Hi)
			}
			row[2] = strconv.Itoa(a.steps)
		}
		rows = append(rows, row)
	}
	return docblock.Table([]string{"ablation", "training", "steps", "clean", "PGD, 10 steps"}, rows), err
}

// pairedTable compares two rows image by image: what says "scenario/row scenario/row scale column...", and the difference is the first minus the second.
func pairedTable(runs []record.Run, what string) (string, error) {
	fields := strings.Fields(what)
	if len(fields) < 4 {
		return "", errors.New("it wants two rows, the scale and columns")
	}
	var rows [][]string
	for _, column := range fields[3:] {
		var found [2]record.Run
		var scores [2]record.Score
		for k := range found {
			scenario, row, _ := strings.Cut(fields[k], "/")
			run, err := paper.Find(runs, record.Query{Scenario: scenario, Row: row, Column: column, Scale: fields[2]})
			if err != nil {
				return "", err
			}
			found[k] = run
			_, scores[k] = paper.Score(row, column)
		}
		d, err := record.Compare(found[0], scores[0], found[1], scores[1])
		if err != nil {
			return "", err
		}
		rows = append(rows, []string{column, strconv.Itoa(d.N), fmt.Sprintf("%+.2f [%+.2f, %+.2f]", d.Value, d.Lo, d.Hi), strconv.Itoa(d.Better), strconv.Itoa(d.Worse)})
	}
	return docblock.Table([]string{"column", "images", fields[0] + " minus " + fields[1] + ", points", "better", "worse"}, rows), nil
}

// runsTable is the runs of a row at a scale with at least so many images: what says "scenario row scale images".
func runsTable(runs []record.Run, what string) (string, error) {
	fields := strings.Fields(what)
	if len(fields) != 4 {
		return "", errors.New("it wants scenario, row, scale and the least number of images")
	}
	least, err := strconv.Atoi(fields[3])
	if err != nil {
		return "", err
	}
	var rows [][]string
	for _, r := range runs {
		if s := r.Spec; s.Scenario != fields[0] || s.Row != fields[1] || s.Scale != fields[2] || len(r.Images) < least {
			continue
		}
		definition, score := paper.Score(r.Spec.Row, r.Spec.Column)
		e := r.Estimate(score)
		rows = append(rows, []string{r.Spec.Column, strconv.Itoa(e.N), fmt.Sprintf("%.2f [%.2f, %.2f]", e.Value, e.Lo, e.Hi), definition, "`" + r.File + "`"})
	}
	if len(rows) == 0 {
		return "", errors.New("no run is like that")
	}
	return docblock.Table([]string{"column", "images", "accuracy, %", "counted as", "record"}, rows), nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/carso/record"
)

// Half of a committed record, merged: the report names what is missing, and the command that computes it.
func TestMergeReport(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	run, err := record.Best(runs, record.Query{Scenario: "a", Row: "carso-honest", Column: "rand", Scale: "small"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	half := run
	half.Images = append(append([]record.Image(nil), run.Images[:50]...), run.Images[75:]...)
	dir, out := t.TempDir(), t.TempDir()
	store, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Merge(half, 25); err != nil {
		t.Fatal(err)
	}
	if err := merge(context.Background(), []string{"-out", out, dir}); err != nil {
		t.Fatal(err)
	}
	if err := merge(context.Background(), []string{"-out", out, "-require-all", dir}); err == nil || !strings.Contains(err.Error(), "25 images are missing") {
		t.Errorf("-require-all: %v", err)
	}
	if err := merge(context.Background(), []string{"-out", out, "-key", "zz", dir}); err == nil || !strings.Contains(err.Error(), "no records") {
		t.Errorf("an unknown key: %v", err)
	}
	merged, err := record.Load(out)
	if err != nil || len(merged) != 1 {
		t.Fatal(len(merged), err)
	}
	var text bytes.Buffer
	if n, err := mergedReport(&text, out, half, merged[0], 0, 25); err != nil || n != 25 {
		t.Errorf("%d missing, %v", n, err)
	}
	for _, want := range []string{"missing 25 of 500: 50-74", "carso eval -scenario a -row carso-honest -column rand -scale small -images 500 -eps 8 -chunk 25 -again -records " + out} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}

	// Of a model of one's own nobody here knows the command, nor how many images it was to have.
	own := half
	own.Spec.Row, own.Spec.Scale = eval.ModelOutput, "own"
	text.Reset()
	if n, err := mergedReport(&text, out, own, own, 0, 25); err != nil || n != 0 {
		t.Errorf("a model of one's own: %d missing, %v", n, err)
	}
	if n, err := mergedReport(&text, out, own, own, 500, 25); err != nil || n != 25 || !strings.Contains(text.String(), "missing 25 of 500: 50-74") || strings.Contains(text.String(), "carso eval") {
		t.Errorf("a model of one's own: %d missing, %v:\n%s", n, err, text.String())
	}

	// Other weights: the same question, another evaluation.
	other := half
	other.Spec.Weights = append([]record.Weight(nil), half.Spec.Weights...)
	other.Spec.Weights[0].SHA256 = "00"
	other.Key = other.Spec.Key()
	if _, err := store.Merge(other, 25); err != nil {
		t.Fatal(err)
	}
	if err := merge(context.Background(), []string{"-out", out, dir}); err == nil || !strings.Contains(err.Error(), "they differ in weights") {
		t.Errorf("rivals: %v", err)
	}
	if err := merge(context.Background(), []string{"-out", out, "-key", half.Key[:8], dir}); err != nil {
		t.Errorf("one of the rivals, chosen: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(out, "*")); len(files) != 1 {
		t.Errorf("merged files: %v", files)
	}
}

// Every option that a record holds is in the command that continues it.
func TestEvalLine(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	run, err := record.Best(runs, record.Query{Scenario: "a", Row: "carso-honest", Column: "rand", Scale: "small"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := run.Spec
	s.Seed, s.Eps = 7, 16./255
	s.Defence = json.RawMessage(`{"samples":4}`)
	s.Attack = json.RawMessage(strings.Replace(string(s.Attack), `"decides":"log-sum"`, `"decides":"logit"`, 1))
	s.Attack = json.RawMessage(strings.NewReplacer(`"steps":40`, `"steps":7`, `"eot":4`, `"eot":2`).Replace(string(s.Attack)))
	line, err := evalLine(s, "r", 9, 3)
	if want := "carso eval -scenario a -row carso-honest -column rand -scale small -images 9 -eps 16 -samples 4 -steps 7 -eot 2 -seed 7 -decides logit -chunk 3 -again -records r"; err != nil || line != want {
		t.Errorf("%s (%v)\nwant %s", line, err, want)
	}
	for _, text := range []string{"0.5", "8", "242.25", "12.7"} {
		var x float64
		if err := json.Unmarshal([]byte(text), &x); err != nil {
			t.Fatal(err)
		}
		if got, err := bound(x / 255); err != nil || got != text {
			t.Errorf("bound %s is written %s (%v)", text, got, err)
		}
	}
	if _, err := os.Stat("r"); err == nil {
		t.Error("printing a command ran it")
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/xlaenv"
)

// The paper's scenarios are those of the code, and what the tables say of their weights is so.
func TestTablesKnowTheScenarios(t *testing.T) {
	said := append(paper.Scenarios(), paper.Variants()...)
	ids := func() (all []string) {
		for _, s := range said {
			all = append(all, s.ID)
		}
		return all
	}()
	for _, s := range carso.PaperScenarios() {
		k := slices.Index(ids, s.ID)
		if k < 0 {
			t.Errorf("scenario %s is in no table", s.ID)
			continue
		}
		if s.Unpublished != (said[k].Unpublished != "") {
			t.Errorf("%s: unpublished %v, the tables say %q", s.ID, s.Unpublished, said[k].Unpublished)
		}
		if s.Dataset != said[k].Dataset {
			t.Errorf("%s: images of %s, the tables say %s", s.ID, s.Dataset, said[k].Dataset)
		}
		if (s.Final != "") != (said[k].Final != "") {
			t.Errorf("%s: final classifier %q, the tables say %q", s.ID, s.Final, said[k].Final)
		}
	}
	if len(ids) != len(carso.PaperScenarios()) {
		t.Errorf("%d scenarios, the tables know %d", len(carso.PaperScenarios()), len(ids))
	}
	var own, saidOwn []string
	for _, s := range carso.Scenarios() {
		if s.Own != "" {
			own = append(own, s.ID)
		}
	}
	for _, s := range paper.Own() {
		saidOwn = append(saidOwn, s.ID)
	}
	if !slices.Equal(own, saidOwn) {
		t.Errorf("this kit's own trainings are %v, the tables know %v", own, saidOwn)
	}
	for _, s := range append(said, paper.Own()...) {
		err := weightsThere(record.Query{Scenario: s.ID, Row: "carso-paper", Column: "rand", Scale: "small"}, eval.Shipped)
		if (err == nil) != (s.Missing == "") {
			t.Errorf("%s: weights that ship: %v; the tables say %q", s.ID, err, s.Missing)
		}
	}
}

// What a table lacks is a question that the engine takes, with its settings.
func TestQuestionsOfTables(t *testing.T) {
	for _, e := range paper.Tables() {
		table, err := paper.Build(e.ID, "tiny", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range table.Missing {
			scale, err := paper.FindScale(m.Scale)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := eval.Find(m.Row, m.Column, scale, paper.Bound); err != nil {
				t.Errorf("%s lacks %+v: %v", e.ID, m, err)
			}
			if m.Decides != "" {
				if err := carso.Aggregation(m.Decides).Validate(); err != nil {
					t.Errorf("%s lacks %+v: %v", e.ID, m, err)
				}
			}
		}
	}
	q := question(record.Query{Scenario: "a", Row: "carso-paper", Column: "rand", Scale: "small", Eps: 0.95,
		Settings: record.Settings{Decides: "count", Samples: 4, Steps: 5, EoT: 6}}, eval.Shipped)
	if q.Eps != 0.95 || q.Decides != carso.Count || q.Samples != 4 || q.Steps != 5 || q.EoT != 6 {
		t.Errorf("%+v", q)
	}
	if q := question(record.Query{Column: "rand"}, nil); q.Eps != paper.Bound || q.Samples != 0 {
		t.Errorf("%+v", q)
	}
}

// The engine's own record of what a table lacks fills what it lacked: names, bound and settings agree on both sides.
func TestRunsFillTheirCells(t *testing.T) {
	t.Setenv("GOMLX_BACKEND", "go")
	t.Setenv("GOMLX_NO_AUTO_INSTALL", "1")
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	set, err := data.Sample()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range paper.Tables() {
		table, err := paper.Build(e.ID, "tiny", nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, q := range table.Missing {
			// Each opens weights: one of every kind of setting, and every fifth.
			kind := fmt.Sprint(q.Scenario, q.Row, q.Column == "clean", q.Eps != 0, q.Decides != "", q.Samples != 0, q.Steps != 0, q.EoT != 0)
			if seen[kind] && k%5 > 0 {
				continue
			}
			seen[kind] = true
			s, err := paper.FindScenario(q.Scenario)
			if err != nil {
				t.Fatal(err)
			}
			images := *set // nothing is computed on them
			images.Name = s.Dataset
			job, err := eval.NewJob(be, question(q, eval.Shipped), &images)
			if err != nil {
				t.Fatal(err)
			}
			run := record.Run{Key: job.Spec.Key(), Spec: job.Spec, File: job.Spec.FileName(), Images: []record.Image{{Clean: []int{0}, Initial: true, Fresh: []int{0}}}}
			after, err := paper.Build(e.ID, "tiny", []record.Run{run})
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(after.Missing, q) {
				t.Errorf("%s: the record of `%s` does not fill it: %s", e.ID, paper.Command(q), job.Spec.Attack)
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d kinds of evaluations", len(seen))
	}
}

// Without the authors' weights nothing of the paper's scale is run; what would be is listed with its cost, and the error says how to get them.
func TestFillRefuses(t *testing.T) {
	table, err := paper.Build("main", "paper", nil)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	err = fill(context.Background(), &said, table, carso.Folder(t.TempDir()), t.TempDir(), "")
	if err == nil || !strings.Contains(err.Error(), "carso checkpoint get") || !strings.Contains(err.Error(), "nothing can be run") {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"missing evaluations need weights or images that are not there", "-scenario a -row carso-paper -column rand -scale paper", "at most 40400000 passes with gradient", "in all at most"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("does not say %q:\n%s", want, said.String())
		}
	}
	// What is blocked for good is said, and no error.
	said.Reset()
	swaps, err := paper.Build("swaps", "small", nil)
	if err != nil {
		t.Fatal(err)
	}
	swaps.Missing = nil
	if err := fill(context.Background(), &said, swaps, eval.Shipped, t.TempDir(), ""); err != nil || !strings.Contains(said.String(), "a_bis") {
		t.Errorf("%v: %s", err, said.String())
	}
	// Where its weights are there, it is not blocked: here images are what is missing.
	said.Reset()
	anything := func(string) (*checkpoints.File, error) { return eval.Shipped("wrn_10_2_cifar_10_small.safetensors") }
	err = fill(context.Background(), &said, swaps, anything, t.TempDir(), filepath.Join(t.TempDir(), "nothing"))
	blocked, refused, _ := strings.Cut(said.String(), "need weights or images that are not there")
	if err == nil || !strings.Contains(err.Error(), "nothing can be run") || strings.Contains(blocked, "a_bis") || !strings.Contains(refused, "a_bis") {
		t.Errorf("%v: %s", err, said.String())
	}
}

// The costs in docs/reproducing.md are those that the tables are declared with. -update writes them anew.
func TestCostsInDocuments(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reproducing.md")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- costs -->\n", "<!-- /costs -->"
	before, rest, ok := strings.Cut(string(raw), begin)
	old, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no block %s%s", path, begin, end)
	}
	costs, err := paper.Costs("tiny", "small", "paper")
	if err != nil {
		t.Fatal(err)
	}
	var now bytes.Buffer
	if err := paper.RenderSheet(&now, costs, "markdown"); err != nil {
		t.Fatal(err)
	}
	switch {
	case now.String() == old:
	case !*update:
		t.Errorf("%s does not say what the tables cost; go test ./cmd/carso -run Documents -update", path)
	default:
		if err := os.WriteFile(path, []byte(before+begin+now.String()+end+after), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// An evaluation that is among the program's records and in the folder, too, is one.
func TestAllRunsOnce(t *testing.T) {
	committed, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	store, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.Writer(committed[0].Spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Append(committed[0].Images), w.Close()); err != nil {
		t.Fatal(err)
	}
	runs, err := allRuns(dir)
	if err != nil || len(runs) != len(committed) {
		t.Errorf("%d runs, want the %d of the program: %v", len(runs), len(committed), err)
	}
}

func TestListTables(t *testing.T) {
	var out bytes.Buffer
	if err := listTables(&out, "small", nil); err != nil {
		t.Fatal(err)
	}
	for _, e := range paper.Tables() {
		if !strings.Contains(out.String(), e.ID) || !strings.Contains(out.String(), e.Title) {
			t.Errorf("%s is not listed", e.ID)
		}
	}
}

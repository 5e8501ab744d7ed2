package paper

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"carsokit/carso/record"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func part(attack, output string, p record.Part) record.Part {
	p.Attack, p.Output, p.Steps, p.Hit = attack, output, 2, -1
	if p.Broken {
		p.Hit = 1
	}
	return p
}

// run is a run of scale tiny; each image is right where its index is below the limit, before and under the attack.
func run(row, column string, n, clean, robust int, parts func(im *record.Image)) record.Run {
	s := record.Spec{
		Schema: record.Schema, Scenario: "a", Row: row, Column: column, Scale: "tiny", Data: record.Data{Name: "cifar10", Split: "test", Digest: "d"},
		Weights: []record.Weight{{Role: "classifier", File: "f.safetensors", SHA256: "aa"}}, Eps: Bound, Draws: 2, Seed: 1,
	}
	if column == "clean" {
		s.Eps = 0
	}
	r := record.Run{Key: s.Key(), Spec: s, File: fmt.Sprintf("a-%s-%s-tiny.jsonl", row, column)}
	answer := func(right bool) int {
		if right {
			return 1
		}
		return 0
	}
	for i := range n {
		im := record.Image{Index: i, Label: 1, Clean: []int{answer(i < clean), answer(i < clean+1)}}
		if column != "clean" {
			im.Initial, im.Fresh = i < clean, []int{answer(i < robust), answer(i < robust)}
			im.Strongest = im.Fresh
			if parts != nil && im.Initial {
				parts(&im)
			}
		}
		r.Images = append(r.Images, im)
	}
	return r
}

// runs has all rows of scenario a but the plain net, and no PGD+EoT. The paper's protocol stops at NaN gradients on two images and breaks
// all others, one of which its fresh draw classifies rightly; the honest one breaks all but one.
func runs() []record.Run {
	literal := func(im *record.Image) {
		nan := im.Index < 2
		ce := part("apgd-ce", "peel", record.Part{NaNStart: nan, NaNEver: nan, LossZeroStart: im.Index == 2, Broken: !nan})
		im.Parts = append(im.Parts, ce)
		if ce.Broken {
			im.Broken = "apgd-ce/peel"
		} else {
			im.Parts = append(im.Parts, part("apgd-dlr", "peel", record.Part{NaNStart: true, NaNEver: true}))
		}
	}
	honest := func(im *record.Image) {
		broken := im.Index > 0
		im.Parts = append(im.Parts,
			part("apgd-ce", "log-sum", record.Part{Broken: broken}),
			part("apgd-ce", "peel-stable", record.Part{ZeroStart: im.Index < 2, ZeroEver: im.Index < 3, Broken: im.Index > 1}))
		if broken {
			im.Broken = "apgd-ce/log-sum"
		}
		im.Strongest = []int{im.Fresh[0]}
	}
	return []record.Run{
		run("classifier", "clean", 8, 7, 0, nil),
		run("classifier", "apgd-ce", 8, 7, 3, nil),
		run("classifier", "rand", 8, 7, 2, func(im *record.Image) {
			im.Parts = []record.Part{part("apgd-ce", "logits", record.Part{Broken: im.Index > 1})}
			if im.Index > 1 {
				im.Broken = "apgd-ce/logits"
			}
		}),
		run("carso-paper", "clean", 8, 6, 0, nil),
		run("carso-paper", "apgd-ce", 8, 6, 4, literal),
		run("carso-paper", "rand", 8, 6, 3, literal),
		run("carso-honest", "rand", 6, 6, 1, honest),
	}
}

func build(t *testing.T, id string, runs []record.Run) Table {
	t.Helper()
	table, err := Build(id, "tiny", runs)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func render(t *testing.T, table Table, format string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Render(&out, table, format); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what is rendered; after a wanted change: go test ./carso/paper -update\n%s", file, got)
	}
}

// TestGolden holds every table to its text, and one of them to every format: formats know nothing of what a table is about. Of the other tables JSON and CSV,
// which programs read, are to have every cell.
func TestGolden(t *testing.T) {
	var texts bytes.Buffer
	for _, e := range Tables() {
		table := build(t, e.ID, runs())
		cells := len(table.Rows) * len(table.Columns)
		for _, format := range Formats() {
			got := render(t, table, format)
			switch {
			case format == "text":
				fmt.Fprintf(&texts, "%s\n", got)
			case e.ID == "main":
				golden(t, e.ID+"."+format, got)
			case format == "json":
				var read []struct{ Table, Row, Column string }
				if err := json.Unmarshal(got, &read); err != nil || len(read) != cells || read[cells-1].Table != e.ID {
					t.Errorf("%s as JSON: %v: %d cells, want %d", e.ID, err, len(read), cells)
				}
			case format == "csv":
				lines, err := csv.NewReader(bytes.NewReader(got)).ReadAll()
				if err != nil || len(lines) != 1+cells || lines[cells][0] != e.ID {
					t.Errorf("%s as CSV: %v: %d lines, want a head and %d cells", e.ID, err, len(lines), cells)
				}
			}
		}
	}
	golden(t, "tables.text", texts.Bytes())
}

func cell(t *testing.T, table Table, row, column string) Cell {
	t.Helper()
	i := slices.IndexFunc(table.Rows, func(h Head) bool { return h.ID == row })
	j := slices.IndexFunc(table.Columns, func(h Head) bool { return h.ID == column })
	if i < 0 || j < 0 {
		t.Fatalf("table %s has no cell %s, %s", table.ID, row, column)
	}
	return table.Cells[i][j]
}

func TestMainCells(t *testing.T) {
	main := build(t, "main", runs())
	for _, c := range []struct {
		row, column string
		value       float64
		n           int
	}{
		{"a/classifier", "clean", 93.75, 8}, // 7 of 8 in the first pass, 8 of 8 in the second
		{"a/classifier", "rand", 25, 8},
		{"a/carso-paper", "rand", 37.5, 8}, // a fresh draw saves a broken image
		{"a/carso-paper", "rand-internal", 25, 8},
		{"a/carso-paper", "gain", 12.5, 8},
		{"a/carso-paper", "nan-start", 100. / 3, 6},
		{"a/carso-paper", "zero-start", 0, 6},
		{"a/carso-paper", "finite-survivors", 0, 4}, // every survivor had a NaN gradient
		{"a/carso-honest", "rand", 100. / 6, 6},
		{"a/carso-honest", "gain", -100. / 6, 6}, // over the six images that both have: 1 against 2
		{"a/carso-honest", "finite-survivors", 1, 6},
	} {
		got := cell(t, main, c.row, c.column)
		if got.Reason != "" || math.Abs(got.Value-c.value) > 1e-9 || got.N != c.n {
			t.Errorf("%s, %s: %+v, want %.2f of %d", c.row, c.column, got, c.value, c.n)
		}
	}
	for _, c := range []struct{ row, column, reason string }{
		{"a/carso-paper", "pgd-eot", "no record; run: carso eval -scenario a -row carso-paper -column pgd-eot -scale tiny"},
		{"a/plain", "clean", "no record; run: carso eval -scenario a -row plain -column clean -scale tiny"},
		{"a/classifier", "gain", "not applicable: a gain is CARSO's"},
		{"b/carso-paper", "rand", cmp.Or(Scenarios()[1].Missing, "no record; run: carso eval -scenario b -row carso-paper -column rand -scale tiny")},
	} {
		if got := cell(t, main, c.row, c.column); got.Reason != c.reason {
			t.Errorf("%s, %s: reason %q, want %q", c.row, c.column, got.Reason, c.reason)
		}
	}
	if want := "a-carso-honest-rand-tiny.jsonl holds 6 of the 8 images of scale tiny"; !slices.Contains(main.Notes, want) {
		t.Errorf("notes %q lack %q", main.Notes, want)
	}
}

// Of runs of 8 and of 6 images the first 6 are counted: two right after the attack are then a third, not a quarter.
func TestCommon(t *testing.T) {
	table, err := Common("main", "tiny", runs())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		row, column string
		value       float64
	}{{"a/classifier", "rand", 100. * 2 / 6}, {"a/carso-paper", "rand", 50}, {"a/carso-honest", "rand", 100. / 6}, {"a/carso-honest", "gain", -100. / 6}} {
		if got := cell(t, table, c.row, c.column); got.Reason != "" || got.N != 6 || math.Abs(got.Value-c.value) > 1e-9 {
			t.Errorf("%s, %s: %+v, want %.2f of 6", c.row, c.column, got, c.value)
		}
	}
	whole := build(t, "main", runs())
	if !reflect.DeepEqual(table.Missing, whole.Missing) || !slices.Contains(table.Notes, "every cell counts the 6 images that all of its runs hold") {
		t.Errorf("missing %v, notes %q", table.Missing, table.Notes)
	}
	if none, err := Common("main", "tiny", nil); err != nil || !reflect.DeepEqual(none, build(t, "main", nil)) {
		t.Errorf("without runs: %+v, %v", none, err)
	}
	if _, err := Common("nothing", "tiny", nil); err == nil {
		t.Error("an unknown table gives no error")
	}
}

func TestAdaptiveCells(t *testing.T) {
	table := build(t, "adaptive", runs())
	for _, c := range []struct {
		row, column string
		value       float64
		n           int
	}{
		{"a/carso-honest/rand/apgd-ce/log-sum", "robust", 100. / 6, 6},
		{"a/carso-honest/rand/apgd-ce/peel-stable", "robust", 100. / 3, 6},
		{"a/carso-honest/rand/apgd-ce/peel-stable", "zero-start", 100. / 3, 6},
		{"a/carso-honest/rand/apgd-ce/peel-stable", "finite-survivors", 0, 4},
		{"a/carso-paper/apgd-ce/apgd-ce/peel", "loss-zero-start", 100. / 6, 6},
		{"a/worst-case", "robust", 100. / 6, 6}, // image 0, over the six that all three runs hold
	} {
		got := cell(t, table, c.row, c.column)
		if got.Reason != "" || math.Abs(got.Value-c.value) > 1e-9 || got.N != c.n {
			t.Errorf("%s, %s: %+v, want %.2f of %d", c.row, c.column, got, c.value, c.n)
		}
	}
	if got := cell(t, table, "a/carso-paper/rand/apgd-dlr/peel", "robust"); !strings.Contains(got.Reason, "ran on 2 of 6") {
		t.Errorf("a part that ran on survivors only: %+v", got)
	}
	others := runs()
	others[6].Spec.Weights = nil
	if got := cell(t, build(t, "adaptive", others), "a/worst-case", "robust"); !strings.Contains(got.Reason, "different weights") {
		t.Errorf("worst case over two defences: %+v", got)
	}
}

// What is missing is what a run would add: nothing twice, nothing that another run answers, nothing of scenarios without weights.
func TestMissing(t *testing.T) {
	var got []record.Query
	for _, q := range build(t, "main", runs()).Missing {
		if s, err := FindScenario(q.Scenario); err != nil || s.Missing != "" {
			t.Errorf("%+v lacks weights: %v", q, err)
		}
		if q.Scenario == "a" { // of which there are runs
			got = append(got, q)
		}
	}
	want := []record.Query{}
	for _, m := range [][2]string{{"classifier", "pgd-eot"}, {"plain", "clean"}, {"plain", "rand"}, {"plain", "pgd-eot"}, {"carso-paper", "pgd-eot"}, {"carso-honest", "clean"}, {"carso-honest", "pgd-eot"}} {
		want = append(want, record.Query{Scenario: "a", Row: m[0], Column: m[1], Scale: "tiny"})
	}
	sorted := func(qs []record.Query) []record.Query {
		return slices.SortedFunc(slices.Values(qs), func(a, b record.Query) int { return strings.Compare(a.Row+a.Column, b.Row+b.Column) })
	}
	if !slices.Equal(sorted(got), sorted(want)) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if !reflect.DeepEqual(build(t, "main", nil).Missing[0], record.Query{Scenario: "a", Row: "classifier", Column: "clean", Scale: "tiny"}) {
		t.Errorf("without records the first one missing is %v", build(t, "main", nil).Missing[0])
	}
}

// A run at another bound, or of another scale, must never fill a cell of a table at 8/255.
// A gain is of runs that belong together: a larger run of other data or of another classifier is passed over for it.
func TestGainPairs(t *testing.T) {
	defence, alone := run("carso-honest", "rand", 20, 15, 5, nil), run("classifier", "rand", 20, 16, 8, nil)
	for what, change := range map[string]func(*record.Spec){
		"data": func(s *record.Spec) { s.Data.Digest = "other" },
		"classifier": func(s *record.Spec) {
			s.Weights = []record.Weight{{Role: "classifier", File: "f.safetensors", SHA256: "bb"}}
		},
	} {
		other := run("classifier", "rand", 40, 30, 20, nil)
		change(&other.Spec)
		other.File = "other.jsonl"
		c := cell(t, build(t, "main", []record.Run{other, defence, alone}), "a/carso-honest", "gain")
		if c.Reason != "" || c.N != 20 || !strings.HasSuffix(c.Record, alone.File) {
			t.Errorf("beside a run of other %s: %+v", what, c)
		}
		if c := cell(t, build(t, "main", []record.Run{other, defence}), "a/carso-honest", "gain"); c.Reason == "" {
			t.Errorf("a run of other %s was paired: %+v", what, c)
		}
	}
}

func TestOtherRunsDoNotFill(t *testing.T) {
	for name, spoil := range map[string]func(*record.Spec){
		"eps":   func(s *record.Spec) { s.Eps = 0.95 },
		"scale": func(s *record.Spec) { s.Scale = "small" },
	} {
		r := run("carso-paper", "rand", 8, 6, 3, nil)
		spoil(&r.Spec)
		if got := cell(t, build(t, "main", []record.Run{r}), "a/carso-paper", "rand"); got.Reason == "" {
			t.Errorf("%s: filled by %s", name, got.Record)
		}
	}
}

func TestEveryCellIsFilledOrExplained(t *testing.T) {
	fields := []string{"table", "row", "column", "scale", "value", "n", "lo", "hi", "published", "provenance", "record", "reason"}
	for _, e := range Tables() {
		for name, rs := range map[string][]record.Run{"records": runs(), "no records": nil} {
			table := build(t, e.ID, rs)
			if len(table.Cells) != len(table.Rows) {
				t.Fatalf("%s: %d rows, %d lines of cells", e.ID, len(table.Rows), len(table.Cells))
			}
			var cells []map[string]any
			if err := json.Unmarshal(render(t, table, "json"), &cells); err != nil {
				t.Fatal(err)
			}
			lines, err := csv.NewReader(bytes.NewReader(render(t, table, "csv"))).ReadAll()
			if err != nil || len(lines) != len(cells)+1 || !slices.Equal(lines[0], fields) {
				t.Errorf("%s, %s: %d lines of CSV for %d cells, header %q, error %v", e.ID, name, len(lines), len(cells), lines[0], err)
			}
			if len(cells) != len(table.Rows)*len(table.Columns) {
				t.Errorf("%s, %s: %d cells for %d rows and %d columns", e.ID, name, len(cells), len(table.Rows), len(table.Columns))
			}
			seen := map[string]bool{}
			for _, c := range cells {
				id := fmt.Sprint(c["row"], " ", c["column"])
				if seen[id] {
					t.Errorf("%s: cell %s is there twice", e.ID, id)
				}
				seen[id] = true
				for _, f := range fields {
					if _, ok := c[f]; !ok || len(c) != len(fields) {
						t.Errorf("%s: cell %s has fields %v", e.ID, id, c)
					}
				}
				if empty := c["value"] == nil; empty != (c["reason"] != "") || empty != (c["record"] == "") || empty != (c["n"] == 0.) {
					t.Errorf("%s, %s: cell %v is neither filled nor explained", e.ID, name, c)
				}
				if c["published"] != nil && c["provenance"] == "" {
					t.Errorf("%s: cell %s has a published number of unknown origin", e.ID, id)
				}
			}
		}
	}
}

func TestOrderOfRunsDoesNotMatter(t *testing.T) {
	more := append(runs(), run("carso-paper", "rand", 5, 5, 5, nil)) // fewer images: never chosen
	more[len(more)-1].File = "A.jsonl"
	reversed := slices.Clone(more)
	slices.Reverse(reversed)
	for _, e := range Tables() {
		a, b, c := build(t, e.ID, runs()), build(t, e.ID, more), build(t, e.ID, reversed)
		if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(b, c) {
			t.Errorf("table %s depends on the order of runs or on a smaller run", e.ID)
		}
	}
}

// Every published value shows in the cells of its evaluation, is declared once, and says where it is from.
func TestPublishedValues(t *testing.T) {
	shown := map[Published]bool{}
	for _, e := range Tables() {
		for _, row := range build(t, e.ID, nil).Cells {
			for _, c := range row {
				shown[c.Published] = true
			}
		}
	}
	type of struct {
		scenario, row, column, decides string
		eps                            float64
	}
	declared := map[of]bool{}
	value := map[string]float64{}
	for _, p := range PublishedValues() {
		if !shown[p] {
			t.Errorf("%+v is in no table", p)
		}
		if p.Provenance == "" {
			t.Errorf("%+v has no provenance", p)
		}
		k := of{p.Scenario, p.Row, p.Column, p.Decides, p.Eps}
		if declared[k] {
			t.Errorf("%+v is declared twice", k)
		}
		declared[k] = true
		if p.Eps == 0 && p.Decides == "" {
			value[p.Scenario+p.Row+p.Column] = p.Value
		}
	}
	// The published gains are differences of the published accuracies.
	for _, s := range Scenarios() {
		if gain, diff := value[s.ID+"carso-papergain"], value[s.ID+"carso-paperrand"]-value[s.ID+"classifierrand"]; math.Abs(gain-diff) > 0.005 {
			t.Errorf("scenario %s: gain %.2f, difference %.2f", s.ID, gain, diff)
		}
	}
	var models []string
	for _, b := range Baselines() {
		models = append(models, b.Data+b.Model+b.Architecture)
		for _, v := range b.Values {
			if v.Provenance == "" {
				t.Errorf("%+v has no provenance", b)
			}
		}
	}
	if slices.Sort(models); len(slices.Compact(models)) != len(Baselines()) {
		t.Errorf("a baseline is there twice: %v", models)
	}
}

// Every number that is known of the paper and its sources (sections 1 to 5 of the specification of experiments) stands in a table, as a value or in the
// provenance of one.
func TestEveryKnownNumber(t *testing.T) {
	var all strings.Builder
	for _, e := range Tables() {
		all.Write(render(t, build(t, e.ID, nil), "csv"))
	}
	for what, numbers := range map[string][]string{
		"AT/Cl":                         {"92.16", "73.85", "65.19"},
		"AT/AA":                         {"67.73", "67.75", "39.18", "31.3,"},
		"C/Cl":                          {"86.86", "68.06", "56.32", "8.87"},
		"C/randAA":                      {"76.13", "66.65", "53.56"},
		"C/PGD+EoT":                     {"76.89"},
		"best AT":                       {"71.07", "42.67"},
		"best P":                        {"78.12", "46.09", "66.41"},
		"gain over AT":                  {"8.4,", "27.47", "22.26"},
		"gain over best AT":             {"5.06", "5.03", "23.98"},
		"gain over best P":              {"9.72", "20.56", "20.25"},
		"training":                      {"159,", "2 to 3.5 h"},
		"adversarial fraction":          {"0.5,", "0.15,", "0.01,"},
		"plain":                         {"94.28", "74.76"},
		"rebuffi_2021, gowal_2020":      {"87.33", "60.73", "60.75", "89.48", "62.76", "62.8", "62.41", "32.06"},
		"context, CIFAR-10":             {"93.68", "73.71", "93.6,", "75.28", "73.1", "93.27", "93.25", "70.69", "95.19", "69.71", "92.44", "67.31"},
		"context, CIFAR-100":            {"75.22", "83.08", "41.8,", "72.58", "38.83"},
		"classifiers of older versions": {"83.34", "43.21", "83.53", "56.66"},
	} {
		for _, n := range numbers {
			if !strings.Contains(all.String(), n) {
				t.Errorf("%s: %s is in no table", what, n)
			}
		}
	}
}

// Every evaluation that the authors' code defines fills a cell of some table; they are as many as the specification lists.
func TestEvaluations(t *testing.T) {
	c, err := Cover("tiny", runs())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Evaluations) != 23 {
		t.Errorf("%d evaluations, the authors' code has 23", len(c.Evaluations))
	}
	unpublished := 0
	for _, e := range c.Evaluations {
		if e.Cells == 0 {
			t.Errorf("%s fills no cell", e.ID)
		}
		if !e.Published {
			unpublished++
		}
		if want := e.ID == "a"; (e.Filled > 0) != want {
			t.Errorf("%s: %d of %d cells are filled from runs of a alone", e.ID, e.Filled, e.Cells)
		}
	}
	if unpublished != 3 {
		t.Errorf("%d evaluations without published weights, there are three", unpublished)
	}
}

func TestCover(t *testing.T) {
	c, err := Cover("tiny", runs())
	if err != nil {
		t.Fatal(err)
	}
	sum := Count{Reasons: map[string]int{}}
	for k, n := range c.Tables {
		table := build(t, Tables()[k].ID, runs())
		if n.Declared != len(table.Rows)*len(table.Columns) {
			t.Errorf("%s: %d cells declared of %d rows and %d columns", n.ID, n.Declared, len(table.Rows), len(table.Columns))
		}
		reasons := 0
		for why, cells := range n.Reasons {
			sum.Reasons[why] += cells
			reasons += cells
		}
		if n.Filled+n.Empty != n.Declared || reasons != n.Empty {
			t.Errorf("%s: %+v does not add up", n.ID, n.Count)
		}
		sum.Declared, sum.Filled, sum.Empty = sum.Declared+n.Declared, sum.Filled+n.Filled, sum.Empty+n.Empty
	}
	if !reflect.DeepEqual(sum, c.Count) {
		t.Errorf("the tables sum up to %+v, in all %+v", sum, c.Count)
	}
	main := c.Tables[0]
	if main.ID != "main" || main.Filled != 24 || main.Reasons["no record"] == 0 || main.Reasons["not applicable"] != 12 {
		t.Errorf("main: %+v", main.Count)
	}
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		if err := c.Write(&out, format); err != nil {
			t.Fatal(err)
		}
		golden(t, "coverage."+format, out.Bytes())
	}
	if err := c.Write(new(bytes.Buffer), "csv"); err == nil || !strings.Contains(err.Error(), "text, json") {
		t.Errorf("error %v", err)
	}
	if _, err := Cover("huge", nil); err == nil {
		t.Error("accepted a scale that is none")
	}
}

// Every evaluation that a table lacks has a command that names it in full, and a run of exactly that fills what it lacked.
func TestRunsOfTheirOwnSettingsFill(t *testing.T) {
	for _, e := range Tables() {
		before := build(t, e.ID, nil)
		for k, q := range before.Missing {
			if k%7 > 0 {
				continue // a sample: each is a table
			}
			if !strings.HasPrefix(Command(q), "carso eval -scenario "+q.Scenario+" -row ") {
				t.Errorf("%+v: %s", q, Command(q))
			}
			r := run(q.Row, q.Column, 8, 6, 3, nil)
			r.Spec.Scenario = q.Scenario
			if q.Eps != 0 && q.Column != "clean" {
				r.Spec.Eps = q.Eps
			}
			r.Spec.Defence = json.RawMessage(fmt.Sprintf(`{"samples":%d,"decides":%q}`, q.Samples, q.Decides))
			if q.Column != "clean" {
				r.Spec.Attack = json.RawMessage(fmt.Sprintf(`{"decides":%q,"stages":[{"attack":{"steps":%d,"eot":%d}}]}`, q.Decides, q.Steps, q.EoT))
			}
			after := build(t, e.ID, []record.Run{r})
			if slices.Contains(after.Missing, q) || len(after.Missing) >= len(before.Missing) {
				t.Errorf("%s: a run of %+v does not fill it", e.ID, q)
			}
			for i, row := range after.Cells {
				for j, c := range row {
					if c.Reason == "" && c.Record == r.File && c.Evaluation != (record.Query{}) && !sameEvaluation(c.Evaluation, q) {
						t.Errorf("%s, %s, %s: filled by %+v, declared as %+v", e.ID, after.Rows[i].ID, after.Columns[j].ID, q, c.Evaluation)
					}
				}
			}
		}
	}
}

// sameEvaluation compares with the defaults filled in; clean accuracy knows neither bound nor attack.
func sameEvaluation(a, b record.Query) bool {
	scale, _ := FindScale("tiny")
	full := func(q record.Query) record.Query {
		usual := defaults(q, scale)
		q.Eps, q.Decides, q.Samples = cmp.Or(q.Eps, Bound), cmp.Or(q.Decides, usual.Decides), cmp.Or(q.Samples, usual.Samples)
		q.Steps, q.EoT = cmp.Or(q.Steps, usual.Steps), cmp.Or(q.EoT, usual.EoT)
		if q.Column == "clean" {
			q.Eps, q.Steps, q.EoT = 0, 0, 0
		}
		return q
	}
	return full(a) == full(b)
}

// A run with other settings than a cell's must never fill it.
func TestOtherSettingsDoNotFill(t *testing.T) {
	for name, attack := range map[string]string{
		"decides": `{"decides":"count","stages":[{"attack":{"steps":2,"eot":1}}]}`,
		"steps":   `{"decides":"peel-reference","stages":[{"attack":{"steps":3,"eot":1}}]}`,
		"eot":     `{"decides":"peel-reference","stages":[{"attack":{"steps":2,"eot":2}}]}`,
		"samples": `{"decides":"peel-reference","stages":[{"attack":{"steps":2,"eot":1}}]}`,
	} {
		r := run("carso-paper", "rand", 8, 6, 3, nil)
		r.Spec.Attack, r.Spec.Defence = json.RawMessage(attack), json.RawMessage(`{"samples":8}`)
		if name == "samples" {
			r.Spec.Defence = json.RawMessage(`{"samples":4}`)
		}
		if got := cell(t, build(t, "main", []record.Run{r}), "a/carso-paper", "rand"); got.Reason == "" {
			t.Errorf("%s: filled by %s", name, r.Spec.Attack)
		}
	}
}

// Figures of the specification (evaluation 6): 100 steps of 20 draws are 2,020 gradients a point and attack, PGD+EoT takes 4,000.
func TestCost(t *testing.T) {
	for q, want := range map[record.Query]int{
		{Row: "carso-paper", Column: "apgd-ce"}:                                           2020,
		{Row: "carso-paper", Column: "rand"}:                                              2 * 2020,
		{Row: "carso-paper", Column: "pgd-eot"}:                                           4000,
		{Row: "carso-honest", Column: "rand"}:                                             4*2020 + 101, // the classifier alone has no draws
		{Row: "carso-adaptive", Column: "representation"}:                                 101,
		{Row: "carso-adaptive", Column: "transfer-z0"}:                                    101,
		{Row: "classifier", Column: "clean"}:                                              0,
		{Row: "classifier", Column: "rand"}:                                               2 * 101,
		{Row: "plain", Column: "pgd-eot"}:                                                 200,
		{Row: "carso-paper", Column: "rand", Settings: record.Settings{Steps: 9, EoT: 3}}: 2 * 10 * 3,
	} {
		q.Scale = "paper"
		if c, err := CostOf(q); err != nil || c.Backward != 10000*want || c.Forward == 0 {
			t.Errorf("%+v: %+v, %v; want %d passes with gradient an image", q, c, err, want)
		}
	}
	costs, err := Costs("tiny", "paper")
	if err != nil || len(costs.Rows) != len(Tables())+1 {
		t.Fatalf("%+v, %v", costs, err)
	}
	for _, row := range costs.Rows {
		if e := row[0] == "context" || row[0] == "training"; len(row) != len(costs.Header) || e != (row[1] == "0") || e != (row[3] == "0") {
			t.Errorf("costs: %q", row)
		}
	}
	if _, err := TotalCost([]record.Query{{Scale: "huge"}}); err == nil {
		t.Error("accepted a scale that is none")
	}
}

// What lacks weights says which and how to get them, at every scale; what has them at the paper's scale is brought first.
func TestWeightsThatAreNotThere(t *testing.T) {
	small, err := Build("swaps", "small", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cell(t, small, "a_bis/carso-paper", "rand").Reason; !strings.HasPrefix(got, "no weights: a_bis needs") || !strings.Contains(got, "carso checkpoint get a_bis") {
		t.Error(got)
	}
	full, err := Build("swaps", "paper", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cell(t, full, "b_ter/carso-paper", "rand").Reason; !strings.HasPrefix(got, "no weights: nobody publishes the purifier of b_ter") {
		t.Error(got)
	}
	if got, want := cell(t, full, "b_bis/carso-paper", "rand").Reason, "no record; run: carso data get cifar100 and carso checkpoint get b_bis, then carso eval -scenario b_bis -row carso-paper -column rand -scale paper -weights build/weights"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, table := range []Table{small, full} {
		if len(table.Missing) == 0 || len(table.Blocked) == 0 {
			t.Errorf("scale %s: %d missing, %d blocked", table.Scale, len(table.Missing), len(table.Blocked))
		}
	}
	if _, err := FindScenario("c_bis"); err == nil || !strings.Contains(err.Error(), "a_sexies") {
		t.Errorf("error %v", err)
	}
}

func TestScales(t *testing.T) {
	cost := 0
	for _, s := range Scales() {
		if got, err := FindScale(s.Name); err != nil || got != s {
			t.Errorf("%s: %+v, error %v", s.Name, got, err)
		}
		if s.Name == ScaleMedium { // larger networks under the protocol of small, so that the two can be compared
			small, _ := FindScale("small")
			if small.Name = s.Name; small != s {
				t.Errorf("%+v, small is %+v", s, small)
			}
			continue
		}
		if c := s.Images * s.Steps * s.EoT; c <= cost {
			t.Errorf("%s costs no more than the scale before it", s.Name)
		} else {
			cost = c
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestErrorsNameTheChoices(t *testing.T) {
	check := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	_, err := Build("mian", "tiny", nil)
	check(err, `no table "mian"; there are main, adaptive, context, pgd-eot, `)
	_, err = Build("main", "huge", nil)
	check(err, `no scale "huge"; there are tiny, quickstart, small, small-full, medium, paper`)
	table := build(t, "main", nil)
	check(Render(new(bytes.Buffer), table, "html"), `no format "html"; there are text, markdown, latex, csv, json`)
	check(Render(brokenPipe{}, table, "text"), "broken pipe")
}

// TestMedium: at the scale whose weights a GPU trains, cells say what there is none of and why; the plain net is the small one, which ships.
func TestMedium(t *testing.T) {
	for _, c := range []struct{ scenario, row, want string }{
		{"a", "plain", ""}, {"a", "carso-paper", "docs/reproducing.md"}, {"a_e2e", "carso-honest", "docs/reproducing.md"}, {"b", "classifier", "scale medium has those"},
	} {
		q := record.Query{Scenario: c.scenario, Row: c.row, Column: "rand", Scale: ScaleMedium}
		if got := Lacking(q); got == "" != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s/%s: %q", c.scenario, c.row, got)
		}
	}
}

// TestBackends: a table names the runs that were not computed on XLA on a CPU, in one note for each backend.
func TestBackends(t *testing.T) {
	rs := runs()
	of := func(rs []record.Run) (notes []string) {
		for _, note := range build(t, "main", rs).Notes {
			if strings.Contains(note, "of backend") {
				notes = append(notes, note)
			}
		}
		return notes
	}
	set := func(i int, backend string) { rs[i].Spec.Versions = map[string]string{"backend": backend} }
	for i := range rs {
		set(i, "xla")
	}
	if got := of(rs); got != nil {
		t.Errorf("all on a CPU: %q", got)
	}
	i := slices.IndexFunc(rs, func(r record.Run) bool { return r.Spec.Row == "classifier" && r.Spec.Column == "rand" })
	set(i, "xla:cuda,tf32")
	if got, want := of(rs), []string{"of backend xla:cuda,tf32: " + rs[i].File}; !slices.Equal(got, want) {
		t.Errorf("one on a GPU: %q, want %q", got, want)
	}
	for i := range rs {
		set(i, "xla:cuda")
	}
	if got := of(rs); !slices.Equal(got, []string{"all records are of backend xla:cuda"}) {
		t.Errorf("all on a GPU: %q", got)
	}
}

// TestOtherWeights: a table says where one of its runs has other weights under a name than the runs before, and not where all agree.
func TestOtherWeights(t *testing.T) {
	rs := runs()
	for i := range rs {
		rs[i].Spec.Weights = []record.Weight{{Role: "classifier", File: "net.safetensors", SHA256: "a"}}
	}
	other := func(table Table) (n int) {
		for _, note := range table.Notes {
			if strings.Contains(note, "other weights under the name net.safetensors") && strings.Contains(note, "-records") {
				n++
			}
		}
		return n
	}
	if n := other(build(t, "main", rs)); n != 0 {
		t.Errorf("%d notes on weights that are the same", n)
	}
	rs[len(rs)-1].Spec.Weights[0].SHA256 = "b"
	if n := other(build(t, "main", rs)); n != 1 {
		t.Errorf("%d notes on one run of other weights", n)
	}
}

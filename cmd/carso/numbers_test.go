package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/plots"
)

// make verify-numbers: every accuracy that a reader finds comes from the committed records. TestNumbersInDocuments recomputes what stands between result
// markers; the tests here see to it that no accuracy stands elsewhere, and recompute what notebooks show.

var (
	// Not for prose: code, results, pages of stored reports (which TestReportsInDocuments compares) and what is quoted from elsewhere under its source,
	// <!-- cited SOURCE -->...<!-- /cited -->.
	exempt = regexp.MustCompile("(?s)<!-- results .*?<!-- /results -->|<!-- runs .*?<!-- /runs -->|<!-- paired .*?<!-- /paired -->|<!-- curves .*?<!-- /curves -->|<!-- crosscheck .*?<!-- /crosscheck -->|<!-- report .*?<!-- /report -->|<!-- cited \\S.*?-->.*?<!-- /cited -->|\n```.*?\n```|`[^`\n]*`")
	// A percentage of at least ten (smaller ones are nearly always limits and tolerances), or any value with its interval.
	accuracy = regexp.MustCompile(`\b\d\d+(?:\.\d+)?(?: |&nbsp;)?(?:%|percent\b)|[-+]?\d+\.\d+ \[[-+]?\d+\.\d+, [-+]?\d+\.\d+\]`)
	// The level of an interval or of another certainty is no result.
	level = regexp.MustCompile(`\b(?:95|99)(?:\.\d+)? ?%`)
)

// strayAccuracies lists the lines of a text with an accuracy that nothing recomputes.
func strayAccuracies(text string) []string {
	blank := func(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) }
	text = exempt.ReplaceAllStringFunc(text, blank)
	var stray []string
	for n, line := range strings.Split(text, "\n") {
		if found := accuracy.FindString(level.ReplaceAllString(line, "")); found != "" {
			stray = append(stray, fmt.Sprintf("line %d: %q", n+1, found))
		}
	}
	return stray
}

const remedy = "put it between result markers (see README.md), or say where it is from: <!-- cited SOURCE -->...<!-- /cited -->"

func TestNoNumbersInProse(t *testing.T) {
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range strayAccuracies(string(text)) {
			t.Errorf("%s, %s: an accuracy that no record is compared with: %s", filepath.Base(path), s, remedy)
		}
	}
}

func TestStrayAccuracies(t *testing.T) {
	for text, stray := range map[string]int{
		"robust accuracy is 34.8 % here":                                1,
		"34.80 [30.76, 39.08]":                                          1,
		"falls to 12%":                                                  1,
		"and 12 percent of":                                             1,
		"| row | +8.40 [1.00, 2.00] |":                                  1,
		"with 95 % intervals, l_inf 8/255, 500 images":                  0,
		"run `carso eval -rate 12%`":                                    0,
		"a\n```\n34.8 %\n```\nb 13 %":                                   1,
		"<!-- results main small a/ -->\n| 34.8 % |\n<!-- /results -->": 0,
		"<!-- cited the paper --> 76.13 % <!-- /cited --> and 13 %":     1,
		"<!-- cited --> 76.13 % <!-- /cited -->":                        1, // by whom?
	} {
		if got := strayAccuracies(text); len(got) != stray {
			t.Errorf("%q: %v, want %d", text, got, stray)
		}
	}
	if got := strayAccuracies("a\n```\nx\n```\n17 %"); len(got) != 1 || !strings.HasPrefix(got[0], "line 5:") {
		t.Errorf("the line is lost: %v", got)
	}
}

// notebook is what is compared of a notebook; the outputs stay raw, so that they can be replaced in the file.
type notebook struct {
	Cells []struct {
		Kind    string `json:"cell_type"`
		Source  lines  `json:"source"`
		Outputs []struct {
			Text lines                      `json:"text"`
			Data map[string]json.RawMessage `json:"data"`
		} `json:"outputs"`
	} `json:"cells"`
}

// lines is a text that notebooks may cut into lines.
type lines string

func (l *lines) UnmarshalJSON(raw []byte) error {
	var many []string
	if json.Unmarshal(raw, &many) == nil {
		*l = lines(strings.Join(many, ""))
		return nil
	}
	return json.Unmarshal(raw, (*string)(l))
}

const (
	markdownType = "text/markdown"
	echartsType  = "application/vnd.echarts.v5+json"
)

// TestNumbersInNotebooks recomputes the tables, the charts and the counts of survivors in the outputs of the committed notebooks, or looks their numbers up. A table of a scale that the
// committed records do not hold was computed live by the notebook itself; there is nothing to compare it with.
func TestNumbersInNotebooks(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join("..", "..", "notebooks", "*.ipynb"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no notebooks", err)
	}
	compared := 0
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var nb notebook
		if err := json.Unmarshal(raw, &nb); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		old := raw
		name := filepath.Base(path)
		for i, c := range nb.Cells {
			if c.Kind == "markdown" {
				for _, s := range strayAccuracies(string(c.Source)) {
					t.Errorf("%s, cell %d, %s: an accuracy in prose: %s", name, i, s, remedy)
				}
			}
			for _, o := range c.Outputs {
				if text, ok := o.Data[markdownType]; ok {
					forms, err := recomputedTable(runs, text, string(c.Source))
					if err != nil {
						t.Errorf("%s, cell %d: %v", name, i, err)
					}
					if forms != nil {
						compared++
						raw = replaceForms(raw, o.Data, forms)
					}
					n, err := compareSheet(text)
					if err != nil {
						t.Errorf("%s, cell %d: %v; run the notebook again", name, i, err)
					}
					compared += n
				}
				if chart, ok := o.Data[echartsType]; ok {
					n, err := compareIntervals(runs, chart, string(c.Source))
					if err != nil {
						t.Errorf("%s, cell %d: %v; run the notebook again", name, i, err)
					}
					compared += n
					if n, err = compareDrawn(runs, chart); err != nil {
						t.Errorf("%s, cell %d: %v; run the notebook again", name, i, err)
					}
					compared += n
					if n, err = compareCurves(name, chart); err != nil {
						t.Errorf("%s, cell %d: %v; run the notebook again", name, i, err)
					}
					compared += n
					if n, err = compareAblation(chart); err != nil {
						t.Errorf("%s, cell %d: %v; run the notebook again", name, i, err)
					}
					compared += n
					if n, err = compareFates(runs, chart); err != nil {
						t.Errorf("%s, cell %d: %v; run the notebook again", name, i, err)
					}
					compared += n
				}
				n, err := compareSurvivors(runs, string(o.Text))
				if err != nil {
					t.Errorf("%s, cell %d: %v; run the notebook again", name, i, err)
				}
				compared += n
			}
		}
		if bytes.Equal(raw, old) {
			continue
		}
		if !*update {
			t.Errorf("%s: a table does not say what the records say; go test ./cmd/carso -run Numbers -update, or run the notebook again", name)
		} else if err := os.WriteFile(path, raw, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if compared < 5 { // two tables, two curves at least, one count of survivors: or the patterns no longer find them
		t.Errorf("only %d outputs were compared", compared)
	}
}

// recomputedTable builds the table that an output of a cell shows from the records: nil if it is none of ours, or live.
func recomputedTable(runs []record.Run, raw json.RawMessage, source string) (map[string]string, error) {
	var text lines
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, err
	}
	rows := strings.Split(strings.TrimSpace(string(text)), "\n")
	cells := func(row string) []string {
		all := strings.Split(strings.Trim(row, "| "), " | ")
		for k := range all {
			all[k] = strings.TrimSpace(all[k])
		}
		return all
	}
	header := cells(rows[0])
	scale, ok := strings.CutPrefix(header[0], "scale ")
	if !ok || len(rows) < 3 {
		return nil, nil
	}
	if _, err := record.Best(runs, record.Query{Scale: scale}, nil); err != nil {
		return nil, nil
	}
	var titles []string
	for _, r := range rows[2:] {
		titles = append(titles, cells(r)[0])
	}
	// Several tables may have these rows and columns, such as those of another bound: one that says the same is the one that is shown.
	var first map[string]string
	tables, err := tablesOf(scale, runs, source)
	if err != nil {
		return nil, err
	}
	for _, table := range tables {
		for _, row := range table.Rows {
			for n := range len(row.ID) + 1 { // the prefix that the notebook asked for
				head, body, _ := table.Plain(row.ID[:n], header[1:]...)
				if len(head) != len(header) || len(body) != len(titles) {
					continue
				}
				same := true
				for k := range body {
					same = same && strings.TrimSpace(body[k][0]) == titles[k]
				}
				if !same {
					continue
				}
				forms := plots.TableForms(head, body)
				if first == nil {
					first = forms
				}
				if strings.TrimSpace(forms[markdownType]) == strings.TrimSpace(string(text)) {
					return forms, nil
				}
			}
		}
	}
	if first != nil {
		return first, nil
	}
	return nil, fmt.Errorf("no table has the rows and columns of this one of scale %s: run the notebook again", scale)
}

// tablesOf are all tables of a scale that a cell of this source can show: with the images of each run, with those that all of a table's runs hold, or, where the
// source calls neither by itself, both.
func tablesOf(scale string, runs []record.Run, source string) (all []paper.Table, err error) {
	if len(runs) == 0 {
		return nil, nil
	}
	key := tablesKey{scale, &runs[0], strings.Contains(source, "paper.Build("), strings.Contains(source, "paper.Common(")}
	builds := []func(id, scale string, runs []record.Run) (paper.Table, error){paper.Build, paper.Common}
	switch {
	case key.build && !key.common:
		builds = builds[:1]
	case key.common && !key.build:
		builds = builds[1:]
	}
	if known, ok := tablesMemo.Load(key); ok {
		return known.([]paper.Table), nil
	}
	for _, build := range builds {
		for _, entry := range paper.Tables() {
			table, err := build(entry.ID, scale, runs)
			if err != nil {
				return nil, err
			}
			all = append(all, table)
		}
	}
	tablesMemo.Store(key, all)
	return all, nil
}

// tablesMemo keeps them, since every table and chart of every notebook asks.
var tablesMemo sync.Map

type tablesKey struct {
	scale         string
	runs          *record.Run
	build, common bool // what the source calls
}

// replaceForms puts the forms of an output into the file of its notebook, as it cuts texts into lines.
func replaceForms(file []byte, data map[string]json.RawMessage, forms map[string]string) []byte {
	for kind, old := range data {
		text, ok := forms[kind]
		var had lines
		if !ok || json.Unmarshal(old, &had) != nil || strings.TrimRight(string(had), "\n") == strings.TrimRight(text, "\n") {
			continue
		}
		indent := "\n"
		if rest, found := bytes.CutPrefix(old, []byte("[\n")); found {
			indent += string(rest[:len(rest)-len(bytes.TrimLeft(rest, " "))])
		}
		var parts []string
		for _, line := range strings.SplitAfter(text, "\n") {
			if line == "" {
				continue
			}
			var quoted bytes.Buffer
			e := json.NewEncoder(&quoted)
			e.SetEscapeHTML(false)
			e.Encode(line) // a string: cannot fail
			parts = append(parts, strings.TrimSpace(quoted.String()))
		}
		fresh := "[" + indent + strings.Join(parts, ","+indent) + strings.TrimSuffix(indent, " ") + "]"
		file = bytes.Replace(file, old, []byte(fresh), 1)
	}
	return file
}

// named is a chart with the names of its points, which hold their values.
type named struct {
	Title struct {
		Text lines `json:"text"`
	} `json:"title"`
	XAxis []struct {
		Data []string `json:"data"`
	} `json:"xAxis"`
	Series []struct {
		Name string            `json:"name"`
		Type string            `json:"type"`
		Data []json.RawMessage `json:"data"`
	} `json:"series"`
}

var (
	titleScale = regexp.MustCompile(`\bscale ([a-z-]+)$`)
	interval   = regexp.MustCompile(`: (\S+ \[\S+, \S+\])$`)
)

// compareIntervals looks up every value with an interval, in a chart whose title ends with its scale, among all cells of that scale. A chart that is titled as a table has
// all of its points.
func compareIntervals(runs []record.Run, raw json.RawMessage, source string) (compared int, err error) {
	var chart named
	if err := json.Unmarshal(raw, &chart); err != nil {
		return 0, err
	}
	title := chart.title()
	scale := titleScale.FindStringSubmatch(title)
	if scale == nil || byClass.MatchString(title) { // for which see compareDrawn
		return 0, nil
	}
	known := map[string]bool{}
	add := func(value, lo, hi float64) { known[fmt.Sprintf("%.4g [%.4g, %.4g]", value, lo, hi)] = true }
	tables, err := tablesOf(scale[1], runs, source)
	if err != nil {
		return 0, err
	}
	points := chart.withIntervals()
	for _, table := range tables {
		for _, c := range slices.Concat(table.Cells...) {
			add(c.Value, c.Lo, c.Hi)
		}
		if title != table.Title+", scale "+scale[1] {
			continue
		}
		want := 0
		for k, column := range table.Columns {
			if !chart.shows(column.ID) {
				continue
			}
			for _, cells := range table.Cells {
				if cells[k].Reason == "" {
					want++
				}
			}
		}
		if len(points) != want {
			return 0, fmt.Errorf("%q has %d points, the records have %d", title, len(points), want)
		}
	}
	for _, p := range points {
		if !known[interval.FindStringSubmatch(p)[1]] {
			return compared, fmt.Errorf("%q of %q is in no cell of scale %s", p, title, scale[1])
		}
		compared++
	}
	return compared, nil
}

// shows says whether a series is that of a column, as "rand" or "rand of carso-paper" are.
func (n named) shows(column string) bool {
	for _, s := range n.Series {
		if name, _, _ := strings.Cut(s.Name, " of "); name == column {
			return true
		}
	}
	return false
}

// title is that of the chart, which breaks long ones.
func (n named) title() string { return strings.ReplaceAll(string(n.Title.Text), "\n", " ") }

// withIntervals are the names of a chart's points that end in a value with its interval.
func (n named) withIntervals() (points []string) {
	for _, s := range n.Series {
		for _, d := range s.Data {
			var point struct {
				Name string `json:"name"`
			}
			if d[0] == '{' && json.Unmarshal(d, &point) == nil && interval.MatchString(point.Name) {
				points = append(points, point.Name)
			}
		}
	}
	return points
}

var (
	byClass   = regexp.MustCompile(`^Accuracy by class, (\S+), scale (\S+)$`)
	confusion = regexp.MustCompile(`^(\S+) under (\S+), scale (\S+)$|^CARSO, (clean) images, scale (\S+)$`) // a mosaic of fates has such a title, too
	transfer  = regexp.MustCompile(`^Of the images that the row breaks, .*, scale (\S+)$`)
)

// compareDrawn draws accuracies by class, confusions, mosaics of fates and what attacks share anew, and compares what is drawn.
func compareDrawn(runs []record.Run, raw json.RawMessage) (compared int, err error) {
	var chart named
	if err := json.Unmarshal(raw, &chart); err != nil {
		return 0, err
	}
	title, classes := chart.title(), data.Catalog[0].Classes
	find := func(row, column, scale string) (record.Run, error) {
		return paper.Find(runs, record.Query{Scenario: "a", Row: row, Column: column, Scale: scale})
	}
	var again plots.Chart
	if m := byClass.FindStringSubmatch(title); m != nil {
		var rows []string
		var found []record.Run
		for _, s := range chart.Series {
			if run, err := find(s.Name, m[1], m[2]); err == nil && !slices.Contains(rows, s.Name) {
				rows, found = append(rows, s.Name), append(found, run)
			}
		}
		again = eval.ClassBars(title, classes, rows, found)
	} else if m := confusion.FindStringSubmatch(title); m != nil && len(chart.Series) > 0 && chart.Series[0].Type == "heatmap" {
		run, err := find(cmp.Or(m[1], "carso-honest"), cmp.Or(m[2], m[4]), cmp.Or(m[3], m[5]))
		if err != nil {
			return 0, err
		}
		again = eval.Confusion(title, classes, run)
	} else if m != nil && len(chart.Series) > 0 && chart.Series[0].Type == "scatter" {
		run, err := find(m[1], m[2], m[3])
		if err != nil {
			return 0, err
		}
		again = eval.FateMosaic(title, run, 40)
	} else if m := transfer.FindStringSubmatch(title); m != nil && len(chart.XAxis) == 1 {
		var names []string
		var found []record.Run
		for _, name := range chart.XAxis[0].Data {
			name = strings.NewReplacer("-\n", "-", "\n", " ").Replace(name) // charts break long ones
			row, column, _ := strings.Cut(name, " ")
			run, err := find("carso-"+row, column, m[1])
			if err != nil {
				return 0, err
			}
			names, found = append(names, name), append(found, run)
		}
		again = eval.Transfer(title, names, found)
	} else {
		return 0, nil
	}
	text, err := plots.Option(again)
	if err != nil {
		return 0, err
	}
	var want named
	if err := json.Unmarshal(text, &want); err != nil {
		return 0, err
	}
	if len(want.Series) != len(chart.Series) {
		return 0, fmt.Errorf("%q has %d series, the records draw %d", title, len(chart.Series), len(want.Series))
	}
	for k, s := range want.Series {
		if old, now := compact(chart.Series[k].Data), compact(s.Data); old != now {
			return compared, fmt.Errorf("%q, %s: %s, the records draw %s", title, s.Name, old, now)
		}
		compared++
	}
	return compared, nil
}

// compact is the JSON of values, by value.
func compact(all []json.RawMessage) string {
	var values []any
	for _, raw := range all {
		var v any
		if json.Unmarshal(raw, &v) != nil {
			v = string(raw)
		}
		values = append(values, v)
	}
	text, err := json.Marshal(values)
	if err != nil {
		panic(err) // made of JSON
	}
	return string(text)
}

// compareFates recomputes bars whose series are fates and whose categories are a row and a scale.
func compareFates(runs []record.Run, raw json.RawMessage) (compared int, err error) {
	var chart named
	if err := json.Unmarshal(raw, &chart); err != nil {
		return 0, err
	}
	for _, s := range chart.Series {
		for _, f := range record.Fates() {
			if s.Name != f.String() {
				continue
			}
			for _, d := range s.Data {
				var point struct {
					Name  string  `json:"name"`
					Value float64 `json:"value"`
				}
				if json.Unmarshal(d, &point) != nil { // a square of a mosaic
					continue
				}
				category, _, _ := strings.Cut(point.Name, ":")
				row, scale, _ := strings.Cut(category, " ")
				run, err := paper.Find(runs, record.Query{Scenario: "a", Row: row, Column: "rand", Scale: scale})
				if err != nil {
					return compared, err
				}
				n := 0
				for _, is := range run.Fates() {
					if is == f {
						n++
					}
				}
				if want := 100 * float64(n) / float64(len(run.Images)); math.Abs(want-point.Value) > 1e-6 {
					return compared, fmt.Errorf("%s, %s: %g, the records say %g", category, s.Name, point.Value, want)
				}
				compared++
			}
		}
	}
	return compared, nil
}

// sheetLines are the lines of all appendix tables as notebooks show them, by the header of their table.
var sheetLines = sync.OnceValues(func() (lines map[string]map[string]bool, err error) {
	lines = map[string]map[string]bool{}
	for _, scale := range []string{"small", "paper"} {
		sheets, err := eval.Appendix(scale)
		if err != nil {
			return nil, err
		}
		for _, s := range sheets {
			all := strings.Split(strings.TrimSpace(plots.TableForms(s.Header, s.Rows)[markdownType]), "\n")
			if lines[all[0]] == nil {
				lines[all[0]] = map[string]bool{}
			}
			for _, l := range all {
				lines[all[0]][l] = true
			}
		}
	}
	return lines, nil
})

// compareSheet looks the rows of an appendix table up in what the configurations say.
func compareSheet(raw json.RawMessage) (compared int, err error) {
	var text lines
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, err
	}
	sheets, err := sheetLines()
	if err != nil {
		return 0, err
	}
	rows := strings.Split(strings.TrimSpace(string(text)), "\n")
	known := sheets[rows[0]]
	if known == nil {
		return 0, nil
	}
	for _, r := range rows {
		if !known[r] {
			return 0, fmt.Errorf("the row %q is in no appendix table", r)
		}
	}
	return 1, nil
}

// drawn are the numbers that the curves of a notebook can hold: of 06 those of the schedules, of 07 those of the curves that ship, or their roots and logarithms.
func drawn(notebook string) (known map[string]bool, err error) {
	known = map[string]bool{}
	add := func(v float64) { known[fmt.Sprintf("%.6g", v)] = true }
	switch notebook {
	case "06-the-method.ipynb":
		sheets, err := eval.Appendix("paper")
		if err != nil {
			return nil, err
		}
		for _, s := range sheets {
			if s.ID != "schedules" {
				continue
			}
			for _, c := range slices.Concat(s.Rows...) {
				if v, err := strconv.ParseFloat(c, 64); err == nil {
					add(v)
				}
			}
		}
	case "07-training.ipynb":
		files, err := filepath.Glob(filepath.Join("..", "..", "checkpoints", "shipped", "*.curve.jsonl"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(text)) {
				var point map[string]any
				if err := json.Unmarshal([]byte(line), &point); err != nil {
					return nil, fmt.Errorf("%s: %w", file, err)
				}
				for _, v := range point {
					if x, is := v.(float64); is {
						add(x)
						add(math.Sqrt(math.Abs(x)))
						add(math.Log10(math.Abs(x)))
					}
				}
			}
		}
	}
	return known, nil
}

// compareCurves looks the points of those notebooks' curves up. The bars of short trainings are compareAblation's.
func compareCurves(notebook string, raw json.RawMessage) (compared int, err error) {
	var chart named
	known, err := drawn(notebook)
	if err != nil || len(known) == 0 || json.Unmarshal(raw, &chart) != nil {
		return 0, err
	}
	title := chart.title()
	for _, s := range chart.Series {
		if s.Type != "line" {
			continue
		}
		for _, d := range s.Data {
			var point struct {
				Value []float64 `json:"value"`
			}
			if json.Unmarshal(d, &point) != nil || len(point.Value) < 2 {
				continue
			}
			if !known[fmt.Sprintf("%.6g", point.Value[1])] {
				return compared, fmt.Errorf("%q, %s: no curve has %g", title, s.Name, point.Value[1])
			}
			compared++
		}
	}
	return compared, nil
}

// compareAblation checks the chart of the classifier's short trainings against the ends of their curves: it has every one of them.
func compareAblation(raw json.RawMessage) (compared int, err error) {
	var chart named
	if err := json.Unmarshal(raw, &chart); err != nil || !strings.Contains(string(chart.Title.Text), "short trainings") {
		return 0, err
	}
	all, err := ablationEnds()
	if err != nil {
		return 0, err
	}
	want := map[string]bool{}
	for _, a := range all {
		if a.steps > 0 {
			for _, e := range []record.Estimate{a.clean, a.pgd} {
				want[fmt.Sprintf("%s: %.4g [%.4g, %.4g]", a.Name, e.Value, e.Lo, e.Hi)] = true
				compared++
			}
		}
	}
	found := chart.withIntervals()
	for _, p := range found {
		if !want[p] {
			return 0, fmt.Errorf("%q is no end of a curve", p)
		}
	}
	if len(found) != compared {
		return 0, fmt.Errorf("the chart of short trainings has %d bars, their curves %d", len(found), compared)
	}
	return compared, nil
}

var (
	survivors = regexp.MustCompile(`survivors: (\d+) with a NaN gradient, (\d+) with a zero gradient, (\d+) with a finite one`)
	byStart   = regexp.MustCompile(`(\S+), \d+ images: of \d+ with a NaN gradient \d+ survive, of \d+ with a usable one \d+`)
	ofThose   = regexp.MustCompile(`scale (\S+): of \d+ survivors of the paper's protocol, the honest one leaves \d+`)
)

// compareSurvivors checks the counts of survivors of the paper's protocol that a text has.
func compareSurvivors(runs []record.Run, text string) (compared int, err error) {
	find := func(row, scale string) record.Run {
		run, e := paper.Find(runs, record.Query{Scenario: "a", Row: row, Column: "rand", Scale: scale})
		if e != nil {
			err = e
		}
		return run
	}
	check := func(found, want string) {
		if compared++; found != want && err == nil {
			err = fmt.Errorf("%q, the records say %q", found, want)
		}
	}
	account := func(run record.Run) record.Accounting {
		if len(run.PartIDs()) == 0 {
			return record.Accounting{}
		}
		return run.Account(run.PartIDs()[0], true)
	}
	if found := survivors.FindString(text); found != "" {
		a := account(find("carso-paper", "small"))
		check(found, fmt.Sprintf("survivors: %d with a NaN gradient, %d with a zero gradient, %d with a finite one", a.NaN.Survived, a.Zero.Survived, a.Usable.Survived))
	}
	for _, m := range byStart.FindAllStringSubmatch(text, -1) {
		run := find("carso-paper", m[1])
		a := account(run)
		check(m[0], fmt.Sprintf("%s, %d images: of %d with a NaN gradient %d survive, of %d with a usable one %d", m[1], len(run.Images), a.NaN.Images, a.NaN.Survived, a.Usable.Images, a.Usable.Survived))
	}
	for _, m := range ofThose.FindAllStringSubmatch(text, -1) {
		n, left := find("carso-paper", m[1]).Left(find("carso-honest", m[1]))
		check(m[0], fmt.Sprintf("scale %s: of %d survivors of the paper's protocol, the honest one leaves %d", m[1], n, left))
	}
	return compared, err
}

// TestCountsInFindings: what docs/findings.md says in words of single images under the strict protocol and at a bound of 0.95 is what the records hold.
func TestCountsInFindings(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	find := func(q record.Query) map[int]record.Image {
		q.Scale = "small"
		r, err := paper.Find(runs, q)
		if err != nil {
			t.Fatal(err)
		}
		all := map[int]record.Image{}
		for _, im := range r.Images {
			all[im.Index] = im
		}
		return all
	}
	robust := func(im record.Image) bool { k, n := record.Worst(im); return n > 0 && k == n }
	// "leave the same images but for one, which rand breaks"
	rand := find(record.Query{Scenario: "a", Row: "carso-honest", Column: "rand"})
	onlyRand, onlyStrict := 0, 0
	for i, im := range find(record.Query{Scenario: "a", Row: "carso-honest", Column: "strict"}) {
		switch other, ok := rand[i]; {
		case ok && robust(im) && !robust(other):
			onlyRand++
		case ok && !robust(im) && robust(other):
			onlyStrict++
		}
	}
	if onlyRand != 1 || onlyStrict != 0 {
		t.Errorf("rand alone breaks %d images, strict alone %d", onlyRand, onlyStrict)
	}
	// "Most of its images that break do so under the attacks on the classifier alone"
	broken, transferred := 0, 0
	for _, im := range find(record.Query{Scenario: "a_maps_end", Row: "carso-honest", Column: "strict"}) {
		if im.Initial && im.Broken != "" {
			broken++
			if strings.HasSuffix(im.Broken, "/"+eval.Classifier) {
				transferred++
			}
		}
	}
	if 4*transferred < 3*broken {
		t.Errorf("attacks on the classifier alone break %d of %d", transferred, broken)
	}
	// "do not move ... (one image of CIFAR-10 and two of CIFAR-100 do later, and break), and more than half of them break right there"
	blind, there := 0, 0
	for scenario, later := range map[string]int{"a": 1, "b": 2, "c": 0} {
		moved := 0
		for _, im := range find(record.Query{Scenario: scenario, Row: "carso-paper", Column: "rand", Eps: paper.HighEps}) {
			if len(im.Parts) == 0 || !im.Parts[0].NaNStart {
				continue
			}
			blind++
			if slices.ContainsFunc(im.Parts, func(p record.Part) bool { return p.Moved }) {
				moved++
				if im.Broken == "" {
					t.Errorf("scenario %s: image %d moved and survived", scenario, im.Index)
				}
			} else if im.Broken != "" {
				there++
			}
		}
		if moved != later {
			t.Errorf("scenario %s: %d images with a NaN first gradient moved, want %d", scenario, moved, later)
		}
	}
	if 2*there <= blind {
		t.Errorf("%d of %d images with a NaN first gradient break without moving", there, blind)
	}
}

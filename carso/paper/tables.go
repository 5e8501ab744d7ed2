// Package paper holds the paper as data: its scenarios, its published numbers with their provenance, the scales of an evaluation and the
// tables. A table is a pure function of records: no cell is typed by hand, a cell without a record says which command makes it, and the
// published number stands beside ours.
//
//	runs, err := record.Load("records")
//	table, err := paper.Build("main", "small", runs)
//	err = paper.Render(os.Stdout, table, "markdown")
package paper

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"carsokit/carso/record"
)

// Table is a filled table.
type Table struct {
	ID, Title, Scale string
	Rows, Columns    []Head
	Cells            [][]Cell // [row][column]
	Notes            []string // on the records used: unfinished, torn
	// Missing are the evaluations that would fill empty cells, in the order of the rows.
	Missing []record.Query
}

// Head is the name and the meaning of a row or a column.
type Head struct{ ID, Title string }

// Unit is what the number in a cell counts.
type Unit string

const (
	Percent Unit = "%"
	Points  Unit = "points" // percentage points, signed
	Images  Unit = "images" // Value of N images; no interval
)

// Cell is one number of ours and its published counterpart. Either Reason is empty and Value is ours, or Reason says why there is none.
type Cell struct {
	Unit       Unit
	Value      float64
	Lo, Hi     float64 // 95 % interval
	N          int     // images
	Definition string  // what was counted: the name of a record.Definition, or the part
	Record     string  // file of the record; of a comparison, the files joined by " vs ", of several runs by ", "
	Reason     string
	Published  Published // the zero value: nothing is known
}

// Entry is one table of the catalogue.
type Entry struct {
	ID, Title string
	build     func(*builder)
}

// Tables is the catalogue.
func Tables() []Entry {
	return []Entry{
		{"main", "Accuracy under l_inf attacks of 8/255, and what the attacks' gradients were worth", (*builder).main},
		{"adaptive", "CARSO under each attack on each output, and the worst case per image, l_inf 8/255", (*builder).adaptive},
		{"context", "Published defences, l_inf 8/255", (*builder).context},
	}
}

// Build fills the table id from the runs of the given scale. Of several runs that fit a cell, [record.Best] chooses. Missing runs are no
// error; an unknown table or scale is.
func Build(id, scale string, runs []record.Run) (Table, error) {
	s, err := FindScale(scale)
	if err != nil {
		return Table{}, err
	}
	var ids []string
	for _, e := range Tables() {
		if e.ID == id {
			b := &builder{runs: runs, scale: s, Table: Table{ID: id, Title: e.Title, Scale: scale}}
			e.build(b)
			return b.Table, nil
		}
		ids = append(ids, e.ID)
	}
	return Table{}, fmt.Errorf("paper: no table %q; there are %s", id, strings.Join(ids, ", "))
}

// builder fills one Table.
type builder struct {
	Table
	runs  []record.Run
	scale Scale
}

// Bound is the l_inf bound of all tables. Runs of other bounds are points of curves.
const Bound = 8. / 255

// atBound allows for a bound that went through float32.
func atBound(s record.Spec) bool { return s.Column == "clean" || math.Abs(s.Eps-Bound) < 1e-6 }

// find returns the run that fills a cell, or the reason why there is none, and notes what is wrong with the run.
func (b *builder) find(scenario Scenario, row, column string) (record.Run, string) {
	q := record.Query{Scenario: scenario.ID, Row: row, Column: column, Scale: b.scale.Name}
	run, err := record.Best(b.runs, q, atBound)
	if err != nil {
		if scenario.Missing != "" {
			return run, scenario.Missing
		}
		if !slices.Contains(b.Missing, q) {
			b.Missing = append(b.Missing, q)
		}
		return run, fmt.Sprintf("no record; run: carso eval -scenario %s -row %s -column %s -scale %s", scenario.ID, row, column, b.scale.Name)
	}
	if len(run.Images) < b.scale.Images {
		b.note("%s holds %d of the %d images of scale %s", run.File, len(run.Images), b.scale.Images, b.scale.Name)
	}
	if run.Torn {
		b.note("%s ends in a torn line, which was ignored", run.File)
	}
	return run, ""
}

// has says whether there is a run for a cell.
func (b *builder) has(scenario Scenario, row, column string) bool {
	_, err := record.Best(b.runs, record.Query{Scenario: scenario.ID, Row: row, Column: column, Scale: b.scale.Name}, atBound)
	return err == nil
}

func (b *builder) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(b.Notes, n) {
		b.Notes = append(b.Notes, n)
	}
}

func (b *builder) add(row Head, cells []Cell) {
	b.Rows = append(b.Rows, row)
	b.Cells = append(b.Cells, cells)
}

// protocol is a row of the main table: a defence, how it is attacked and what counts as correct.
type protocol struct {
	Head
	definition string // of record.Definitions, under attack
}

func protocols() []protocol {
	return []protocol{
		{Head{"classifier", "the classifier alone"}, "fresh"},
		{Head{"plain", "a plain net, without adversarial training"}, "fresh"},
		{Head{"carso-paper", "CARSO, the paper's protocol"}, "fresh"},
		{Head{"carso-honest", "CARSO, the honest protocol"}, "worst"},
	}
}

func definition(name string) record.Score {
	for _, d := range record.Definitions() {
		if d.Name == name {
			return d.Score
		}
	}
	return func(record.Image) (int, int) { return 0, 0 }
}

// main: one row per scenario and protocol.
func (b *builder) main() {
	b.Columns = []Head{
		{"clean", "clean images, mean over passes"},
		{"apgd-ce", "APGD-CE, end to end"},
		{"rand", "AutoAttack rand, end to end"},
		{"rand-internal", "rand, by the attack's own count"},
		{"pgd-eot", "PGD+EoT, end to end"},
		{"gain", "rand, minus the classifier alone on the same images"},
		{"nan-start", "rand, attacked images whose first gradient held a NaN"},
		{"zero-start", "rand, attacked images whose first gradient was exactly zero"},
		{"finite-survivors", "rand, survivors among the attacked images whose first gradient was finite and not zero"},
	}
	for _, s := range Scenarios() {
		for _, p := range protocols() {
			var cells []Cell
			for _, column := range b.Columns {
				c := b.mainCell(s, p, column.ID)
				for _, known := range PublishedValues() {
					if known.Scenario == s.ID && known.Row == p.ID && known.Column == column.ID {
						c.Published = known
					}
				}
				cells = append(cells, c)
			}
			b.add(Head{s.ID + "/" + p.ID, s.Data + ": " + p.Title}, cells)
		}
	}
}

func (b *builder) mainCell(s Scenario, p protocol, column string) Cell {
	source := column // the column whose run fills this one
	switch column {
	case "rand-internal", "gain", "nan-start", "zero-start", "finite-survivors":
		source = "rand"
	}
	if column == "gain" && !strings.HasPrefix(p.ID, "carso-") {
		return Cell{Unit: Points, Reason: "not applicable: a gain is CARSO's"}
	}
	if column == "apgd-ce" && !b.has(s, p.ID, column) {
		// AutoAttack rand begins with every APGD-CE: what they broke, by the attack's own count.
		rand, none := b.find(s, p.ID, "rand")
		if none != "" {
			return Cell{Unit: unit(column), Reason: none}
		}
		return estimate(rand, "internal, before APGD-DLR", record.NotBrokenBy("apgd-ce"))
	}
	run, reason := b.find(s, p.ID, source)
	if reason != "" {
		return Cell{Unit: unit(column), Reason: reason}
	}
	switch column {
	case "clean":
		return estimate(run, "clean", record.Clean)
	case "rand-internal":
		return estimate(run, "internal", record.Internal)
	case "gain":
		base, reason := b.find(s, "classifier", source)
		if reason != "" {
			return Cell{Unit: Points, Reason: reason}
		}
		return gain(run, p.definition, base, protocols()[0].definition)
	case "nan-start", "zero-start", "finite-survivors":
		ids := run.PartIDs()
		if len(ids) == 0 {
			return Cell{Unit: unit(column), Reason: run.File + " holds no attacked image"}
		}
		return gradients(run, ids[0], column, true)
	}
	return estimate(run, p.definition, definition(p.definition))
}

func unit(column string) Unit {
	switch column {
	case "gain":
		return Points
	case "finite-survivors":
		return Images
	}
	return Percent
}

func estimate(run record.Run, definition string, s record.Score) Cell {
	e := run.Estimate(s)
	if e.N == 0 {
		return Cell{Unit: Percent, Reason: fmt.Sprintf("%s holds no image that %q applies to", run.File, definition)}
	}
	return Cell{Unit: Percent, Value: e.Value, Lo: e.Lo, Hi: e.Hi, N: e.N, Definition: definition, Record: run.File}
}

func gain(run record.Run, name string, base record.Run, baseName string) Cell {
	d, err := record.Compare(run, definition(name), base, definition(baseName))
	if err != nil {
		return Cell{Unit: Points, Reason: strings.TrimPrefix(err.Error(), "record: ")}
	}
	return Cell{Unit: Points, Value: d.Value, Lo: d.Lo, Hi: d.Hi, N: d.N, Definition: name + " - " + baseName + ", paired", Record: run.File + " vs " + base.File}
}

// gradients fills a column about one part's gradients. With whole, survivors are those of the whole run.
func gradients(run record.Run, id record.PartID, column string, whole bool) Cell {
	shares := map[string]func(record.Part) bool{
		"nan-start": record.NaNStart, "nan-ever": record.NaNEver,
		"zero-start": record.ZeroStart, "zero-ever": record.ZeroEver, "loss-zero-start": record.LossZeroStart,
	}
	if is, ok := shares[column]; ok {
		return estimate(run, id.String(), record.Share(id, is))
	}
	usable := run.Account(id, whole).Usable
	if usable.Images == 0 {
		return Cell{Unit: Images, Reason: fmt.Sprintf("no first gradient of %s was finite and not zero (%s)", id, run.File)}
	}
	return Cell{Unit: Images, Value: float64(usable.Survived), N: usable.Images, Definition: id.String(), Record: run.File}
}

// Adaptive names the columns of the row carso-adaptive: attacks on CARSO that know it, each run by itself. The cross-entropy of log S is not
// among them: it is the first attack of carso-honest, which runs on all images.
func Adaptive() []string {
	return []string{"margin", "logit", "peel-stable", "representation", "transfer-z0", "transfer-classifier"}
}

// adaptive: one row per part of CARSO's attacked runs, and their worst case per image.
func (b *builder) adaptive() {
	b.Columns = []Head{
		{"robust", "correct in the initial pass and not broken, by the attack's own verdict"},
		{"nan-start", "attacked images whose first gradient held a NaN"},
		{"nan-ever", "attacked images with a NaN in any gradient"},
		{"zero-start", "attacked images whose first gradient was exactly zero"},
		{"zero-ever", "attacked images with any gradient exactly zero"},
		{"loss-zero-start", "attacked images whose first loss was exactly zero"},
		{"finite-survivors", "survivors among the attacked images whose first gradient was finite and not zero"},
	}
	for _, s := range Scenarios() {
		if s.Missing != "" && !slices.ContainsFunc(b.runs, func(r record.Run) bool { return r.Spec.Scenario == s.ID }) {
			b.add(Head{s.ID, s.Data}, b.empty(s.Missing))
			continue
		}
		var found []record.Run
		protocols := []string{"apgd-ce", "rand", "pgd-eot"}
		for _, attacked := range []struct {
			row     string
			columns []string
		}{{"carso-paper", protocols}, {"carso-honest", protocols}, {"carso-adaptive", Adaptive()}} {
			row := attacked.row
			for _, column := range attacked.columns {
				if column == "apgd-ce" && !b.has(s, row, column) {
					continue // rand begins with it
				}
				head := Head{fmt.Sprintf("%s/%s/%s", s.ID, row, column), fmt.Sprintf("%s: %s, %s", s.Data, row, column)}
				run, reason := b.find(s, row, column)
				ids := run.PartIDs()
				if reason == "" {
					found = append(found, run)
					if len(ids) == 0 {
						reason = run.File + " holds no attacked image"
					}
				}
				if reason != "" {
					b.add(head, b.empty(reason))
				}
				for _, id := range ids {
					b.add(Head{head.ID + "/" + id.String(), fmt.Sprintf("%s: %s on %s", head.Title, id.Attack, id.Output)}, b.partCells(run, id))
				}
			}
		}
		cells := b.empty("not applicable: a worst case has no gradients of its own")
		cells[0] = worstCase(found)
		b.add(Head{s.ID + "/worst-case", s.Data + ": worst case per image of all rows above"}, cells)
	}
}

func (b *builder) empty(reason string) []Cell {
	var cells []Cell
	for _, c := range b.Columns {
		cells = append(cells, Cell{Unit: unit(c.ID), Reason: reason})
	}
	return cells
}

func (b *builder) partCells(run record.Run, id record.PartID) []Cell {
	var cells []Cell
	for _, column := range b.Columns {
		if column.ID != "robust" {
			cells = append(cells, gradients(run, id, column.ID, false))
			continue
		}
		if id == run.PartIDs()[0] {
			cells = append(cells, estimate(run, id.String(), record.FirstPartRobust(id)))
			continue
		}
		c := estimate(run, id.String(), record.PartRobust(id))
		// Those that an earlier part broke are missing: what is left is a selection of the hard images, and no accuracy.
		if ran, attacked := run.Covers(id); ran < attacked {
			c = Cell{Unit: Percent, Reason: fmt.Sprintf("ran on %d of %d attacked images, the survivors of earlier parts", ran, attacked)}
		}
		cells = append(cells, c)
	}
	return cells
}

// worstCase is the share of images that no run broke, over the images that all runs hold. The runs must attack the same defence: the
// same data and weights.
func worstCase(runs []record.Run) Cell {
	if len(runs) == 0 {
		return Cell{Unit: Percent, Reason: "no record of an attack on CARSO"}
	}
	all, err := merge(runs)
	if err != nil {
		return Cell{Unit: Percent, Reason: err.Error()}
	}
	c := estimate(all, "internal", record.Internal)
	if c.Reason != "" {
		c.Reason = "no image is in all of " + all.File
	}
	return c
}

// merge makes one run of several: an image is there if it is in all, and unbroken if it is so in all.
func merge(runs []record.Run) (record.Run, error) {
	all := record.Run{Spec: runs[0].Spec, Images: runs[0].Images, File: runs[0].File}
	for _, run := range runs[1:] {
		if run.Spec.Data != all.Spec.Data {
			return all, fmt.Errorf("%s and %s are on different data", runs[0].File, run.File)
		}
		if !slices.Equal(run.Spec.Weights, all.Spec.Weights) {
			return all, fmt.Errorf("%s and %s are of different weights", runs[0].File, run.File)
		}
		byIndex := map[int]record.Image{}
		for _, im := range run.Images {
			byIndex[im.Index] = im
		}
		var images []record.Image
		for _, im := range all.Images {
			other, ok := byIndex[im.Index]
			if !ok {
				continue
			}
			if other.Label != im.Label {
				return all, fmt.Errorf("%s and %s disagree on the label of image %d", runs[0].File, run.File, im.Index)
			}
			im.Initial = im.Initial && other.Initial
			if im.Broken == "" {
				im.Broken = other.Broken
			}
			images = append(images, im)
		}
		all.Images, all.File = images, all.File+", "+run.File
	}
	return all, nil
}

// context: published baselines, which the kit does not run.
func (b *builder) context() {
	b.Columns = []Head{{"clean", "clean images"}, {"autoattack", "AutoAttack standard"}, {"pgd-eot", "PGD+EoT"}}
	for _, base := range Baselines() {
		cells := b.empty("published by others; the kit does not run it")
		for i, column := range b.Columns {
			for _, v := range base.Values {
				if v.Column == column.ID {
					cells[i].Published = Published{Column: v.Column, Value: v.Value, Known: true, Provenance: v.Provenance}
				}
			}
		}
		id := strings.ToLower(strings.Join(strings.Fields(base.Data+"/"+base.Model+" "+base.Architecture), "-"))
		b.add(Head{strings.ReplaceAll(id, "-+-", "+"), strings.TrimSpace(base.Data + ": " + base.Model + " " + base.Architecture)}, cells)
	}
}

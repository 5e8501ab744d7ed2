// Package paper holds the paper as data: its scenarios, its published numbers with their provenance, the scales of an evaluation and the
// tables. A table is a pure function of records: no cell is typed by hand, a cell without a record says which command makes it, and the
// published number stands beside ours.
//
//	runs, err := record.Load("records")
//	table, err := paper.Build("main", "small", runs)
//	err = paper.Render(os.Stdout, table, "markdown")
package paper

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"carsokit/carso/record"
)

// Table is a filled table.
type Table struct {
	ID, Title, Scale string
	Rows, Columns    []Head
	Cells            [][]Cell // [row][column]
	Notes            []string // on the records used: unfinished, torn, of weights that do not belong together
	// Missing are the evaluations that would fill empty cells, in the order of the rows. Of their settings, empty ones are the defaults of row and scale.
	Missing []record.Query
	// Blocked are those that would, too, if their weights were there.
	Blocked []record.Query
}

// Head is the name and the meaning of a row or a column.
type Head struct{ ID, Title string }

// Unit is what the number in a cell counts.
type Unit string

// The units of cells.
const (
	Percent Unit = "%"
	Points  Unit = "points" // percentage points, signed
	Images  Unit = "images" // Value of N images; no interval
	Plain   Unit = ""       // a bare number
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
	// Evaluation is what fills the cell; the zero value where no evaluation does.
	Evaluation record.Query
}

// Entry is one table of the catalogue.
type Entry struct {
	ID, Title string
	build     func(*builder)
}

// Tables is the catalogue.
func Tables() []Entry {
	tables := []Entry{
		{"main", "Accuracy under l_inf attacks of 8/255, and what the attacks' gradients were worth", (*builder).main},
		{"adaptive", "CARSO under each attack on each output, and the worst case per image, l_inf 8/255", (*builder).adaptive},
		{"context", "Published defences, l_inf 8/255", (*builder).context},
	}
	for _, g := range grids() {
		tables = append(tables, Entry{g.id, g.title, func(b *builder) { b.grid(g.lines, g.measures) }})
	}
	return tables
}

// Build fills the table id from the runs of the given scale. Of several runs that fit a cell, [record.Best] chooses. Missing runs are no
// error; an unknown table or scale is.
func Build(id, scale string, runs []record.Run) (Table, error) {
	b, err := filled(id, scale, runs)
	if err != nil {
		return Table{}, err
	}
	return b.Table, nil
}

// Common is Build on those images alone that all runs of the table hold, as the points of a curve should be: beside a run of the first 500 images one of the first 100
// differs by its images, too.
func Common(id, scale string, runs []record.Run) (Table, error) {
	b, err := filled(id, scale, runs)
	if err != nil || len(b.used) == 0 {
		return b.Table, err
	}
	holds := map[int]int{}
	for _, run := range b.used {
		for _, im := range run.Images {
			holds[im.Index]++
		}
	}
	var shared []record.Run
	for _, run := range b.used {
		var images []record.Image
		for _, im := range run.Images {
			if holds[im.Index] == len(b.used) {
				images = append(images, im)
			}
		}
		run.Images = images
		shared = append(shared, run)
	}
	only, err := filled(id, scale, shared)
	only.Missing, only.Blocked = b.Missing, b.Blocked
	only.Notes = append(slices.Clone(b.Notes), fmt.Sprintf("every cell counts the %d images that all of its runs hold", len(shared[0].Images)))
	return only.Table, err
}

// filled fills the table id.
func filled(id, scale string, runs []record.Run) (*builder, error) {
	s, err := FindScale(scale)
	if err != nil {
		return &builder{}, err
	}
	var ids []string
	for _, e := range Tables() {
		if e.ID == id {
			b := &builder{runs: runs, scale: s, Table: Table{ID: id, Title: e.Title, Scale: scale}}
			e.build(b)
			b.noteWeights()
			b.noteBackends()
			return b, nil
		}
		ids = append(ids, e.ID)
	}
	return &builder{}, fmt.Errorf("paper: no table %q; there are %s", id, strings.Join(ids, ", "))
}

// builder fills one Table.
type builder struct {
	Table
	runs  []record.Run
	used  []record.Run // those of runs that fill cells
	scale Scale
}

// Bound is the l_inf bound of all cells that name no other.
const Bound = 8. / 255

// Samples is N, the reconstructions per image, of all cells that name no other.
const Samples = 8

// fits reports whether a run has the settings of a cell, of which empty ones are the defaults of row and scale. A Spec that does not say counts as one of the
// defaults, too: clean accuracy knows no attack, a classifier no samples.
func fits(q record.Query, scale Scale) func(record.Spec) bool {
	bound := cmp.Or(q.Eps, Bound)
	usual := defaults(q, scale)
	full := func(s record.Settings) record.Settings {
		return record.Settings{Decides: cmp.Or(s.Decides, usual.Decides), Samples: cmp.Or(s.Samples, usual.Samples), Steps: cmp.Or(s.Steps, usual.Steps), EoT: cmp.Or(s.EoT, usual.EoT), Screened: s.Screened, Pinned: s.Pinned}
	}
	want := full(q.Settings)
	return func(s record.Spec) bool {
		return (s.Column == "clean" || record.SameEps(s.Eps, bound)) && full(s.Settings()) == want
	}
}

// defaults are the settings of a row and column at a scale.
func defaults(q record.Query, scale Scale) record.Settings {
	d := record.Settings{Decides: "classifier", Samples: Samples, Steps: scale.Steps, EoT: scale.EoT}
	switch q.Row {
	case "carso-paper":
		d.Decides = "peel-reference"
	case "carso-honest", "carso-adaptive":
		d.Decides = "log-sum"
	}
	switch q.Column {
	case "pgd-eot":
		d.Steps, d.EoT = scale.PGDSteps, scale.PGDEoT
	case "representation":
		d.EoT = 1
	}
	return d
}

// best is the run that fills the cells of an evaluation.
func (b *builder) best(q record.Query) (record.Run, error) {
	return record.Best(b.runs, record.Query{Scenario: q.Scenario, Row: q.Row, Column: q.Column, Scale: q.Scale}, fits(q, b.scale))
}

// Find returns the run that fills the cells of an evaluation. Its empty settings are the defaults of its row and scale, as everywhere in tables: runs of
// ablations are not taken for it.
func Find(runs []record.Run, q record.Query) (record.Run, error) {
	scale, err := FindScale(q.Scale)
	if err != nil {
		return record.Run{}, err
	}
	return (&builder{runs: runs, scale: scale}).best(q)
}

// findBeside is find among the runs that other, of a defence, can be paired with: on the same data, and of a classifier whose weights are among other's.
func (b *builder) findBeside(q record.Query, other record.Run) (record.Run, string) {
	all := b.runs
	defer func() { b.runs = all }()
	if other.File != "" {
		b.runs = slices.DeleteFunc(slices.Clone(all), func(r record.Run) bool {
			return r.Spec.Data != other.Spec.Data || slices.ContainsFunc(r.Spec.Weights, func(w record.Weight) bool {
				return !slices.ContainsFunc(other.Spec.Weights, func(o record.Weight) bool { return o.SHA256 == w.SHA256 })
			})
		})
	}
	return b.find(q)
}

// find returns the run that fills a cell, or the reason why there is none, and notes what is wrong with the run.
func (b *builder) find(q record.Query) (record.Run, string) {
	q.Scale = b.scale.Name
	run, err := b.best(q)
	if err != nil {
		lacks, list := Lacking(q), &b.Missing
		if lacks != "" {
			list = &b.Blocked
		}
		if !slices.Contains(*list, q) {
			*list = append(*list, q)
		}
		return run, cmp.Or(lacks, "no record; run: "+Command(q))
	}
	if !slices.ContainsFunc(b.used, func(r record.Run) bool { return r.File == run.File }) {
		b.used = append(b.used, run)
	}
	if len(run.Images) < b.scale.Images {
		b.note("%s holds %d of the %d images of scale %s", run.File, len(run.Images), b.scale.Images, b.scale.Name)
	}
	if run.Torn {
		b.note("%s ends in a torn line, which was ignored", run.File)
	}
	return run, ""
}

// Lacking says which weights an evaluation lacks; nothing where they ship or can be had.
func Lacking(q record.Query) string {
	s, _ := FindScenario(q.Scenario)
	switch {
	case q.Scale == ScalePaper:
		return s.Unpublished
	case q.Scale == ScaleMedium && q.Scenario == "a" && q.Row == "plain":
		return s.Missing // the small one
	case q.Scale == ScaleMedium && (q.Scenario == "a" || q.Scenario == "a_e2e"):
		return "no weights: they are trained on a GPU, see docs/reproducing.md"
	case q.Scale == ScaleMedium:
		return fmt.Sprintf("no weights: scale %s has those of CARSO in scenario a", q.Scale)
	}
	return s.Missing
}

// Command is the command line that runs an evaluation, at the paper's scale behind those that bring its images and weights.
func Command(q record.Query) string {
	line := fmt.Sprintf("carso eval -scenario %s -row %s -column %s -scale %s", q.Scenario, q.Row, q.Column, q.Scale)
	if q.Eps != 0 {
		line += fmt.Sprintf(" -eps %.6g", 255*q.Eps)
	}
	if q.Decides != "" {
		line += " -decides " + q.Decides
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"samples", q.Samples}, {"steps", q.Steps}, {"eot", q.EoT}} {
		if n.value != 0 {
			line += fmt.Sprintf(" -%s %d", n.flag, n.value)
		}
	}
	if q.Scale == ScalePaper {
		s, _ := FindScenario(q.Scenario)
		line = fmt.Sprintf("carso data get %s and carso checkpoint get %s, then %s -weights build/weights", s.Dataset, q.Scenario, line)
	}
	return line
}

// has says whether there is a run for a cell.
func (b *builder) has(q record.Query) bool {
	q.Scale = b.scale.Name
	_, err := b.best(q)
	return err == nil
}

// noteWeights says where runs of a table have other weights under the same name, as after a training of one's own.
func (b *builder) noteWeights() {
	first := map[string]record.Weight{}
	for _, r := range b.used {
		for _, w := range r.Spec.Weights {
			if f, seen := first[w.File]; !seen {
				first[w.File] = w
			} else if f.SHA256 != w.SHA256 {
				b.note("%s is of other weights under the name %s than the records before: keep those of different weights in different folders (-records)", r.File, w.File)
			}
		}
	}
}

// noteBackends says which runs of a table were computed on something else than XLA on a CPU in float32: verdicts can differ by what rounding turns.
func (b *builder) noteBackends() {
	var names []string
	files := map[string][]string{}
	for _, r := range b.used {
		name := r.Spec.Versions["backend"]
		if name == "" || name == "xla" {
			continue
		}
		if files[name] == nil {
			names = append(names, name)
		}
		files[name] = append(files[name], r.File)
	}
	for _, name := range names {
		if len(files[name]) == len(b.used) {
			b.note("all records are of backend %s", name)
			continue
		}
		b.note("of backend %s: %s", name, strings.Join(files[name], ", "))
	}
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

// protocolOf is the protocol of a row; the first one stands for rows that are none.
func protocolOf(row string) protocol {
	for _, p := range protocols() {
		if p.ID == row {
			return p
		}
	}
	return protocols()[0]
}

// Score is what counts as correct in a column of the main table in a row of it.
func Score(row, column string) (name string, s record.Score) {
	name = protocolOf(row).definition
	switch {
	case row == "carso-adaptive":
		name = protocolOf("carso-honest").definition // whose decisions it attacks
	case column == "clean":
		name = "clean"
	case column == "pgd-eot" && name == "fresh":
		name = "strongest" // the reference scores PGD+EoT's last iterate, not the clean image where that failed
	}
	return name, definition(name)
}

func definition(name string) record.Score {
	for _, d := range record.Definitions() {
		if d.Name == name {
			return d.Score
		}
	}
	return func(record.Image) (int, int) { return 0, 0 }
}

// measure is a declared column: the column of the evaluation that fills it, and what is read off the run, by its ID.
type measure struct {
	Head
	column string // empty: no evaluation fills it
}

// line is a declared row: the evaluations of its cells differ in their column alone.
type line struct {
	Head
	of record.Query // without scale, and without column but where all cells are of one; empty settings are the defaults of row and scale
}

// main: one row per scenario and protocol.
func (b *builder) main() {
	var lines []line
	for _, s := range Scenarios() {
		for _, p := range protocols() {
			lines = append(lines, line{Head{s.ID + "/" + p.ID, s.Data + ": " + p.Title}, record.Query{Scenario: s.ID, Row: p.ID}})
		}
	}
	// Those of a run of rand, with what else is attacked before the gains.
	all := slices.Insert(attacked(), 3, measure{Head{"pgd-eot", "PGD+EoT, end to end"}, "pgd-eot"})
	b.grid(lines, slices.Insert(all, 1, measure{Head{"apgd-ce", "APGD-CE, end to end"}, "apgd-ce"}))
}

// grid fills declared rows and columns.
func (b *builder) grid(lines []line, measures []measure) {
	for _, m := range measures {
		b.Columns = append(b.Columns, m.Head)
	}
	for _, l := range lines {
		var cells []Cell
		for _, m := range measures {
			of := l.of
			of.Column = cmp.Or(of.Column, m.column)
			c := b.cell(of, m.ID)
			c.Unit = unit(m.ID)
			c.Published = publishedOf(l.of, m.ID)
			cells = append(cells, c)
		}
		b.add(l.Head, cells)
	}
}

// cell reads what off the run of an evaluation.
func (b *builder) cell(q record.Query, what string) Cell {
	if why, no := inapplicable(q, what); no {
		return Cell{Reason: why}
	}
	p := protocolOf(q.Row)
	if what == "apgd-ce" && !b.has(q) {
		// AutoAttack rand begins with every APGD-CE: what they broke, by the attack's own count.
		q.Column = "rand"
		what = "before-dlr"
	}
	run, reason := b.find(q)
	var alone record.Run
	var without string
	if isGain(what) {
		alone, without = b.findBeside(aloneOf(q), run)
	}
	var c Cell
	switch {
	case reason != "":
		c.Reason = reason
	case what == "before-dlr":
		c = estimate(run, "internal, before APGD-DLR", record.NotBrokenBy("apgd-ce"))
	case what == "clean":
		c = estimate(run, "clean", record.Clean)
	case strings.HasSuffix(what, "-internal"):
		c = estimate(run, "internal", record.Internal)
	case isGain(what) && without != "":
		c.Reason = without
	case what == "gain-mean":
		c = gain(run, "strongest-mean", alone, "strongest-mean")
	case what == "gain" || what == "gain-strict":
		c = gain(run, p.definition, alone, protocols()[0].definition)
	case what == "nan-start" || what == "zero-start" || what == "finite-survivors":
		if ids := run.PartIDs(); len(ids) == 0 {
			c.Reason = run.File + " holds no attacked image"
		} else {
			c = gradients(run, ids[0], what, true)
		}
	default:
		name, score := Score(q.Row, q.Column)
		c = estimate(run, name, score)
	}
	q.Scale = b.scale.Name
	c.Evaluation = q
	return c
}

// isGain says whether a column compares CARSO with its classifier.
func isGain(what string) bool { return what == "gain" || what == "gain-mean" || what == "gain-strict" }

// inapplicable says why no evaluation fills a cell.
func inapplicable(q record.Query, what string) (why string, no bool) {
	switch {
	case isGain(what) && !strings.HasPrefix(q.Row, "carso-"):
		return "not applicable: a gain is CARSO's", true
	case isGain(what) && q.Row == "carso-adaptive":
		return "not applicable: a gain is a whole protocol's", true
	case q.Column == "strict" && q.Row == "carso-paper":
		return "not applicable: strict is of the honest protocol", true
	case what == "gain-best-at" || what == "gain-best-purifier":
		return "not computed: the other defence is somebody else's full-size network (carso table context), so that no images can be paired", true
	case what == "training-minutes":
		return "not recorded: a record holds no clock; carso train writes a curve with times", true
	case what == "adversarial-fraction":
		return "a setting, no measurement: carso table hyperparameters prints the code's own", true
	}
	return "", false
}

func unit(column string) Unit {
	switch column {
	case "gain", "gain-mean", "gain-strict", "gain-best-at", "gain-best-purifier":
		return Points
	case "finite-survivors":
		return Images
	case "training-minutes", "adversarial-fraction":
		return Plain
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
		if lacks := Lacking(record.Query{Scenario: s.ID, Scale: b.scale.Name}); lacks != "" && !slices.ContainsFunc(b.runs, func(r record.Run) bool { return r.Spec.Scenario == s.ID }) {
			b.add(Head{s.ID, s.Data}, b.empty(lacks))
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
				q := record.Query{Scenario: s.ID, Row: row, Column: column}
				if column == "apgd-ce" && !b.has(q) {
					continue // rand begins with it
				}
				head := Head{fmt.Sprintf("%s/%s/%s", s.ID, row, column), fmt.Sprintf("%s: %s, %s", s.Data, row, column)}
				run, reason := b.find(q)
				q.Scale = b.scale.Name
				ids := run.PartIDs()
				if reason == "" {
					found = append(found, run)
					if len(ids) == 0 {
						reason = run.File + " holds no attacked image"
					}
				}
				if reason != "" {
					b.add(head, filledBy(q, b.empty(reason)))
				}
				for _, id := range ids {
					b.add(Head{head.ID + "/" + id.String(), fmt.Sprintf("%s: %s on %s", head.Title, id.Attack, id.Output)}, filledBy(q, b.partCells(run, id)))
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

// filledBy notes the evaluation of cells.
func filledBy(q record.Query, cells []Cell) []Cell {
	for k := range cells {
		cells[k].Evaluation = q
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
					cells[i].Published = Published{Column: v.Column, Value: v.Value, Known: v.Value > 0, Provenance: v.Provenance}
				}
			}
		}
		id := strings.ToLower(strings.Join(strings.Fields(base.Data+"/"+base.Model+" "+base.Architecture), "-"))
		b.add(Head{strings.ReplaceAll(id, "-+-", "+"), strings.TrimSpace(base.Data + ": " + base.Model + " " + base.Architecture)}, cells)
	}
}

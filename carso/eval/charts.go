package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/plots"

	"github.com/go-echarts/go-echarts/v2/charts"
)

// TableBars draws columns of a table, a series each, over its rows whose ID begins with prefix and that hold a number of ours. What is published for a column
// stands beside it.
func TableBars(t paper.Table, title, prefix string, columns ...string) *charts.Bar {
	var names, scenarios []string
	var series []plots.Series
	for _, id := range columns {
		series = append(series, plots.Series{Name: id})
	}
	published, any := make([]plots.Series, len(columns)), make([]bool, len(columns))
	for i, row := range t.Rows {
		cells := make([]paper.Cell, len(columns))
		filled := false
		for j, c := range t.Columns {
			for k, id := range columns {
				if c.ID == id {
					cells[k] = t.Cells[i][j]
					filled = filled || cells[k].Reason == ""
				}
			}
		}
		if !strings.HasPrefix(row.ID, prefix) || !filled {
			continue
		}
		_, name, _ := strings.Cut(row.Title, ": ")
		names, scenarios = append(names, cmp.Or(name, row.Title)), append(scenarios, strings.SplitN(row.ID, "/", 2)[0])
		for k, c := range cells {
			ours, theirs := plots.Point{Y: math.NaN()}, plots.Point{Y: math.NaN()}
			if c.Reason == "" {
				ours = plots.Point{Y: c.Value, Lo: c.Lo, Hi: c.Hi}
			}
			if c.Published.Known {
				theirs, any[k] = plots.Point{Y: c.Published.Value}, true
			}
			series[k].Points = append(series[k].Points, ours)
			published[k].Points = append(published[k].Points, theirs)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(names)))) < len(names) { // rows that only the scenario tells apart
		for i := range names {
			names[i] = scenarios[i] + " – " + names[i]
		}
	}
	names = shortest(names)
	for k, p := range published {
		if any[k] {
			p.Name = columns[k] + ", the paper, full scale"
			series = append(series, p)
		}
	}
	return plots.Bars(fmt.Sprintf("%s, scale %s", title, t.Scale), "", "accuracy (%)", names, series)
}

// shortest cuts names at their first colon, where they stay different.
func shortest(names []string) []string {
	var short []string
	for _, name := range names {
		name, _, _ = strings.Cut(name, ": ")
		if slices.Contains(short, name) {
			return names
		}
		short = append(short, name)
	}
	return short
}

// TableCurves reads a column of an ablation off its table, a series per row of the main table over the value of the setting. What has no record is left out.
func TableCurves(t paper.Table, column string) []plots.Series {
	var series []plots.Series
	for i, row := range t.Rows {
		parts := strings.Split(row.ID, "/") // scenario, row, setting-value
		value, err := strconv.ParseFloat(row.ID[strings.LastIndexByte(row.ID, '-')+1:], 64)
		if len(parts) != 3 || err != nil {
			continue
		}
		name := parts[1] // an attack by itself
		if rowColours[name] != "" {
			name = column + " of " + name
		}
		if len(series) == 0 || series[len(series)-1].Name != name {
			series = append(series, plots.Series{Name: name, Color: rowColours[parts[1]]})
		}
		for j, c := range t.Columns {
			if cell := t.Cells[i][j]; c.ID == column && cell.Reason == "" {
				s := &series[len(series)-1]
				s.Points = append(s.Points, plots.Point{X: value, Y: cell.Value, Lo: cell.Lo, Hi: cell.Hi})
			}
		}
	}
	return series
}

// rowColours are those of the rows of the main table, the same in every chart of curves.
var rowColours = map[string]string{"classifier": plots.Blue, "carso-paper": plots.Vermilion, "carso-honest": plots.Green}

// fateColours: blue is what robustness would be, vermilion what only looks like it.
var fateColours = map[record.Fate]string{record.SurvivedFinite: plots.Blue, record.SurvivedNaN: plots.Vermilion, record.SurvivedZero: plots.Orange, record.Broken: "#999999", record.WrongBefore: "#DDDDDD"}

func fateSeries() []plots.Series {
	var series []plots.Series
	for _, f := range record.Fates() {
		series = append(series, plots.Series{Name: f.String(), Color: fateColours[f]})
	}
	return series
}

// FateBars draws a bar per run: what became of its images, in percent.
func FateBars(title string, names []string, runs []record.Run) *charts.Bar {
	series := fateSeries()
	for _, r := range runs {
		count := make([]int, len(series))
		for _, f := range r.Fates() {
			count[f]++
		}
		for k, n := range count {
			series[k].Points = append(series[k].Points, plots.Point{Y: 100 * float64(n) / float64(max(1, len(r.Images)))})
		}
	}
	return plots.Stacked(title, "share of the images (%)", names, series)
}

// SurvivorBars draws an accounting: of the attacked images with each kind of first gradient, those that survived.
func SurvivorBars(title string, a record.Accounting) *charts.Bar {
	series := []plots.Series{{Name: "attacked"}, {Name: "survived"}}
	for _, t := range []record.Tally{a.NaN, a.Zero, a.Usable} {
		for k, n := range []int{t.Images, t.Survived} {
			series[k].Points = append(series[k].Points, plots.Point{Y: float64(n)})
		}
	}
	return plots.Bars(title, "", "images", []string{"NaN gradient", "zero gradient", "finite gradient"}, series)
}

// FateMosaic draws a square per image of a run, in the order of the test set, coloured by what became of it.
func FateMosaic(title string, r record.Run, columns int) *charts.Scatter {
	var items []string
	var kind []int
	for i, f := range r.Fates() {
		items = append(items, fmt.Sprintf("image %d", r.Images[i].Index))
		kind = append(kind, int(f))
	}
	return plots.Mosaic(title, columns, fateSeries(), items, kind)
}

// Transfer draws how much attacks share: of the images that the attack of a row breaks, the percentage that the attack of a column breaks, too, over the images
// that both runs hold and that are right initially in both.
func Transfer(title string, names []string, runs []record.Run) *charts.HeatMap {
	broken := make([]map[int]bool, len(runs))
	for k, r := range runs {
		broken[k] = map[int]bool{}
		for _, im := range r.Images {
			if im.Initial {
				broken[k][im.Index] = im.Broken != ""
			}
		}
	}
	values := make([][]float64, len(runs))
	for a := range runs {
		for b := range runs {
			n, too := 0, 0
			for image, is := range broken[a] {
				other, both := broken[b][image]
				if is && both {
					n++
					if other {
						too++
					}
				}
			}
			v := math.NaN()
			if n > 0 {
				v = math.Round(100 * float64(too) / float64(n))
			}
			values[a] = append(values[a], v)
		}
	}
	return plots.HeatMap(title, names, names, values, 0, 100)
}

// ClassBars draws accuracy by class, a series per run, over the images that each run holds of the class, counted as the main table
// counts.
func ClassBars(title string, classes, names []string, runs []record.Run) *charts.Bar {
	var series []plots.Series
	for k, r := range runs {
		_, score := paper.Score(r.Spec.Row, r.Spec.Column)
		s := plots.Series{Name: names[k]}
		for class := range classes {
			of := r
			of.Images = nil
			for _, im := range r.Images {
				if im.Label == class {
					of.Images = append(of.Images, im)
				}
			}
			p := plots.Point{Y: math.NaN()}
			if e := of.Estimate(score); e.N > 0 {
				p = plots.Point{Y: e.Value, Lo: e.Lo, Hi: e.Hi}
			}
			s.Points = append(s.Points, p)
		}
		series = append(series, s)
	}
	return plots.Bars(title, "", "accuracy (%)", classes, series)
}

// Confusion draws what a run's images were taken for: in row i and column j the percentage of passes over the images of class i that decided for class j, on the
// images that the attack returned, or on the clean ones of a run without attack.
func Confusion(title string, classes []string, r record.Run) *charts.HeatMap {
	count, passes := make([][]float64, len(classes)), make([]float64, len(classes))
	for i := range count {
		count[i] = make([]float64, len(classes))
	}
	for _, im := range r.Images {
		decided := im.Fresh
		if r.Spec.Column == "clean" {
			decided = im.Clean
		}
		for _, c := range decided {
			count[im.Label][c]++
			passes[im.Label]++
		}
	}
	for i := range count {
		for j := range count[i] {
			if passes[i] == 0 {
				count[i][j] = math.NaN()
			} else {
				count[i][j] = math.Round(100 * count[i][j] / passes[i])
			}
		}
	}
	return plots.HeatMap(title, classes, classes, count, 0, 100)
}

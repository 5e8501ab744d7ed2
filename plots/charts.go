// Package plots draws curves, bars, picture grids and tables for notebooks and files.
//
// A chart is a go-echarts chart. Its ECharts option is the only description: JupyterLab draws it interactively, and ECharts
// itself, run in Go without a browser, draws the same option as SVG or PNG for every other reader.
//
//	chart := plots.Lines("Accuracy under attack", "ε", "accuracy (%)", []plots.Series{
//		{Name: "CARSO", Points: []plots.Point{{X: 0, Y: 85, Lo: 82, Hi: 88}, {X: 0.03, Y: 71, Lo: 67, Hi: 75}}},
//	})
//	must.M(plots.Show(chart))
//
// Show, ShowImage and ShowTable display in a notebook; PNG, SVG, SavePNG and SaveSVG work everywhere. The ECharts file is
// installed by internal/setup/setup.sh and not part of the repository.
package plots

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-echarts/go-echarts/v2/charts"
	"github.com/go-echarts/go-echarts/v2/opts"
	"github.com/go-echarts/go-echarts/v2/types"
)

// Point is a value at X with the ends of its interval, usually 95% confidence. Where Lo < Hi does not hold there is no
// interval; where Y is not finite there is a gap.
type Point struct{ X, Y, Lo, Hi float64 }

func (p Point) hasInterval() bool { return finite(p.Y) && finite(p.Lo) && finite(p.Hi) && p.Lo < p.Hi }

func (p Point) text() string {
	if !p.hasInterval() {
		return brief(p.Y)
	}
	return fmt.Sprintf("%s [%s, %s]", brief(p.Y), brief(p.Lo), brief(p.Hi))
}

// Series is one named curve or one colour of bars.
type Series struct {
	Name     string
	Points   []Point
	Whiskers bool   // Lines: intervals as whiskers at the points instead of a band
	Color    string // "#RRGGBB" of what has a colour of its own; empty: the next of the palette. Curves take the palette's only, with their marker and dashes
}

func (s Series) colour(i int) string { return cmp.Or(s.Color, colour(i)) }

// look is the number of the look of the i-th curve.
func (s Series) look(i int) int {
	if k := slices.Index(palette, s.Color); k >= 0 {
		return k
	}
	return i
}

// The palette's colours are those of Okabe and Ito, which colour-blind readers tell apart.
const (
	Blue      = "#0072B2"
	Vermilion = "#D55E00"
	Green     = "#009E73"
	Purple    = "#CC79A7"
	Orange    = "#E69F00"
	SkyBlue   = "#56B4E9"
	Black     = "#000000"
	Yellow    = "#F0E442"
)

// The look of the n-th series: marker and dashes tell curves apart in black and white. Yellow comes last: it is faint on white.
var (
	palette = []string{Blue, Vermilion, Green, Purple, Orange, SkyBlue, Black, Yellow}
	markers = []string{"circle", "rect", "triangle", "diamond"}
	dashes  = []string{"solid", "dashed", "dotted"}
)

// manyPoints is the length from which a curve is drawn without markers.
const manyPoints = 40

// Lines draws curves over a true number axis, with the points sorted by X. Intervals are drawn as a band, or as whiskers
// where the series asks for them or has fewer than three.
func Lines(title, xName, yName string, series []Series) *charts.Line {
	return lines(title, "value", xName, yName, series)
}

// LogLines is Lines over an axis on which every doubling of X is one step, for settings that are tried so. Points of X that are not positive have no place there.
func LogLines(title, xName, yName string, series []Series) *charts.Line {
	positive := slices.Clone(series)
	for i, s := range series {
		positive[i].Points = slices.DeleteFunc(slices.Clone(s.Points), func(p Point) bool { return !(p.X > 0) })
	}
	return lines(title, "log", xName, yName, positive)
}

func lines(title, xType, xName, yName string, series []Series) *charts.Line {
	c := charts.NewLine()
	dense := false
	for _, s := range series {
		dense = dense || len(s.Points) >= manyPoints
	}
	decorate(&c.RectChart, title, series, 0, dense)
	c.SetGlobalOptions(
		charts.WithXAxisOpts(opts.XAxis{Type: xType, Name: xName, NameLocation: "middle", NameGap: 28, Scale: opts.Bool(true),
			SplitLine: &opts.SplitLine{Show: opts.Bool(false)}, AxisLine: &opts.AxisLine{OnZero: opts.Bool(false)}}),
		charts.WithYAxisOpts(yAxis(yName)))
	for i, s := range series {
		points := slices.Clone(s.Points)
		slices.SortStableFunc(points, func(a, b Point) int { return cmp.Compare(a.X, b.X) })
		points = slices.DeleteFunc(points, func(p Point) bool { return !finite(p.X) })
		look, id := s.look(i), intervalID+strconv.Itoa(i)
		c.MultiSeries = append(c.MultiSeries, curve(s.Name, look, points, xName))
		if asBand(s, points) {
			c.MultiSeries = append(c.MultiSeries, band(s.Name, id, look, points)...)
		} else if w, ok := whiskers(s.Name, id, look, points); ok {
			c.MultiSeries = append(c.MultiSeries, w)
		}
	}
	return c
}

func yAxis(name string) opts.YAxis {
	return opts.YAxis{Name: name, NameLocation: "middle", NameGap: 42, AxisLine: &opts.AxisLine{OnZero: opts.Bool(false)}}
}

func curve(name string, look int, points []Point, xName string) charts.SingleSeries {
	data := make([]opts.LineData, len(points))
	for k, p := range points {
		// The name is what the tooltip shows.
		data[k] = opts.LineData{Name: fmt.Sprintf("%s %s: %s", xName, brief(p.X), p.text()), Value: []any{p.X, orGap(p.Y)}}
	}
	s := charts.SingleSeries{
		Name: name, Type: types.ChartLine, Data: data,
		Symbol: markers[look%len(markers)], SymbolSize: 8,
		ItemStyle: &opts.ItemStyle{Color: colour(look)},
		LineStyle: &opts.LineStyle{Color: colour(look), Width: 2, Type: dashes[look%len(dashes)]},
	}
	if len(points) >= manyPoints {
		s.ShowSymbol = opts.Bool(false)
	}
	return s
}

// asBand tells whether the series' intervals are drawn as a band: two points make no band worth looking at.
func asBand(s Series, points []Point) bool {
	n := 0
	for _, p := range points {
		if p.hasInterval() {
			n++
		}
	}
	return n >= 3 && !s.Whiskers
}

// band draws the intervals as two stacked curves: an invisible one at the lower ends and one of the intervals' lengths,
// whose area is filled. On two number axes ECharts stacks the first number of a pair, hence (y, x) with the roles
// given by Encode.
func band(name, id string, look int, points []Point) []charts.SingleSeries {
	lower, length := make([]any, 0, len(points)), make([]any, 0, len(points))
	for _, p := range points {
		switch {
		case p.hasInterval():
			lower = append(lower, []any{p.Lo, p.X})
			length = append(length, []any{p.Hi - p.Lo, p.X})
		case finite(p.Y): // a value known exactly: the band closes there
			lower = append(lower, []any{p.Y, p.X})
			length = append(length, []any{0, p.X})
		default:
			lower = append(lower, []any{"-", p.X})
			length = append(length, []any{"-", p.X})
		}
	}
	edge := func(part string, data []any) charts.SingleSeries {
		return charts.SingleSeries{
			Id: id + part, Name: name, Type: types.ChartLine, Data: data, Symbol: "none", Stack: id,
			Encode:    &opts.Encode{X: 1, Y: 0},
			ItemStyle: &opts.ItemStyle{Color: colour(look)},
			LineStyle: &opts.LineStyle{Opacity: opts.Float(0)},
		}
	}
	filled := edge(" length", length)
	filled.AreaStyle = &opts.AreaStyle{Color: colour(look), Opacity: opts.Float(0.18)}
	return []charts.SingleSeries{edge(" lower", lower), filled}
}

// whiskers draws the intervals as one broken curve of vertical pieces whose flat markers are the caps.
func whiskers(name, id string, look int, points []Point) (charts.SingleSeries, bool) {
	var data []any
	for _, p := range points {
		if p.hasInterval() {
			data = append(data, []any{p.X, p.Lo}, []any{p.X, p.Hi}, []any{p.X, "-"})
		}
	}
	return charts.SingleSeries{
		Id: id, Name: name, Type: types.ChartLine, Data: data, Symbol: "rect", SymbolSize: []float64{10, 1.5},
		ItemStyle: &opts.ItemStyle{Color: colour(look)},
		LineStyle: &opts.LineStyle{Color: colour(look), Width: 1.5},
	}, len(data) > 0
}

// intervalID begins the id of every series that is only the picture of another one's intervals.
const intervalID = "interval "

// visitor adds to the option what go-echarts has no field for.
type visitor struct {
	charts.BaseConfigurationVisitor
}

// VisitTitleOpt sets the title's lines apart.
func (visitor) VisitTitleOpt(title opts.Title) any {
	type textStyle struct {
		*opts.TextStyle
		LineHeight int `json:"lineHeight"`
	}
	return struct {
		opts.Title
		TextStyle textStyle `json:"textStyle"`
	}{title, textStyle{title.TitleStyle, titleLine}}
}

// VisitXAxis shows every category, over several lines where needed: by itself ECharts leaves out neighbours of wide labels. A logarithmic axis has the base 2.
func (v visitor) VisitXAxis(axes []opts.XAxis) any {
	type axisLabel struct {
		*opts.AxisLabel
		Interval   int `json:"interval"`
		LineHeight int `json:"lineHeight"`
	}
	type axis struct {
		opts.XAxis
		AxisLabel axisLabel `json:"axisLabel"`
	}
	type logAxis struct {
		opts.XAxis
		LogBase int `json:"logBase"`
	}
	out := make([]any, len(axes))
	for i, a := range axes {
		switch a.Type {
		case "category":
			out[i] = axis{a, axisLabel{a.AxisLabel, 0, labelLine}}
		case "log":
			out[i] = logAxis{a, 2}
		default:
			out[i] = a
		}
	}
	return out
}

// VisitSeriesOpt keeps the pictures of intervals out of the tooltip and stacks bands whatever the sign.
func (visitor) VisitSeriesOpt(series charts.MultiSeries) any {
	type interval struct {
		charts.SingleSeries
		Silent        bool            `json:"silent"`
		StackStrategy string          `json:"stackStrategy,omitempty"`
		Tooltip       map[string]bool `json:"tooltip"`
	}
	out := make([]any, len(series))
	for i, s := range series {
		out[i] = s
		if strings.HasPrefix(s.Id, intervalID) {
			v := interval{SingleSeries: s, Silent: true, Tooltip: map[string]bool{"show": false}}
			if s.Stack != "" {
				v.StackStrategy = "all"
			}
			out[i] = v
		}
	}
	return out
}

// Shares of a category's width: the space around its group of bars, and the space between bars in bar widths.
const (
	categoryGap = 0.3
	barGap      = 0.1
)

// Bars draws groups of bars: Points[k] of every series belongs to categories[k]; its X is not used. Intervals are whiskers.
func Bars(title, xName, yName string, categories []string, series []Series) *charts.Bar {
	c := charts.NewBar()
	const plotWidth = Width - gridLeft - gridRight
	labels, size, rows := axisLabels(categories, plotWidth/float64(max(1, len(categories)))-3)
	extra := (rows - 1) * labelLine
	decorate(&c.RectChart, title, series, extra, false)
	c.SetGlobalOptions(
		charts.WithXAxisOpts(opts.XAxis{Type: "category", Name: xName, NameLocation: "middle", NameGap: 28 + extra,
			AxisTick:  &opts.AxisTick{Show: opts.Bool(false)},
			AxisLabel: &opts.AxisLabel{Show: opts.Bool(true), FontSize: size}}),
		charts.WithYAxisOpts(yAxis(yName)))
	// Whiskers need positions inside a category: a hidden number axis on which category k reaches from k-½ to k+½.
	c.ExtendXAxis(opts.XAxis{Type: "value", Show: opts.Bool(false), Min: -0.5, Max: float64(len(categories)) - 0.5})
	c.SetXAxis(labels)

	n := float64(len(series))
	width := (1 - categoryGap) / (n + (n-1)*barGap)
	var over []charts.SingleSeries
	for i, s := range series {
		data := make([]opts.BarData, len(categories))
		placed := make([]Point, 0, len(categories))
		for k := range categories {
			p := Point{Y: math.NaN()}
			if k < len(s.Points) {
				p = s.Points[k]
			}
			data[k] = opts.BarData{Name: fmt.Sprintf("%s: %s", categories[k], p.text()), Value: orGap(p.Y)}
			p.X = float64(k) - (1-categoryGap)/2 + width/2 + float64(i)*width*(1+barGap)
			placed = append(placed, p)
		}
		c.MultiSeries = append(c.MultiSeries, charts.SingleSeries{
			Name: s.Name, Type: types.ChartBar, Data: data,
			BarGap: percent(barGap), BarCategoryGap: percent(categoryGap),
			ItemStyle: &opts.ItemStyle{Color: s.colour(i)},
		})
		if w, ok := whiskers(s.Name, intervalID+strconv.Itoa(i), i, placed); ok {
			w.XAxisIndex = 1
			w.ItemStyle = &opts.ItemStyle{Color: "#333"}
			w.LineStyle = &opts.LineStyle{Color: "#333", Width: 1.5}
			over = append(over, w)
		}
	}
	c.MultiSeries = append(c.MultiSeries, over...)
	return c
}

// axisLabels breaks labels into lines of at most width pixels, at spaces and behind hyphens and slashes, and says the size of the font at which they fit, if any
// of a readable size does, and the most lines.
func axisLabels(names []string, width float64) (labels []string, size, rows int) {
	fs := faces{}
	for size = labelSize; ; size-- {
		labels, rows = nil, 1
		fits := true
		f, err := fs.get(false, float64(size))
		if err != nil {
			return names, labelSize, 1
		}
		for _, name := range names {
			lines, longest := wrap(f, name, width)
			if longest > width { // a long word
				lines, longest = wrap(f, strings.NewReplacer("-", "- ", "/", "/ ").Replace(name), width)
			}
			// Where no line ends behind a hyphen, none was needed there.
			labels = append(labels, strings.NewReplacer("- ", "-", "/ ", "/").Replace(strings.Join(lines, "\n")))
			rows, fits = max(rows, len(lines)), fits && longest <= width
		}
		if fits || size == 8 {
			return labels, size, rows
		}
	}
}

// Sizes in CSS pixels.
const (
	gridLeft, gridRight  = 64, 28 // margins; the left one holds the numbers and the name of the y axis
	titleSize, titleLine = 16, 22 // font and line height
	labelSize, labelLine = 12, 15
	legendRow            = 24
)

// decorate sets title, legend, margins and tooltip. The title is broken into lines and the legend's rows are counted, so that
// neither covers the data; extra is further room below the x axis.
func decorate(c *charts.RectChart, title string, series []Series, extra int, dense bool) {
	lines, legendRows := []string{title}, 1
	fs := faces{}
	if f, err := fs.get(true, titleSize); err == nil {
		lines, _ = wrap(f, title, Width-40)
	}
	if f, err := fs.get(false, labelSize); err == nil {
		x := 0.0
		for _, s := range series {
			w := 25 + 5 + textWidth(f, s.Name) + 10 // icon, gap, name, gap
			if x > 0 && x+w > Width-20 {
				legendRows++
				x = 0
			}
			x += w
		}
	}
	top := 20 + titleLine*len(lines)
	bottom := 56 + legendRow*legendRows + extra
	if len(series) < 2 && (len(series) == 0 || series[0].Name == "") {
		bottom -= legendRow
	}
	tooltip := opts.Tooltip{Show: opts.Bool(true), Trigger: "item", Formatter: "{a}<br/>{b}"}
	if dense { // no markers to point at
		tooltip = opts.Tooltip{Show: opts.Bool(true), Trigger: "axis"}
	}
	c.Accept(visitor{})
	c.SetGlobalOptions(
		charts.WithTitleOpts(opts.Title{Title: strings.Join(lines, "\n"), Left: "center", Top: "4",
			TitleStyle: &opts.TextStyle{FontSize: titleSize, Color: "#222"}}),
		charts.WithLegendOpts(opts.Legend{Show: opts.Bool(true), Bottom: "6", Left: "center", Width: strconv.Itoa(Width - 20)}),
		charts.WithGridOpts(opts.Grid{Left: strconv.Itoa(gridLeft), Right: strconv.Itoa(gridRight), Top: strconv.Itoa(top), Bottom: strconv.Itoa(bottom)}),
		charts.WithTooltipOpts(tooltip))
}

func colour(i int) string { return palette[i%len(palette)] }

func percent(share float64) string { return strconv.Itoa(int(math.Round(100*share))) + "%" }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// orGap is the number, or ECharts' mark of a missing value.
func orGap(v float64) any {
	if !finite(v) {
		return "-"
	}
	return v
}

// brief writes a number with four significant digits.
func brief(v float64) string {
	if !finite(v) {
		return "–"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

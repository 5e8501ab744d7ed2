package plots

import (
	"fmt"
	"strconv"

	"github.com/go-echarts/go-echarts/v2/charts"
	"github.com/go-echarts/go-echarts/v2/opts"
	"github.com/go-echarts/go-echarts/v2/types"
)

// Stacked draws one bar per category, made of the series' values on top of each other. Intervals are not drawn: the parts of a whole have no independent ones.
func Stacked(title, yName string, categories []string, series []Series) *charts.Bar {
	plain := make([]Series, len(series))
	for i, s := range series {
		plain[i] = Series{Name: s.Name, Color: s.Color}
		for _, p := range s.Points {
			plain[i].Points = append(plain[i].Points, Point{Y: p.Y})
		}
	}
	c := Bars(title, "", yName, categories, plain)
	for i := range c.MultiSeries {
		c.MultiSeries[i].Stack = "all"
		c.MultiSeries[i].BarGap = ""
		// White edges part neighbours in black and white, too.
		c.MultiSeries[i].ItemStyle = &opts.ItemStyle{Color: plain[i].colour(i), BorderColor: "#fff", BorderWidth: 1}
		data := c.MultiSeries[i].Data.([]opts.BarData)
		for k := range data {
			if data[k].Value == 0.0 { // whose edges alone would cut into the axis
				data[k].ItemStyle = &opts.ItemStyle{BorderColor: "transparent"}
			}
		}
	}
	return c
}

// Mosaic draws a square per item, in rows of the given number of columns from the top left on, coloured by the item's kind, an index of kinds. Kinds are series
// of which name and colour count. Items[i] is what the tooltip calls item i.
func Mosaic(title string, columns int, kinds []Series, items []string, kind []int) *charts.Scatter {
	c := charts.NewScatter()
	decorate(&c.RectChart, title, kinds, -36, false)
	rows := (len(kind) + columns - 1) / columns
	hidden := func(n int) (int, float64) { return -1, float64(n) } // half a square of margin
	minX, maxX := hidden(columns)
	minY, maxY := hidden(rows)
	c.SetGlobalOptions(
		charts.WithXAxisOpts(opts.XAxis{Type: "value", Show: opts.Bool(false), Min: minX, Max: maxX}),
		charts.WithYAxisOpts(opts.YAxis{Type: "value", Show: opts.Bool(false), Min: minY, Max: maxY, SplitLine: &opts.SplitLine{Show: opts.Bool(false)}}))
	size := min(float64(Width-gridLeft-gridRight)/float64(columns+1), float64(Height-130)/float64(rows+1)) - 2
	for k, s := range kinds {
		var data []opts.ScatterData
		for i := range kind {
			if kind[i] == k {
				data = append(data, opts.ScatterData{Name: items[i], Value: []int{i % columns, rows - 1 - i/columns}})
			}
		}
		c.MultiSeries = append(c.MultiSeries, charts.SingleSeries{Name: s.Name, Type: types.ChartScatter, Data: data, Symbol: "rect", SymbolSize: size,
			ItemStyle: &opts.ItemStyle{Color: s.colour(k), Opacity: opts.Float(1)}})
	}
	return c
}

// HeatMap draws values[row][column] as numbers on squares, the darker the larger, between lo and hi. Row 0 is on top. What is not finite stays empty.
func HeatMap(title string, rows, columns []string, values [][]float64, lo, hi float64) *charts.HeatMap {
	c := charts.NewHeatMap()
	fs := faces{}
	left := gridLeft
	if f, err := fs.get(false, labelSize); err == nil {
		for _, r := range rows {
			left = max(left, 20+int(textWidth(f, r)))
		}
	}
	labels, font, lines := axisLabels(columns, float64(Width-left-gridRight)/float64(max(1, len(columns)))-3)
	decorate(&c.RectChart, title, nil, (lines-1)*labelLine-20, false)
	upwards := make([]string, len(rows))
	var dark, light []opts.HeatMapData
	for y, row := range values {
		upwards[len(rows)-1-y] = rows[y]
		for x, v := range row {
			if !finite(v) {
				continue
			}
			d := opts.HeatMapData{Name: fmt.Sprintf("%s / %s: %s", rows[y], columns[x], brief(v)), Value: []any{x, len(rows) - 1 - y, v}}
			if v > lo+0.65*(hi-lo) {
				dark = append(dark, d)
			} else {
				light = append(light, d)
			}
		}
	}
	c.SetGlobalOptions(
		charts.WithGridOpts(opts.Grid{Left: strconv.Itoa(left), Right: strconv.Itoa(gridRight), Top: c.GridList[0].Top, Bottom: c.GridList[0].Bottom}),
		charts.WithLegendOpts(opts.Legend{Show: opts.Bool(false)}),
		charts.WithXAxisOpts(opts.XAxis{Type: "category", Data: labels, AxisTick: &opts.AxisTick{Show: opts.Bool(false)},
			AxisLabel: &opts.AxisLabel{Show: opts.Bool(true), FontSize: font}}),
		charts.WithYAxisOpts(opts.YAxis{Type: "category", Data: upwards}),
		charts.WithVisualMapOpts(opts.VisualMap{Show: opts.Bool(false), Min: float32(lo), Max: float32(hi), Dimension: "2",
			InRange: &opts.VisualMapInRange{Color: []string{"#f7fbff", "#9ecae1", "#08519c"}}}))
	// Two series, so that the numbers are white on dark squares.
	for _, part := range []struct {
		data []opts.HeatMapData
		ink  string
	}{{light, "#222"}, {dark, "#fff"}} {
		c.MultiSeries = append(c.MultiSeries, charts.SingleSeries{Name: title, Type: types.ChartHeatMap, Data: part.data,
			ItemStyle: &opts.ItemStyle{BorderColor: "#fff", BorderWidth: 1},
			Label:     &opts.Label{Show: opts.Bool(true), Color: part.ink, Formatter: "{@[2]}"}})
	}
	return c
}

package plots

import (
	"math"
	"slices"
	"strings"
	"testing"

	"carsokit/internal/goldentest"
)

func sampleStacked() Chart {
	return Stacked("Fates", "images (%)", []string{"paper's protocol", "honest protocol"}, []Series{
		{Name: "survived", Color: "#0072B2", Points: []Point{{Y: 35, Lo: 30, Hi: 40}, {Y: 15}}},
		{Name: "broken", Color: "#999999", Points: []Point{{Y: 65}, {Y: 85}}},
	})
}

func sampleMosaic() Chart {
	return Mosaic("Images", 3, []Series{{Name: "survived", Color: "#0072B2"}, {Name: "broken", Color: "#D55E00"}},
		[]string{"image 0", "image 1", "image 2", "image 3"}, []int{0, 1, 1, 0})
}

func sampleHeatMap() Chart {
	return HeatMap("Transfer", []string{"log S", "classifier"}, []string{"log S", "classifier", "at z = 0"}, [][]float64{{100, 20, 55}, {90, 100, math.NaN()}}, 0, 100)
}

// rects are the drawn rectangles of a colour, as x, y, width, height.
func rects(t *testing.T, c Chart, fill string) [][4]float64 {
	t.Helper()
	svg, err := SVG(c)
	if err != nil {
		t.Fatal(err)
	}
	var out [][4]float64
	for _, o := range shapes(t, svg, func(e *element) bool { return strings.EqualFold(e.attr["fill"], fill) }) {
		var xs, ys []float64
		for _, p := range ends(o) {
			xs, ys = append(xs, p[0]), append(ys, p[1])
		}
		out = append(out, [4]float64{slices.Min(xs), slices.Min(ys), slices.Max(xs) - slices.Min(xs), slices.Max(ys) - slices.Min(ys)})
	}
	return out
}

func TestStackedBarsStandOnEachOther(t *testing.T) {
	goldentest.NeedECharts(t)
	lower, upper := rects(t, sampleStacked(), "#0072B2"), rects(t, sampleStacked(), "#999999")
	if len(lower) != 3 || len(upper) != 3 { // two bars and the legend's mark
		t.Fatalf("%v and %v", lower, upper)
	}
	for k := range 2 {
		if l, u := lower[k], upper[k]; math.Abs(l[0]-u[0]) > 1 || math.Abs(u[1]+u[3]-l[1]) > 1 {
			t.Errorf("bar %d: the upper part %v does not stand on the lower %v", k, u, l)
		}
	}
	if r := lower[0][3] / upper[0][3]; math.Abs(r-35./65) > 0.02 {
		t.Errorf("heights are as %.3f, the values as %.3f", r, 35./65)
	}
}

func TestMosaicFillsRowsFromTheTop(t *testing.T) {
	goldentest.NeedECharts(t)
	var squares [][4]float64
	for _, colour := range []string{"#0072B2", "#D55E00"} {
		marks := rects(t, sampleMosaic(), colour)
		if len(marks) != 3 {
			t.Fatalf("%s: %v", colour, marks)
		}
		squares = append(squares, marks[:2]...)
	}
	// Images 0 and 3 are of the first kind, 1 and 2 of the second: three above, one below the first.
	if !(squares[0][0] < squares[2][0] && squares[2][0] < squares[3][0]) || squares[0][1] != squares[2][1] || !(squares[1][1] > squares[0][1]) || squares[1][0] != squares[0][0] {
		t.Errorf("squares %v", squares)
	}
}

func TestHeatMapIsDarkerForMore(t *testing.T) {
	goldentest.NeedECharts(t)
	svg, err := SVG(sampleHeatMap())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(rects(t, sampleHeatMap(), "rgb(8,81,156)")); n != 2 {
		t.Errorf("%d squares of the darkest colour, want 2", n)
	}
	for _, text := range []string{">100<", ">20<", ">55<", ">90<", "at z = 0"} {
		if !strings.Contains(svg, text) {
			t.Errorf("no %q", text)
		}
	}
}

package plots

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"flag"
	"image"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"carsokit/internal/goldentest"

	"github.com/janpfeifer/gonb/gonbui/protocol"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

// sampleLines has a band, whiskers, a curve without intervals, a gap, and points out of order.
func sampleLines() Chart {
	return Lines("Accuracy", "ε", "accuracy (%)", []Series{
		{Name: "band", Points: []Point{{X: 0.5, Y: 50, Lo: 45, Hi: 60}, {X: 0, Y: 80, Lo: 75, Hi: 90}, {X: 1, Y: 30, Lo: 25, Hi: 31}}},
		{Name: "whiskers", Whiskers: true, Points: []Point{{X: 0, Y: 20, Lo: 10, Hi: 25}, {X: 1, Y: 0, Lo: 0, Hi: 4}}},
		{Name: "gap", Points: []Point{{X: 0, Y: 100}, {X: 0.5, Y: math.NaN()}, {X: 1, Y: 100}}},
	})
}

func sampleBars() Chart {
	return Bars("Table 1", "attack", "accuracy (%)", []string{"clean", "PGD", "AutoAttack of the whole pipeline"}, []Series{
		{Name: "ours", Points: []Point{{Y: 80, Lo: 70, Hi: 85}, {Y: 60, Lo: 50, Hi: 65}, {Y: 40, Lo: 35, Hi: 50}}},
		{Name: "published", Points: []Point{{Y: 82}, {Y: math.NaN()}}},
	})
}

func TestGoldenOptions(t *testing.T) {
	for name, c := range map[string]Chart{"lines": sampleLines(), "bars": sampleBars(), "stacked": sampleStacked(), "mosaic": sampleMosaic(), "heatmap": sampleHeatMap()} {
		option, err := Option(c)
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := json.Indent(&buf, option, "", " "); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".json")
		if *update {
			if err := save(buf.Bytes(), path); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf.Bytes(), want) {
			t.Errorf("%s: the option differs from %s; look at the picture, then run with -update", name, path)
		}
	}
}

// shapes returns the outlines of the drawing's shapes that keep accepts, in the drawing's coordinates.
func shapes(t *testing.T, svg string, keep func(*element) bool) [][]segment {
	t.Helper()
	root, err := parseSVG(svg)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]segment
	var walk func(e *element, m matrix)
	walk = func(e *element, m matrix) {
		m = m.mul(parseTransform(e.attr["transform"]))
		if keep(e) {
			outline, err := e.outline()
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range outline {
				p := make([]float64, len(s.p))
				for k := 0; k+1 < len(p); k += 2 {
					p[k], p[k+1] = m.at(s.p[k], s.p[k+1])
				}
				outline[i].p = p
			}
			out = append(out, outline)
		}
		if e.name != "defs" {
			for _, child := range e.children {
				walk(child, m)
			}
		}
	}
	walk(root, matrix{1, 0, 0, 1, 0, 0})
	return out
}

// ends returns the end points of an outline's segments.
func ends(outline []segment) [][2]float64 {
	var out [][2]float64
	for _, s := range outline {
		if n := len(s.p); n >= 2 {
			out = append(out, [2]float64{s.p[n-2], s.p[n-1]})
		}
	}
	return out
}

// The band's edges lie above and below the curve at every point, at the distances of the interval.
func TestBandEnclosesCurve(t *testing.T) {
	goldentest.NeedECharts(t)
	for _, shift := range []float64{0, -50, -200} { // all positive, of both signs, all negative
		points := []Point{{X: 0, Y: 80, Lo: 75, Hi: 90}, {X: 0.5, Y: 50, Lo: 45, Hi: 60}, {X: 1, Y: 30, Lo: 25, Hi: 31}, {X: 2, Y: 60, Lo: 60, Hi: 60}}
		for i := range points {
			points[i].Y += shift
			points[i].Lo += shift
			points[i].Hi += shift
		}
		svg, err := SVG(Lines("", "x", "y", []Series{{Name: "a", Points: points}}))
		if err != nil {
			t.Fatal(err)
		}
		curve := shapes(t, svg, func(e *element) bool {
			return e.name == "path" && e.attr["stroke"] == colour(0) && e.attr["stroke-opacity"] != "0" && e.attr["fill"] == "none" && len(ends(mustOutline(t, e))) == len(points)
		})
		band := shapes(t, svg, func(e *element) bool {
			return e.name == "path" && e.attr["fill"] == colour(0) && e.attr["fill-opacity"] == "0.18"
		})
		if len(curve) != 1 || len(band) != 1 {
			t.Fatalf("shift %v: %d curves and %d bands, want one each", shift, len(curve), len(band))
		}
		line := ends(curve[0])
		unit := (line[1][1] - line[0][1]) / (points[0].Y - points[1].Y) // pixels for one unit of y, downwards
		for i, p := range points {
			top, bottom := math.Inf(1), math.Inf(-1)
			for _, e := range ends(band[0]) {
				if math.Abs(e[0]-line[i][0]) < 0.1 {
					top, bottom = min(top, e[1]), max(bottom, e[1])
				}
			}
			// ECharts rounds coordinates to a tenth of a pixel or finer; unit carries such an error too.
			if up, down := line[i][1]-top, bottom-line[i][1]; math.Abs(up-unit*(p.Hi-p.Y)) > 0.3 || math.Abs(down-unit*(p.Y-p.Lo)) > 0.3 {
				t.Errorf("shift %v, point %d: the band reaches %.2f up and %.2f down, want %.2f and %.2f", shift, i, up, down, unit*(p.Hi-p.Y), unit*(p.Y-p.Lo))
			}
		}
	}
}

func mustOutline(t *testing.T, e *element) []segment {
	t.Helper()
	outline, err := e.outline()
	if err != nil {
		t.Fatal(err)
	}
	return outline
}

// On the axis of LogLines doublings are equally far apart, a point at 0 is left out, and the band is at the points.
func TestLogLines(t *testing.T) {
	goldentest.NeedECharts(t)
	points := []Point{{X: 0, Y: 90, Lo: 80, Hi: 95}, {X: 1, Y: 80, Lo: 75, Hi: 90}, {X: 2, Y: 50, Lo: 45, Hi: 60}, {X: 8, Y: 30, Lo: 25, Hi: 31}, {X: 128, Y: 10, Lo: 5, Hi: 20}}
	svg, err := SVG(LogLines("", "x", "y", []Series{{Name: "a", Points: points}}))
	if err != nil {
		t.Fatal(err)
	}
	curve := shapes(t, svg, func(e *element) bool {
		return e.name == "path" && e.attr["stroke"] == colour(0) && e.attr["stroke-opacity"] != "0" && e.attr["fill"] == "none" && len(ends(mustOutline(t, e))) == 4
	})
	band := shapes(t, svg, func(e *element) bool {
		return e.name == "path" && e.attr["fill"] == colour(0) && e.attr["fill-opacity"] == "0.18"
	})
	if len(curve) != 1 || len(band) != 1 {
		t.Fatalf("%d curves and %d bands, want one each", len(curve), len(band))
	}
	line := ends(curve[0])
	step := line[1][0] - line[0][0]
	for i, p := range points[1:] {
		if at := (line[i][0] - line[0][0]) / step; step < 10 || math.Abs(at-math.Log2(p.X)) > 0.01 {
			t.Errorf("X %g is %.3f steps of %.1f pixels from 1, want %g", p.X, at, step, math.Log2(p.X))
		}
		if !slices.ContainsFunc(ends(band[0]), func(e [2]float64) bool { return math.Abs(e[0]-line[i][0]) < 0.1 && e[1] < line[i][1]-1 }) {
			t.Errorf("no end of the band over the point at %g", p.X)
		}
	}
	if points[0].X != 0 {
		t.Error("the caller's points were changed")
	}
}

// Whiskers of bars stand over the middle of their bar and reach from Lo to Hi.
func TestWhiskersOfBars(t *testing.T) {
	goldentest.NeedECharts(t)
	for n := 1; n <= 4; n++ {
		var series []Series
		for i := range n {
			y := 80 - 10*float64(i)
			series = append(series, Series{Name: string(rune('a' + i)), Points: []Point{{Y: y, Lo: y / 2, Hi: y + 10}, {Y: y - 10, Lo: 10, Hi: y}}})
		}
		svg, err := SVG(Bars("", "", "y", []string{"one", "two"}, series))
		if err != nil {
			t.Fatal(err)
		}
		whiskers := map[float64][2]float64{} // by centre: the vertical pieces
		for _, w := range shapes(t, svg, func(e *element) bool {
			return e.name == "path" && e.attr["stroke"] == "#333" && e.attr["fill"] == "none"
		}) {
			p := ends(w)
			for k := 0; k+1 < len(p); k += 2 {
				whiskers[p[k][0]] = [2]float64{p[k][1], p[k+1][1]} // Lo, Hi
			}
		}
		if len(whiskers) != 2*n {
			t.Errorf("%d series: %d whiskers, want %d", n, len(whiskers), 2*n)
		}
		for i := range n {
			bars := shapes(t, svg, func(e *element) bool {
				return e.name == "path" && e.attr["fill"] == colour(i) && len(mustOutline(t, e)) == 5
			})
			if len(bars) != 2 {
				t.Fatalf("%d series: %d bars of series %d, want 2", n, len(bars), i)
			}
			for k, b := range bars {
				x0, y0, x1, y1 := bounds(b)
				p := series[i].Points[k]
				unit := (y1 - y0) / p.Y
				found := false
				for x, w := range whiskers {
					// Bars are aligned to whole pixels.
					if math.Abs(x-(x0+x1)/2) < 1 {
						found = true
						if math.Abs(y1-w[0]-unit*p.Lo) > 1 || math.Abs(y1-w[1]-unit*p.Hi) > 1 {
							t.Errorf("%d series, bar %d of series %d: whisker from %v to %v, want %v to %v", n, k, i, y1-w[0], y1-w[1], unit*p.Lo, unit*p.Hi)
						}
					}
				}
				if !found {
					t.Errorf("%d series: no whisker over the middle of bar %d of series %d", n, k, i)
				}
			}
		}
	}
}

// The picture has each series' colour where the data say: halfway up, constant, over the whole width.
func TestPNG(t *testing.T) {
	goldentest.NeedECharts(t)
	b, err := PNG(Lines("Title", "x", "y", []Series{
		{Name: "half", Points: []Point{{X: 0, Y: 50}, {X: 1, Y: 50}}},
		{Name: "diagonal", Points: []Point{{X: 0, Y: 0}, {X: 1, Y: 100}}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	img := decode(t, b)
	if got := img.Bounds().Size(); got != image.Pt(pngScale*Width, pngScale*Height) {
		t.Fatalf("size %v", got)
	}
	plot := func(want [3]uint8) image.Rectangle { // the extent of a colour above the legend
		var r image.Rectangle
		for y := range pngScale * (Height - 60) {
			for x := range pngScale * Width {
				if rgb(img, x, y) == want {
					r = r.Union(image.Rect(x, y, x+1, y+1))
				}
			}
		}
		return r
	}
	half, diagonal := plot([3]uint8{0, 0x72, 0xb2}), plot([3]uint8{0xd5, 0x5e, 0})
	middle := func(r image.Rectangle) int { return (r.Min.Y + r.Max.Y) / 2 }
	// Both reach from marker to marker; two pixels are one CSS pixel.
	if d := middle(half) - middle(diagonal); d < -4 || d > 4 {
		t.Errorf("the constant curve %v is not at half the height of the diagonal %v", half, diagonal)
	}
	if half.Dx() < pngScale*Width*3/4 || diagonal.Dx() < pngScale*Width*3/4 || diagonal.Dy() < pngScale*Height/2 || half.Dy() > 40 {
		t.Errorf("extents %v and %v", half, diagonal)
	}
	if n := ink(img.(interface {
		SubImage(image.Rectangle) image.Image
	}).SubImage(image.Rect(0, 0, 2*Width, 60)), 0, 2*Width); n < 100 {
		t.Errorf("the title has %d dark pixels", n)
	}
}

func TestSameBytesTwice(t *testing.T) {
	goldentest.NeedECharts(t)
	dir := filepath.Join(t.TempDir(), "new")
	for _, name := range []string{"a", "b"} {
		if err := errors.Join(SavePNG(sampleLines(), filepath.Join(dir, name+".png")), SaveSVG(sampleBars(), filepath.Join(dir, name+".svg"))); err != nil {
			t.Fatal(err)
		}
	}
	for _, ext := range []string{".png", ".svg"} {
		a, errA := os.ReadFile(filepath.Join(dir, "a"+ext))
		b, errB := os.ReadFile(filepath.Join(dir, "b"+ext))
		if err := errors.Join(errA, errB); err != nil || len(a) < 1000 || !bytes.Equal(a, b) {
			t.Errorf("%s: %d and %d bytes, %v", ext, len(a), len(b), err)
		}
	}
	if err := SavePNG(sampleLines(), filepath.Join(dir, "a.png", "x.png")); err == nil {
		t.Error("saving below a file: no error")
	}
}

// No chart is too odd to draw.
func TestOddCharts(t *testing.T) {
	goldentest.NeedECharts(t)
	inf, nan := math.Inf(1), math.NaN()
	for name, c := range map[string]Chart{
		"no series":     Lines("", "", "", nil),
		"no points":     Lines("t", "x", "y", []Series{{Name: "a"}}),
		"not finite":    Lines("t", "x", "y", []Series{{Name: "a", Points: []Point{{nan, 1, 0, 2}, {1, inf, 0, inf}, {2, 1, nan, 2}}}}),
		"no categories": Bars("t", "x", "y", nil, []Series{{Name: "a"}}),
		"no bars":       Bars("t", "x", "y", []string{"a"}, nil),
		"more points":   Bars("t", "x", "y", []string{"a"}, []Series{{Points: make([]Point, 9)}}),
		"markup":        Lines("<b>&amp;", "</svg>", `"`, []Series{{Name: "<i>", Points: []Point{{0, 1, 0, 2}}}}),
		"many series":   Lines("t", "x", "y", make([]Series, 50)),
	} {
		if _, err := PNG(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEngineErrors(t *testing.T) {
	for js, want := range map[string]string{"syntax(": "loading ECharts", "1": "echarts"} {
		if _, err := newEngine("echarts.js", js); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", js, err)
		}
	}
}

func TestDisplay(t *testing.T) {
	c := sampleLines()
	data, metadata, err := display(c, []byte("png"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := data[protocol.MIMETextPlain].(string)
	if len(data) != 3 || data[MIME] == nil || data[protocol.MIMEImagePNG] == nil || !strings.HasPrefix(text, "Accuracy\nband: ε 0: 80 [75, 90]; ε 0.5") {
		t.Errorf("types %v, text %q", data, text)
	}
	if alt := metadata["image/png"].(map[string]any)["alt"]; alt != "Accuracy" {
		t.Errorf("alt %q", alt)
	}
	// What is sent must survive gob, or the notebook shows nothing.
	if err := gob.NewEncoder(&bytes.Buffer{}).Encode(&protocol.DisplayData{Data: data, Metadata: metadata}); err != nil {
		t.Error(err)
	}

	data, _, err = display(c, nil, &fs.PathError{Op: "stat", Err: fs.ErrNotExist})
	page, _ := data[protocol.MIMETextHTML].(string)
	text, _ = data[protocol.MIMETextPlain].(string)
	if err != nil || !strings.Contains(page, "setup.sh") || !strings.Contains(page, "<iframe srcdoc=") || !strings.Contains(text, "setup.sh") || !strings.Contains(text, "ε 0.5: 50") {
		t.Errorf("without ECharts: %v, %.300q, %q", err, page, text)
	}
	if _, _, err := display(c, nil, errors.New("broken")); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("other errors: %v", err)
	}
}

func TestShowOutsideOfANotebook(t *testing.T) {
	if err := errors.Join(Show(sampleLines()), ShowImage(image.NewGray(image.Rect(0, 0, 1, 1)), "a"), ShowTable(nil, nil)); err != nil {
		t.Error(err)
	}
}

func TestAxisLabelsBreakNoWord(t *testing.T) {
	for _, tc := range []struct {
		name  string
		width float64
		want  string
	}{
		{"apgd-margin", 64, "apgd-\nmargin"},
		{"apgd-t", 64, "apgd-t"},
		{"AutoAttack of the whole pipeline", 100, "AutoAttack of the\nwhole pipeline"},
		{"carso-honest, rand", 80, "carso-honest,\nrand"},
	} {
		labels, size, rows := axisLabels([]string{tc.name}, tc.width)
		if labels[0] != tc.want || size != labelSize || rows != strings.Count(tc.want, "\n")+1 {
			t.Errorf("%q in %g pixels: %q at %d in %d rows, want %q", tc.name, tc.width, labels[0], size, rows, tc.want)
		}
	}
	if _, size, _ := axisLabels([]string{"representation"}, 65); size >= labelSize || size < 8 {
		t.Errorf("a word that is too long is drawn at %d", size)
	}
}

// A curve in a colour of the palette looks as the series does whose colour that is, wherever it stands.
func TestCurveOfAColour(t *testing.T) {
	points := []Point{{1, 10, 5, 15}, {2, 20, 15, 25}, {3, 30, 25, 35}}
	c := Lines("", "x", "y", []Series{{Name: "a", Points: points, Color: palette[2]}, {Name: "b", Points: points}, {Name: "c", Points: points, Color: "#123456"}})
	ids := map[string]bool{}
	for _, s := range c.MultiSeries {
		want := map[string]int{"a": 2, "b": 1, "c": 2}[s.Name]
		if s.ItemStyle.Color != palette[want] {
			t.Errorf("%s is %s, want %s", s.Name, s.ItemStyle.Color, palette[want])
		}
		if s.Id == "" && (s.Symbol != markers[want] || s.LineStyle.Type != dashes[want]) {
			t.Errorf("%s has marker %s and dashes %s", s.Name, s.Symbol, s.LineStyle.Type)
		}
		if s.Id != "" && ids[s.Id] {
			t.Errorf("two intervals are called %q", s.Id)
		}
		ids[s.Id] = true
	}
}

package plots

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	for _, tc := range []struct {
		d    string
		want []segment
	}{
		{"", nil},
		{"M1 2L3-4", []segment{{'M', []float64{1, 2}}, {'L', []float64{3, -4}}}},
		{"m1,2 3,4 z", []segment{{'M', []float64{1, 2}}, {'L', []float64{4, 6}}, {'Z', nil}}},
		{"M1 1h2v.5H0V0z l1 1", []segment{{'M', []float64{1, 1}}, {'L', []float64{3, 1}}, {'L', []float64{3, 1.5}}, {'L', []float64{0, 1.5}}, {'L', []float64{0, 0}}, {'Z', nil}, {'L', []float64{2, 2}}}},
		{"M1e1 0Q10 3 10 3", []segment{{'M', []float64{10, 0}}, {'C', []float64{10, 2, 10, 3, 10, 3}}}},
		{"M0 0c1 1 2 2 3 3", []segment{{'M', []float64{0, 0}}, {'C', []float64{1, 1, 2, 2, 3, 3}}}},
		{"M0 0A0 0 0 0 1 5 5", []segment{{'M', []float64{0, 0}}, {'L', []float64{5, 5}}}},
	} {
		got, err := parsePath(tc.d)
		if err != nil || len(got) != len(tc.want) {
			t.Errorf("%q: %v, %v, want %v", tc.d, got, err, tc.want)
			continue
		}
		for i, s := range got {
			if s.op != tc.want[i].op || !near(s.p, tc.want[i].p, 1e-12) {
				t.Errorf("%q, segment %d: %c %v, want %c %v", tc.d, i, s.op, s.p, tc.want[i].op, tc.want[i].p)
			}
		}
	}
	for _, d := range []string{"M1", "M1 2 3", "M0 0S1 1 2 2", "M0 0L"} {
		if got, err := parsePath(d); err == nil {
			t.Errorf("%q: %v, want an error", d, got)
		}
	}
}

func near(a, b []float64, tolerance float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Abs(a[i]-b[i]) > tolerance {
			return false
		}
	}
	return true
}

// Every point of an arc lies on its circle, and the arc turns the way that the flags say.
func TestArc(t *testing.T) {
	for _, tc := range []struct {
		large, sweep bool
		cx, cy, turn float64 // centre and angle of the arc from (1, 0) to (0, 1) with radius 1
	}{
		{false, true, 0, 0, math.Pi / 2},
		{true, true, 1, 1, 3 * math.Pi / 2},
		{false, false, 1, 1, math.Pi / 2},
		{true, false, 0, 0, 3 * math.Pi / 2},
	} {
		x, y, length := 1.0, 0.0, 0.0
		for _, s := range arc(1, 0, 1, 1, 0, tc.large, tc.sweep, 0, 1) {
			for i := 1; i <= 100; i++ {
				u := float64(i) / 100
				a, b, c, d := (1-u)*(1-u)*(1-u), 3*u*(1-u)*(1-u), 3*u*u*(1-u), u*u*u
				px, py := a*x+b*s.p[0]+c*s.p[2]+d*s.p[4], a*y+b*s.p[1]+c*s.p[3]+d*s.p[5]
				// A cubic curve differs from a quarter circle by at most 2.7e-4 of the radius.
				if r := math.Hypot(px-tc.cx, py-tc.cy); math.Abs(r-1) > 3e-4 {
					t.Fatalf("%+v: radius %v", tc, r)
				}
				if i == 100 {
					length += math.Abs(math.Remainder(math.Atan2(py-tc.cy, px-tc.cx)-math.Atan2(y-tc.cy, x-tc.cx), 2*math.Pi))
					x, y = px, py
				}
			}
		}
		if math.Abs(x) > 1e-9 || math.Abs(y-1) > 1e-9 || math.Abs(length-tc.turn) > 1e-9 {
			t.Errorf("%+v: ends at (%v, %v) after %v", tc, x, y, length)
		}
	}
}

func TestTransform(t *testing.T) {
	for _, tc := range []struct {
		s            string
		x, y, wx, wy float64
	}{
		{"", 1, 2, 1, 2},
		{"translate(3 4)", 1, 2, 4, 6},
		{"translate(3)", 1, 2, 4, 2},
		{"scale(2)translate(1,1)", 1, 2, 4, 6},
		{"scale(2 3)", 1, 2, 2, 6},
		{"rotate(90)", 1, 0, 0, 1},
		{"rotate(180 1 1)", 0, 0, 2, 2},
		{"matrix(0,1,-1,0,5,0)", 1, 0, 5, 1},
		{"skewX(3)", 1, 2, 1, 2},
	} {
		if x, y := parseTransform(tc.s).at(tc.x, tc.y); math.Abs(x-tc.wx)+math.Abs(y-tc.wy) > 1e-12 {
			t.Errorf("%q: (%v, %v) -> (%v, %v), want (%v, %v)", tc.s, tc.x, tc.y, x, y, tc.wx, tc.wy)
		}
	}
}

func TestParseColor(t *testing.T) {
	for s, want := range map[string]color.NRGBA{
		"#0f8": {0, 255, 136, 255}, "#0072B2": {0, 0x72, 0xb2, 255}, "white": {255, 255, 255, 255}, " black": {0, 0, 0, 255},
		"rgb(1, 2, 300)": {1, 2, 255, 255}, "rgba(1,2,3,0.5)": {1, 2, 3, 128},
		"none": {}, "transparent": {}, "": {}, "#12": {}, "#gggggg": {}, "rgb(1)": {}, "url(#a)": {}, "rgba(0,0,0,0)": {},
	} {
		if got, ok := parseColor(s, 1); got != want || ok != (want.A > 0) {
			t.Errorf("%q: %v, %v, want %v", s, got, ok, want)
		}
	}
}

func raster1(t *testing.T, body string) image.Image {
	t.Helper()
	b, err := RasterizeSVG(`<svg width="20" height="20">`+body+`</svg>`, 2)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, b)
}

func decode(t *testing.T, b []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func rgb(img image.Image, x, y int) [3]uint8 {
	r, g, b, _ := img.At(x, y).RGBA()
	return [3]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8)}
}

func TestRasterizeSVG(t *testing.T) {
	white, black, red := [3]uint8{255, 255, 255}, [3]uint8{}, [3]uint8{255, 0, 0}
	const clip = `<defs><clipPath id="c"><rect x="0" y="0" width="10" height="20"/></clipPath></defs>`
	for _, tc := range []struct {
		name, body string
		x, y       int // in pixels, two for each unit
		want       [3]uint8
	}{
		{"background", "", 0, 0, white},
		{"fill", `<rect x="5" y="5" width="10" height="10" fill="#f00"/>`, 20, 20, red},
		{"beside", `<rect x="5" y="5" width="10" height="10" fill="#f00"/>`, 8, 20, white},
		{"style", `<rect x="5" y="5" width="10" height="10" style="fill:#f00"/>`, 20, 20, red},
		{"no fill", `<circle cx="10" cy="10" r="8" fill="none"/>`, 20, 20, white},
		{"default fill", `<circle cx="10" cy="10" r="8"/>`, 20, 20, black},
		{"stroke", `<polyline points="0,10 20,10" fill="none" stroke="#f00" stroke-width="4"/>`, 20, 22, red},
		{"dash gap", `<path d="M0 10H20" stroke="#f00" stroke-width="4" stroke-dasharray="5 5"/>`, 16, 20, white},
		{"dash", `<path d="M0 10H20" stroke="#f00" stroke-width="4" stroke-dasharray="5 5"/>`, 6, 20, red},
		{"moved", `<g transform="translate(10 0)"><rect width="5" height="20" fill="#f00"/></g>`, 22, 20, red},
		{"clipped away", clip + `<g clip-path="url(#c)"><rect width="20" height="20" fill="#f00"/></g>`, 30, 20, white},
		{"inside the clip", clip + `<g clip-path="url(#c)"><rect width="20" height="20" fill="#f00"/></g>`, 10, 20, red},
		{"after the clip", clip + `<g clip-path="url(#c)"/><rect width="20" height="20" fill="#f00"/>`, 30, 20, red},
		{"half", `<rect width="20" height="20" fill="#000" fill-opacity="0.5"/>`, 20, 20, [3]uint8{127, 127, 127}},
		{"gradient", `<linearGradient id="g" x1="0" x2="1"><stop offset="0" stop-color="#f00"/><stop offset="50%" stop-color="#000"/></linearGradient><rect width="20" height="20" fill="url(#g)"/>`, 30, 20, black},
	} {
		if got := rgb(raster1(t, tc.body), tc.x, tc.y); got != tc.want {
			t.Errorf("%s: %v at (%d, %d), want %v", tc.name, got, tc.x, tc.y, tc.want)
		}
	}
	// Text: ink around the anchor, on the side that the anchor asks for.
	for anchor, left := range map[string]bool{"start": false, "end": true} {
		img := raster1(t, `<text x="10" y="12" font-size="8" text-anchor="`+anchor+`" fill="#000">HH</text>`)
		if l, r := ink(img, 0, 20), ink(img, 20, 40); (l > 0) != left || (r > 0) == left {
			t.Errorf("text-anchor %s: %d dark pixels on the left, %d on the right", anchor, l, r)
		}
	}
}

// ink counts dark pixels between two columns.
func ink(img image.Image, x0, x1 int) int {
	n := 0
	for y := range img.Bounds().Dy() {
		for x := x0; x < x1; x++ {
			if rgb(img, x, y)[1] < 128 {
				n++
			}
		}
	}
	return n
}

func TestRasterizeSVGErrors(t *testing.T) {
	for svg, want := range map[string]string{
		"":                                "no <svg>",
		"<g/>":                            "no <svg>",
		"<svg><":                          "parsing SVG",
		`<svg width="0" height="9"/>`:     "no usable size",
		`<svg width="1e9"/>`:              "no usable size",
		`<svg><path d="M1"/></svg>`:       "path data",
		`<svg><g><path d="X"/></g></svg>`: "g: path: path data",
		`<svg><text font-size="1e9" fill="#000">a</text></svg>`:                        "font",
		`<svg><clipPath id="a"><path d="M"/></clipPath><g clip-path="url(#a)"/></svg>`: "path data",
	} {
		if _, err := RasterizeSVG(svg, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", svg, err, want)
		}
	}
}

// Whatever the input, RasterizeSVG returns a picture of the asked size or an error.
func FuzzRasterizeSVG(f *testing.F) {
	f.Add(`<svg width="20" height="20"><rect width="9" height="9" fill="rgb(1,2,3)" stroke="#000"/><text x="1" y="9">a</text></svg>`)
	f.Add(`<svg width="9" height="9"><path d="M0 0A3 4 5 1 0 8 8Q1 2 3 4Z" stroke="#f00" stroke-dasharray="1e-9 0"/></svg>`)
	f.Add(`<svg width="9" height="9"><linearGradient id="g"/><g transform="matrix(1e99 0 0 1 0 0)"><circle r="1e300" fill="url(#g)"/></g></svg>`)
	f.Add(`<svg width="9" height="9"><clipPath id="c"><circle r="4"/></clipPath><g clip-path="url(#c)"><polygon points="1 1 2"/></g></svg>`)
	f.Fuzz(func(t *testing.T, svg string) {
		if root, err := parseSVG(svg); err != nil || number(root.attr["width"], Width) > 100 || number(root.attr["height"], Height) > 100 {
			return // big pictures only cost time
		}
		b, err := RasterizeSVG(svg, 1)
		if err != nil {
			return
		}
		if _, err := png.DecodeConfig(bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
	})
}

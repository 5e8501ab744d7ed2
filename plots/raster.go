package plots

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"strconv"
	"strings"

	"github.com/fogleman/gg"
)

// maxPixels bounds the pictures of RasterizeSVG: a wrong size must not exhaust memory.
const maxPixels = 64 << 20

// farAway bounds coordinates in pixels: the rasteriser's fixed-point numbers overflow at ten millions.
const farAway = 1 << 15

// RasterizeSVG draws the part of SVG that ECharts writes (path, polygon, polyline, rect, circle, text, g, clipPath,
// linearGradient) on white and returns a PNG of scale pixels per CSS pixel.
func RasterizeSVG(svg string, scale float64) ([]byte, error) {
	root, err := parseSVG(svg)
	if err != nil {
		return nil, err
	}
	w, h := math.Round(number(root.attr["width"], Width)*scale), math.Round(number(root.attr["height"], Height)*scale)
	if !(w >= 1 && h >= 1 && w*h <= maxPixels) {
		return nil, fmt.Errorf("drawing SVG: %v x %v pixels is no usable size", w, h)
	}
	dc := gg.NewContext(int(w), int(h))
	dc.SetColor(color.White)
	dc.Clear()
	r := &raster{dc: dc, ids: map[string]*element{}, faces: faces{}}
	r.index(root)
	if err := r.children(root, matrix{scale, 0, 0, scale, 0, 0}); err != nil {
		return nil, fmt.Errorf("drawing SVG: %w", err)
	}
	picture, err := encode(dc.Image())
	if err != nil {
		return nil, fmt.Errorf("drawing SVG: %w", err)
	}
	return picture, nil
}

type raster struct {
	dc    *gg.Context
	ids   map[string]*element
	faces faces
}

func (r *raster) index(e *element) {
	if id := e.attr["id"]; id != "" {
		r.ids[id] = e
	}
	for _, child := range e.children {
		r.index(child)
	}
}

// ref returns the element that "url(#id)" names, nil for anything else.
func (r *raster) ref(value string) *element {
	id, ok := strings.CutPrefix(value, "url(")
	if !ok {
		return nil
	}
	return r.ids[strings.Trim(strings.TrimSuffix(id, ")"), `#"'`)]
}

func (r *raster) children(e *element, m matrix) error {
	for _, child := range e.children {
		if err := r.draw(child, m); err != nil {
			return fmt.Errorf("%s: %w", child.name, err)
		}
	}
	return nil
}

func (r *raster) draw(e *element, m matrix) error {
	if t, ok := e.attr["transform"]; ok {
		m = m.mul(parseTransform(t))
	}
	if clip := r.ref(e.attr["clip-path"]); clip != nil {
		defer r.dc.ResetClip() // gg's Push and Pop do not cover the clip
		r.dc.ClearPath()
		for _, child := range clip.children {
			if err := r.trace(child, m.mul(parseTransform(child.attr["transform"]))); err != nil {
				return err
			}
		}
		r.dc.Clip()
	}
	switch e.name {
	case "g":
		return r.children(e, m)
	case "text":
		return r.text(e, m)
	case "path", "rect", "polygon", "polyline", "circle":
		return r.paint(e, m)
	}
	return nil
}

// trace adds the element's outline to the current path.
func (r *raster) trace(e *element, m matrix) error {
	outline, err := e.outline()
	if err != nil {
		return err
	}
	for _, s := range outline {
		q := make([]float64, len(s.p))
		for i := 0; i+1 < len(q); i += 2 {
			x, y := m.at(s.p[i], s.p[i+1])
			if math.IsNaN(x) || math.IsNaN(y) {
				return errors.New("a coordinate is not a number")
			}
			q[i], q[i+1] = min(max(x, -farAway), farAway), min(max(y, -farAway), farAway)
		}
		switch s.op {
		case 'M':
			r.dc.NewSubPath()
			r.dc.MoveTo(q[0], q[1])
		case 'L':
			r.dc.LineTo(q[0], q[1])
		case 'C':
			r.dc.CubicTo(q[0], q[1], q[2], q[3], q[4], q[5])
		case 'Z':
			r.dc.ClosePath()
		}
	}
	return nil
}

// paint fills and strokes a shape.
func (r *raster) paint(e *element, m matrix) error {
	defer r.dc.ClearPath()
	opacity := number(e.attr["opacity"], 1)
	fill := e.attr["fill"]
	if fill == "" {
		fill = "#000"
	}
	c, solid := parseColor(fill, opacity*number(e.attr["fill-opacity"], 1))
	gradient, err := r.gradient(e, r.ref(fill), m)
	if err != nil {
		return err
	}
	if solid || gradient != nil {
		r.dc.ClearPath()
		if err := r.trace(e, m); err != nil {
			return err
		}
		if gradient != nil {
			r.dc.SetFillStyle(gradient)
		} else {
			r.dc.SetColor(c)
		}
		r.dc.Fill()
	}
	width := min(number(e.attr["stroke-width"], 1)*m.scale(), farAway)
	if c, ok := parseColor(e.attr["stroke"], opacity*number(e.attr["stroke-opacity"], 1)); ok && width > 0 {
		r.dc.ClearPath()
		if err := r.trace(e, m); err != nil {
			return err
		}
		r.dc.SetLineWidth(width)
		r.dc.SetLineCap(gg.LineCapButt)
		if e.attr["stroke-linecap"] == "round" {
			r.dc.SetLineCap(gg.LineCapRound)
		}
		var dash []float64
		period := 0.0
		for _, d := range numbers(e.attr["stroke-dasharray"]) {
			dash = append(dash, math.Abs(d)*m.scale())
			period += math.Abs(d) * m.scale()
		}
		if period < 1 { // finer than a pixel: solid to the eye
			dash = nil
		}
		r.dc.SetDash(dash...)
		r.dc.SetColor(c)
		r.dc.Stroke()
		r.dc.SetDash()
	}
	return nil
}

// gradient returns the linear gradient g as the shape e uses it, nil where there is none.
func (r *raster) gradient(e, g *element, m matrix) (gg.Gradient, error) {
	if g == nil || g.name != "linearGradient" {
		return nil, nil
	}
	x0, y0, x1, y1 := 0.0, 0.0, 1.0, 1.0 // the box whose fractions the gradient's ends are
	if g.attr["gradientUnits"] != "userSpaceOnUse" {
		outline, err := e.outline()
		if err != nil {
			return nil, err
		}
		x0, y0, x1, y1 = bounds(outline)
	}
	end := func(kx, ky string) (float64, float64) {
		return m.at(x0+number(g.attr[kx], 0)*(x1-x0), y0+number(g.attr[ky], 0)*(y1-y0))
	}
	fromX, fromY := end("x1", "y1")
	toX, toY := end("x2", "y2")
	out := gg.NewLinearGradient(fromX, fromY, toX, toY)
	for _, stop := range g.children {
		if c, ok := parseColor(stop.attr["stop-color"], number(stop.attr["stop-opacity"], 1)); ok {
			out.AddColorStop(fraction(stop.attr["offset"]), c)
		}
	}
	return out, nil
}

func bounds(outline []segment) (x0, y0, x1, y1 float64) {
	x0, y0, x1, y1 = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, s := range outline {
		for i := 0; i+1 < len(s.p); i += 2 {
			x0, x1 = min(x0, s.p[i]), max(x1, s.p[i])
			y0, y1 = min(y0, s.p[i+1]), max(y1, s.p[i+1])
		}
	}
	return x0, y0, x1, y1
}

// text draws one line of text; ECharts writes one element per line.
func (r *raster) text(e *element, m matrix) error {
	c, ok := parseColor(e.attr["fill"], number(e.attr["opacity"], 1)*number(e.attr["fill-opacity"], 1))
	if !ok {
		return nil
	}
	size := number(e.attr["font-size"], 12) * m.scale()
	if !(size > 0 && size < 1000) {
		return fmt.Errorf("a font of %v pixels is no usable size", size)
	}
	weight := e.attr["font-weight"]
	f, err := r.faces.get(weight == "bold" || weight == "bolder" || number(weight, 400) >= 600, size)
	if err != nil {
		return err
	}
	x, y := m.at(number(e.attr["x"], 0), number(e.attr["y"], 0))
	var back float64 // how far the text starts before its anchor
	switch e.attr["text-anchor"] {
	case "middle":
		back = textWidth(f, e.text) / 2
	case "end":
		back = textWidth(f, e.text)
	}
	var down float64
	if b := e.attr["dominant-baseline"]; b == "central" || b == "middle" {
		down = 0.36 * size // half the height of Liberation Sans's capitals
	}
	r.dc.Push()
	r.dc.SetFontFace(f)
	r.dc.RotateAbout(math.Atan2(m[1], m[0]), x, y)
	r.dc.SetColor(c)
	r.dc.DrawString(e.text, x-back, y+down)
	r.dc.Pop()
	return nil
}

// parseColor reads #rgb, #rrggbb, rgb(), rgba(), black and white. It reports false for what paints nothing.
func parseColor(s string, opacity float64) (color.NRGBA, bool) {
	s = strings.TrimSpace(s)
	var rgb [3]float64
	switch {
	case s == "black":
	case s == "white":
		rgb = [3]float64{255, 255, 255}
	case strings.HasPrefix(s, "#"):
		h := s[1:]
		if len(h) == 3 {
			h = string([]byte{h[0], h[0], h[1], h[1], h[2], h[2]})
		}
		v, err := strconv.ParseUint(h, 16, 24)
		if err != nil || len(h) != 6 {
			return color.NRGBA{}, false
		}
		rgb = [3]float64{float64(v >> 16), float64(v >> 8 & 255), float64(v & 255)}
	case strings.HasPrefix(s, "rgb"):
		v := numbers(s)
		if len(v) < 3 {
			return color.NRGBA{}, false
		}
		rgb = [3]float64(v[:3])
		if len(v) > 3 {
			opacity *= v[3]
		}
	default: // none, transparent, a gradient
		return color.NRGBA{}, false
	}
	channel := func(v float64) uint8 { return uint8(min(max(math.Round(v), 0), 255)) }
	c := color.NRGBA{channel(rgb[0]), channel(rgb[1]), channel(rgb[2]), channel(255 * opacity)}
	return c, c.A > 0
}

package plots

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// element is one element of an SVG document; the style attribute is spread over attr.
type element struct {
	name     string
	attr     map[string]string
	children []*element
	text     string
}

// parseSVG reads a document and returns its <svg> element.
func parseSVG(svg string) (*element, error) {
	d := xml.NewDecoder(strings.NewReader(svg))
	d.Strict = false
	top := &element{}
	stack := []*element{top}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("parsing SVG: %w", err)
		}
		parent := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			e := &element{name: t.Name.Local, attr: attributes(t.Attr)}
			parent.children = append(parent.children, e)
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1] // the decoder reports balanced elements only
		case xml.CharData:
			parent.text += string(t)
		}
	}
	for _, e := range top.children {
		if e.name == "svg" {
			return e, nil
		}
	}
	return nil, errors.New("parsing SVG: no <svg> element")
}

func attributes(list []xml.Attr) map[string]string {
	attr := map[string]string{}
	for _, a := range list {
		if a.Name.Local != "style" {
			attr[a.Name.Local] = a.Value
			continue
		}
		for declaration := range strings.SplitSeq(a.Value, ";") {
			if k, v, ok := strings.Cut(declaration, ":"); ok {
				attr[strings.TrimSpace(k)] = strings.TrimSpace(v)
			}
		}
	}
	return attr
}

var numberPattern = regexp.MustCompile(`[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?`)

// numbers returns every number in s.
func numbers(s string) []float64 {
	var out []float64
	for _, t := range numberPattern.FindAllString(s, -1) {
		if f, err := strconv.ParseFloat(t, 64); err == nil {
			out = append(out, f)
		}
	}
	return out
}

// number returns the first number in s, or otherwise.
func number(s string, otherwise float64) float64 {
	if v := numbers(s); len(v) > 0 {
		return v[0]
	}
	return otherwise
}

// fraction reads an offset: "0.5" and "50%" are both 0.5.
func fraction(s string) float64 {
	if strings.HasSuffix(s, "%") {
		return number(s, 0) / 100
	}
	return number(s, 0)
}

// matrix is SVG's transformation matrix(a b c d e f): (x, y) -> (a x + c y + e, b x + d y + f).
type matrix [6]float64

func (m matrix) mul(n matrix) matrix {
	return matrix{
		m[0]*n[0] + m[2]*n[1], m[1]*n[0] + m[3]*n[1],
		m[0]*n[2] + m[2]*n[3], m[1]*n[2] + m[3]*n[3],
		m[0]*n[4] + m[2]*n[5] + m[4], m[1]*n[4] + m[3]*n[5] + m[5]}
}

func (m matrix) at(x, y float64) (float64, float64) {
	return m[0]*x + m[2]*y + m[4], m[1]*x + m[3]*y + m[5]
}

// scale is the factor by which lengths grow.
func (m matrix) scale() float64 { return math.Sqrt(math.Abs(m[0]*m[3] - m[1]*m[2])) }

var transformPattern = regexp.MustCompile(`(\w+)\(([^)]*)\)`)

// parseTransform reads a transform attribute; unknown functions are the identity.
func parseTransform(s string) matrix {
	m := matrix{1, 0, 0, 1, 0, 0}
	for _, t := range transformPattern.FindAllStringSubmatch(s, -1) {
		v := numbers(t[2])
		switch {
		case t[1] == "translate" && len(v) == 1:
			m = m.mul(matrix{1, 0, 0, 1, v[0], 0})
		case t[1] == "translate" && len(v) == 2:
			m = m.mul(matrix{1, 0, 0, 1, v[0], v[1]})
		case t[1] == "scale" && len(v) == 1:
			m = m.mul(matrix{v[0], 0, 0, v[0], 0, 0})
		case t[1] == "scale" && len(v) == 2:
			m = m.mul(matrix{v[0], 0, 0, v[1], 0, 0})
		case t[1] == "rotate" && len(v) >= 1:
			s, c := math.Sincos(v[0] * math.Pi / 180)
			r := matrix{c, s, -s, c, 0, 0}
			if len(v) == 3 {
				r = matrix{1, 0, 0, 1, v[1], v[2]}.mul(r).mul(matrix{1, 0, 0, 1, -v[1], -v[2]})
			}
			m = m.mul(r)
		case t[1] == "matrix" && len(v) == 6:
			m = m.mul(matrix(v))
		}
	}
	return m
}

// segment is one absolute piece of an outline: M and L with one point, C with three, Z with none.
type segment struct {
	op byte
	p  []float64
}

// outline returns the shape of a path, rect, circle, polygon or polyline, in its own coordinates.
func (e *element) outline() ([]segment, error) {
	a := e.attr
	switch e.name {
	case "rect":
		x, y, w, h := number(a["x"], 0), number(a["y"], 0), number(a["width"], 0), number(a["height"], 0)
		return []segment{{'M', []float64{x, y}}, {'L', []float64{x + w, y}}, {'L', []float64{x + w, y + h}}, {'L', []float64{x, y + h}}, {op: 'Z'}}, nil
	case "circle":
		x, y, r := number(a["cx"], 0), number(a["cy"], 0), number(a["r"], 0)
		out := []segment{{'M', []float64{x + r, y}}}
		out = append(out, arc(x+r, y, r, r, 0, true, true, x-r, y)...)
		out = append(out, arc(x-r, y, r, r, 0, true, true, x+r, y)...)
		return append(out, segment{op: 'Z'}), nil
	case "polygon", "polyline":
		var out []segment
		p := numbers(a["points"])
		for i := 0; i+1 < len(p); i += 2 {
			op := byte('L')
			if i == 0 {
				op = 'M'
			}
			out = append(out, segment{op, p[i : i+2]})
		}
		if e.name == "polygon" && len(out) > 0 {
			out = append(out, segment{op: 'Z'})
		}
		return out, nil
	case "path":
		return parsePath(a["d"])
	}
	return nil, nil
}

var (
	pathPattern = regexp.MustCompile(`([A-Za-df-z])([^A-Za-df-z]*)`) // every letter but e, which is part of numbers
	pathArgs    = map[byte]int{'M': 2, 'L': 2, 'H': 1, 'V': 1, 'C': 6, 'Q': 4, 'A': 7, 'Z': 0}
)

// parsePath reads path data. The smooth commands S and T, which ECharts does not write, are an error.
func parsePath(d string) ([]segment, error) {
	var out []segment
	var x, y, startX, startY float64
	for _, part := range pathPattern.FindAllStringSubmatch(d, -1) {
		letter := part[1][0]
		relative := letter >= 'a'
		op := letter &^ 0x20
		n, ok := pathArgs[op]
		if !ok {
			return nil, fmt.Errorf("path data: command %q is not supported", part[1])
		}
		if op == 'Z' {
			out = append(out, segment{op: 'Z'})
			x, y = startX, startY
			continue
		}
		args := numbers(part[2])
		if len(args) == 0 || len(args)%n != 0 {
			return nil, fmt.Errorf("path data: command %q has %d numbers, not a multiple of %d", part[1], len(args), n)
		}
		for ; len(args) > 0; args = args[n:] {
			p := append([]float64(nil), args[:n]...)
			if relative {
				toAbsolute(op, p, x, y)
			}
			switch op {
			case 'M':
				out = append(out, segment{'M', p})
				startX, startY = p[0], p[1]
				op = 'L' // further pairs after M are lines
			case 'L':
				out = append(out, segment{'L', p})
			case 'H':
				p = []float64{p[0], y}
				out = append(out, segment{'L', p})
			case 'V':
				p = []float64{x, p[0]}
				out = append(out, segment{'L', p})
			case 'C':
				out = append(out, segment{'C', p})
			case 'Q': // a quadratic curve as a cubic one
				out = append(out, segment{'C', []float64{x + (p[0]-x)*2/3, y + (p[1]-y)*2/3, p[2] + (p[0]-p[2])*2/3, p[3] + (p[1]-p[3])*2/3, p[2], p[3]}})
			case 'A':
				out = append(out, arc(x, y, p[0], p[1], p[2], p[3] != 0, p[4] != 0, p[5], p[6])...)
			}
			x, y = p[len(p)-2], p[len(p)-1]
		}
	}
	return out, nil
}

// toAbsolute shifts the coordinates of one command's arguments by the current point.
func toAbsolute(op byte, p []float64, x, y float64) {
	switch op {
	case 'H':
		p[0] += x
	case 'V':
		p[0] += y
	case 'A':
		p[5] += x
		p[6] += y
	default:
		for i := 0; i < len(p); i += 2 {
			p[i] += x
			p[i+1] += y
		}
	}
}

// arc returns an SVG elliptical arc as cubic curves; rotation is in degrees. The conversion from end points to a centre
// is the one of the SVG specification's implementation notes.
func arc(x1, y1, rx, ry, rotation float64, large, sweep bool, x2, y2 float64) []segment {
	rx, ry = math.Abs(rx), math.Abs(ry)
	if rx == 0 || ry == 0 || (x1 == x2 && y1 == y2) {
		return []segment{{'L', []float64{x2, y2}}}
	}
	s, c := math.Sincos(rotation * math.Pi / 180)
	dx, dy := (x1-x2)/2, (y1-y2)/2
	px, py := c*dx+s*dy, -s*dx+c*dy
	if l := px*px/(rx*rx) + py*py/(ry*ry); l > 1 { // too small to reach the end: grow
		rx *= math.Sqrt(l)
		ry *= math.Sqrt(l)
	}
	k := math.Sqrt(math.Max(0, (rx*rx*ry*ry-rx*rx*py*py-ry*ry*px*px)/(rx*rx*py*py+ry*ry*px*px)))
	if large == sweep {
		k = -k
	}
	ux, uy := k*rx*py/ry, -k*ry*px/rx
	cx, cy := c*ux-s*uy+(x1+x2)/2, s*ux+c*uy+(y1+y2)/2
	from := math.Atan2((py-uy)/ry, (px-ux)/rx)
	turn := math.Atan2((-py-uy)/ry, (-px-ux)/rx) - from
	if sweep && turn < 0 {
		turn += 2 * math.Pi
	}
	if !sweep && turn > 0 {
		turn -= 2 * math.Pi
	}
	n := max(1, int(math.Ceil(math.Abs(turn)/(math.Pi/2)-1e-9))) // one curve per quarter turn
	step := turn / float64(n)
	a := 4.0 / 3 * math.Tan(step/4)
	at := func(u, v float64) (float64, float64) { return cx + c*rx*u - s*ry*v, cy + s*rx*u + c*ry*v }
	var out []segment
	for i := range n {
		u := from + float64(i)*step
		s0, c0 := math.Sincos(u)
		s1, c1 := math.Sincos(u + step)
		ax, ay := at(c0-a*s0, s0+a*c0)
		bx, by := at(c1+a*s1, s1-a*c1)
		ex, ey := at(c1, s1)
		out = append(out, segment{'C', []float64{ax, ay, bx, by, ex, ey}})
	}
	return out
}

package eval

import (
	"fmt"
	"html"
	"strings"

	"carsokit/carso/paper"
)

// box is a part of the method's figure, with the lines in it; parts of training only are dashed.
type box struct {
	x, y, w, h float64
	title      string
	lines      []string
	fill       string
	dashed     bool
}

// MethodFigure draws the method as SVG from the configuration of scenario a at a scale: what leads to what, with the sizes that the code has.
func MethodFigure(scale string) (string, error) {
	all, err := settings(scale)
	if err != nil {
		return "", err
	}
	s := all[0]
	c, size := s.recipe.Config, map[string]int{}
	encoderSize := 0
	for _, m := range s.modules() {
		for _, t := range m.tensors {
			if !t.buffer {
				size[m.name] += t.size
			}
		}
		if m.use == "training only" {
			encoderSize += size[m.name]
		}
	}
	taps := len(c.Taps)
	if taps == 0 {
		taps = len(c.Base.Taps())
	}
	pixels := fmt.Sprintf("%d x %d x 3", c.Base.Size, c.Base.Size)
	millions := func(n int) string { return fmt.Sprintf("%.2f M parameters", float64(n)/1e6) }
	const frozen, trained, plain = "#dbe7f5", "#fdebd9", "#f4f5f7"
	base := millions(size["classifier "+c.Base.String()])
	condition := 0
	for name, n := range size {
		if strings.HasPrefix(name, "repr") {
			condition += n
		}
	}
	boxes := []box{
		{12, 40, 96, 76, "image x", []string{pixels, "maybe attacked"}, plain, false},
		{140, 40, 150, 76, "classifier f", []string{c.Base.String(), base, "frozen"}, frozen, false},
		{322, 40, 170, 76, "compressors", []string{fmt.Sprintf("%d representations", taps), fmt.Sprintf("to a condition of %d", c.Cond), millions(condition)}, trained, false},
		{524, 40, 184, 76, "image encoder", []string{"training only:", fmt.Sprintf("z from x, %d numbers", c.Latent), millions(encoderSize)}, plain, true},
		{524, 164, 184, 76, "decoder, N times", []string{fmt.Sprintf("N = %d, z of %d", paper.Samples, c.Latent), "drawn at random", millions(size["decoder"])}, trained, false},
		{322, 164, 170, 76, "reconstructions", []string{fmt.Sprintf("%d of %s", paper.Samples, pixels)}, plain, false},
		{140, 164, 150, 76, "classifier g", []string{c.Final.String(), "frozen; g = f here", "logits of each"}, frozen, false},
		{12, 164, 96, 76, "peel", []string{"S = sum exp(l)", "softmax, log-odds", "class"}, plain, false},
	}
	if c.Final != c.Base {
		boxes[6].lines[1] = "frozen"
	}
	arrows := [][]float64{{108, 78, 140, 78}, {290, 78, 322, 78}, {407, 116, 407, 140, 590, 140, 590, 164}, {640, 116, 640, 164}, {524, 202, 492, 202}, {322, 202, 290, 202}, {140, 202, 108, 202}}
	var b strings.Builder
	fmt.Fprint(&b, `<svg width="720" height="256" viewBox="0 0 720 256" xmlns="http://www.w3.org/2000/svg">`)
	fmt.Fprintf(&b, `<text x="360" y="20" text-anchor="middle" fill="#222" style="font-size:16px;font-family:sans-serif;font-weight:bold">CARSO, scale %s</text>`, html.EscapeString(scale))
	for k, a := range arrows {
		path := fmt.Sprintf("M%g %g", a[0], a[1])
		for i := 2; i < len(a); i += 2 {
			path += fmt.Sprintf(" L%g %g", a[i], a[i+1])
		}
		dash := ""
		if k == 3 {
			dash = ` stroke-dasharray="5 4"`
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="#555" stroke-width="1.5"%s/>`, path, dash)
		n := len(a)
		x, y := a[n-2], a[n-1]
		dx, dy := sign(x-a[n-4]), sign(y-a[n-3])
		fmt.Fprintf(&b, `<path d="M%g %g L%g %g L%g %g Z" fill="#555"/>`, x, y, x-8*dx-4*dy, y-8*dy-4*dx, x-8*dx+4*dy, y-8*dy+4*dx)
	}
	for _, x := range boxes {
		dash := ""
		if x.dashed {
			dash = ` stroke-dasharray="5 4"`
		}
		fmt.Fprintf(&b, `<rect x="%g" y="%g" width="%g" height="%g" fill="%s" stroke="#555" stroke-width="1"%s/>`, x.x, x.y, x.w, x.h, x.fill, dash)
		fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle" fill="#222" style="font-size:13px;font-family:sans-serif;font-weight:bold">%s</text>`, x.x+x.w/2, x.y+18, html.EscapeString(x.title))
		for i, l := range x.lines {
			fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle" fill="#444" style="font-size:11px;font-family:sans-serif">%s</text>`, x.x+x.w/2, x.y+35+15*float64(i), html.EscapeString(l))
		}
	}
	b.WriteString("</svg>")
	return b.String(), nil
}

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

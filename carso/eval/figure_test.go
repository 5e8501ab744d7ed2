package eval

import (
	"bytes"
	"fmt"
	"image/png"
	"strings"
	"testing"

	"carsokit/carso/paper"
	"carsokit/plots"
)

// The figure says what the configurations say, of both sizes, and is a picture.
func TestMethodFigure(t *testing.T) {
	for _, scale := range []string{"small", "paper"} {
		svg, err := MethodFigure(scale)
		if err != nil {
			t.Fatal(err)
		}
		all, err := settings(scale)
		if err != nil {
			t.Fatal(err)
		}
		c := all[0].recipe.Config
		for _, text := range []string{c.Base.String(), fmt.Sprintf("to a condition of %d<", c.Cond), fmt.Sprintf("N = %d, z of %d<", paper.Samples, c.Latent)} {
			if !strings.Contains(svg, text) {
				t.Errorf("scale %s: no %q", scale, text)
			}
		}
		if strings.Contains(svg, ">0.00 M") {
			t.Errorf("scale %s: a part has no parameters", scale)
		}
		picture, err := plots.RasterizeSVG(svg, 2)
		if err != nil {
			t.Fatal(err)
		}
		if img, err := png.Decode(bytes.NewReader(picture)); err != nil || img.Bounds().Dx() != 2*plots.Width {
			t.Errorf("scale %s: %v", scale, err)
		}
	}
}

package plots

import (
	"image"
	"image/color"
	"strings"
	"testing"
)

func TestGrid(t *testing.T) {
	tile := func(c color.Gray) image.Image {
		img := image.NewGray(image.Rect(5, 5, 8, 7)) // not at the origin, 3 x 2
		for y := 5; y < 7; y++ {
			for x := 5; x < 8; x++ {
				img.SetGray(x, y, c)
			}
		}
		img.SetGray(5, 5, color.Gray{7}) // marks the top left corner
		return img
	}
	img := Grid([][]image.Image{{tile(color.Gray{100}), tile(color.Gray{101})}, {nil, tile(color.Gray{102})}}, nil, nil, 10)
	for shade, want := range map[uint8]int{7: 300, 100: 500, 101: 500, 102: 500} { // six pixels of 10 x 10, one is the mark
		n := 0
		for y := range img.Bounds().Dy() {
			for x := range img.Bounds().Dx() {
				if rgb(img, x, y)[0] == shade {
					n++
				}
			}
		}
		if n != want {
			t.Errorf("shade %d: %d pixels, want %d", shade, n, want)
		}
	}
	titled := Grid([][]image.Image{{tile(color.Gray{100}), tile(color.Gray{101})}}, []string{"a row"}, []string{"a", "wide title of the second column"}, 10)
	if a, b := Grid([][]image.Image{{tile(color.Gray{100}), tile(color.Gray{101})}}, nil, nil, 10).Bounds(), titled.Bounds(); b.Dx() <= a.Dx() || b.Dy() <= a.Dy() {
		t.Errorf("titles take no room: %v, %v", a, b)
	}
	if n := ink(titled, 0, 30); n == 0 {
		t.Error("no row title")
	}
	for name, g := range map[string]image.Image{
		"nothing": Grid(nil, nil, nil, 0), "empty row": Grid([][]image.Image{{}}, []string{"a", "b"}, []string{"c"}, -1), "only nil": Grid([][]image.Image{{nil}}, nil, nil, 1),
	} {
		if g == nil {
			t.Errorf("%s: no picture", name)
		}
	}
}

func TestTable(t *testing.T) {
	table := newTable([]string{"attack", "ours", "n|m"}, [][]string{{"<PGD>", "60.0 [54, 65]", "–"}, {"clean", "80.5"}})
	for got, want := range map[string]string{
		table.text(): "attack           ours  n|m\n<PGD>   60.0 [54, 65]    –\nclean            80.5",
		table.markdown(): `| attack | ours | n\|m |
|---|---:|---:|
| <PGD> | 60.0 [54, 65] | – |
| clean | 80.5 |  |
`,
	} {
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	page := table.html()
	for _, want := range []string{`<td style="text-align: left">&lt;PGD&gt;</td>`, `<th style="text-align: right">ours</th>`, "<thead>", "</tbody>"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	for _, rows := range [][][]string{nil, {{}}} {
		if e := newTable(nil, rows); e.html() == "" || strings.TrimSpace(e.text()) != "" {
			t.Errorf("empty table: %q, %q", e.html(), e.text())
		}
	}
}

func TestNumeric(t *testing.T) {
	for cell, want := range map[string]bool{"1": true, "-0.5": true, "–": true, "≈ 3": true, "": true, "12 (3–4)": true, "PGD-20": false, "a": false, "n/a": false} {
		if numeric(cell) != want {
			t.Errorf("%q: %v", cell, !want)
		}
	}
}

func TestWrap(t *testing.T) {
	f, err := faces{}.get(false, 12)
	if err != nil {
		t.Fatal(err)
	}
	lines, longest := wrap(f, " one two  three-very-long four ", textWidth(f, "one two"))
	if got := strings.Join(lines, "|"); got != "one two|three-very-long|four" || longest != textWidth(f, "three-very-long") {
		t.Errorf("%q, %v", got, longest)
	}
	if lines, _ := wrap(f, " ", 10); lines != nil {
		t.Errorf("%q", lines)
	}
}

func TestRGB(t *testing.T) {
	img := RGB([]float32{0, 0.5, 1, -1, 2, 0.25, 0, 0, 0, 1, 1, 1}, 2, 0.5, 0.5)
	if b := img.Bounds(); b.Dx() != 2 || b.Dy() != 2 {
		t.Fatalf("%v", b)
	}
	for _, c := range []struct {
		x, y int
		want color.RGBA
	}{{0, 0, color.RGBA{128, 191, 255, 255}}, {1, 0, color.RGBA{0, 255, 159, 255}}, {0, 1, color.RGBA{128, 128, 128, 255}}, {1, 1, color.RGBA{255, 255, 255, 255}}} {
		if got := img.At(c.x, c.y); got != c.want {
			t.Errorf("pixel %d,%d is %v, want %v", c.x, c.y, got, c.want)
		}
	}
}

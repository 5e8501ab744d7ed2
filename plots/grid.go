package plots

import (
	"image"
	"image/color"
	"math"

	"github.com/fogleman/gg"
	"golang.org/x/image/draw"
)

// Grid lays out rows of small pictures, each enlarged zoom times (at least once) without smoothing, with a title before each
// row and above each column. Titles may be shorter than the grid or nil, a nil picture leaves its place empty, and cells are as
// large as the largest picture. The background is white.
func Grid(rows [][]image.Image, rowTitles, colTitles []string, zoom int) image.Image {
	const gap, textSize, textLine = 6, 13, 17
	zoom = max(zoom, 1)
	columns, cellW, cellH := len(colTitles), 0, 0
	for _, row := range rows {
		columns = max(columns, len(row))
		for _, img := range row {
			if img != nil {
				cellW, cellH = max(cellW, img.Bounds().Dx()*zoom), max(cellH, img.Bounds().Dy()*zoom)
			}
		}
	}
	// The embedded font always loads; without it the grid would be drawn without titles.
	f, err := faces{}.get(false, textSize)
	if err != nil {
		rowTitles, colTitles = nil, nil
	}
	// Column titles break at spaces to the width of a cell, which a long word widens.
	stepX, headRows := cellW, 0
	heads := make([][]string, len(colTitles))
	for i, title := range colTitles {
		lines, longest := wrap(f, title, float64(cellW))
		heads[i] = lines
		headRows = max(headRows, len(lines))
		stepX = max(stepX, int(math.Ceil(longest)))
	}
	left, head := gap, gap
	if headRows > 0 {
		head += headRows*textLine + 2
	}
	for _, title := range rowTitles {
		left = max(left, 2*gap+int(math.Ceil(textWidth(f, title))))
	}
	stepX += gap
	stepY := max(cellH, textLine) + gap
	out := image.NewRGBA(image.Rect(0, 0, left+columns*stepX, head+len(rows)*stepY))
	draw.Draw(out, out.Bounds(), image.White, image.Point{}, draw.Src)

	dc := gg.NewContextForRGBA(out)
	if f != nil {
		dc.SetFontFace(f)
	}
	dc.SetColor(color.Gray{0x22})
	for i, lines := range heads {
		for k, line := range lines {
			// Titles of one line stand just above the pictures.
			y := head - 8 - (len(lines)-1-k)*textLine
			x := float64(left+i*stepX) + (float64(stepX-gap)-textWidth(f, line))/2
			dc.DrawString(line, math.Round(x), float64(y))
		}
	}
	for i, title := range rowTitles {
		if i < len(rows) {
			y := head + i*stepY + (stepY-gap)/2 + textSize/3
			dc.DrawString(title, math.Round(float64(left-gap)-textWidth(f, title)), float64(y))
		}
	}
	for y, row := range rows {
		for x, img := range row {
			if img == nil {
				continue
			}
			w, h := img.Bounds().Dx()*zoom, img.Bounds().Dy()*zoom
			at := image.Pt(left+x*stepX+(stepX-gap-w)/2, head+y*stepY+(stepY-gap-h)/2)
			draw.NearestNeighbor.Scale(out, image.Rectangle{at, at.Add(image.Pt(w, h))}, img, img.Bounds(), draw.Over, nil)
		}
	}
	return out
}

// RGB draws the pixels v of an image of width w, row by row with three channels, as scale·v + shift, clipped to [0,1].
func RGB(v []float32, w int, scale, shift float32) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, w, len(v)/3/w))
	for i := 0; i+2 < len(v); i += 3 {
		var c [3]uint8
		for k := range c {
			c[k] = uint8(255*min(max(scale*v[i+k]+shift, 0), 1) + 0.5)
		}
		img.SetRGBA(i/3%w, i/3/w, color.RGBA{c[0], c[1], c[2], 255})
	}
	return img
}

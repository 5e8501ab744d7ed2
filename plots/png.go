package plots

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"maps"
	"slices"
)

// encode writes a drawing as PNG of at most 256 colours, less than half as large as with all: a drawing is flat areas and blends at their edges. Those of
// areas are kept, then the most frequent that differ from all before; any other becomes the nearest of them.
func encode(img image.Image) ([]byte, error) {
	r := img.Bounds()
	count := map[color.RGBA]int{}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			count[color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B), cmp.Compare(a.A, b.A))
	})
	const (
		apart = 20  // levels, Euclidean: not to be told apart in a line one pixel wide
		area  = 400 // pixels, where they are
	)
	var palette color.Palette
	index := make(map[color.RGBA]uint8, len(colours))
	for _, c := range colours {
		if len(palette) < 256 && (len(colours) <= 256 || count[c] >= area || !slices.ContainsFunc(palette, func(p color.Color) bool { return distance(p.(color.RGBA), c) <= apart*apart })) {
			palette = append(palette, c)
		}
	}
	for _, c := range colours {
		index[c] = uint8(palette.Index(c))
	}
	out := image.NewPaletted(r, palette)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			out.SetColorIndex(x, y, index[color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)])
		}
	}
	var buf bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestCompression}
	err := enc.Encode(&buf, out)
	return buf.Bytes(), err
}

// distance is the squared Euclidean distance of two colours in 8-bit levels.
func distance(a, b color.RGBA) int {
	square := func(a, b uint8) int { d := int(a) - int(b); return d * d }
	return square(a.R, b.R) + square(a.G, b.G) + square(a.B, b.B) + square(a.A, b.A)
}

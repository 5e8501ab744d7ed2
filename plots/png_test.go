package plots

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"
)

// TestEncode: a drawing of few colours comes back as it was, one of many with no colour further away than the palette leaves gaps, and the frequent ones exact.
func TestEncode(t *testing.T) {
	decode := func(img image.Image) image.Image {
		b, err := encode(img)
		if err != nil {
			t.Fatal(err)
		}
		back, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return back
	}
	few := image.NewRGBA(image.Rect(0, 0, 16, 16))
	many := image.NewRGBA(image.Rect(0, 0, 200, 300))
	for i := range 256 {
		few.Set(i%16, i/16, color.RGBA{uint8(i), uint8(255 - i), uint8(7 * i), 255})
	}
	for y := range 300 {
		for x := range 200 {
			c := color.RGBA{240, 240, 250, 255} // a flat area above
			if y >= 100 {                       // and a blend of two colours below: 20,000 pixels of 200 shades, times two of blue
				c = color.RGBA{uint8(x), uint8(200 - x), uint8(y % 2 * 4), 255}
			}
			many.Set(x, y, c)
		}
	}
	at := func(img image.Image, x, y int) color.RGBA { return color.RGBAModel.Convert(img.At(x, y)).(color.RGBA) }
	back := decode(few)
	for i := range 256 {
		if got, want := at(back, i%16, i/16), few.RGBAAt(i%16, i/16); got != want {
			t.Fatalf("colour %d of 256 is %v, was %v", i, got, want)
		}
	}
	back = decode(many)
	for y := range 300 {
		for x := range 200 {
			got, want := at(back, x, y), many.RGBAAt(x, y)
			if d := distance(got, want); d > 12*12 || y < 100 && d > 0 {
				t.Fatalf("pixel %d,%d is %v, was %v", x, y, got, want)
			}
		}
	}
}

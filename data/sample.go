package data

import (
	"bytes"
	_ "embed"
	"fmt"
	"image"
	"image/png"
)

// The sample is one grey PNG of three sheets, one above the other: green, red minus green, blue minus green (modulo 256). Each sheet has
// the images in rows of sampleColumns. Neighbouring channels differ little, so this is a sixth smaller than a PNG in colour, and as lossless.
const (
	sampleOf      = "cifar10"
	sampleSize    = 1000
	sampleColumns = 40
)

//go:embed sample/cifar10-test-1000.png
var samplePNG []byte

//go:embed sample/cifar10-test-1000.labels
var sampleLabels []byte // one digit an image

// Sample returns the first 1,000 images of CIFAR-10's official test split, in order, bit for bit: they ship with this package. The set
// equals Head(1000) of the full split, digest included.
func Sample() (*Set, error) {
	d, err := Lookup(sampleOf)
	if err != nil {
		return nil, err
	}
	set, err := decodeSample(d, samplePNG, sampleLabels)
	if err != nil {
		return nil, fmt.Errorf("decode the built-in sample of %s: %w", d.Name, err)
	}
	return set, nil
}

func decodeSample(d Dataset, sheet, labels []byte) (*Set, error) {
	img, err := png.Decode(bytes.NewReader(sheet))
	if err != nil {
		return nil, err
	}
	height := sampleSize / sampleColumns * d.H
	grey, ok := img.(*image.Gray)
	if !ok || grey.Rect != image.Rect(0, 0, sampleColumns*d.W, 3*height) {
		return nil, fmt.Errorf("sheet is a %T of %v", img, img.Bounds())
	}
	if len(labels) != sampleSize {
		return nil, fmt.Errorf("%d labels for %d images", len(labels), sampleSize)
	}
	set := (&Set{Name: d.Name, Split: "test", Classes: d.Classes, H: d.H, W: d.W}).empty(sampleSize)
	for i := range sampleSize {
		set.Labels[i] = int32(labels[i]) - '0'
		if y := set.Labels[i]; y < 0 || int(y) >= len(d.Classes) {
			return nil, fmt.Errorf("label %d of image %d, must be 0..%d", y, i, len(d.Classes)-1)
		}
		pixels := set.Image(i)
		for k := range d.H * d.W {
			x, y := i%sampleColumns*d.W+k%d.W, i/sampleColumns*d.H+k/d.W
			green := grey.GrayAt(x, y).Y
			pixels[3*k] = grey.GrayAt(x, y+height).Y + green
			pixels[3*k+1] = green
			pixels[3*k+2] = grey.GrayAt(x, y+2*height).Y + green
		}
	}
	set.Digest = set.digest()
	return set, nil
}

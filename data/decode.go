package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
	_ "image/jpeg" // the formats of image files
	_ "image/png"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
)

// decodeAll decodes image files of at most limit bytes into the images of set, in order, on all cores. The error is that of the first image in order that is damaged
// among those that were tried; it names its file and wraps ErrDamaged or ErrNotFound.
func decodeAll(s source, names []string, limit int64, set *Set) error {
	errs := make([]error, len(names))
	var next atomic.Int64
	var failed atomic.Bool
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(names)) {
		wg.Go(func() {
			for !failed.Load() {
				k := int(next.Add(1)) - 1
				if k >= len(names) {
					return
				}
				content, err := s.read(names[k], limit)
				if err == nil {
					err = decodeImage(set.Image(k), content, set.H, set.W)
				}
				if errors.Is(err, fs.ErrNotExist) {
					errs[k] = fmt.Errorf("%s: %w", names[k], ErrNotFound)
				} else if err != nil {
					errs[k] = damaged(names[k], "%w", err)
				}
				if err != nil {
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// decodeImage decodes a JPEG or PNG of h rows and w columns into dst [h,w,3]. Colours that a JPEG holds at half the resolution are interpolated as libjpeg
// does, with which everybody else's copies of these data sets were decoded: Go's own way, the nearest value, differs by dozens of levels at edges. One channel becomes three equal ones. What cannot be represented
// without loss or choice (another size, transparency, 16 bits a channel) is an error.
func decodeImage(dst, content []byte, h, w int) error {
	config, _, err := image.DecodeConfig(bytes.NewReader(content)) // before the memory for all of it is taken
	if err != nil {
		return unreadable(err, content)
	}
	if config.Height != h || config.Width != w {
		return fmt.Errorf("is %d pixels high and %d wide instead of %d and %d", config.Height, config.Width, h, w)
	}
	img, _, err := image.Decode(bytes.NewReader(content))
	if err != nil {
		return unreadable(err, content)
	}
	switch img := img.(type) {
	case *image.Gray16, *image.RGBA64, *image.NRGBA64:
		return errors.New("has 16 bits a channel: save it with 8")
	case *image.YCbCr:
		if img.SubsampleRatio == image.YCbCrSubsampleRatio444 || img.SubsampleRatio == image.YCbCrSubsampleRatio422 || img.SubsampleRatio == image.YCbCrSubsampleRatio420 {
			decodeYCbCr(dst, img)
			return nil
		}
	case *image.Gray:
		for y := range h {
			for x, p := range img.Pix[y*img.Stride:][:w] {
				d := dst[(y*w+x)*3:][:3]
				d[0], d[1], d[2] = p, p, p
			}
		}
		return nil
	case interface{ Opaque() bool }:
		if !img.Opaque() {
			return errors.New("has transparent pixels: save it without transparency")
		}
	}
	flat := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(flat, flat.Rect, img, img.Bounds().Min, draw.Src)
	for k := range h * w {
		copy(dst[3*k:3*k+3], flat.Pix[4*k:])
	}
	return nil
}

func unreadable(err error, content []byte) error {
	switch {
	case len(content) == 0:
		return errors.New("is empty")
	case errors.Is(err, image.ErrFormat):
		return fmt.Errorf("is neither JPEG nor PNG: begins with %q", content[:min(8, len(content))])
	}
	return fmt.Errorf("is truncated or damaged: %w", err)
}

// decodeYCbCr converts an image whose colour is stored at full resolution, at half in x, or at half in x and y. The interpolation is libjpeg's "fancy
// upsampling" (jdsample.c): weights 3/4 and 1/4 in each halved direction, sums rounded by alternating halves. So is the conversion (jdcolor.c, JFIF's
// equations in 16-bit fixed point).
func decodeYCbCr(dst []byte, img *image.YCbCr) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	cb, cr := make([]int32, w), make([]int32, w)
	for y := range h {
		upsample(cb, img, img.Cb, y)
		upsample(cr, img, img.Cr, y)
		row := img.Y[img.YOffset(img.Rect.Min.X, img.Rect.Min.Y+y):][:w]
		for x, luma := range row {
			l, b, r := int32(luma), cb[x]-128, cr[x]-128
			const half = 1 << 15
			d := dst[(y*w+x)*3:][:3]
			d[0] = level(l + (91881*r+half)>>16)
			d[1] = level(l + (-22554*b-46802*r+half)>>16)
			d[2] = level(l + (116130*b+half)>>16)
		}
	}
}

func level(v int32) byte { return byte(max(0, min(255, v))) }

// upsample writes row y of a colour plane at full resolution to dst.
func upsample(dst []int32, img *image.YCbCr, plane []byte, y int) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	line := func(row int) []byte { return plane[img.COffset(img.Rect.Min.X, img.Rect.Min.Y)+row*img.CStride:] }
	if img.SubsampleRatio == image.YCbCrSubsampleRatio444 {
		for x, v := range line(y)[:w] {
			dst[x] = int32(v)
		}
		return
	}
	n := (w + 1) / 2
	var near, far []byte
	scale := int32(1)
	if img.SubsampleRatio == image.YCbCrSubsampleRatio422 {
		near = line(y)[:n]
	} else {
		// The next row is the one below for odd y, above for even; beyond the edge it is the edge.
		other := max(0, min((h+1)/2-1, y/2-1+2*(y%2)))
		near, far, scale = line(y / 2)[:n], line(other)[:n], 4
	}
	at := func(k int) int32 {
		k = max(0, min(n-1, k))
		if far == nil {
			return int32(near[k])
		}
		return 3*int32(near[k]) + int32(far[k])
	}
	left, right := 2*scale, 2*scale-1 // what makes the shift round: half, or just less, so that the errors of a pair do not add up
	if far == nil {
		left, right = 1, 2
	}
	for x := range dst {
		k := x / 2
		if x%2 == 0 {
			dst[x] = (3*at(k) + at(k-1) + left) / (4 * scale)
		} else {
			dst[x] = (3*at(k) + at(k+1) + right) / (4 * scale)
		}
	}
}

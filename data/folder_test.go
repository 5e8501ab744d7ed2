package data

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
)

func pngOf(t testing.TB, h, w int, c color.Color) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		img.Set(i%w, i/w, c)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestOpenImages(t *testing.T) {
	red, blue := color.NRGBA{200, 10, 20, 255}, color.NRGBA{1, 2, 250, 255}
	files := fstest.MapFS{
		"dog/2.png":      {Data: pngOf(t, 8, 8, blue)},
		"dog/1.JPG":      {Data: flat(t, 8, 77, 1)},
		"cat/a.png":      {Data: pngOf(t, 8, 8, red)},
		"cat-big/x.jpeg": {Data: flat(t, 8, 33, 3)},
		"cat/.DS_Store":  {Data: []byte("x")},
		".git/config":    {Data: []byte("x")},
		"readme.txt":     {Data: []byte("x")},
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		set, err := OpenImages(dir, "mine", "test")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(set.Classes, []string{"cat", "cat-big", "dog"}) || fmt.Sprint(set.Labels) != "[0 1 2 2]" || set.H != 8 || set.W != 8 || set.Digest != set.digest() {
			t.Fatalf("%q, labels %v, %dx%d", set.Classes, set.Labels, set.H, set.W)
		}
		for i, want := range [][3]byte{{200, 10, 20}, {33, 33, 33}, {77, 77, 77}, {1, 2, 250}} {
			if !bytes.Equal(set.Image(i), bytes.Repeat(want[:], 64)) {
				t.Errorf("image %d is %v..., want %v", i, set.Image(i)[:6], want)
			}
		}
	}
	for name, c := range map[string]struct {
		file    string
		content []byte
		say     []string
	}{
		"other size": {"dog/3.png", pngOf(t, 8, 9, red), []string{"dog/3.png", "8 pixels high and 9 wide instead of 8 and 8"}},
		"damaged":    {"dog/3.png", pngOf(t, 8, 8, red)[:40], []string{"dog/3.png", "truncated or damaged"}},
		"empty":      {"cat/0.png", nil, []string{"cat/0.png", "is empty"}},
		"no image":   {"cat/list.csv", []byte("a,b"), []string{"cat/list.csv", "not called .png"}},
		"nested":     {"cat/more/1.png", pngOf(t, 8, 8, red), []string{"cat/more/1.png", "one folder"}},
		"large":      {"cat/0.png", pngOf(t, 1, 1025, red), []string{"cat/0.png", "1025 wide", "at most 1024"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, files); err != nil {
				t.Fatal(err)
			}
			at := filepath.Join(dir, filepath.FromSlash(c.file))
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, c.content, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := OpenImages(dir, "mine", "test")
			mustSay(t, err, nil, append(c.say, dir, "mine test")...)
		})
	}
	_, err := OpenImages(filepath.Join(dir, "none"), "mine", "test")
	mustSay(t, err, ErrNotFound, "none")
	_, err = OpenImages(filepath.Join(dir, "dog"), "mine", "test")
	mustSay(t, err, ErrNotFound, "0 folders with images")
	_, err = OpenImages(filepath.Join(dir, "readme.txt"), "mine", "test")
	mustSay(t, err, nil, "is a file", "folder of images for each class")
}

// Cutout blanks the part inside the image of a square whose centre is uniform over it, and nothing else; the flip and crop of an image stay what they
// are without it.
func TestCutout(t *testing.T) {
	l := sampleLoader(t)
	l.Batch = 500
	plain, _ := mustFill(t, l, 0, 0)
	l.Cutout = 9
	cut, _ := mustFill(t, l, 0, 0)
	const n = 32 * 32 * 3
	whole := 0
	for k := range l.Batch {
		top, bottom, left, right := 32, -1, 32, -1
		for p := range 32 * 32 {
			a, b := plain[k*n+3*p:][:3], cut[k*n+3*p:][:3]
			if !slices.Equal(a, b) {
				if !slices.Equal(b, []float32{0, 0, 0}) {
					t.Fatalf("image %d, pixel %d became %v", k, p, b)
				}
				top, bottom, left, right = min(top, p/32), max(bottom, p/32), min(left, p%32), max(right, p%32)
			}
		}
		if bottom-top >= 9 || right-left >= 9 {
			t.Fatalf("image %d: rows %d to %d and columns %d to %d are changed", k, top, bottom, left, right)
		}
		for h := top; h <= bottom; h++ {
			for w := left; w <= right; w++ {
				if !slices.Equal(cut[k*n+(h*32+w)*3:][:3], []float32{0, 0, 0}) {
					t.Fatalf("image %d: row %d, column %d is inside and not blank", k, h, w)
				}
			}
		}
		if bottom-top == 8 && right-left == 8 {
			whole++
		}
	}
	// The square lies inside for 24 of 32 centres each way, 56 %; crops that leave black edges hide some of its sides. Binomial(500, 0.5625) is 281
	// with a standard deviation of 11; the bounds are five of them, and the lower one leaves room for what is hidden.
	if whole < 180 || whole > 336 {
		t.Errorf("%d of %d squares are whole", whole, l.Batch)
	}
	l.Cutout = -1
	mustSay(t, l.Fill(0, 0, cut, make([]int32, l.Batch)), nil, "cutout of -1")
}

package plots

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"codeberg.org/go-fonts/liberation/liberationsansbold"
	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
)

// The two fonts, parsed once. They are read-only; faces, which are not safe for concurrent use, belong to one drawing.
var (
	regular = sync.OnceValues(func() (*opentype.Font, error) { return opentype.Parse(liberationsansregular.TTF) })
	bold    = sync.OnceValues(func() (*opentype.Font, error) { return opentype.Parse(liberationsansbold.TTF) })
)

type faceKey struct {
	bold bool
	size float64
}

// faces are the font faces of one drawing, by weight and size in pixels.
type faces map[faceKey]font.Face

func (fs faces) get(isBold bool, size float64) (font.Face, error) {
	key := faceKey{isBold, size}
	if f := fs[key]; f != nil {
		return f, nil
	}
	parsed, err := regular()
	if isBold {
		parsed, err = bold()
	}
	if err != nil {
		return nil, fmt.Errorf("loading the font: %w", err)
	}
	f, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		return nil, fmt.Errorf("loading the font at %v px: %w", size, err)
	}
	fs[key] = f
	return f, nil
}

// textWidth returns the width of a line of text in pixels.
func textWidth(f font.Face, text string) float64 { return float64(font.MeasureString(f, text)) / 64 }

var pxPattern = regexp.MustCompile(`([\d.]+)px`)

// cssWidth measures text as ECharts asks for it; css is like "bold 18px sans-serif".
func (fs faces) cssWidth(text, css string) (float64, error) {
	size := 12.0
	if m := pxPattern.FindStringSubmatch(css); m != nil {
		size = number(m[1], size)
	}
	f, err := fs.get(strings.Contains(css, "bold"), size)
	if err != nil {
		return 0, err
	}
	w := 0.0
	for _, r := range text {
		// A wide character is as wide as high. ECharts takes its line height from the width of one.
		if r >= 0x2E80 {
			w += size
		}
	}
	return w + textWidth(f, strings.Map(func(r rune) rune {
		if r >= 0x2E80 {
			return -1
		}
		return r
	}, text)), nil
}

// wrap breaks text at spaces into lines of at most width pixels; a longer word stays whole. It also returns the width of the
// longest line.
func wrap(f font.Face, text string, width float64) (lines []string, longest float64) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && textWidth(f, line+" "+word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	if line != "" {
		lines = append(lines, line)
	}
	for _, l := range lines {
		longest = max(longest, textWidth(f, l))
	}
	return lines, longest
}

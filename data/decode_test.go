package data

import (
	"testing"
)

// colour-* are JPEGs of 9 rows and 10 columns of hard colour edges, and their pixels as libjpeg-turbo decodes them (written and read by Pillow).
// Inverse cosine transforms round differently by 1, or 2 after the conversion of three channels to one; the nearest colour instead of libjpeg's
// interpolation is off by 64 and 43 here.
func TestJPEGLikeLibjpeg(t *testing.T) {
	for _, ratio := range []string{"420", "422", "444"} {
		content := fixture("colour-" + ratio + ".jpg")
		want := fixture("colour-" + ratio + ".rgb")
		got := make([]byte, len(want))
		if err := decodeImage(got, content, 9, 10); err != nil {
			t.Fatal(err)
		}
		worst := 0
		for i := range want {
			worst = max(worst, int(got[i])-int(want[i]), int(want[i])-int(got[i]))
		}
		t.Logf("%s: worst difference %d", ratio, worst)
		if worst > 2 {
			t.Errorf("%s: a value differs by %d", ratio, worst)
		}
	}
}

package data

import (
	"bytes"
	"flag"
	"image"
	"image/png"
	"os"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write the sample anew from the full test split in CARSO_DATA")

// sampleDigest is the SHA-256 of the first 1,000 labels and images of the official test_batch.bin.
const sampleDigest = "7bd512558c6a060309f1dc504a864a9af5ad4c298a9a30931935428d3bd6ab0c"

// fullSet returns a full split, or skips.
func fullSet(t testing.TB, split string) *Set {
	t.Helper()
	path := os.Getenv("CARSO_DATA")
	if path == "" {
		t.Skip("CARSO_DATA is not set: needs the full CIFAR-10")
	}
	set, err := OpenCIFAR10(path, split)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// encodeSample is the inverse of decodeSample.
func encodeSample(t *testing.T, set *Set) (sheet, labels []byte) {
	t.Helper()
	height := sampleSize / sampleColumns * set.H
	grey := image.NewGray(image.Rect(0, 0, sampleColumns*set.W, 3*height))
	for i := range sampleSize {
		labels = append(labels, byte('0'+set.Labels[i]))
		for k := range set.H * set.W {
			p := set.Image(i)[3*k : 3*k+3]
			at := grey.PixOffset(i%sampleColumns*set.W+k%set.W, i/sampleColumns*set.H+k/set.W)
			grey.Pix[at] = p[1]
			grey.Pix[at+height*grey.Stride] = p[0] - p[1]
			grey.Pix[at+2*height*grey.Stride] = p[2] - p[1]
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, grey); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), labels
}

func TestSampleIsTheHeadOfTheTestSplit(t *testing.T) {
	full := fullSet(t, "test")
	head, err := full.Head(sampleSize)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		sheet, labels := encodeSample(t, full)
		if err := os.WriteFile("sample/cifar10-test-1000.png", sheet, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("sample/cifar10-test-1000.labels", labels, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("written; run again without -update. Digest %s", head.Digest)
	}
	sample, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	if sample.Digest != head.Digest || !bytes.Equal(sample.Pixels, head.Pixels) || !slices.Equal(sample.Labels, head.Labels) {
		t.Errorf("the sample (digest %s) is not the first %d test images (digest %s)", sample.Digest, sampleSize, head.Digest)
	}
	if sample.Name != head.Name || sample.Split != head.Split || sample.H != 32 || sample.W != 32 {
		t.Errorf("sample is %s %s %dx%d", sample.Name, sample.Split, sample.H, sample.W)
	}
}

func TestSample(t *testing.T) {
	set, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	if set.Digest != sampleDigest || set.Digest != set.digest() {
		t.Errorf("digest %s, want %s", set.Digest, sampleDigest)
	}
	// The official test split begins cat, ship, ship, airplane.
	if got := set.Labels[:4]; !slices.Equal(got, []int32{3, 8, 8, 0}) {
		t.Errorf("first labels %v", got)
	}
	counts := make([]int, len(set.Classes))
	for _, y := range set.Labels {
		counts[y]++
	}
	for c, n := range counts {
		if n < 70 || n > 130 { // drawn from 1,000 of each of 10 classes: 100 with a standard deviation of 9
			t.Errorf("%d images of class %s", n, set.Classes[c])
		}
	}
	if n := len(samplePNG) + len(sampleLabels); n > 2_600_000 {
		t.Errorf("the sample takes %d bytes", n)
	}
}

func TestSampleDamage(t *testing.T) {
	d := Catalog[0]
	for name, in := range map[string]struct{ sheet, labels []byte }{
		"truncated": {samplePNG[:len(samplePNG)/2], sampleLabels},
		"no image":  {[]byte("x"), sampleLabels},
		"labels":    {samplePNG, sampleLabels[1:]},
	} {
		if _, err := decodeSample(d, in.sheet, in.labels); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

package data

import (
	"bytes"
	"slices"
	"testing"
)

func TestFloats(t *testing.T) {
	set, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	n := set.H * set.W * 3
	dst := make([]float32, 3*n)
	set.Floats(dst, 7, 7, 999)
	for k, i := range []int{7, 7, 999} {
		for j, p := range set.Image(i) {
			if got, want := dst[k*n+j], float32(p)/255; got != want { // bit for bit: one division either way
				t.Fatalf("image %d element %d: %v, want %v", i, j, got, want)
			}
		}
	}
	if unit[0] != 0 || unit[255] != 1 {
		t.Errorf("0 and 255 become %v and %v", unit[0], unit[255])
	}
}

func TestSubset(t *testing.T) {
	set, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	before := set.Digest
	sub, err := set.Subset([]int{5, 0, 5})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(sub.Labels, []int32{set.Labels[5], set.Labels[0], set.Labels[5]}) || !bytes.Equal(sub.Image(1), set.Image(0)) {
		t.Error("wrong images")
	}
	if sub.Digest == before || sub.Digest != sub.digest() || sub.Name != set.Name || sub.Split != set.Split {
		t.Errorf("digest %s, name %s %s", sub.Digest, sub.Name, sub.Split)
	}
	sub.Pixels[0]++ // a copy: the set does not feel it
	if set.digest() != before {
		t.Error("the subset shares the set's pixels")
	}
	head, err := set.Head(3)
	same, err2 := set.Subset([]int{0, 1, 2})
	if err != nil || err2 != nil || head.Digest != same.Digest {
		t.Errorf("Head(3) is not images 0, 1, 2 (%v, %v)", err, err2)
	}
	whole, err := set.Head(set.Len())
	if err != nil || whole.Digest != before {
		t.Errorf("the head of all is not the set (%v)", err)
	}
	if none, err := set.Head(0); err != nil || none.Len() != 0 {
		t.Errorf("Head(0): %v", err)
	}
	for _, n := range []int{-1, 1001} {
		_, err := set.Head(n)
		mustSay(t, err, nil, "cifar10 test", "it has 1000")
	}
	_, err = set.Subset([]int{3, 1000})
	mustSay(t, err, nil, "index 1000", "number 1")
}

// The digest must tell labels from pixels and notice either's order.
func TestDigestNoticesEverything(t *testing.T) {
	d := newTiny(t)
	set, err := d.Load(d.folder("."), "test")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{set.Digest: true}
	for name, change := range map[string]func(){
		"a pixel": func() { set.Pixels[100]++ },
		"a label": func() { set.Labels[3] = (set.Labels[3] + 1) % 3 },
		"order":   func() { set.Labels[0], set.Labels[1] = set.Labels[1], set.Labels[0] },
	} {
		change()
		if seen[set.digest()] {
			t.Errorf("%s: digest unchanged", name)
		}
		seen[set.digest()] = true
	}
}

func TestChunks(t *testing.T) {
	for _, c := range []struct {
		n, size int
		want    []Chunk
	}{
		{10, 4, []Chunk{{0, 4}, {4, 8}, {8, 10}}},
		{8, 4, []Chunk{{0, 4}, {4, 8}}},
		{3, 10, []Chunk{{0, 3}}},
		{3, 0, []Chunk{{0, 3}}},
		{0, 4, nil},
		{-1, 4, nil},
	} {
		got := Chunks(c.n, c.size)
		if !slices.Equal(got, c.want) {
			t.Errorf("Chunks(%d, %d) = %v", c.n, c.size, got)
		}
		var all []int
		for _, chunk := range got {
			if len(chunk.Indices()) != chunk.Len() {
				t.Errorf("%v: %d indices", chunk, len(chunk.Indices()))
			}
			all = append(all, chunk.Indices()...)
		}
		for i, k := range all {
			if i != k {
				t.Errorf("Chunks(%d, %d): position %d holds %d", c.n, c.size, i, k)
			}
		}
		if len(all) != max(0, c.n) {
			t.Errorf("Chunks(%d, %d) cover %d", c.n, c.size, len(all))
		}
	}
}

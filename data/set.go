package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Set is labelled images in memory, as plain bytes. It is not changed after it was made, so it may be shared between goroutines.
type Set struct {
	Name, Split string   // "cifar10", "test"
	Classes     []string // class names; Labels index them
	H, W        int      // rows and columns of one image
	Pixels      []byte   // Len()*H*W*3, image-major, HWC, RGB, 0..255
	Labels      []int32  // Len() numbers in 0..len(Classes)-1
	Digest      string   // SHA-256 of the decoded labels (little-endian int32) followed by Pixels, hex
}

// Len is the number of images.
func (s *Set) Len() int { return len(s.Labels) }

// Image returns the H*W*3 bytes of image i, HWC. They alias Pixels and must not be written to. Like a slice, it panics when i is out of range.
func (s *Set) Image(i int) []byte {
	n := s.H * s.W * 3
	return s.Pixels[i*n : (i+1)*n : (i+1)*n]
}

// unit holds k/255 for every byte k: the division of the whole project, done once so that all images go through the same roundings.
var unit = func() (t [256]float32) {
	for k := range t {
		t[k] = float32(k) / 255
	}
	return t
}()

// Floats fills dst with the images idx, in that order, as [len(idx),H,W,3] float32 in [0,1] (byte/255). dst must have exactly that many
// elements. Like a slice, it panics when dst is too short or an index out of range.
func (s *Set) Floats(dst []float32, idx ...int) {
	n := s.H * s.W * 3
	for k, i := range idx {
		d := dst[k*n : (k+1)*n]
		for j, p := range s.Image(i) {
			d[j] = unit[p]
		}
	}
}

// Subset returns a copy of the images idx, in that order, with a digest of its own. Indices may repeat. Name and Split stay: the digest
// and the length tell a subset from the whole.
func (s *Set) Subset(idx []int) (*Set, error) {
	out := s.empty(len(idx))
	n := s.H * s.W * 3
	for k, i := range idx {
		if i < 0 || i >= s.Len() {
			return nil, fmt.Errorf("subset of %s %s: index %d (number %d) is outside its %d images", s.Name, s.Split, i, k, s.Len())
		}
		copy(out.Pixels[k*n:], s.Image(i))
		out.Labels[k] = s.Labels[i]
	}
	out.Digest = out.digest()
	return out, nil
}

// Head returns the first n images, like Subset. It refuses an n beyond the set rather than giving fewer images than a result would claim.
func (s *Set) Head(n int) (*Set, error) {
	if n < 0 || n > s.Len() {
		return nil, fmt.Errorf("first %d images of %s %s: it has %d", n, s.Name, s.Split, s.Len())
	}
	idx := make([]int, n)
	for i := range idx {
		idx[i] = i
	}
	return s.Subset(idx)
}

// empty returns a set like s with room for n images and no digest.
func (s *Set) empty(n int) *Set {
	out := *s
	out.Pixels, out.Labels, out.Digest = make([]byte, n*s.H*s.W*3), make([]int32, n), ""
	return &out
}

func (s *Set) digest() string {
	h := sha256.New()
	h.Write(labelBytes(s.Labels))
	h.Write(s.Pixels)
	return hex.EncodeToString(h.Sum(nil))
}

// labelBytes are labels as little-endian int32.
func labelBytes(labels []int32) []byte {
	out := make([]byte, 0, 4*len(labels))
	for _, y := range labels {
		out = binary.LittleEndian.AppendUint32(out, uint32(y))
	}
	return out
}

// Chunk is the images Start..End-1 of a set.
type Chunk struct{ Start, End int }

// Len is the number of images in the chunk.
func (c Chunk) Len() int { return c.End - c.Start }

// Indices lists the images of the chunk, as Set.Floats takes them.
func (c Chunk) Indices() []int {
	idx := make([]int, 0, c.Len())
	for i := c.Start; i < c.End; i++ {
		idx = append(idx, i)
	}
	return idx
}

// Chunks cuts 0..n-1 into consecutive chunks of size images; the last one may be shorter. The cut depends on n and size alone, so that an
// interrupted run finds its chunks again. A size below 1 means one chunk of all.
func Chunks(n, size int) []Chunk {
	if n <= 0 {
		return nil
	}
	if size < 1 || size > n {
		size = n
	}
	out := make([]Chunk, 0, (n+size-1)/size)
	for start := 0; start < n; start += size {
		out = append(out, Chunk{start, min(start+size, n)})
	}
	return out
}

package data

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"syscall"

	"carsokit/internal/atomicfile"
)

// A cache holds the decoded images of a split: this line, a line of JSON (cacheHeader), the labels as little-endian int32, the pixels.
const (
	cacheMagic = "carso images 1\n"
	cacheExt   = ".images"
)

// cacheHeader says what a cache holds and what it was made from.
type cacheHeader struct {
	Name, Split string
	Classes     []string
	H, W, N     int
	Source      string // located.stamp of what was decoded
	Digest      string // Set.Digest
}

// writeCache writes a decoded set. The file is the old one or the new one at any instant.
func writeCache(file, stamp string, set *Set) error {
	header, err := json.Marshal(cacheHeader{set.Name, set.Split, set.Classes, set.H, set.W, set.Len(), stamp, set.Digest})
	if err != nil {
		return err
	}
	return atomicfile.Write(file, func(w io.Writer) error {
		for _, part := range [][]byte{[]byte(cacheMagic), append(header, '\n'), labelBytes(set.Labels), set.Pixels} {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
}

// readCache returns the set that a cache holds if it was made from what stamp stands for, is of the split like, and is intact; else nil. The
// pixels stay on disk until they are needed: the file is mapped into memory for as long as the process lives.
func readCache(file, stamp string, like Set) *Set {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < int64(len(cacheMagic)) || info.Size() > math.MaxInt {
		return nil
	}
	content, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	set := parseCache(content, stamp, like)
	if set == nil {
		_ = syscall.Munmap(content)
	}
	return set
}

func parseCache(content []byte, stamp string, like Set) *Set {
	rest, ok := bytes.CutPrefix(content, []byte(cacheMagic))
	if !ok {
		return nil
	}
	line, rest, ok := bytes.Cut(rest, []byte("\n"))
	var h cacheHeader
	if !ok || json.Unmarshal(line, &h) != nil || h.Source != stamp || h.Name != like.Name || h.Split != like.Split || h.H != like.H || h.W != like.W {
		return nil
	}
	image := h.H * h.W * 3
	if h.N < 0 || h.N > len(rest)/(4+image) || len(rest) != h.N*(4+image) {
		return nil
	}
	set := &Set{Name: h.Name, Split: h.Split, Classes: h.Classes, H: h.H, W: h.W, Labels: make([]int32, h.N), Digest: h.Digest}
	for k := range set.Labels {
		y := binary.LittleEndian.Uint32(rest[4*k:])
		if y >= uint32(len(h.Classes)) {
			return nil
		}
		set.Labels[k] = int32(y)
	}
	set.Pixels = rest[4*h.N:]
	if set.digest() != h.Digest {
		return nil
	}
	return set
}

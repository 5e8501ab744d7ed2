package data

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// OpenNPZ reads images of d's size and classes from an .npz file, as numpy.savez and numpy.savez_compressed write it: the array image, uint8 of shape
// [n,H,W,3], and the array label, n whole numbers. Generated training data comes like this, and TinyImageNet-200 as the reference reads it. Split is what
// the set is to be called. Errors name the file and the array and wrap ErrNotFound or ErrDamaged.
func (d Dataset) OpenNPZ(file, split string) (*Set, error) {
	set, err := d.readNPZ(file, split)
	if err != nil {
		return nil, fmt.Errorf("load %s %s from %s: %w", d.Name, split, file, err)
	}
	return set, nil
}

// openNPZ is OpenNPZ of a repacked split, which must be whole.
func (d Dataset) openNPZ(file, split string) (*Set, error) {
	set, err := d.OpenNPZ(file, split)
	if err != nil {
		return nil, err
	}
	if want := d.Tree.Classes * d.Tree.PerClass[split]; set.Len() != want {
		return nil, fmt.Errorf("load %s %s: %s: %w: holds %d images instead of %d", d.Name, split, file, ErrDamaged, set.Len(), want)
	}
	return set, nil
}

func (d Dataset) readNPZ(file, split string) (*Set, error) {
	if !exists(file) {
		return nil, ErrNotFound
	}
	if err := looksZip(file); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	classes := d.Classes
	if d.Tree != nil {
		if s, err := folderSource(os.DirFS(filepath.Dir(file)), "wnids.txt", "words.txt"); err == nil {
			if l, err := d.Tree.classes(s); err == nil {
				classes = l
			}
		}
		for k := len(classes); k < d.Tree.Classes; k++ {
			classes = append(classes, strconv.Itoa(k)) // an .npz has no names
		}
	}
	set, err := parseNPZ(f, info.Size(), &Set{Name: d.Name, Split: split, Classes: classes, H: d.H, W: d.W})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return set, nil
}

// parseNPZ reads a set like like.
func parseNPZ(r io.ReaderAt, size int64, like *Set) (*Set, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("is truncated or damaged: %w", err)
	}
	member := func(name string) (*npy, error) {
		for _, f := range z.File {
			if f.Name == name+".npy" {
				a, err := openNPY(f, size)
				if err != nil {
					return nil, fmt.Errorf("array %s: %w", name, err)
				}
				return a, nil
			}
		}
		return nil, fmt.Errorf("lacks the array %s", name)
	}
	images, err := member("image")
	if err != nil {
		return nil, err
	}
	defer images.r.Close()
	if len(images.shape) != 4 || images.shape[1] != like.H || images.shape[2] != like.W || images.shape[3] != 3 || images.dtype != "u1" {
		return nil, fmt.Errorf("array image is %s of shape %v instead of u1 of shape [n %d %d 3]", images.dtype, images.shape, like.H, like.W)
	}
	labels, err := member("label")
	if err != nil {
		return nil, err
	}
	defer labels.r.Close()
	n := images.shape[0]
	if len(labels.shape) != 1 || labels.shape[0] != n {
		return nil, fmt.Errorf("array label has shape %v for %d images", labels.shape, n)
	}
	set := like.empty(n)
	if err := images.read(set.Pixels); err != nil {
		return nil, fmt.Errorf("array image: %w", err)
	}
	raw := make([]byte, n*labels.width())
	if err := labels.read(raw); err != nil {
		return nil, fmt.Errorf("array label: %w", err)
	}
	for k := range set.Labels {
		y, err := labels.integer(raw, k)
		if err != nil {
			return nil, fmt.Errorf("array label: %w", err)
		}
		if y < 0 || y >= int64(len(like.Classes)) {
			return nil, fmt.Errorf("array label: image %d has label %d, must be 0..%d", k, y, len(like.Classes)-1)
		}
		set.Labels[k] = int32(y)
	}
	set.Digest = set.digest()
	return set, nil
}

// npy is an array in NumPy's format, whose header was read.
type npy struct {
	dtype string // kind and bytes of an element: "u1", "i8"
	big   bool   // byte order
	shape []int
	r     io.ReadCloser
}

var npyHeader = regexp.MustCompile(`^\{ *'descr': *'([<>|=]?)([a-z][0-9]{1,2})', *'fortran_order': *(True|False), *'shape': *\(([0-9, ]*)\),? *\}\s*$`)

// openNPY reads the header of an array in a zip archive of so many bytes, and checks the array's size against it before memory is taken for it.
func openNPY(f *zip.File, archive int64) (_ *npy, err error) {
	// Deflate makes nothing smaller than by 1032.
	if f.CompressedSize64 > uint64(archive) || f.UncompressedSize64 > 1032*(f.CompressedSize64+1) {
		return nil, fmt.Errorf("declares %d bytes, which %d cannot hold", f.UncompressedSize64, f.CompressedSize64)
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	var start [12]byte
	if _, err := io.ReadFull(r, start[:10]); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if string(start[:6]) != "\x93NUMPY" {
		return nil, fmt.Errorf("is not in NumPy's format: begins with %q", start[:6])
	}
	length, before := int(binary.LittleEndian.Uint16(start[8:])), 10
	if start[6] > 1 {
		if _, err := io.ReadFull(r, start[10:]); err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		length, before = int(binary.LittleEndian.Uint32(start[8:])), 12
	}
	if length > 1<<16 {
		return nil, fmt.Errorf("has a header of %d bytes", length)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	m := npyHeader.FindStringSubmatch(string(text))
	if m == nil {
		return nil, fmt.Errorf("has the header %.120q, which describes no plain array", text)
	}
	a := &npy{dtype: m[2], big: m[1] == ">", r: r}
	if m[3] == "True" {
		return nil, fmt.Errorf("is in Fortran's order: save numpy.ascontiguousarray of it")
	}
	want := uint64(a.width())
	for field := range strings.SplitSeq(m[4], ",") {
		if field = strings.TrimSpace(field); field == "" {
			continue
		}
		n, err := strconv.ParseUint(field, 10, 40)
		if err != nil || n > 0 && want > (1<<40)/n {
			return nil, fmt.Errorf("has the shape (%s)", m[4])
		}
		want *= n
		a.shape = append(a.shape, int(n))
	}
	if have := f.UncompressedSize64 - uint64(before+length); want != have {
		return nil, fmt.Errorf("has %d bytes for shape %v of %s, which needs %d", have, a.shape, a.dtype, want)
	}
	return a, nil
}

// width is the bytes of an element.
func (a *npy) width() int {
	n, err := strconv.Atoi(a.dtype[1:])
	if err != nil {
		return 0
	}
	return n
}

// read fills dst with the array and checks that it ends there, and with it its checksum.
func (a *npy) read(dst []byte) error {
	if n, err := io.ReadFull(a.r, dst); err != nil {
		return fmt.Errorf("ends at byte %d of %d: %w", n, len(dst), err)
	}
	if n, err := io.Copy(io.Discard, a.r); err != nil {
		return fmt.Errorf("is damaged: %w", err)
	} else if n != 0 {
		return fmt.Errorf("is longer than it says, by %d bytes", n)
	}
	return nil
}

// integer is element k of an array of whole numbers.
func (a *npy) integer(raw []byte, k int) (int64, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if a.big {
		order = binary.BigEndian
	}
	e := raw[k*a.width():]
	switch a.dtype {
	case "u1":
		return int64(e[0]), nil
	case "i1":
		return int64(int8(e[0])), nil
	case "u2":
		return int64(order.Uint16(e)), nil
	case "i2":
		return int64(int16(order.Uint16(e))), nil
	case "u4":
		return int64(order.Uint32(e)), nil
	case "i4":
		return int64(int32(order.Uint32(e))), nil
	case "i8", "u8":
		return int64(order.Uint64(e)), nil
	}
	return 0, fmt.Errorf("is of dtype %s instead of whole numbers", a.dtype)
}

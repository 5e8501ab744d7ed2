package data

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"carsokit/internal/fetch"
)

// ErrNotFound is wrapped by errors that say that a data set, or a file of it, is not where it was looked for.
var ErrNotFound = errors.New("not found")

// ErrDamaged is wrapped by errors that say that a file of a data set is there and is not what it should be.
var ErrDamaged = errors.New("damaged")

// LoadCIFAR10 reads the split "train" (50,000 images) or "test" (10,000) from CIFAR-10's official binary files, at the root of fsys or in
// its folder cifar-10-batches-bin. It checks names, sizes and labels; Verify also checks the MD5s. Errors name the file, and the record and
// offset where there is one, and wrap ErrNotFound or ErrDamaged.
func LoadCIFAR10(fsys fs.FS, split string) (*Set, error) {
	d, err := Lookup("cifar10")
	if err != nil {
		return nil, err
	}
	return d.Load(fsys, split)
}

// OpenCIFAR10 is LoadCIFAR10 from a folder or from the official archive cifar-10-binary.tar.gz, which is read in place.
func OpenCIFAR10(path, split string) (*Set, error) {
	d, err := Lookup("cifar10")
	if err != nil {
		return nil, err
	}
	return d.Open(path, split)
}

// Load reads one split from files at the root of fsys or in its folder d.Dir.
func (d Dataset) Load(fsys fs.FS, split string) (*Set, error) {
	if d.Tree != nil {
		return d.loadTree(fsys, split)
	}
	files, err := d.files(split)
	if err != nil {
		return nil, err
	}
	b := d.builder(files)
	dir := d.locate(fsys, files)
	for _, f := range files {
		if err := d.readFrom(fsys, path.Join(dir, f.Name), f, b.add); err != nil {
			return nil, fmt.Errorf("load %s %s: %w", d.Name, split, err)
		}
	}
	return b.finish(split), nil
}

// Open reads one split from a folder (that holds the files or the folder d.Dir) or from the official archive. The decoded
// images of a Tree are kept in a file beside the data, whose name ends in SPLIT.images, and mapped into memory the next time.
func (d Dataset) Open(path, split string) (*Set, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load %s %s: %s: %w: %s", d.Name, split, path, ErrNotFound, d.remedy())
	} else if err != nil {
		return nil, fmt.Errorf("load %s %s: %w", d.Name, split, err)
	}
	if d.Tree != nil {
		return d.openTree(path, split)
	}
	if info.IsDir() {
		set, err := d.Load(os.DirFS(path), split)
		if err != nil {
			return nil, fmt.Errorf("in %s: %w", path, err)
		}
		return set, nil
	}
	files, err := d.files(split)
	if err != nil {
		return nil, err
	}
	archive, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load %s %s: %w", d.Name, split, err)
	}
	defer archive.Close()
	b := d.builder(files)
	if err := d.walkArchive(filepath.Base(path), archive, b.add); err != nil {
		return nil, fmt.Errorf("load %s %s from %s: %w", d.Name, split, path, err)
	}
	return b.finish(split), nil
}

// locate says whether the files are in d.Dir (returned) or at the root (".").
func (d Dataset) locate(fsys fs.FS, files []File) string {
	for _, f := range files {
		if _, err := fs.Stat(fsys, f.Name); err == nil {
			return "."
		}
	}
	return d.Dir
}

// readFrom hands the file called name in fsys, which is to be f, to visit.
func (d Dataset) readFrom(fsys fs.FS, name string, f File, visit visitFunc) error {
	r, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: %s", name, ErrNotFound, d.remedy())
	} else if err != nil {
		return err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w: is a %s where a file should be: remove it and %s", name, ErrDamaged, kind(info.Mode()), d.remedy())
	}
	return d.check(name, f, r, info.Size(), visit)
}

// visitFunc takes the content of f: exactly f.Size bytes unless the source ends early or fails. name is what to call it in errors.
type visitFunc func(name string, f File, r io.Reader) error

// check looks at the size and the first bytes of what should be f before visit may have it.
func (d Dataset) check(name string, f File, r io.Reader, size int64, visit visitFunc) error {
	br := bufio.NewReaderSize(r, 1<<18)
	head, err := br.Peek(512)
	if err != nil && err != io.EOF {
		return fmt.Errorf("%s: %w at offset %d: %w: %s", name, ErrDamaged, len(head), err, d.remedy())
	}
	problem := ""
	switch {
	case size == 0:
		problem = "is empty"
	case fetch.LooksHTML(head):
		problem = "is an HTML page, not data"
	case bytes.HasPrefix(head, gzipMagic):
		problem = "is a gzip archive, not a file of records"
	case size < f.Size:
		problem = fmt.Sprintf("is truncated in record %d: %d bytes instead of %d", size/d.recordSize(), size, f.Size)
	case size > f.Size:
		problem = fmt.Sprintf("is too long: %d bytes instead of %d", size, f.Size)
	}
	if problem != "" {
		return fmt.Errorf("%s: %w: %s: %s", name, ErrDamaged, problem, d.remedy())
	}
	return visit(name, f, io.LimitReader(br, f.Size))
}

// builder puts files, in whatever order they come, into a set.
type builder struct {
	d     Dataset
	set   *Set
	first map[string]int // index of each file's first image
}

func (d Dataset) builder(files []File) *builder {
	b := &builder{d: d, first: map[string]int{}}
	n := 0
	for _, f := range files {
		b.first[f.Name] = n
		n += d.count(f)
	}
	b.set = (&Set{Name: d.Name, Classes: d.Classes, H: d.H, W: d.W}).empty(n)
	return b
}

// add decodes the records of f, or skips f when it belongs to another split.
func (b *builder) add(name string, f File, r io.Reader) error {
	first, wanted := b.first[f.Name]
	if !wanted {
		return nil
	}
	record := make([]byte, b.d.recordSize())
	for k := range b.d.count(f) {
		offset := int64(k) * b.d.recordSize()
		if n, err := io.ReadFull(r, record); err != nil {
			return fmt.Errorf("%s: %w: ends at offset %d, in record %d of %d: %w: %s", name, ErrDamaged, offset+int64(n), k, b.d.count(f), err, b.d.remedy())
		}
		label := record[b.d.LabelAt]
		if int(label) >= len(b.d.Classes) {
			return fmt.Errorf("%s: %w: record %d (offset %d): label %d, must be 0..%d: %s",
				name, ErrDamaged, k, offset+int64(b.d.LabelAt), label, len(b.d.Classes)-1, b.d.remedy())
		}
		b.set.Labels[first+k] = int32(label)
		interleave(b.set.Image(first+k), record[b.d.LabelBytes:])
	}
	return nil
}

func (b *builder) finish(split string) *Set {
	b.set.Split = split
	b.set.Digest = b.set.digest()
	return b.set
}

// interleave turns an image from CHW to HWC.
func interleave(hwc, chw []byte) {
	n := len(chw) / 3
	red, green, blue := chw[:n], chw[n:2*n], chw[2*n:]
	for i := range red {
		p := hwc[3*i : 3*i+3 : 3*i+3]
		p[0], p[1], p[2] = red[i], green[i], blue[i]
	}
}

var gzipMagic = []byte{0x1f, 0x8b}

func kind(m fs.FileMode) string {
	if m.IsDir() {
		return "folder"
	}
	return "special file"
}

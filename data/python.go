package data

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"carsokit/internal/fetch"
)

// Python is another form of the same images: pickles of dicts with the arrays "data", [n, 3*H*W] in the order of the binary records, and a list of
// labels.
type Python struct {
	Dir     string
	Files   []File // without sizes
	Labels  string // the key of the labels
	Archive Archive
}

// maxPickle bounds a file of pickled images; the largest has 156 MB.
const maxPickle = 256 << 20

// isPython says whether a split of d at where, a folder or an archive, is in the python form: the binary one is not there, and that is.
func (d Dataset) isPython(where string) bool {
	if d.Python == nil {
		return false
	}
	info, err := os.Stat(where)
	if err != nil {
		return false
	}
	if !info.IsDir() {
		return filepath.Base(where) == path.Base(d.Python.Archive.URL)
	}
	for _, f := range d.Files {
		for _, dir := range []string{"", d.Dir} {
			if exists(filepath.Join(where, dir, f.Name)) {
				return false
			}
		}
	}
	return d.pythonDir(where) != ""
}

// pythonDir is the folder of the pickles in where, or where itself if it is called so; empty: neither.
func (d Dataset) pythonDir(where string) string {
	for _, dir := range []string{where, filepath.Join(where, d.Python.Dir)} {
		if filepath.Base(dir) != d.Python.Dir {
			continue
		}
		for _, f := range d.Python.Files {
			if info, err := os.Stat(filepath.Join(dir, f.Name)); err == nil && info.Mode().IsRegular() {
				return dir
			}
		}
	}
	return ""
}

// openPython reads one split from the python form in a folder or archive.
func (d Dataset) openPython(where, split string) (*Set, error) {
	parts := map[string]*Set{}
	var err error
	if dir := d.pythonDir(where); dir != "" {
		for _, f := range d.Python.Files {
			if f.Split != split {
				continue
			}
			name := filepath.Join(dir, f.Name)
			if !exists(name) {
				err = fmt.Errorf("%s: %w", f.Name, ErrNotFound)
				break
			}
			var file *os.File
			if file, err = os.Open(name); err != nil {
				break
			}
			parts[f.Name], err = d.readPickle(f.Name, file)
			file.Close()
			if err != nil {
				break
			}
		}
	} else {
		err = d.walkPython(where, split, parts)
	}
	if err != nil {
		return nil, fmt.Errorf("load %s %s from %s: %w: %s", d.Name, split, where, err, d.remedy())
	}
	want, n := 0, 0
	for _, f := range d.Files {
		if f.Split == split {
			want += d.count(f)
		}
	}
	set := (&Set{Name: d.Name, Split: split, Classes: d.Classes, H: d.H, W: d.W}).empty(0)
	for _, f := range d.Python.Files {
		if f.Split != split {
			continue
		}
		part := parts[f.Name]
		if part == nil {
			return nil, fmt.Errorf("load %s %s from %s: %s: %w: %s", d.Name, split, where, f.Name, ErrNotFound, d.remedy())
		}
		set.Pixels, set.Labels, n = append(set.Pixels, part.Pixels...), append(set.Labels, part.Labels...), n+part.Len()
	}
	if n != want || n == 0 {
		return nil, fmt.Errorf("load %s %s from %s: %w: its files hold %d images instead of %d: %s", d.Name, split, where, ErrDamaged, n, want, d.remedy())
	}
	set.Digest = set.digest()
	return set, nil
}

// walkPython reads the files of a split from an archive.
func (d Dataset) walkPython(where, split string, parts map[string]*Set) error {
	archive, err := os.Open(where)
	if err != nil {
		return err
	}
	defer archive.Close()
	err = walkTar(archive, 1<<30, func(member string, _ int64, r io.Reader) error {
		for _, f := range d.Python.Files {
			if f.Split != split || member != path.Join(d.Python.Dir, f.Name) {
				continue
			}
			if parts[f.Name] != nil {
				return damaged(member, "comes twice")
			}
			set, err := d.readPickle(member, r)
			if err != nil {
				return err
			}
			parts[f.Name] = set
		}
		return nil
	})
	var broken *archiveError
	if errors.As(err, &broken) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// readPickle reads the images of one file.
func (d Dataset) readPickle(name string, r io.Reader) (*Set, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxPickle+1))
	switch {
	case err != nil:
		return nil, damaged(name, "%w", err)
	case len(content) == 0:
		return nil, damaged(name, "is empty")
	case len(content) > maxPickle:
		return nil, damaged(name, "has more than %d MB", maxPickle>>20)
	case fetch.LooksHTML(content[:min(len(content), 512)]):
		return nil, damaged(name, "is an HTML page, not data")
	}
	set, err := d.parsePickle(content)
	if err != nil {
		return nil, damaged(name, "%w", err)
	}
	return set, nil
}

// parsePickle makes a set, without a digest, from a pickled dict.
func (d Dataset) parsePickle(content []byte) (*Set, error) {
	v, err := unpickle(content)
	if err != nil {
		return nil, fmt.Errorf("its pickle %w", err)
	}
	pixels, err := field[*pickledArray](v, "data")
	if err != nil {
		return nil, err
	}
	labels, err := field[*pickledList](v, d.Python.Labels)
	if err != nil {
		return nil, err
	}
	row := d.H * d.W * 3
	if len(pixels.shape) != 2 || pixels.shape[1] != row || pixels.shape[0] != len(labels.items) {
		return nil, fmt.Errorf("has data of shape %v for %d labels, instead of [n %d] for n", pixels.shape, len(labels.items), row)
	}
	n := pixels.shape[0]
	set := (&Set{Name: d.Name, Classes: d.Classes, H: d.H, W: d.W}).empty(n)
	chw := make([]byte, row)
	for i := range n {
		y, ok := labels.items[i].(int64)
		if !ok || y < 0 || y >= int64(len(d.Classes)) {
			return nil, fmt.Errorf("has the label %v for image %d, must be 0..%d", labels.items[i], i, len(d.Classes)-1)
		}
		set.Labels[i] = int32(y)
		if pixels.fortran {
			for j := range chw {
				chw[j] = pixels.bytes[j*n+i]
			}
		} else {
			copy(chw, pixels.bytes[i*row:])
		}
		interleave(set.Image(i), chw)
	}
	return set, nil
}

// verifyPython checks the MD5s of the python form.
func (d Dataset) verifyPython(where string) Report {
	report := Report{Dataset: d.Name, Path: where, Remedy: d.remedy()}
	dir := d.pythonDir(where)
	if dir == "" {
		a := d.Python.Archive
		report.Files = []FileReport{sumFile(where, File{Name: path.Base(a.URL), Size: a.Size, MD5: a.MD5})}
		return report
	}
	for _, f := range d.Python.Files {
		report.Files = append(report.Files, sumFile(filepath.Join(dir, f.Name), f))
	}
	return report
}

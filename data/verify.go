package data

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// FileReport is what Verify found of one file.
type FileReport struct {
	Name           string
	Size, WantSize int64  // bytes; Size is -1 where there is no file
	MD5, WantMD5   string // hex; MD5 is empty where the file is so wrong that it was not computed
	Note           string // what was found instead of a file of one MD5
	Problem        string // what is wrong; empty: nothing
}

// Report is what Verify found of a data set.
type Report struct {
	Dataset string
	Path    string // folder or archive that was looked at
	Files   []FileReport
	Problem string // what is wrong with the archive as a whole; empty: nothing
	Remedy  string // what to do where something is wrong
}

// OK says that every file is there, whole and the official one.
func (r Report) OK() bool {
	for _, f := range r.Files {
		if f.Problem != "" {
			return false
		}
	}
	return r.Problem == "" && len(r.Files) > 0
}

// String renders the report as a table of lines, for people.
func (r Report) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s in %s\n", r.Dataset, r.Path)
	for _, f := range r.Files {
		switch {
		case f.Problem != "":
			fmt.Fprintf(&out, "  BAD  %-20s %s\n", f.Name, f.Problem)
		case f.Note != "":
			fmt.Fprintf(&out, "  ok   %-20s %s\n", f.Name, f.Note)
		default:
			fmt.Fprintf(&out, "  ok   %-20s %10d bytes  MD5 %s\n", f.Name, f.Size, f.MD5)
		}
	}
	if r.Problem != "" {
		fmt.Fprintf(&out, "  BAD  %s\n", r.Problem)
	}
	if !r.OK() {
		fmt.Fprintf(&out, "remedy: %s\n", r.Remedy)
	}
	return out.String()
}

// Verify checks every file of the data set at where, a folder or an official .tar.gz, against its official size and MD5. Which data set it
// is, the files say. What is wrong with files is in the report; the error is about where: nothing there, or no file of any data set.
func Verify(where string) (Report, error) {
	for _, d := range Catalog {
		at, err := d.in(where)
		if err != nil {
			continue
		}
		// A folder tells by what is in it, an archive by its name.
		if info, err := os.Stat(at); filepath.Base(at) == d.archiveName() || d.isPython(at) || err == nil && info.IsDir() {
			return d.Verify(at)
		}
	}
	return Catalog[0].Verify(where)
}

// Verify is like the function Verify, for this data set.
func (d Dataset) Verify(where string) (Report, error) {
	where, err := d.in(where)
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	if d.Tree != nil {
		return d.verifyTree(where)
	}
	if d.isPython(where) {
		return d.verifyPython(where), nil
	}
	report := Report{Dataset: d.Name, Path: where, Remedy: d.remedy()}
	found := map[string]FileReport{}
	visit := func(name string, f File, r io.Reader) error {
		h := md5.New()
		n, err := io.Copy(h, r)
		fr := FileReport{Name: f.Name, Size: n, MD5: hex.EncodeToString(h.Sum(nil))}
		switch {
		case err != nil:
			fr.Problem = fmt.Sprintf("cannot be read at offset %d: %v", n, err)
		case n != f.Size:
			fr.Problem = fmt.Sprintf("ends at offset %d of %d", n, f.Size)
		case fr.MD5 != f.MD5:
			fr.Problem = fmt.Sprintf("has MD5 %s instead of %s: other images, or the same in another order", fr.MD5, f.MD5)
		}
		found[f.Name] = fr
		return err
	}
	info, err := os.Stat(where)
	if err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", d.Name, err)
	}
	if info.IsDir() {
		fsys := os.DirFS(where)
		dir := d.locate(fsys, d.Files)
		for _, f := range d.Files {
			name := path.Join(dir, f.Name)
			if err := d.readFrom(fsys, name, f, visit); err != nil && found[f.Name].Problem == "" {
				size := int64(-1)
				if info, err := fs.Stat(fsys, name); err == nil {
					size = info.Size()
				}
				found[f.Name] = FileReport{Size: size, Problem: err.Error()}
			}
		}
	} else {
		archive, err := os.Open(where)
		if err != nil {
			return Report{}, fmt.Errorf("verify %s: %w", d.Name, err)
		}
		defer archive.Close()
		if err := d.walkArchive(filepath.Base(where), archive, visit); err != nil {
			report.Problem = err.Error()
		}
	}
	for _, f := range d.Files {
		fr, ok := found[f.Name]
		if !ok {
			fr = FileReport{Size: -1, Problem: "was not reached or is missing"}
		}
		fr.Name, fr.WantSize, fr.WantMD5 = f.Name, f.Size, f.MD5
		report.Files = append(report.Files, fr)
	}
	return report, nil
}

// in says where in (or at) path the data set is: path itself when it is a file, or a folder that holds at least one file of d, alone or
// in d.Dir; or the official archive in it. The error wraps ErrNotFound.
func (d Dataset) in(where string) (string, error) {
	info, err := os.Stat(where)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s in %s: %w: there is no such file or folder: %s", d.Name, where, ErrNotFound, d.remedy())
	} else if err != nil {
		return "", fmt.Errorf("%s in %s: %w", d.Name, where, err)
	}
	if !info.IsDir() {
		return where, nil
	}
	for _, name := range d.signs() {
		for _, dir := range []string{"", d.Dir} {
			if _, err := os.Lstat(filepath.Join(where, dir, name)); err == nil {
				return where, nil
			}
		}
	}
	archive := filepath.Join(where, d.archiveName())
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	if d.isPython(where) {
		return where, nil
	}
	if d.Python != nil {
		if archive := filepath.Join(where, path.Base(d.Python.Archive.URL)); exists(archive) {
			return archive, nil
		}
	}
	return "", fmt.Errorf("%s in %s: %w: it holds none of its files, no folder %s with them and no %s: %s",
		d.Name, where, ErrNotFound, d.Dir, d.archiveName(), d.remedy())
}

// signs are the files of which one is in any folder that holds d.
func (d Dataset) signs() (names []string) {
	for _, f := range d.Files {
		names = append(names, f.Name)
	}
	if d.Tree != nil {
		names = append(names, "wnids.txt")
		for _, f := range d.Tree.Repacked {
			names = append(names, f.Name)
		}
	}
	return names
}

// verifyTree checks the MD5 of an archive or .npz file. The image files in a folder have none that is official: they are counted and decoded.
func (d Dataset) verifyTree(where string) (Report, error) {
	report := Report{Dataset: d.Name, Path: where, Remedy: d.remedy()}
	info, err := os.Stat(where)
	if err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", d.Name, err)
	}
	if !info.IsDir() {
		f := File{Name: d.archiveName(), Size: d.Archive.Size, MD5: d.Archive.MD5}
		for _, packed := range d.Tree.Repacked {
			if packed.Name == filepath.Base(where) {
				f = packed
			}
		}
		report.Files = []FileReport{sumFile(where, f)}
		return report, nil
	}
	fsys := os.DirFS(where)
	for _, split := range slices.Sorted(maps.Keys(d.Tree.PerClass)) {
		fr := FileReport{Name: split, Size: -1}
		packed := filepath.Join(where, d.Tree.Repacked[split].Name)
		if !exists(packed) {
			packed = filepath.Join(where, d.Dir, d.Tree.Repacked[split].Name)
		}
		if _, err := fs.Stat(fsys, path.Join(d.treeRoot(fsys), split)); err != nil && d.Tree.Repacked[split].Name != "" && exists(packed) {
			fr = sumFile(packed, d.Tree.Repacked[split])
		} else if set, err := d.loadTree(fsys, split); err != nil {
			fr.Problem = err.Error()
		} else {
			fr.Note = fmt.Sprintf("%d images, all decoded; digest %s", set.Len(), set.Digest)
		}
		report.Files = append(report.Files, fr)
	}
	return report, nil
}

// sumFile compares a file with what f says of it; a Size of 0 means that it is not known.
func sumFile(file string, f File) FileReport {
	fr := FileReport{Name: f.Name, Size: -1, WantSize: f.Size, WantMD5: f.MD5}
	r, err := os.Open(file)
	if err != nil {
		fr.Problem = err.Error()
		return fr
	}
	defer r.Close()
	h := md5.New()
	n, err := io.Copy(h, r)
	fr.Size, fr.MD5 = n, hex.EncodeToString(h.Sum(nil))
	switch {
	case err != nil:
		fr.Problem = fmt.Sprintf("cannot be read at offset %d: %v", n, err)
	case f.Size != 0 && n != f.Size:
		fr.Problem = fmt.Sprintf("has %d bytes instead of %d", n, f.Size)
	case fr.MD5 != f.MD5:
		fr.Problem = fmt.Sprintf("has MD5 %s instead of %s", fr.MD5, f.MD5)
	}
	return fr
}

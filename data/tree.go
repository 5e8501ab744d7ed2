package data

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"carsokit/internal/fetch"
)

// Tree describes a data set that is published as a tree of image files, laid out as TinyImageNet-200: wnids.txt lists the ids of the classes,
// train/ID/images holds the training images of a class, val/images all validation images, whose ids are in val/val_annotations.txt, and
// words.txt has names for ids. Labels are places in the sorted list of ids.
type Tree struct {
	Classes  int             // how many there are
	PerClass map[string]int  // split -> images of each class
	Repacked map[string]File // split -> the .npz of the same images that the reference reads
}

// Limits that no image or list of these data sets comes near.
const (
	maxImage = 1 << 20  // bytes of an image file of a published data set
	maxList  = 16 << 20 // bytes of a text file
	maxTree  = 1 << 20  // files
)

// source is where the files of a tree come from: a folder or a zip archive.
type source struct {
	files map[string]sourceFile
}

// sourceFile is one file. Its stamp changes when its content may have changed.
type sourceFile struct {
	size  int64
	stamp string
	open  func() (io.ReadCloser, error)
}

// read returns the content of a file of at most limit bytes. The error wraps fs.ErrNotExist where there is none.
func (s source) read(name string, limit int64) ([]byte, error) {
	f, ok := s.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if f.size > limit {
		return nil, fmt.Errorf("is %d bytes, at most %d are expected", f.size, limit)
	}
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("is more than the %d bytes expected", limit)
	}
	return content, err
}

// under lists the files of a folder, sorted, as paths relative to it.
func (s source) under(dir string) (names []string) {
	for name := range s.files {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

// folderSource lists the files of those folders and files of fsys that are there.
func folderSource(fsys fs.FS, roots ...string) (source, error) {
	s := source{files: map[string]sourceFile{}}
	for _, root := range roots {
		err := fs.WalkDir(fsys, root, func(name string, e fs.DirEntry, err error) error {
			if name == root && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || e.IsDir() {
				return err
			}
			info, err := fs.Stat(fsys, name) // follows links
			if err != nil {
				return err
			}
			if !info.Mode().IsRegular() {
				return fmt.Errorf("%s is a %s where a file should be", name, kind(info.Mode()))
			}
			if len(s.files) >= maxTree {
				return fmt.Errorf("%s holds more than %d files", root, maxTree)
			}
			s.files[name] = sourceFile{info.Size(), info.ModTime().UTC().String(), func() (io.ReadCloser, error) { return fsys.Open(name) }}
			return nil
		})
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// zipSource lists the files of a zip archive under the folder dir, without it, or all where there is no such folder. It trusts nothing that
// the archive says: it refuses paths that lead outside, links and repeated members.
func zipSource(r *zip.Reader, dir string) (source, error) {
	s := source{files: map[string]sourceFile{}}
	if len(r.File) > maxTree {
		return s, fmt.Errorf("has %d members, at most %d are expected", len(r.File), maxTree)
	}
	for _, f := range r.File {
		name := strings.TrimSuffix(f.Name, "/")
		if !fs.ValidPath(name) || strings.Contains(name, `\`) {
			return s, fmt.Errorf("member %q leads outside the archive", f.Name)
		}
		mode := f.Mode()
		if mode.IsDir() {
			continue
		}
		if !mode.IsRegular() {
			return s, fmt.Errorf("member %s is a link or special file (%s)", f.Name, mode.Type())
		}
		name = strings.TrimPrefix(name, dir+"/")
		if _, twice := s.files[name]; twice {
			return s, fmt.Errorf("member %s comes twice", f.Name)
		}
		s.files[name] = sourceFile{int64(min(f.UncompressedSize64, 1<<62)), fmt.Sprint(f.CRC32), f.Open}
	}
	return s, nil
}

// located is a split of a tree: which file holds each image, in order, and its label.
type located struct {
	classes []string
	images  []string
	labels  []int32
	stamp   string // SHA-256 over all that the decoded images depend on, hex
}

// locate finds the images of a split. Training images come class by class, each class in the order of the numbers in the files' names;
// validation images in the order of val_annotations.txt. Errors name the file.
func (t Tree) locate(s source, split string) (l located, err error) {
	if t.PerClass[split] == 0 {
		return l, fmt.Errorf("there is no split %q: there are train and val", split)
	}
	ids, err := t.ids(s)
	if err != nil {
		return l, err
	}
	label := map[string]int32{}
	for k, id := range ids {
		label[id] = int32(k)
	}
	if l.classes, err = classNames(s, ids); err != nil {
		return l, err
	}
	if split == "train" {
		err = l.train(s, ids, label)
	} else {
		err = l.val(s, label)
	}
	if err != nil {
		return l, err
	}
	counts := make([]int, len(ids))
	for _, y := range l.labels {
		counts[y]++
	}
	for k, n := range counts {
		if n != t.PerClass[split] {
			return l, damaged(split, "%s (%s) has %d images instead of %d", ids[k], l.classes[k], n, t.PerClass[split])
		}
	}
	l.seal(s)
	return l, nil
}

// seal computes the stamp.
func (l *located) seal(s source) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %q\n", runtime.Version(), l.classes) // decoders of two versions of Go may differ in a rounding
	for k, name := range l.images {
		f := s.files[name]
		fmt.Fprintf(h, "%q %d %d %s\n", name, l.labels[k], f.size, f.stamp)
	}
	l.stamp = hex.EncodeToString(h.Sum(nil))
}

// ids returns the ids of the classes, sorted: the place of an id is its label.
func (t Tree) ids(s source) ([]string, error) {
	ids, err := lines(s, "wnids.txt")
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
	if n := len(slices.Compact(slices.Clone(ids))); n != len(ids) || n != t.Classes {
		return nil, damaged("wnids.txt", "lists %d ids, %d of them different, instead of %d", len(ids), n, t.Classes)
	}
	for _, id := range ids {
		if !fs.ValidPath(id) || path.Base(id) != id || id == "." {
			return nil, damaged("wnids.txt", "%q is not the id of a class", id)
		}
	}
	return ids, nil
}

// classes returns the names of the classes in the order of the labels.
func (t Tree) classes(s source) ([]string, error) {
	ids, err := t.ids(s)
	if err != nil {
		return nil, err
	}
	return classNames(s, ids)
}

func (l *located) train(s source, ids []string, label map[string]int32) error {
	byClass := map[string][]string{}
	for _, name := range s.under("train") {
		id, rest, _ := strings.Cut(name, "/")
		file, ok := strings.CutPrefix(rest, "images/")
		if !ok {
			continue // boxes
		}
		if _, known := label[id]; !known {
			return damaged("train/"+id, "is not among the classes of wnids.txt")
		}
		byClass[id] = append(byClass[id], file)
	}
	for _, id := range ids {
		files := byClass[id]
		slices.SortFunc(files, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
		for _, f := range files {
			l.images = append(l.images, "train/"+id+"/images/"+f)
			l.labels = append(l.labels, label[id])
		}
	}
	return nil
}

func (l *located) val(s source, label map[string]int32) error {
	const list = "val/val_annotations.txt"
	annotations, err := lines(s, list)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for k, line := range annotations {
		fields := strings.Fields(line)
		if len(fields) < 2 || path.Base(fields[0]) != fields[0] {
			return damaged(list, "line %d is not a file name and an id: %.80q", k+1, line)
		}
		y, known := label[fields[1]]
		if !known {
			return damaged(list, "line %d: %.40q is not among the classes of wnids.txt", k+1, fields[1])
		}
		name := "val/images/" + fields[0]
		if seen[name] {
			return damaged(list, "line %d: %s comes twice", k+1, fields[0])
		}
		if _, ok := s.files[name]; !ok {
			return fmt.Errorf("%s: %w, and val_annotations.txt lists it", name, ErrNotFound)
		}
		seen[name] = true
		l.images, l.labels = append(l.images, name), append(l.labels, y)
	}
	for _, name := range s.under("val/images") {
		if !seen["val/images/"+name] {
			return damaged(list, "lacks %s, which is in val/images", name)
		}
	}
	return nil
}

// lines returns the lines of a text file, without blanks at their ends and without empty ones.
func lines(s source, name string) ([]string, error) {
	text, err := s.read(name, maxList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	} else if err != nil {
		return nil, damaged(name, "%w", err)
	}
	if fetch.LooksHTML(text[:min(len(text), 512)]) {
		return nil, damaged(name, "is an HTML page, not data")
	}
	var out []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out, nil
}

// classNames returns the first name that words.txt has for each id, or the id.
func classNames(s source, ids []string) ([]string, error) {
	words, err := lines(s, "words.txt")
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	names := map[string]string{}
	for _, line := range words {
		id, all, _ := strings.Cut(line, "\t")
		name, _, _ := strings.Cut(all, ",")
		names[id] = strings.TrimSpace(name)
	}
	out := make([]string, len(ids))
	for k, id := range ids {
		out[k] = cmp.Or(names[id], id)
	}
	return out, nil
}

func damaged(name, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %w", name, ErrDamaged, fmt.Errorf(format, args...))
}

// loadTree reads one split from a tree at the root of fsys or in its folder d.Dir.
func (d Dataset) loadTree(fsys fs.FS, split string) (*Set, error) {
	root := d.treeRoot(fsys)
	sub, err := fs.Sub(fsys, root)
	if err != nil {
		return nil, err
	}
	s, err := folderSource(sub, "wnids.txt", "words.txt", split)
	if err != nil {
		return nil, fmt.Errorf("load %s %s: %w: %w: %s", d.Name, split, ErrDamaged, err, d.remedy())
	}
	return d.decodeTree(s, split, "")
}

// treeRoot says whether the tree is in d.Dir (returned) or at the root (".").
func (d Dataset) treeRoot(fsys fs.FS) string {
	for _, name := range []string{"wnids.txt", "train", "val"} {
		if _, err := fs.Stat(fsys, name); err == nil {
			return "."
		}
	}
	return d.Dir
}

// decodeTree finds and decodes the images of a split, or reads them from the file cache if that was made from the same files. Where it was
// not, it is made; a cache that cannot be written costs the next call time, and nothing else. An empty name means none.
func (d Dataset) decodeTree(s source, split, cache string) (*Set, error) {
	l, err := d.Tree.locate(s, split)
	if err != nil {
		return nil, fmt.Errorf("load %s %s: %w: %s", d.Name, split, err, d.remedy())
	}
	set, err := l.decode(s, maxImage, &Set{Name: d.Name, Split: split, Classes: l.classes, H: d.H, W: d.W}, cache)
	if err != nil {
		return nil, fmt.Errorf("load %s %s: %w: %s", d.Name, split, err, d.remedy())
	}
	return set, nil
}

// decode returns the images as a set like like, from the cache or from files of at most limit bytes.
func (l located) decode(s source, limit int64, like *Set, cache string) (*Set, error) {
	if cache != "" {
		if cached := readCache(cache, l.stamp, *like); cached != nil {
			return cached, nil
		}
	}
	set := like.empty(len(l.images))
	copy(set.Labels, l.labels)
	if err := decodeAll(s, l.images, limit, set); err != nil {
		return nil, err
	}
	set.Digest = set.digest()
	if cache != "" {
		_ = writeCache(cache, l.stamp, set)
	}
	return set, nil
}

// openTree reads one split from a folder, a zip archive or an .npz file.
func (d Dataset) openTree(where, split string) (*Set, error) {
	if filepath.Ext(where) == ".npz" {
		return d.openNPZ(where, split)
	}
	info, err := os.Stat(where)
	if err != nil {
		return nil, fmt.Errorf("load %s %s: %w", d.Name, split, err)
	}
	if info.IsDir() {
		fsys := os.DirFS(where)
		root := filepath.Join(where, filepath.FromSlash(d.treeRoot(fsys)))
		if _, err := os.Stat(filepath.Join(root, split)); errors.Is(err, fs.ErrNotExist) {
			for _, dir := range []string{where, filepath.Join(where, d.Dir)} {
				if packed := filepath.Join(dir, d.Tree.Repacked[split].Name); d.Tree.Repacked[split].Name != "" && exists(packed) {
					return d.openNPZ(packed, split)
				}
			}
		}
		s, err := folderSource(os.DirFS(root), "wnids.txt", "words.txt", split)
		if err != nil {
			return nil, fmt.Errorf("load %s %s: in %s: %w: %w: %s", d.Name, split, root, ErrDamaged, err, d.remedy())
		}
		set, err := d.decodeTree(s, split, filepath.Join(root, "carso-"+split+cacheExt))
		if err != nil {
			return nil, fmt.Errorf("in %s: %w", root, err)
		}
		return set, nil
	}
	bad := func(err error) error {
		return fmt.Errorf("load %s %s from %s: %w: %w: %s", d.Name, split, where, ErrDamaged, err, d.remedy())
	}
	if err := looksZip(where); err != nil {
		return nil, bad(err)
	}
	archive, err := zip.OpenReader(where)
	if archive != nil {
		defer archive.Close()
	}
	if err != nil {
		return nil, bad(fmt.Errorf("is truncated or damaged: %w", err))
	}
	s, err := zipSource(&archive.Reader, d.Dir)
	if err != nil {
		return nil, bad(err)
	}
	set, err := d.decodeTree(s, split, where+"."+split+cacheExt)
	if err != nil {
		return nil, fmt.Errorf("in %s: %w", where, err)
	}
	return set, nil
}

var zipMagic = []byte("PK\x03\x04")

// looksZip says what is wrong with the first bytes of what should be a zip archive.
func looksZip(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 512))
	switch {
	case err != nil:
		return err
	case len(head) == 0:
		return errors.New("is empty")
	case fetch.LooksHTML(head):
		return errors.New("is an HTML page, not an archive")
	case !bytes.HasPrefix(head, zipMagic) && !bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return fmt.Errorf("is not a zip archive: begins with %q", head[:min(8, len(head))])
	}
	return nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

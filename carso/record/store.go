package record

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"carsokit/internal/atomicfile"
)

// extension of the names of record files; packed is what a name has besides where gzip has compressed a file that is finished, to about a twentieth.
const (
	extension = ".jsonl"
	packed    = ".gz"
)

// Store is a folder of record files, one per key.
type Store struct{ dir string }

// Open returns the store in the folder dir and makes the folder if it is missing.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("record: opening the store: %w", err)
	}
	return &Store{dir}, nil
}

// Load reads all runs of the store.
func (s *Store) Load() ([]Run, error) { return Load(s.dir) }

// Run returns what the store's files hold of a spec, and whether they hold anything.
func (s *Store) Run(spec Spec) (Run, bool, error) {
	runs, err := s.Load()
	if err != nil {
		return Run{}, false, err
	}
	key := spec.Key()
	for _, r := range runs {
		if r.Key == key {
			return r, true, nil
		}
	}
	return Run{}, false, nil
}

// Writer opens the file of spec for appending, and makes it if it is missing. Only one Writer at a time, in any process, may hold a file.
// A torn last line, what a kill leaves, is cut off (see [Writer.Repaired]). A file with another key is refused.
func (s *Store) Writer(spec Spec) (*Writer, error) { return s.ShardWriter(spec, "") }

// ShardWriter is [Store.Writer] on a file of its own for a part of the evaluation, whose name tells the parts apart: "3-of-8". [LoadFS] takes
// the parts for one run, and [Store.Merge] joins them.
func (s *Store) ShardWriter(spec Spec, part string) (*Writer, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	// The lines hold the canonical form, so that equal specs give equal bytes however the caller spelt them.
	spec.Defence, _ = canonical(spec.Defence)
	spec.Attack, _ = canonical(spec.Attack)
	base := spec.FileName()
	if part != "" {
		base = strings.TrimSuffix(base, extension) + ".shard-" + part + extension
	}
	file := filepath.Join(s.dir, base)
	if _, err := os.Stat(file + packed); err == nil {
		return nil, fmt.Errorf("record: opening %s for writing: there is %s, to which nothing can be appended: `gunzip` it first", file, base+packed)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("record: opening for writing, what is recorded already stays: %w", err)
	}
	w := &Writer{f: f, spec: spec, key: spec.Key(), done: map[int]bool{}}
	if err := w.resume(); err != nil {
		f.Close()
		return nil, fmt.Errorf("record: %s: %w", file, err)
	}
	if err := atomicfile.SyncDir(s.dir); err != nil { // or a new file may be gone after a power cut
		f.Close()
		return nil, fmt.Errorf("record: %s: %w", file, err)
	}
	return w, nil
}

// Writer appends the lines of one Spec. It is not safe for concurrent use.
type Writer struct {
	f        *os.File
	spec     Spec
	key      string
	done     map[int]bool
	end      int64 // of the last whole line
	repaired int64
	failed   error // why nothing more may be appended
}

// resume locks the file, reads what is there and cuts off a torn last line.
func (w *Writer) resume() error {
	err := syscall.Flock(int(w.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("another writer holds this file; wait for it or stop it")
	} else if err != nil {
		return fmt.Errorf("locking: %w", err)
	}
	if now, err := os.Stat(w.f.Name()); err != nil {
		return err
	} else if held, err := w.f.Stat(); err != nil {
		return err
	} else if !os.SameFile(now, held) {
		return errors.New("a merge replaced this file a moment ago; start again")
	}
	raw, err := io.ReadAll(w.f)
	if err != nil {
		return err
	}
	runs := map[string]*pending{}
	torn, err := parseFile(raw, filepath.Base(w.f.Name()), runs)
	if err != nil {
		return err
	}
	for key, run := range runs {
		if key != w.key {
			return fmt.Errorf("holds the key %s, not %s: move the file away", key, w.key)
		}
		for i := range run.images {
			w.done[i] = true
		}
	}
	w.end, w.repaired = int64(len(raw)-torn), int64(torn)
	if torn > 0 {
		if err := w.f.Truncate(w.end); err != nil {
			return fmt.Errorf("cutting off a torn last line of %d bytes: %w", torn, err)
		}
		return w.f.Sync()
	}
	return nil
}

// Path is the path of the file.
func (w *Writer) Path() string { return w.f.Name() }

// Repaired is the length in bytes of the torn last line that was cut off when the file was opened; 0 if there was none.
func (w *Writer) Repaired() int64 { return w.repaired }

// Done returns the indices of the images that the file holds, as a fresh map.
func (w *Writer) Done() map[int]bool {
	done := make(map[int]bool, len(w.done))
	for i := range w.done {
		done[i] = true
	}
	return done
}

// Append writes the images as one line and syncs it to the disk. If that fails, as on a full disk, the file is cut back to its previous
// end, and Append may be tried again. No images are no line; an image that the file already holds is an error.
func (w *Writer) Append(images []Image) error {
	if w.failed != nil {
		return w.failed
	}
	if len(images) == 0 {
		return nil
	}
	if err := checkImages(images); err != nil {
		return fmt.Errorf("record: appending to %s: %w", w.Path(), err)
	}
	for _, im := range images {
		if w.done[im.Index] {
			return fmt.Errorf("record: appending to %s: image %d is there already", w.Path(), im.Index)
		}
	}
	raw, err := json.Marshal(Line{Key: w.key, Spec: &w.spec, Images: images})
	if err != nil {
		return fmt.Errorf("record: appending to %s: %w", w.Path(), err)
	}
	raw = append(raw, '\n')
	if _, err = w.f.WriteAt(raw, w.end); err == nil {
		err = w.f.Sync()
	}
	if err != nil {
		err = fmt.Errorf("record: appending %d images to %s: %w", len(images), w.Path(), err)
		if cut := w.f.Truncate(w.end); cut != nil {
			w.failed = fmt.Errorf("%w; then cutting back to %d bytes: %w", err, w.end, cut)
			return w.failed
		}
		return err
	}
	w.end += int64(len(raw))
	for _, im := range images {
		w.done[im.Index] = true
	}
	return nil
}

// Close releases the file and its lock.
func (w *Writer) Close() error {
	w.failed = fmt.Errorf("record: appending to %s: the writer is closed", w.Path())
	return w.f.Close()
}

// Run is all that was observed under one Spec.
type Run struct {
	Key    string
	Spec   Spec
	Images []Image  // by ascending Index
	File   string   // slash-separated path inside the store, without .gz; of several files with this key, the first
	Files  []string // all of them
	Torn   bool     // a file of this run ends in a torn line, which was ignored: its images are not here
}

// Load reads all runs below the folder dir. See [LoadFS].
func Load(dir string) ([]Run, error) {
	runs, err := LoadFS(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("record: loading %s: %w", dir, err)
	}
	return runs, nil
}

// Join reads the given files and all files below the given folders as [LoadFS] reads one folder. Each path is read once, in the order given.
func Join(paths ...string) ([]Run, error) {
	byKey := map[string]*pending{}
	seen := map[string]bool{}
	for _, p := range paths {
		err := filepath.WalkDir(p, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || file != p && !isRecords(file) || seen[filepath.Clean(file)] {
				return err
			}
			seen[filepath.Clean(file)] = true
			raw, err := unpack(os.ReadFile, file)
			if err != nil {
				return err
			}
			_, err = parseFile(raw, filepath.ToSlash(file), byKey)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("record: joining %s: %w", p, err)
		}
	}
	return sorted(byKey), nil
}

// isRecords says whether a file of this name in a folder of records is read.
func isRecords(file string) bool {
	return strings.HasSuffix(strings.TrimSuffix(file, packed), extension)
}

// unpack reads a file, through gzip where its name says so.
func unpack(read func(string) ([]byte, error), file string) ([]byte, error) {
	raw, err := read(file)
	if err != nil || !strings.HasSuffix(file, packed) {
		return raw, err
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err == nil {
		raw, err = io.ReadAll(z)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: unpacking: %w: it is damaged or was cut off; get it again", file, err)
	}
	return raw, nil
}

// LoadFS reads all files named *.jsonl, or *.jsonl.gz as gzip leaves them, in fsys and its folders, in the order of their file names. Files of the same key are one run, so
// shards may lie side by side. An image that is there twice with the same content counts once; with another content it is an error. A
// torn last line (no line end) is ignored and reported in [Run.Torn]; any other line that is no record is an error that names file and
// line. A file without a whole line gives no run.
func LoadFS(fsys fs.FS) ([]Run, error) {
	byKey := map[string]*pending{}
	err := fs.WalkDir(fsys, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isRecords(file) {
			return err
		}
		raw, err := unpack(func(name string) ([]byte, error) { return fs.ReadFile(fsys, name) }, file)
		if err != nil {
			return err
		}
		_, err = parseFile(raw, file, byKey)
		return err
	})
	if err != nil {
		return nil, err
	}
	return sorted(byKey), nil
}

// sorted turns what was read into runs, by file name.
func sorted(byKey map[string]*pending) []Run {
	var runs []Run
	for _, p := range byKey {
		for _, im := range p.images {
			p.Images = append(p.Images, im.Image)
		}
		slices.SortFunc(p.Images, func(a, b Image) int { return a.Index - b.Index })
		runs = append(runs, p.Run)
	}
	slices.SortFunc(runs, func(a, b Run) int { return strings.Compare(a.File+a.Key, b.File+b.Key) })
	return runs
}

// pending is a run whose files are still being read.
type pending struct {
	Run
	images map[int]placed
}

// placed is an image and where it was first seen.
type placed struct {
	Image
	raw []byte
	at  string
}

// parseFile adds the lines of one file to runs and returns the length of the torn last line.
func parseFile(raw []byte, file string, runs map[string]*pending) (torn int, err error) {
	key, name := "", strings.TrimSuffix(file, packed)
	for n := 1; len(raw) > 0; n++ {
		end := bytes.IndexByte(raw, '\n')
		if end < 0 {
			break
		}
		at := fmt.Sprintf("%s:%d", file, n)
		line, err := ParseLine(raw[:end])
		if err != nil {
			return 0, fmt.Errorf("%s: %w", at, err)
		}
		raw = raw[end+1:]
		if key == "" {
			key = line.Key
		}
		if line.Key != key {
			return 0, fmt.Errorf("%s: key %s in a file of key %s: one file holds one key", at, line.Key, key)
		}
		run := runs[key]
		if run == nil {
			run = &pending{Run{Key: key, Spec: *line.Spec, File: name}, map[int]placed{}}
			runs[key] = run
		}
		if !slices.Contains(run.Files, name) {
			run.Files = append(run.Files, name)
		}
		for _, im := range line.Images {
			content, err := json.Marshal(im)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", at, err)
			}
			if old, ok := run.images[im.Index]; !ok {
				run.images[im.Index] = placed{im, content, at}
			} else if !bytes.Equal(old.raw, content) {
				return 0, fmt.Errorf("%s: image %d contradicts %s: remove one of the two lines", at, im.Index, old.at)
			}
		}
	}
	if run := runs[key]; run != nil && len(raw) > 0 {
		run.Torn = true
	}
	return len(raw), nil
}

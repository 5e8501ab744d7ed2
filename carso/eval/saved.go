package eval

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"carsokit/attacks"
	"carsokit/carso/record"
	"carsokit/checkpoints"
	"carsokit/internal/atomicfile"
	"carsokit/internal/rng"

	"github.com/gomlx/compute"
)

// Manifest says what a folder of saved adversarial images holds. It names a file only once that is complete.
type Manifest struct {
	Key   string      `json:"key"` // of the evaluation's records
	Spec  record.Spec `json:"spec"`
	Files []SavedFile `json:"files"`
}

// SavedFile is one safetensors file of images: float32 [n,H,W,3] in [0,1], uint8 [n,H,W,3], index and label [n].
type SavedFile struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Index  []int  `json:"index"`
	Label  []int  `json:"label"`
	// Differ are images that were recorded before they were saved, and whose attack, made again, did not end as the record says: sums were rounded in another order.
	Differ []int `json:"differ,omitempty"`
}

// saved is the folder of one evaluation, and the part of its manifest that one shard writes.
type saved struct {
	dir, name string
	manifest  Manifest
	has       map[int]bool // by index, in any manifest
}

// SavedFolder is where the adversarial images of an evaluation are kept in a folder.
func SavedFolder(dir string, s record.Spec) string {
	return filepath.Join(dir, strings.TrimSuffix(s.FileName(), ".jsonl"))
}

// openSaved reads what is saved of an evaluation; no folder, nothing.
func openSaved(dir string, spec record.Spec, shard Shard) (*saved, error) {
	s := &saved{dir: SavedFolder(dir, spec), name: "manifest.json", has: map[int]bool{}}
	if part := shard.String(); part != "" {
		s.name = "manifest-" + part + ".json"
	}
	all, err := readManifests(s.dir)
	if err != nil {
		return nil, err
	}
	s.manifest = Manifest{Key: spec.Key(), Spec: spec}
	for name, m := range all {
		if m.Key != s.manifest.Key {
			return nil, fmt.Errorf("saved images in %s are of key %s, this evaluation has %s: give another folder", s.dir, m.Key, s.manifest.Key)
		}
		if name == s.name {
			s.manifest.Files = m.Files
		}
		for _, f := range m.Files {
			for _, i := range f.Index {
				s.has[i] = true
			}
		}
	}
	return s, nil
}

// readManifests reads those of a folder, by name. No folder has none.
func readManifests(dir string) (map[string]Manifest, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading saved images: %w", err)
	}
	all := map[string]Manifest{}
	for _, e := range entries {
		if ours, err := filepath.Match("manifest*.json", e.Name()); err != nil || !ours {
			continue
		}
		path := filepath.Join(dir, e.Name())
		raw, err := os.ReadFile(path)
		var m Manifest
		if err == nil {
			err = json.Unmarshal(raw, &m)
		}
		if err != nil {
			return nil, fmt.Errorf("reading saved images: %s: %w", path, err)
		}
		all[e.Name()] = m
	}
	return all, nil
}

// sweep removes what a killed process left of files with these names in a folder: the temporary ones of atomicfile. Nobody else writes files of these names.
func sweep(dir string, names ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, name := range names {
			if strings.HasPrefix(e.Name(), "."+name+".") && strings.HasSuffix(e.Name(), ".tmp") {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// write saves the points of a chunk in both forms, and then says so in the manifest.
func (s *saved) write(clean attacks.Batch, points []float32, differ []int) error {
	lattice, err := attacks.Quantize(points, clean.X)
	if err != nil {
		return fmt.Errorf("saving images: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("saving images: %w", err)
	}
	n := clean.Len()
	f := SavedFile{File: fmt.Sprintf("images-%06d-%06d.safetensors", clean.ID[0], clean.ID[n-1]), Index: clean.ID, Differ: differ}
	for _, y := range clean.Y {
		f.Label = append(f.Label, int(y))
	}
	if err := sweep(s.dir, f.File, s.name); err != nil {
		return fmt.Errorf("saving images: %w", err)
	}
	shape := []int{n, clean.H, clean.W, clean.C}
	path := filepath.Join(s.dir, f.File)
	err = checkpoints.Write(path, []checkpoints.Tensor{checkpoints.F32("float32", shape, points), {Name: "uint8", DType: "U8", Shape: shape, Data: lattice},
		integers("index", f.Index), integers("label", f.Label)}, map[string]string{"key": s.manifest.Key})
	if err != nil {
		return fmt.Errorf("saving images: %w", err)
	}
	file, err := checkpoints.Open(path)
	if err != nil {
		return fmt.Errorf("saving images: %w", err)
	}
	f.SHA256, err = file.SHA256()
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("saving images: %w", err)
	}
	// A kill between manifest and record has the chunk made again: it must not be named twice.
	s.manifest.Files = append(slices.DeleteFunc(s.manifest.Files, func(old SavedFile) bool { return old.File == f.File }), f)
	return writeJSON(filepath.Join(s.dir, s.name), s.manifest)
}

func integers(name string, values []int) checkpoints.Tensor {
	t := checkpoints.Tensor{Name: name, DType: "I64", Shape: []int{len(values)}}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint64(t.Data, uint64(v))
	}
	return t
}

func writeJSON(path string, v any) error {
	return atomicfile.Write(path, func(w io.Writer) error { return json.NewEncoder(w).Encode(v) })
}

// keep appends to the record what it lacks of a chunk, after saving the images, if they are saved: what is recorded in this run is saved, too.
func (j Job) keep(w *record.Writer, known map[int]record.Image, s *saved, c *chunkResult) (fresh []record.Image, err error) {
	var differ []int
	for _, im := range c.images {
		if was, there := known[im.Index]; !there {
			fresh = append(fresh, im)
		} else if !same(was, im) {
			differ = append(differ, im.Index)
		}
	}
	if s != nil {
		if err := s.write(c.clean, c.points, differ); err != nil {
			return nil, err
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	return fresh, w.Append(fresh)
}

// same compares what is read from a record with what would be written to one.
func same(a, b record.Image) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// SavedSpec is the evaluation whose images a folder holds.
func SavedSpec(dir string) (record.Spec, error) {
	all, err := readManifests(dir)
	if err != nil {
		return record.Spec{}, err
	}
	for _, m := range all {
		return m.Spec, nil
	}
	return record.Spec{}, fmt.Errorf("no saved images in %s: give the folder that holds manifest.json: %w", dir, fs.ErrNotExist)
}

// Rescored are fresh verdicts on saved images.
type Rescored struct {
	Of     string          `json:"of"` // key of the evaluation that made the images
	By     record.Spec     `json:"by"` // what judged them
	Images []RescoredImage `json:"images"`
	File   string          `json:"-"`
}

// RescoredImage holds the predictions of fresh passes on both forms of one image.
type RescoredImage struct {
	Index   int   `json:"index"`
	Label   int   `json:"label"`
	Float32 []int `json:"float32"`
	Uint8   []int `json:"uint8"`
}

// Estimates are the shares of images that one fresh pass classifies correctly, as they are in float32 and on the lattice of 8-bit images.
func (r Rescored) Estimates() (float32s, lattice record.Estimate) {
	var a, b record.Run
	for _, im := range r.Images {
		a.Images = append(a.Images, record.Image{Index: im.Index, Label: im.Label, Fresh: im.Float32})
		b.Images = append(b.Images, record.Image{Index: im.Index, Label: im.Label, Fresh: im.Uint8})
	}
	return a.Estimate(record.Fresh), b.Estimate(record.Fresh)
}

// Rescore judges the images saved in a folder by what decides in a job, in as many fresh passes as its Spec says, and writes the verdicts beside them. The job may be another than the
// one whose images they are: another row, another seed. Its own images and attacks are not looked at.
func Rescore(ctx context.Context, be compute.Backend, job Job, dir string, o Options) (Rescored, error) {
	o = o.withDefaults()
	out := Rescored{By: job.Spec}
	all, err := readManifests(dir)
	if err != nil {
		return out, err
	}
	job.Protocol.Stages, job.Protocol.Screen = nil, nil
	seq, err := job.sequence(be, o.Buckets)
	if err != nil {
		return out, err
	}
	defer seq.Decide.Close()
	seen := map[int]bool{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		if out.Of = cmp.Or(out.Of, m.Key); out.Of != m.Key || m.Spec.Data.Name != job.Spec.Data.Name {
			return out, fmt.Errorf("saved images: %s is of key %s and data %s; want key %s and data %s", filepath.Join(dir, name), m.Key, m.Spec.Data.Name, out.Of, job.Spec.Data.Name)
		}
		for _, f := range m.Files {
			images, err := job.rescoreFile(ctx, seq.Decide, dir, f)
			if err != nil {
				return out, fmt.Errorf("scoring saved images: %s: %w", filepath.Join(dir, f.File), err)
			}
			for _, im := range images {
				if !seen[im.Index] {
					seen[im.Index] = true
					out.Images = append(out.Images, im)
				}
			}
		}
	}
	if len(out.Images) == 0 {
		return out, fmt.Errorf("no saved images in %s: give the folder that holds manifest.json: %w", dir, fs.ErrNotExist)
	}
	slices.SortFunc(out.Images, func(a, b RescoredImage) int { return cmp.Compare(a.Index, b.Index) })
	out.File = filepath.Join(dir, fmt.Sprintf("scores-%s-%.12s.json", job.Spec.Row, job.Spec.Key()))
	return out, writeJSON(out.File, out)
}

func (j Job) rescoreFile(ctx context.Context, decide *attacks.Oracle, dir string, f SavedFile) (images []RescoredImage, err error) {
	path := filepath.Join(dir, filepath.Base(f.File))
	file, err := checkpoints.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if sum, err := file.SHA256(); err != nil || sum != f.SHA256 {
		return nil, errors.Join(err, fmt.Errorf("its SHA-256 is %s, the manifest says %s: remove both and save again", sum, f.SHA256))
	}
	x, shape, err := file.Float32s("float32")
	if err != nil {
		return nil, err
	}
	lattice, err := file.Tensor("uint8")
	if err != nil {
		return nil, err
	}
	if len(shape) != 4 || shape[0] != len(f.Index) || len(f.Label) != len(f.Index) || !slices.Equal(shape, lattice.Shape) || lattice.DType != "U8" {
		return nil, fmt.Errorf("float32 %v and uint8 %v of type %s are not %d images", shape, lattice.Shape, lattice.DType, len(f.Index))
	}
	b := attacks.Batch{X: x, ID: f.Index, H: shape[1], W: shape[2], C: shape[3]}
	for k, i := range f.Index {
		b.Y = append(b.Y, int32(f.Label[k]))
		images = append(images, RescoredImage{Index: i, Label: f.Label[k]})
	}
	root := rng.Seed(j.Spec.Seed)
	a, err := predictions(ctx, decide, b, root.Child("rescore float32"), j.Spec.Draws)
	if err != nil {
		return nil, err
	}
	b.X = make([]float32, len(x))
	for k, v := range lattice.Data {
		b.X[k] = float32(v) / 255
	}
	c, err := predictions(ctx, decide, b, root.Child("rescore uint8"), j.Spec.Draws)
	if err != nil {
		return nil, err
	}
	for k := range images {
		images[k].Float32, images[k].Uint8 = a[k], c[k]
	}
	return images, nil
}

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"carsokit/internal/atomicfile"
)

// Merge writes the images of a run, and those that the store's file of its Spec already holds, into that file: by ascending index, a line
// for the images of each chunk (Spec.Place / chunk). From all parts of an evaluation that gives the bytes of one uninterrupted process with
// that chunk size, whatever the parts were and in whichever order they came. The file is replaced at once or not at all; the files that
// the run came from stay. It is an error if a writer holds the file, or if it holds an image with another content.
func (s *Store) Merge(run Run, chunk int) (Run, error) {
	if chunk < 1 {
		return Run{}, fmt.Errorf("record: merging with %d images a line: want at least 1", chunk)
	}
	if whole, ok := s.packedWhole(run); ok {
		return whole, nil
	}
	w, err := s.Writer(run.Spec)
	if err != nil {
		return Run{}, fmt.Errorf("record: merging: %w", err)
	}
	defer w.Close()
	raw, err := os.ReadFile(w.Path())
	if err != nil {
		return Run{}, fmt.Errorf("record: merging: %w", err)
	}
	var lines bytes.Buffer
	write := func(images []Image) error {
		if err := checkImages(images); err != nil {
			return fmt.Errorf("record: merging into %s: %w", w.Path(), err)
		}
		line, err := json.Marshal(Line{Key: w.key, Spec: &w.spec, Images: images})
		lines.Write(append(line, '\n'))
		return err
	}
	// What the run brings is parsed like a file after the one that is there, which finds contradictions.
	all := map[string]*pending{}
	if _, err := parseFile(raw, filepath.ToSlash(w.Path()), all); err != nil {
		return Run{}, fmt.Errorf("record: merging: %w", err)
	}
	if len(run.Images) > 0 {
		if err := write(run.Images); err != nil {
			return Run{}, err
		}
		if _, err := parseFile(lines.Bytes(), strings.Join(run.Files, ", "), all); err != nil {
			return Run{}, fmt.Errorf("record: merging: %w", err)
		}
	}
	runs := sorted(all)
	if len(runs) != 1 {
		return Run{}, fmt.Errorf("record: merging into %s: there are no images", w.Path())
	}
	lines.Reset()
	for rest := runs[0].Images; len(rest) > 0; {
		n := 1
		for n < len(rest) && run.Spec.Place(rest[n].Index)/chunk == run.Spec.Place(rest[0].Index)/chunk {
			n++
		}
		if err := write(rest[:n]); err != nil {
			return Run{}, err
		}
		rest = rest[n:]
	}
	if !bytes.Equal(lines.Bytes(), raw) {
		err := atomicfile.Write(w.Path(), func(to io.Writer) error {
			_, err := to.Write(lines.Bytes())
			return err
		})
		if err != nil {
			return Run{}, fmt.Errorf("record: merging: %w", err)
		}
	}
	runs[0].File, runs[0].Torn = filepath.Base(w.Path()), false
	return runs[0], nil
}

// packedWhole is the store's packed file of the run's Spec, if there is one that holds all of its images: then there is nothing to write.
func (s *Store) packedWhole(run Run) (Run, bool) {
	file := filepath.Join(s.dir, run.Spec.FileName()+packed)
	if _, err := os.Stat(file); err != nil {
		return Run{}, false
	}
	runs, err := Join(file)
	if err != nil || len(runs) != 1 || runs[0].Key != run.Spec.Key() {
		return Run{}, false
	}
	there := map[int]Image{}
	for _, im := range runs[0].Images {
		there[im.Index] = im
	}
	for _, im := range run.Images {
		if same, ok := there[im.Index]; !ok || !reflect.DeepEqual(same, im) {
			return Run{}, false
		}
	}
	return runs[0], true
}

// Missing lists which of the first n images of its Spec the run lacks.
func (r Run) Missing(n int) []int {
	have := make(map[int]bool, len(r.Images))
	for _, im := range r.Images {
		have[im.Index] = true
	}
	var missing []int
	for _, i := range r.Spec.Wanted(n) {
		if !have[i] {
			missing = append(missing, i)
		}
	}
	return missing
}

// Ranges writes ascending numbers as "0-24, 50, 75-99".
func Ranges(of []int) string {
	var parts []string
	for k := 0; k < len(of); {
		end := k
		for end+1 < len(of) && of[end+1] == of[end]+1 {
			end++
		}
		if end == k {
			parts = append(parts, fmt.Sprint(of[k]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", of[k], of[end]))
		}
		k = end + 1
	}
	return strings.Join(parts, ", ")
}

// ErrRivals is wrapped by the errors of [CheckRivals].
var ErrRivals = errors.New("answers to one question under different keys")

// CheckRivals refuses runs that answer one question (the same names, defence, attack, bound, draws and seed) under different keys, and says
// in what they differ: parts made with other data, weights or versions are not parts of one evaluation.
func CheckRivals(runs []Run) error {
	question := func(s Spec) Spec {
		s.Data, s.Weights, s.Versions = Data{}, nil, nil
		return s
	}
	for i, b := range runs {
		for _, a := range runs[:i] {
			x, err1 := json.Marshal(question(a.Spec))
			y, err2 := json.Marshal(question(b.Spec))
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			if a.Key == b.Key || !bytes.Equal(x, y) {
				continue
			}
			return fmt.Errorf("record: %s (key %.12s) and %s (key %.12s) are %w: they differ in %s", a.File, a.Key, b.File, b.Key, ErrRivals, differences(a.Spec, b.Spec))
		}
	}
	return nil
}

// differences names what two specs of one question differ in.
func differences(a, b Spec) string {
	var in []string
	if a.Data != b.Data {
		in = append(in, fmt.Sprintf("data (%+v, %+v)", a.Data, b.Data))
	}
	if !slices.Equal(a.Weights, b.Weights) {
		in = append(in, fmt.Sprintf("weights (%+v, %+v)", a.Weights, b.Weights))
	}
	if fmt.Sprint(a.Versions) != fmt.Sprint(b.Versions) {
		in = append(in, fmt.Sprintf("versions (%v, %v)", a.Versions, b.Versions))
	}
	return strings.Join(in, "; ")
}

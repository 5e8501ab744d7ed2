package checkpoints

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"carsokit/internal/atomicfile"
)

// ErrNoState is what [LoadState] returns, wrapped, when nothing was ever saved under the name: start from the beginning.
var ErrNoState = errors.New("no training state saved")

// stateFormat is written into every generation; another value is another layout.
const stateFormat = "carsokit-state-1"

// stateName keeps names from leaving the folder or reading as patterns.
var stateName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)

// SaveState writes one generation of training state, the file dir/name.gNUMBER.safetensors: the tensors, the step, meta as JSON, and a
// SHA-256 over all of them. dir is made if needed. The file appears whole or not at all. The newest two intact generations are kept, so a
// damaged file never costs the last good one; files that a killed save left behind are removed. Only one process may save under a name.
//
// meta may be nil or anything that encoding/json encodes: configuration, schedule position, losses so far.
func SaveState(dir, name string, step int64, meta any, ts []Tensor) error {
	return saveState(atomicfile.Write, dir, name, step, meta, ts)
}

// saveState is SaveState with the writer of files given, so that a test can let it fail.
func saveState(write func(string, func(io.Writer) error) error, dir, name string, step int64, meta any, ts []Tensor) error {
	state, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("checkpoints: saving state %q at step %d: encoding its metadata: %w", name, step, err)
	}
	fail := func(err error) error {
		return fmt.Errorf("checkpoints: saving state %q at step %d: %w", name, step, err)
	}
	if !stateName.MatchString(name) {
		return fail(errors.New("the name may hold letters, digits, '.', '_' and '-' only"))
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(err)
	}
	old, err := generations(dir, name)
	if err != nil {
		return fail(err)
	}
	if err := sweep(dir, name); err != nil {
		return fail(err)
	}
	for _, t := range ts {
		if err := t.check(); err != nil {
			return fail(err)
		}
	}
	header, order, err := encodeHeader(ts, map[string]string{
		"format": stateFormat,
		"step":   strconv.FormatInt(step, 10),
		"state":  string(state),
		"sha256": digest(step, string(state), ts),
	})
	if err != nil {
		return fail(err)
	}
	number := 1
	if len(old) > 0 {
		number = old[0] + 1
	}
	if err := write(generation(dir, name, number), func(w io.Writer) error { return encode(w, header, order) }); err != nil {
		return fail(fmt.Errorf("%w (earlier generations are untouched)", err))
	}
	kept := 1
	for _, number := range old {
		path := generation(dir, name, number)
		if kept < 2 {
			if _, err := readState(path); err == nil {
				kept++
				continue
			}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("checkpoints: state %q is saved at step %d, but an old generation cannot be removed: %w", name, step, err)
		}
	}
	return nil
}

// LoadState reads the newest intact generation that [SaveState] wrote and decodes its metadata into meta (a pointer, or nil to skip it).
// The tensors come in the order in which they were saved. A non-empty warning says which newer generations were damaged and passed over:
// show it. Without any generation the error is [ErrNoState]; if generations exist and none is intact it is another one, because starting
// afresh is then a person's decision.
func LoadState(dir, name string, meta any) (ts []Tensor, step int64, warning string, err error) {
	fail := func(err error) ([]Tensor, int64, string, error) {
		return nil, 0, "", fmt.Errorf("checkpoints: loading state %q: %w", name, err)
	}
	numbers, err := generations(dir, name)
	if err != nil {
		return fail(err)
	}
	if len(numbers) == 0 {
		return fail(fmt.Errorf("%w in folder %s", ErrNoState, dir))
	}
	var damage []string
	for _, number := range numbers {
		s, err := readState(generation(dir, name, number))
		if err != nil {
			damage = append(damage, err.Error())
			continue
		}
		if meta != nil {
			if err := json.Unmarshal([]byte(s.meta), meta); err != nil {
				return fail(fmt.Errorf("the state of step %d is intact, but its metadata does not fit %T: %w", s.step, meta, err))
			}
		}
		if len(damage) > 0 {
			warning = fmt.Sprintf("state %q: went back to step %d because newer generations are damaged: %s", name, s.step, strings.Join(damage, "; "))
		}
		return s.tensors, s.step, warning, nil
	}
	return fail(fmt.Errorf("every generation is damaged: %s; to start afresh, move the files away", strings.Join(damage, "; ")))
}

// generation returns the path of a generation.
func generation(dir, name string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("%s.g%d.safetensors", name, number))
}

// generations lists the numbers of the generations in dir, newest first. A missing folder has none.
func generations(dir, name string) ([]int, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, f := range files {
		middle, ok := strings.CutPrefix(f.Name(), name+".g")
		middle, ok2 := strings.CutSuffix(middle, ".safetensors")
		number, err := strconv.Atoi(middle)
		if ok && ok2 && err == nil && number > 0 && f.Name() == filepath.Base(generation(dir, name, number)) {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}

// sweep removes what killed saves left behind: temporary files under the names that atomicfile gives them.
func sweep(dir, name string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	left := regexp.MustCompile(`^\.` + regexp.QuoteMeta(name) + `\.g[0-9]+\.safetensors\.[0-9]+\.tmp$`)
	for _, f := range files {
		if left.MatchString(f.Name()) {
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

type state struct {
	step    int64
	meta    string // JSON
	tensors []Tensor
}

// readState reads one generation and verifies its digest.
func readState(path string) (s state, err error) {
	f, err := Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	return f.state()
}

// state is what a file says as a generation of training state.
func (f *File) state() (s state, err error) {
	fail := func(problem string) error {
		return &FormatError{File: f.name, Problem: problem, Remedy: "remove it, or restore it from a copy"}
	}
	if f.Meta["format"] != stateFormat {
		return state{}, fail(fmt.Sprintf("its format is %.40q, not %q: it is not training state of this version", f.Meta["format"], stateFormat))
	}
	s.meta = f.Meta["state"]
	if s.step, err = strconv.ParseInt(f.Meta["step"], 10, 64); err != nil {
		return state{}, fail(fmt.Sprintf("its step %.40q is not a number", f.Meta["step"]))
	}
	for t, err := range f.All() {
		if err != nil {
			return state{}, err
		}
		s.tensors = append(s.tensors, t)
	}
	if got := digest(s.step, s.meta, s.tensors); got != f.Meta["sha256"] {
		return state{}, fail(fmt.Sprintf("it is damaged: the SHA-256 of its content is %s, but was %.64s when it was saved", got, f.Meta["sha256"]))
	}
	return s, nil
}

// digest covers the tensors' bytes and everything that gives them a meaning. Every field is preceded by its length, so that no two
// different states read alike.
func digest(step int64, meta string, ts []Tensor) string {
	h := sha256.New()
	field := func(b []byte) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	field(strconv.AppendInt(nil, step, 10))
	field([]byte(meta))
	var shape bytes.Buffer
	for _, t := range ts {
		shape.Reset()
		for _, d := range t.Shape {
			fmt.Fprintf(&shape, "%d,", d)
		}
		field([]byte(t.Name))
		field([]byte(t.DType))
		field(shape.Bytes())
		field(t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

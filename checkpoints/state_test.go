package checkpoints

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"carsokit/internal/atomicfile"
)

// saveLoop, in the environment, turns the test binary into a process that saves states into the folder named until it is killed.
const saveLoop = "CHECKPOINTS_SAVE_LOOP"

func TestMain(m *testing.M) {
	if dir := os.Getenv(saveLoop); dir != "" {
		if err := saveForever(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// saveForever resumes from the folder and says "saved N" after each save.
func saveForever(dir string) error {
	_, step, _, err := LoadState(dir, "run", nil)
	if err != nil && !errors.Is(err, ErrNoState) {
		return err
	}
	for {
		step++
		if err := SaveState(dir, "run", step, metaAt(step), tensorsAt(step)); err != nil {
			return err
		}
		fmt.Println("saved", step)
	}
}

type trainingMeta struct {
	Epoch  int
	Losses []float64
}

func metaAt(step int64) trainingMeta {
	return trainingMeta{Epoch: int(step) / 10, Losses: []float64{float64(step), 0.5}}
}

// tensorsAt is a state of about 0.5 MB that differs in every element from step to step.
func tensorsAt(step int64) []Tensor {
	values := make([]float32, 1<<17)
	for i := range values {
		values[i] = float32(step) + float32(i)/(1<<17)
	}
	return []Tensor{F32("w", []int{1 << 10, 1 << 7}, values), I64("step", nil, []int64{step})}
}

// wantState checks that loading gives a step whole and unmixed, and returns the warning.
func wantState(t *testing.T, dir string, want int64) (warning string) {
	t.Helper()
	var meta trainingMeta
	ts, step, warning, err := LoadState(dir, "run", &meta)
	if err != nil {
		t.Fatal(err)
	}
	if step != want {
		t.Fatalf("loaded step %d, want %d", step, want)
	}
	if !reflect.DeepEqual(meta, metaAt(step)) {
		t.Errorf("step %d has metadata %+v", step, meta)
	}
	wantTensors := tensorsAt(step)
	if len(ts) != len(wantTensors) {
		t.Fatalf("step %d has %d tensors", step, len(ts))
	}
	for i := range ts {
		if ts[i].Name != wantTensors[i].Name || !slices.Equal(ts[i].Shape, wantTensors[i].Shape) || !slices.Equal(ts[i].Data, wantTensors[i].Data) {
			t.Errorf("step %d: tensor %s is another's", step, ts[i].Name)
		}
	}
	return warning
}

func save(t *testing.T, dir string, steps ...int64) {
	t.Helper()
	for _, step := range steps {
		if err := SaveState(dir, "run", step, metaAt(step), tensorsAt(step)); err != nil {
			t.Fatal(err)
		}
	}
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("folder holds %v, want %v", got, want)
	}
}

func TestStateKeepsTwoGenerations(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	for step := int64(1); step <= 11; step++ {
		save(t, dir, step)
		if w := wantState(t, dir, step); w != "" {
			t.Errorf("warning %q", w)
		}
	}
	wantFiles(t, dir, "run.g10.safetensors", "run.g11.safetensors")
	// What was saved last counts, even if its step is lower: a run begun anew in an old folder.
	save(t, dir, 1)
	wantState(t, dir, 1)
}

func TestStatesOfOtherNamesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	others := []string{".run.g1.other.tmp", "run.g01.safetensors", "run.g1.g2.safetensors", "run.gx.safetensors", "run.safetensors", "run2.g1.safetensors"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	save(t, dir, 1, 2, 3)
	wantState(t, dir, 3)
	want := append(slices.Clone(others), "run.g2.safetensors", "run.g3.safetensors")
	slices.Sort(want)
	wantFiles(t, dir, want...)
}

func TestNoState(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Join(dir, "absent")} {
		if _, _, _, err := LoadState(d, "run", nil); !errors.Is(err, ErrNoState) || !strings.Contains(err.Error(), `"run"`) {
			t.Errorf("error %v", err)
		}
	}
}

func TestStateNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"", "../up", "a/b", ".hidden", "a b", "*"} {
		if err := SaveState(dir, name, 1, nil, nil); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	if err := SaveState(dir, "ok", 1, make(chan int), nil); err == nil || !strings.Contains(err.Error(), "metadata") {
		t.Errorf("metadata that is no JSON: %v", err)
	}
	wantFiles(t, dir)
}

func TestDamagedNewestGenerationFallsBack(t *testing.T) {
	damage := map[string]func(b []byte) []byte{
		"truncated":                  func(b []byte) []byte { return b[:len(b)/2] },
		"emptied":                    func(b []byte) []byte { return nil },
		"a bit of a tensor flipped":  func(b []byte) []byte { b[len(b)-9] ^= 1; return b },
		"a digit of the JSON":        func(b []byte) []byte { return replaced(t, b, `\"Epoch\":0`, `\"Epoch\":7`) },
		"the step":                   func(b []byte) []byte { return replaced(t, b, `"step":"4"`, `"step":"5"`) },
		"a shape of the same size":   func(b []byte) []byte { return replaced(t, b, `[1024,128]`, `[128,1024]`) },
		"a name":                     func(b []byte) []byte { return replaced(t, b, `"w":`, `"v":`) },
		"other weights of this name": func(b []byte) []byte { return mustEncode(t, F32("w", []int{1}, []float32{1})) },
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			save(t, dir, 3, 4)
			newest := filepath.Join(dir, "run.g2.safetensors")
			b, err := os.ReadFile(newest)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(newest, change(b), 0o644); err != nil {
				t.Fatal(err)
			}
			if w := wantState(t, dir, 3); !strings.Contains(w, newest) || !strings.Contains(w, "step 3") {
				t.Errorf("warning %q does not name the damaged file and the step", w)
			}
			// The next save must not drop the only intact old generation in favour of the damaged one.
			save(t, dir, 5)
			wantFiles(t, dir, "run.g1.safetensors", "run.g3.safetensors")
			if w := wantState(t, dir, 5); w != "" {
				t.Errorf("warning %q after a good save", w)
			}
		})
	}
}

func replaced(t *testing.T, b []byte, old, new string) []byte {
	t.Helper()
	if strings.Count(string(b), old) != 1 || len(old) != len(new) {
		t.Fatalf("the file does not hold %s once", old)
	}
	return []byte(strings.Replace(string(b), old, new, 1))
}

// Damage of the older generation costs nothing: the newest is loaded without a word, and the next save puts the damaged file away.
func TestDamagedOldGeneration(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"truncated":      func(b []byte) []byte { return b[:len(b)/3] },
		"emptied":        func(b []byte) []byte { return nil },
		"a bit flipped":  func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b },
		"something else": func(b []byte) []byte { return []byte("<html>") },
	} {
		dir := t.TempDir()
		save(t, dir, 3, 4)
		old := filepath.Join(dir, "run.g1.safetensors")
		if err := os.WriteFile(old, change(read(t, old)), 0o644); err != nil {
			t.Fatal(err)
		}
		if w := wantState(t, dir, 4); w != "" {
			t.Errorf("%s: warning %q", name, w)
		}
		save(t, dir, 5)
		wantFiles(t, dir, "run.g2.safetensors", "run.g3.safetensors")
		if err := os.Truncate(filepath.Join(dir, "run.g3.safetensors"), 10); err != nil {
			t.Fatal(err)
		}
		if w := wantState(t, dir, 4); w == "" {
			t.Errorf("%s: no warning", name)
		}
	}
}

func TestAllGenerationsDamaged(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, 1, 2)
	for _, name := range []string{"run.g1.safetensors", "run.g2.safetensors"} {
		if err := os.Truncate(filepath.Join(dir, name), 100); err != nil {
			t.Fatal(err)
		}
	}
	_, _, _, err := LoadState(dir, "run", nil)
	if err == nil || errors.Is(err, ErrNoState) || !strings.Contains(err.Error(), "run.g1") || !strings.Contains(err.Error(), "run.g2") {
		t.Errorf("error %v", err)
	}
}

func TestMetadataOfAnotherType(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, 1)
	var meta struct{ Epoch string }
	if _, _, _, err := LoadState(dir, "run", &meta); err == nil || !strings.Contains(err.Error(), "intact") {
		t.Errorf("error %v", err)
	}
}

// Killed at random instants, a process that saves in a loop always leaves the last state that it reported, or the one that it was
// about to report. Each round resumes from what the one before left.
func TestKillAtRandomInstants(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for round := range 10 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), saveLoop+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		read := func() bool {
			if !lines.Scan() {
				return false
			}
			number, ok := strings.CutPrefix(lines.Text(), "saved ")
			n, err := strconv.ParseInt(number, 10, 64)
			if !ok || err != nil || n != last+1 && n != last+2 {
				t.Errorf("round %d: after step %d the process says %q", round, last, lines.Text())
			}
			last = n
			return true
		}
		if !read() {
			t.Fatalf("round %d: the process saved nothing", round)
		}
		time.Sleep(time.Duration(r.Int64N(int64(30 * time.Millisecond))))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for read() {
		}
		cmd.Wait()

		_, step, warning, err := LoadState(dir, "run", nil)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if step != last && step != last+1 || warning != "" {
			t.Fatalf("round %d: %d was reported saved, but step %d was loaded (warning %q)", round, last, step, warning)
		}
		wantState(t, dir, step)
		last = step
	}
	save(t, dir, last+1)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("killed saves left something behind: %v, %v", entries, err)
	}
}

// limited fails as a full disk does, after n bytes.
type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(b []byte) (int, error) {
	if len(b) <= l.n {
		l.n -= len(b)
		return l.w.Write(b)
	}
	n, err := l.w.Write(b[:l.n])
	l.n -= n
	if err == nil {
		err = syscall.ENOSPC
	}
	return n, err
}

func TestWriterThatFails(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, 1, 2)
	for _, n := range []int{0, 7, 100, 400_000} {
		full := func(path string, fn func(io.Writer) error) error {
			return atomicfile.Write(path, func(w io.Writer) error { return fn(&limited{w, n}) })
		}
		err := saveState(full, dir, "run", 3, metaAt(3), tensorsAt(3))
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "step 3") || !strings.Contains(err.Error(), "run.g3.safetensors") {
			t.Errorf("after %d bytes: error %v", n, err)
		}
		wantFiles(t, dir, "run.g1.safetensors", "run.g2.safetensors")
		wantState(t, dir, 2)
	}
}

// A disk that is really full: a small file system in memory, where the test may mount one.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1200k"); err != nil { // two generations of 513 KB fit, three do not
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	save(t, dir, 1, 2)
	err := SaveState(dir, "run", 3, metaAt(3), tensorsAt(3))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
	wantFiles(t, dir, "run.g1.safetensors", "run.g2.safetensors")
	if w := wantState(t, dir, 2); w != "" {
		t.Errorf("warning %q", w)
	}
}

func FuzzDamagedState(f *testing.F) {
	dir := f.TempDir()
	if err := SaveState(dir, "run", 1, metaAt(1), []Tensor{F32("w", []int{2}, []float32{1, 2})}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "run.g1.safetensors"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, byte(1))
	f.Add(8, byte(0x20))
	f.Add(len(good)-1, byte(0x80))
	f.Add(int(binary.LittleEndian.Uint64(good))+8, byte(1))
	path := filepath.Join(dir, "run.g1.safetensors")
	f.Fuzz(func(t *testing.T, at int, flip byte) {
		b := slices.Clone(good)
		if at < 0 || at >= len(b) || flip == 0 {
			return
		}
		b[at] ^= flip
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		// No change of a byte goes unnoticed, except in the padding, where another blank means the same.
		s, err := readState(path)
		if err == nil && (s.step != 1 || len(s.tensors) != 1 || s.tensors[0].Name != "w" || !slices.Equal(s.tensors[0].Data, good[len(good)-8:])) {
			t.Errorf("byte %d xor %#x: read as step %d, %v", at, flip, s.step, s.tensors)
		}
	})
}

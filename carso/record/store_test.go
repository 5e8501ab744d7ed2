package record

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// The child processes of the tests below are this test binary again, told what to do by child.
const child = "RECORD_TEST_CHILD"

const chunks, chunk = 300, 50

func TestMain(m *testing.M) {
	var err error
	switch dir := os.Getenv("RECORD_TEST_DIR"); os.Getenv(child) {
	case "":
		os.Exit(m.Run())
	case "append":
		err = appendAll(dir)
	case "full":
		err = fillDisk(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startChild starts a child and waits until it says that it is at work, or ends.
func startChild(t *testing.T, what, dir string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), child+"="+what, "RECORD_TEST_DIR="+dir)
	complaints := new(bytes.Buffer)
	c.Stderr = complaints
	ready, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ready.Read(make([]byte, 1))
	return c, complaints
}

// appendAll appends the chunks that are missing, as an evaluation does.
func appendAll(dir string) error {
	store, err := Open(dir)
	if err != nil {
		return err
	}
	w, err := store.Writer(spec())
	if err != nil {
		return err
	}
	fmt.Println("ready")
	done := w.Done()
	for c := range chunks {
		if done[c*chunk] {
			continue
		}
		if err := w.Append(images(c*chunk, (c+1)*chunk)); err != nil {
			return err
		}
	}
	return w.Close()
}

func TestKilledAndResumedIsTheSame(t *testing.T) {
	whole, killed := t.TempDir(), t.TempDir()
	c, complaints := startChild(t, "append", whole)
	began := time.Now()
	if c.Wait() != nil {
		t.Fatal(complaints)
	}
	took := time.Since(began)
	r := rand.New(rand.NewPCG(1, 2))
	interrupted, sizes := 0, []int64{}
	for range 10 {
		c, _ := startChild(t, "append", killed)
		time.Sleep(time.Duration(r.Int64N(int64(took)/6 + 1))) // ten times: most of the work, not all
		c.Process.Signal(syscall.SIGKILL)                      // of this child alone; it may have finished already
		if c.Wait() != nil {
			interrupted++
		}
		if info, err := os.Stat(filepath.Join(killed, spec().FileName())); err == nil {
			sizes = append(sizes, info.Size())
		}
	}
	t.Logf("%d of 10 children were killed at work, leaving files of %d bytes", interrupted, sizes)
	if c, complaints := startChild(t, "append", killed); c.Wait() != nil {
		t.Fatal(complaints)
	}
	same(t, filepath.Join(whole, spec().FileName()), filepath.Join(killed, spec().FileName()))
	runs, err := Load(killed)
	if err != nil || len(runs) != 1 || !reflect.DeepEqual(runs[0].Images, images(0, chunks*chunk)) {
		t.Errorf("loaded %d runs, error %v, not what was appended", len(runs), err)
	}
}

func same(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s (%d bytes) and %s (%d bytes) differ", a, len(x), b, len(y))
	}
}

// A kill inside a write leaves any prefix of the line: each one is tried.
func TestEveryTornLineIsRepaired(t *testing.T) {
	dir := t.TempDir()
	store, _ := Open(dir)
	write := func(t *testing.T, from, to int) *Writer {
		t.Helper()
		w, err := store.Writer(spec())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(images(from, to)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return w
	}
	file := write(t, 0, 2).Path()
	first, _ := os.ReadFile(file)
	write(t, 2, 3)
	both, _ := os.ReadFile(file)
	for cut := len(first); cut < len(both); cut++ {
		if err := os.WriteFile(file, both[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		torn := cut > len(first)
		runs, err := Load(dir)
		if err != nil || len(runs) != 1 || len(runs[0].Images) != 2 || runs[0].Torn != torn {
			t.Fatalf("cut at %d: %+v, error %v", cut, runs, err)
		}
		if w := write(t, 2, 3); w.Repaired() != int64(cut-len(first)) {
			t.Fatalf("cut at %d: %d bytes repaired", cut, w.Repaired())
		}
		if got, _ := os.ReadFile(file); !bytes.Equal(got, both) {
			t.Fatalf("cut at %d: not the same after the repair", cut)
		}
	}
}

func TestOneWriter(t *testing.T) {
	store, _ := Open(t.TempDir())
	w, err := store.Writer(spec())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Writer(spec()); err == nil || !strings.Contains(err.Error(), "another writer") {
		t.Errorf("second writer: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(images(0, 1)); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("append after Close: %v", err)
	}
	w, err = store.Writer(spec())
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	defer w.Close()
	if err := w.Append(images(0, 2)); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(images(1, 3)); err == nil || !strings.Contains(err.Error(), "image 1 is there already") {
		t.Errorf("appending an image twice: %v", err)
	}
	if err := w.Append(nil); err != nil {
		t.Errorf("appending nothing: %v", err)
	}
	done := w.Done()
	if !reflect.DeepEqual(done, map[int]bool{0: true, 1: true}) {
		t.Errorf("done: %v", done)
	}
	done[7] = true // a copy
	if w.Done()[7] {
		t.Error("Done gives away the writer's own map")
	}
}

func TestWriterRefusesForeignFiles(t *testing.T) {
	dir := t.TempDir()
	store, _ := Open(dir)
	other := spec()
	other.Seed++
	file := filepath.Join(dir, spec().FileName())
	os.WriteFile(file, append(line(t, other, images(0, 1)), '\n'), 0o644)
	if _, err := store.Writer(spec()); err == nil || !strings.Contains(err.Error(), other.Key()) {
		t.Errorf("foreign key: %v", err)
	}
	garbage := []byte("garbage\n")
	os.WriteFile(file, garbage, 0o644)
	if _, err := store.Writer(spec()); err == nil || !strings.Contains(err.Error(), ".jsonl:1:") {
		t.Errorf("garbage: %v", err)
	}
	if got, _ := os.ReadFile(file); !bytes.Equal(got, garbage) {
		t.Error("a refused file was changed")
	}
}

// fillDisk runs in a child whose files may not grow beyond a limit, which fails a write half way as a full disk does.
func fillDisk(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	store, err := Open(dir)
	if err != nil {
		return err
	}
	w, err := store.Writer(spec())
	if err != nil {
		return err
	}
	if err := w.Append(images(0, 5)); err != nil {
		return err
	}
	before, err := os.ReadFile(w.Path())
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	tight := limit
	tight.Cur = uint64(len(before) + 100)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight); err != nil {
		return err
	}
	if err := w.Append(images(5, 9)); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("append on a full disk: %v", err)
	}
	if after, err := os.ReadFile(w.Path()); err != nil || !bytes.Equal(before, after) {
		return fmt.Errorf("after a failed append the file has %d bytes, not %d (%v)", len(after), len(before), err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := w.Append(images(5, 9)); err != nil {
		return fmt.Errorf("append after room was made: %w", err)
	}
	return w.Close()
}

func TestFullDisk(t *testing.T) {
	full, roomy := t.TempDir(), t.TempDir()
	if c, complaints := startChild(t, "full", full); c.Wait() != nil {
		t.Fatal(complaints)
	}
	store, _ := Open(roomy)
	w, err := store.Writer(spec())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Append(images(0, 5)), w.Append(images(5, 9)), w.Close()); err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(full, spec().FileName()), filepath.Join(roomy, spec().FileName()))
}

func TestLoadFS(t *testing.T) {
	text := func(lines ...[]byte) *fstest.MapFile {
		return &fstest.MapFile{Data: append(bytes.Join(lines, []byte("\n")), '\n')}
	}
	other := spec()
	other.Seed++
	contrary := image(1)
	contrary.Broken = "square/log-sum"
	torn := text(line(t, other, images(0, 1)))
	torn.Data = append(torn.Data, `{"key":`...)

	runs, err := LoadFS(fstest.MapFS{
		"b.jsonl":        text(line(t, spec(), images(4, 6)), line(t, spec(), images(0, 2))),
		"shard/b2.jsonl": text(line(t, spec(), images(1, 4))), // image 1 again, with the same content
		"a.jsonl":        torn,
		"empty.jsonl":    {},
		"torn.jsonl":     {Data: []byte("{")},
		"b.log":          {Data: []byte("3 s\n")},
	})
	if err != nil || len(runs) != 2 {
		t.Fatalf("%d runs, error %v", len(runs), err)
	}
	if r := runs[0]; r.File != "a.jsonl" || !r.Torn || r.Spec.Seed != 2 || len(r.Images) != 1 {
		t.Errorf("torn run: %+v", r)
	}
	if r := runs[1]; r.File != "b.jsonl" || r.Torn || r.Key != spec().Key() || !reflect.DeepEqual(r.Images, images(0, 6)) {
		t.Errorf("run of two files: %+v", r)
	}

	for want, fsys := range map[string]fstest.MapFS{
		"x.jsonl:2: image 1 contradicts x.jsonl:1": {"x.jsonl": text(line(t, spec(), images(0, 2)), line(t, spec(), []Image{contrary}))},
		"y.jsonl:1: image 1 contradicts x.jsonl:1": {"x.jsonl": text(line(t, spec(), images(0, 2))), "y.jsonl": text(line(t, spec(), []Image{contrary}))},
		"x.jsonl:2: not a record":                  {"x.jsonl": text(line(t, spec(), images(0, 2)), []byte("{}}"), line(t, spec(), images(2, 3)))},
		"one file holds one key":                   {"x.jsonl": text(line(t, spec(), images(0, 2)), line(t, other, images(0, 2)))},
	} {
		if _, err := LoadFS(fsys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	// As gzip leaves them, beside files that are not packed; a writer must not begin a second file beside a packed one.
	pack := func(raw []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(raw); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	dir, name := t.TempDir(), spec().FileName()+".gz"
	whole := pack(text(line(t, spec(), images(0, 4))).Data)
	write := func(raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(whole)
	if err := os.WriteFile(filepath.Join(dir, "part.jsonl"), text(line(t, spec(), images(3, 6))).Data, 0o644); err != nil {
		t.Fatal(err)
	}
	joined, errJoin := Join(dir)
	loaded, errLoad := Load(dir)
	if errJoin != nil || errLoad != nil || len(joined) != 1 || !reflect.DeepEqual(joined[0].Images, images(0, 6)) || !reflect.DeepEqual(loaded[0].Images, images(0, 6)) {
		t.Errorf("packed records: %v, %v, %d and %d runs", errJoin, errLoad, len(joined), len(loaded))
	}
	if _, err := (&Store{dir}).Writer(spec()); err == nil || !strings.Contains(err.Error(), "gunzip") {
		t.Errorf("a writer beside a packed file: %v", err)
	}
	// Merging what the packed file holds writes nothing, and what it lacks is refused.
	for n, want := range map[int]string{3: "", 6: "gunzip"} {
		merged, err := (&Store{dir}).Merge(Run{Key: spec().Key(), Spec: spec(), Images: images(1, n)}, 2)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || err == nil && len(merged.Images) != 4 {
			t.Errorf("merging images 1 to %d with a packed file: %d images, %v", n, len(merged.Images), err)
		}
	}
	for at := range whole {
		write(whole[:at])
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), name+": unpacking") {
			t.Fatalf("the first %d of %d bytes of a packed file: %v", at, len(whole), err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}

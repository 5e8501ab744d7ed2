package record

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// store with the given images of a spec, in the file of a part.
func storeWith(t *testing.T, s Spec, part string, chunks ...[]Image) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	store, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.ShardWriter(s, part)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if err := w.Append(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return store, w.Path()
}

func TestMerge(t *testing.T) {
	_, whole := storeWith(t, spec(), "", images(0, 4), images(4, 8), images(8, 11))
	want, _ := os.ReadFile(whole)
	_, a := storeWith(t, spec(), "0-of-2", images(8, 11), images(0, 3)) // other chunks, another order
	_, b := storeWith(t, spec(), "1-of-2", images(2, 8))                // image 2 twice, with the same content
	if filepath.Base(a) != strings.TrimSuffix(spec().FileName(), ".jsonl")+".shard-0-of-2.jsonl" {
		t.Errorf("the part's file is called %s", a)
	}
	torn, err := os.OpenFile(b, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	torn.WriteString(`{"key":`)
	torn.Close()
	for _, paths := range [][]string{{a, b}, {filepath.Dir(b), a, a}} {
		runs, err := Join(paths...)
		if err != nil || len(runs) != 1 || !runs[0].Torn || len(runs[0].Files) != 2 {
			t.Fatalf("%+v, %v", runs, err)
		}
		store, _ := Open(t.TempDir())
		for range 2 { // the second time there is nothing to do
			run, err := store.Merge(runs[0], 4)
			if err != nil || run.Torn || len(run.Images) != 11 {
				t.Fatalf("%d images, %v", len(run.Images), err)
			}
			if got, _ := os.ReadFile(filepath.Join(store.dir, run.File)); !bytes.Equal(got, want) {
				t.Errorf("%v: merged to other bytes than one writer's", paths)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(store.dir, "*")); len(left) != 1 {
			t.Errorf("left over: %v", left)
		}
	}
	r := Run{Images: images(3, 6)}
	if got := Ranges(r.Missing(9)); got != "0-2, 6-8" {
		t.Errorf("missing %q", got)
	}
	if got := Ranges([]int{1, 3, 4, 9}); got != "1, 3-4, 9" {
		t.Errorf("ranges %q", got)
	}
}

func TestMergeRefuses(t *testing.T) {
	store, file := storeWith(t, spec(), "", images(0, 3))
	before, _ := os.ReadFile(file)
	refused := func(what, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", what, err, want)
		}
		if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
			t.Errorf("%s: the refused merge changed the file", what)
		}
	}
	contrary := images(2, 4)
	contrary[0].Linf = 0
	other, path := storeWith(t, spec(), "1-of-2", contrary)
	runs, err := other.Load()
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Merge(runs[0], 4)
	refused("contradiction", "image 2 contradicts", err)
	_, err = Join(file, path)
	refused("contradiction among inputs", "image 2 contradicts", err)
	w, err := store.Writer(spec())
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Merge(Run{Spec: spec(), Images: images(3, 4)}, 4)
	refused("a writer at work", "another writer", err)
	w.Close()
	_, err = store.Merge(Run{Spec: spec()}, 0)
	refused("no chunk", "at least 1", err)
	empty, _ := Open(t.TempDir())
	_, err = empty.Merge(Run{Spec: spec()}, 4)
	refused("nothing", "no images", err)
	_, err = Join(filepath.Join(t.TempDir(), "missing"))
	refused("a missing input", "missing", err)
}

// A writer that opened the file before a merge replaced it must not append to what is no longer there.
func TestWriterNoticesAMerge(t *testing.T) {
	store, file := storeWith(t, spec(), "", images(3, 4))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := store.Merge(Run{Spec: spec(), Images: images(0, 3)}, 4); err != nil {
		t.Fatal(err)
	}
	w := &Writer{f: f, spec: spec(), key: spec().Key(), done: map[int]bool{}}
	if err := w.resume(); err == nil || !strings.Contains(err.Error(), "a merge replaced this file") {
		t.Errorf("the stale file was taken: %v", err)
	}
}

func TestCheckRivals(t *testing.T) {
	run := func(file string, change func(*Spec)) Run {
		s := spec()
		s.Weights = slices.Clone(s.Weights)
		if change != nil {
			change(&s)
		}
		return Run{Key: s.Key(), Spec: s, File: file}
	}
	honest := run("d", func(s *Spec) { s.Row = "carso-honest" })
	seed := run("e", func(s *Spec) { s.Seed++ })
	if err := CheckRivals([]Run{run("a", nil), honest, seed}); err != nil {
		t.Errorf("different questions: %v", err)
	}
	for want, change := range map[string]func(*Spec){
		"versions (map":  func(s *Spec) { s.Versions = map[string]string{"kit": "2"} },
		"data ({Name":    func(s *Spec) { s.Data.Digest = "d2" },
		"weights ([{Rol": func(s *Spec) { s.Weights[0].SHA256 = "zz" },
	} {
		err := CheckRivals([]Run{honest, run("a", nil), run("b", change)})
		if !errors.Is(err, ErrRivals) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "a (key") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

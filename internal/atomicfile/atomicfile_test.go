package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// names lists what a folder holds, so that a left-over temporary file is seen.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func put(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	for _, text := range []string{"old", "new and longer", ""} {
		if err := Write(path, put(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Fatalf("read %q, %v; want %q", got, err, text)
		}
		if n := names(t, dir); len(n) != 1 {
			t.Fatalf("folder holds %v", n)
		}
	}
}

func TestWriteKeepsPermissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, put("x")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

func TestFailureKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := Write(path, put("old")); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("half way")
	err := Write(path, func(w io.Writer) error {
		w.Write(bytes.Repeat([]byte("new"), 1<<16)) // more than the buffer: part of it is on disk
		return cause
	})
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not wrap its cause and name the path", err)
	}
	func() {
		defer func() { recover() }()
		Write(path, func(io.Writer) error { panic("fn") })
	}()
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("old content became %q", got)
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("left behind: %v", n)
	}
}

func TestBadTargets(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing", "a")} {
		err := Write(path, put("x"))
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	if n := names(t, dir); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
}

// Concurrent writers of one file: each read sees one writer's whole text.
func TestConcurrentWritersNeverMix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := Write(path, put(strings.Repeat(fmt.Sprint(i), 1<<12))); err != nil {
				t.Error(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || len(got) != 1<<12 || strings.Count(string(got), string(got[:1])) != 1<<12 {
				t.Errorf("torn read of %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

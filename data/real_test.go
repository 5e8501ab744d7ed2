package data

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// realSample unpacks a real sample of a data set, laid out as officially, or skips the test. The samples lie beside the checkout.
func realSample(t *testing.T, name string) fstest.MapFS {
	t.Helper()
	file := filepath.Join("..", "..", "shared", "data", name+".tar.xz")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no real sample: %v", err)
	}
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skipf("unpacking the real sample: %v", err)
	}
	out, err := exec.Command("xz", "-dc", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return fsys
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		fsys[h.Name] = &fstest.MapFile{Data: content}
	}
}

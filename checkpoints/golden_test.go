package checkpoints

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// goldenDir returns the folder of reference files: $CARSO_GOLDEN, or beside the repository. Without it the test is skipped.
func goldenDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("CARSO_GOLDEN")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "golden")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no reference files: set CARSO_GOLDEN to their folder (%v)", err)
	}
	return dir
}

// Every file that the reference implementation's library wrote opens, and writing it again changes nothing in it.
func TestGoldenFiles(t *testing.T) {
	dir := goldenDir(t)
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".safetensors") {
			return err
		}
		files++
		f, err := Open(path)
		if err != nil {
			t.Error(err)
			return nil
		}
		defer f.Close()
		var ts []Tensor
		for tensor, err := range f.All() {
			if err != nil {
				t.Error(err)
				return nil
			}
			ts = append(ts, tensor)
		}
		if len(ts) == 0 {
			t.Errorf("%s has no tensors", path)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if err := Write(copied, ts, f.Meta); err != nil {
			t.Error(err)
			return nil
		}
		c, err := Open(copied)
		if err != nil {
			t.Error(err)
			return nil
		}
		defer c.Close()
		for _, want := range ts {
			if got, err := c.Tensor(want.Name); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: tensor %s changed in copying (%v)", path, want.Name, err)
			}
		}
		// Only the aggregations hold the infinities that the reference computes.
		if err := f.CheckFinite(); err != nil && filepath.Base(path) != "aggregation.safetensors" {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 30 {
		t.Errorf("only %d files under %s", files, dir)
	}
}

package data

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerify(t *testing.T) {
	d := newTiny(t)
	root := t.TempDir()
	if err := os.CopyFS(root, d.folder(d.Dir)); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{root, filepath.Join(root, d.Dir)} {
		r, err := d.Verify(where)
		if err != nil || !r.OK() || len(r.Files) != 3 || strings.Contains(r.String(), "remedy") {
			t.Fatalf("%v\n%s", err, r)
		}
		for k, f := range r.Files {
			if f.MD5 != d.Files[k].MD5 || f.Size != d.Files[k].Size {
				t.Errorf("%+v", f)
			}
		}
	}
	at := func(name string) string { return filepath.Join(root, d.Dir, name) }
	flipped := bytes.Clone(d.content["a.bin"])
	flipped[9] ^= 4 // nothing but the MD5 can tell
	if err := os.WriteFile(at("a.bin"), flipped, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(at("b.bin"), 100); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(at("test.bin")); err != nil {
		t.Fatal(err)
	}
	r, err := d.Verify(root)
	if err != nil || r.OK() {
		t.Fatalf("%v\n%s", err, r)
	}
	for k, want := range []string{"instead of " + d.Files[0].MD5, "truncated in record 0", "not found"} {
		if !strings.Contains(r.Files[k].Problem, want) || r.Files[k].WantSize != d.Files[k].Size {
			t.Errorf("%+v does not say %q", r.Files[k], want)
		}
	}
	if r.Files[1].Size != 100 || r.Files[2].Size != -1 {
		t.Errorf("sizes %d, %d", r.Files[1].Size, r.Files[2].Size)
	}
	if text := r.String(); strings.Count(text, "BAD") != 3 || !strings.Contains(text, "carso data get tiny") {
		t.Errorf("report:\n%s", text)
	}

	archive := filepath.Join(root, "tiny.tar.gz")
	for size, ok := range map[int]bool{int(d.Archive.Size): true, int(d.Archive.Size) / 2: false} {
		if err := os.WriteFile(archive, d.archive(t)[:size], 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := d.Verify(archive)
		if err != nil || r.OK() != ok || (r.Problem == "") != ok {
			t.Errorf("archive of %d bytes: %v\n%s", size, err, r)
		}
	}
	_, err = d.Verify(filepath.Join(root, "nothing"))
	mustSay(t, err, ErrNotFound, "nothing", "carso data get tiny")
	_, err = Verify(t.TempDir())
	mustSay(t, err, ErrNotFound, "carso data get cifar10")
}

func TestVerifyOfficial(t *testing.T) {
	path := os.Getenv(Env)
	if path == "" {
		t.Skip(Env + " is not set: needs the full CIFAR-10")
	}
	r, err := Verify(path)
	if err != nil || !r.OK() || r.Dataset != "cifar10" || len(r.Files) != 6 {
		t.Errorf("%v\n%s", err, r)
	}
}

func TestFind(t *testing.T) {
	have := func(dir string) string { // a folder in which Find sees CIFAR-10
		t.Helper()
		inner := filepath.Join(dir, "cifar-10-batches-bin")
		if err := os.MkdirAll(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(inner, "test_batch.bin"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	root, empty := t.TempDir(), t.TempDir()
	t.Setenv(Env, "")
	_, err := Find("cifar10", "", root)
	mustSay(t, err, ErrNotFound, filepath.Join(root, "build", "data"), "carso data get cifar10")

	def := have(filepath.Join(root, "build", "data"))
	env, arg := have(t.TempDir()), have(t.TempDir())
	find := func(explicit, env, want string) {
		t.Helper()
		t.Setenv(Env, env)
		if got, err := Find("cifar10", explicit, root); err != nil || got != want {
			t.Errorf("Find(%q) with %s=%q: %q, %v; want %q", explicit, Env, env, got, err, want)
		}
	}
	find("", "", def)
	find("", env, env)
	find(arg, env, arg)
	archive := filepath.Join(empty, "cifar-10-binary.tar.gz")
	if err := os.WriteFile(archive, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	find(empty, "", archive)
	find(archive, "", archive)

	// A wrong path is an error, though there is data further down the list.
	nothing := t.TempDir()
	t.Setenv(Env, nothing)
	_, err = Find("cifar10", "", root)
	mustSay(t, err, ErrNotFound, Env, nothing)
	_, err = Find("cifar10", nothing+"/x", root)
	mustSay(t, err, ErrNotFound, nothing+"/x", "no such file or folder")
	_, err = Find("mnist", "", root)
	mustSay(t, err, nil, `"mnist"`)
	_, _, err = TestSet(root)
	mustSay(t, err, ErrNotFound, Env)

	// What is found is used, or reported, never replaced by the sample.
	t.Setenv(Env, "")
	_, _, err = TestSet(root)
	mustSay(t, err, ErrDamaged, "test_batch.bin", "is empty")
	set, note, err := TestSet(t.TempDir())
	if err != nil || set.Digest != sampleDigest || !strings.Contains(note, "sample") || !strings.Contains(note, "carso data get cifar10") {
		t.Errorf("%v: %s", err, note)
	}
}

func TestTestSetFull(t *testing.T) {
	path := os.Getenv(Env)
	if path == "" {
		t.Skip(Env + " is not set: needs the full CIFAR-10")
	}
	set, note, err := TestSet(t.TempDir())
	if err != nil || !set.Official() || set.Len() != 10_000 || !strings.Contains(note, path) {
		t.Errorf("%v: %s", err, note)
	}
}

// The note names a folder below root from there on, and any other as it is.
func TestNoteNamesNoMachine(t *testing.T) {
	root, d := t.TempDir(), smallTree()
	archive := filepath.Join(root, "build", "trees.zip")
	if err := os.MkdirAll(filepath.Dir(archive), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, zipOf(t, treeFiles(t, d.Dir)), 0o666); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{root: "from " + filepath.Join("build", "trees.zip"), t.TempDir(): "from " + archive, ".": "from " + archive} {
		if _, note, err := d.open(archive, at, "val"); err != nil || !strings.HasSuffix(note, want) {
			t.Errorf("root %s: %q, %v; want it to end in %q", at, note, err, want)
		}
	}
}

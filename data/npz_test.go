package data

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// array is an .npy file.
func array(descr, shape string, content []byte) []byte {
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n", descr, shape)
	out := append([]byte("\x93NUMPY\x01\x00"), binary.LittleEndian.AppendUint16(nil, uint16(len(header)))...)
	return append(append(out, header...), content...)
}

func npzOf(t testing.TB, arrays map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range []string{"image", "label"} {
		content, ok := arrays[name]
		if !ok {
			continue
		}
		f, err := w.Create(name + ".npy")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fixture is a file of testdata/fixtures.zip: small files that NumPy, Python and Pillow wrote.
func fixture(name string) []byte {
	r, err := zip.OpenReader(filepath.Join("testdata", "fixtures.zip"))
	if err != nil {
		panic(err)
	}
	defer r.Close()
	b, err := fs.ReadFile(r, name)
	if err != nil {
		panic(err)
	}
	return b
}

// six*.npz are NumPy's own: images of 4x5 whose bytes count up modulo 251, labels 2 0 1 1 0 2 as int64, and as big-endian int16.
func TestNPZ(t *testing.T) {
	d := Dataset{Name: "six", H: 4, W: 5, Classes: []string{"a", "b", "c"}}
	for _, file := range []string{"six.npz", "six-compressed.npz"} {
		path := filepath.Join(t.TempDir(), file)
		if err := os.WriteFile(path, fixture(file), 0o644); err != nil {
			t.Fatal(err)
		}
		set, err := d.OpenNPZ(path, "train")
		if err != nil {
			t.Fatal(err)
		}
		if set.Len() != 6 || fmt.Sprint(set.Labels) != "[2 0 1 1 0 2]" || set.Digest != set.digest() || set.Split != "train" {
			t.Errorf("%+v", set)
		}
		for i, p := range set.Pixels {
			if p != byte(i%251) {
				t.Fatalf("byte %d is %d", i, p)
			}
		}
	}
}

func TestDamagedNPZ(t *testing.T) {
	d := Dataset{Name: "six", H: 2, W: 2, Classes: []string{"a", "b"}}
	image, label := array("|u1", "2, 2, 2, 3", make([]byte, 24)), array("<i4", "2,", []byte{0, 0, 0, 0, 1, 0, 0, 0})
	good := npzOf(t, map[string][]byte{"image": image, "label": label})
	with := func(image, label []byte) []byte { return npzOf(t, map[string][]byte{"image": image, "label": label}) }
	for name, c := range map[string]struct {
		content []byte
		say     []string
	}{
		"empty":       {nil, []string{"is empty"}},
		"HTML":        {[]byte("<html>"), []string{"HTML page"}},
		"truncated":   {good[:len(good)/2], []string{"truncated or damaged"}},
		"no label":    {npzOf(t, map[string][]byte{"image": image}), []string{"lacks the array label"}},
		"no image":    {npzOf(t, map[string][]byte{"label": label}), []string{"lacks the array image"}},
		"floats":      {with(array("<f4", "2, 2, 2, 3", make([]byte, 96)), label), []string{"array image is f4"}},
		"float label": {with(image, array("<f4", "2,", make([]byte, 8))), []string{"array label", "f4 instead of whole numbers"}},
		"shape":       {with(array("|u1", "2, 3, 2, 2", make([]byte, 24)), label), []string{"array image", "[2 3 2 2]", "[n 2 2 3]"}},
		"count":       {with(image, array("<i4", "1,", make([]byte, 4))), []string{"array label has shape [1] for 2 images"}},
		"label":       {with(image, array("<i4", "2,", []byte{0, 0, 0, 0, 2, 0, 0, 0})), []string{"image 1 has label 2", "0..1"}},
		"too short":   {with(array("|u1", "2, 2, 2, 3", make([]byte, 23)), label), []string{"array image", "23 bytes", "needs 24"}},
		"huge shape":  {with(array("|u1", "99999999999, 2, 2, 3", nil), label), []string{"array image"}},
		"overflow":    {with(array("|u1", "1099511627775, 1099511627775, 1099511627775", nil), label), []string{"array image", "has the shape"}},
		"Fortran":     {with(bytes.Replace(image, []byte("False"), []byte("True "), 1), label), []string{"Fortran"}},
		"no NumPy":    {with([]byte("hello, world"), label), []string{"not in NumPy's format"}},
		"objects":     {with(array("|O", "2,", nil), label), []string{"describes no plain array"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.npz")
			if err := os.WriteFile(file, c.content, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := d.OpenNPZ(file, "train")
			mustSay(t, err, ErrDamaged, append(c.say, file)...)
		})
	}
	_, err := d.OpenNPZ(filepath.Join(t.TempDir(), "none.npz"), "train")
	mustSay(t, err, ErrNotFound, "none.npz")
}

// A folder with the repacked splits alone serves too, if they are whole.
func TestRepackedTree(t *testing.T) {
	d := smallTree()
	dir := t.TempDir()
	write := func(n int) {
		labels := make([]byte, n)
		content := npzOf(t, map[string][]byte{"image": array("|u1", fmt.Sprintf("%d, 8, 8, 3", n), make([]byte, n*192)), "label": array("|u1", fmt.Sprintf("%d,", n), labels)})
		if err := os.WriteFile(filepath.Join(dir, "val.npz"), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(6)
	set, err := d.Open(dir, "val")
	if err != nil || set.Len() != 6 || len(set.Classes) != 3 || set.Classes[2] != "2" {
		t.Fatalf("%v", err)
	}
	if where, err := d.in(dir); err != nil || where != dir {
		t.Errorf("%s, %v", where, err)
	}
	write(5)
	_, err = d.Open(filepath.Join(dir, "val.npz"), "val")
	mustSay(t, err, ErrDamaged, "val.npz", "5 images instead of 6")
	r, err := d.Verify(dir)
	if err != nil || r.OK() || !strings.Contains(r.String(), "MD5") {
		t.Errorf("%v\n%s", err, r)
	}
	// In the folder of the data set, where opening finds it, verifying does, too.
	nested := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(nested, d.Dir), 0o777), os.Rename(filepath.Join(dir, "val.npz"), filepath.Join(nested, d.Dir, "val.npz"))); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Verify(nested); err != nil || r.OK() || !strings.Contains(r.String(), "MD5") {
		t.Errorf("%v\n%s", err, r)
	}
}

func FuzzNPZ(f *testing.F) {
	for _, file := range []string{"six.npz", "six-compressed.npz"} {
		content := fixture(file)
		f.Add(content)
	}
	f.Add(npzOf(f, map[string][]byte{"image": array("|u1", "1, 4, 5, 3", make([]byte, 60)), "label": array(">u8", "1,", make([]byte, 8))}))
	f.Add(npzOf(f, map[string][]byte{"image": array("|u1", "1, 4, 5, 3", nil), "label": array("<i16", "0,", nil)}))
	f.Fuzz(func(t *testing.T, content []byte) {
		set, err := parseNPZ(bytes.NewReader(content), int64(len(content)), &Set{Classes: []string{"a", "b", "c"}, H: 4, W: 5})
		if err == nil && (len(set.Pixels) != set.Len()*60 || set.Digest != set.digest()) {
			t.Errorf("%d images, %d bytes", set.Len(), len(set.Pixels))
		}
	})
}

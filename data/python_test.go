package data

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pickle2 writes a dict the way Python 2 wrote CIFAR's: protocol 2, byte strings, every value remembered.
type pickle2 struct {
	bytes.Buffer
	memo int
}

func (p *pickle2) put() { p.WriteByte('q'); p.WriteByte(byte(p.memo)); p.memo++ }

func (p *pickle2) text(s string) {
	if len(s) < 256 {
		p.WriteString("U" + string([]byte{byte(len(s))}) + s)
	} else {
		p.WriteByte('T')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
		p.WriteString(s)
	}
	p.put()
}

func (p *pickle2) number(n int) {
	switch {
	case n < 256:
		p.Write([]byte{'K', byte(n)})
	default:
		p.Write([]byte{'M', byte(n), byte(n >> 8)})
	}
}

// cifarPickle is a file of n images of rows bytes, with these labels under key.
func cifarPickle(key string, labels []int, row int, pixels []byte) []byte {
	p := &pickle2{}
	p.WriteString("\x80\x02}")
	p.put()
	p.WriteByte('(')
	p.text("batch_label")
	p.text("testing batch 1 of 1")
	p.text(key)
	p.WriteString("]")
	p.put()
	p.WriteByte('(')
	for _, y := range labels {
		p.number(y)
	}
	p.WriteByte('e')
	p.text("data")
	p.WriteString("cnumpy.core.multiarray\n_reconstruct\n")
	p.put()
	p.WriteString("cnumpy\nndarray\n")
	p.put()
	p.WriteString("K\x00\x85")
	p.put()
	p.text("b")
	p.WriteString("\x87")
	p.put()
	p.WriteByte('R')
	p.put()
	p.WriteString("(K\x01")
	p.number(len(labels))
	p.number(row)
	p.WriteString("\x86")
	p.put()
	p.WriteString("cnumpy\ndtype\n")
	p.put()
	p.text("u1")
	p.WriteString("K\x00K\x01\x87")
	p.put()
	p.WriteByte('R')
	p.put()
	p.WriteString("(K\x03")
	p.text("|")
	p.WriteString("NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t")
	p.put()
	p.WriteString("b\x89")
	p.text(string(pixels))
	p.WriteByte('t')
	p.put()
	p.WriteString("bu.")
	return p.Bytes()
}

// pythonTiny is tiny in the python form: the same images.
func pythonTiny(t testing.TB) (tiny, map[string][]byte) {
	t.Helper()
	d := newTiny(t)
	d.Python = &Python{Dir: "tiny-py", Labels: "labels", Archive: Archive{URL: "http://example.invalid/tiny-python.tar.gz"}}
	files := map[string][]byte{}
	for _, f := range d.Files {
		var labels []int
		var pixels []byte
		for k := range d.count(f) {
			record := d.content[f.Name][k*int(d.recordSize()):][:d.recordSize()]
			labels, pixels = append(labels, int(record[0])), append(pixels, record[1:]...)
		}
		name := strings.TrimSuffix(f.Name, ".bin")
		files[name] = cifarPickle("labels", labels, 192, pixels)
		sum := md5.Sum(files[name])
		d.Python.Files = append(d.Python.Files, File{Name: name, Split: f.Split, MD5: hex.EncodeToString(sum[:])})
	}
	return d, files
}

func TestPythonForm(t *testing.T) {
	d, files := pythonTiny(t)
	root := t.TempDir()
	dir := filepath.Join(root, "folder", "tiny-py")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	members := []member{}
	for name, content := range files {
		members = append(members, member{name: "tiny-py/" + name, content: content})
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(root, "tiny-python.tar.gz")
	packed := tarGz(t, members...)
	if err := os.WriteFile(archive, packed, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := md5.Sum(packed)
	d.Python.Archive.Size, d.Python.Archive.MD5 = int64(len(packed)), hex.EncodeToString(sum[:])
	for _, where := range []string{archive, dir, filepath.Dir(dir)} {
		for _, split := range []string{"train", "test"} {
			set, err := d.Open(where, split)
			if err != nil {
				t.Fatal(err)
			}
			checkTiny(t, d, set, split)
		}
		if r, err := d.Verify(where); err != nil || !r.OK() {
			t.Errorf("%v\n%s", err, r)
		}
	}
	for where, want := range map[string]string{root: archive, filepath.Dir(dir): filepath.Dir(dir)} {
		if got, err := d.in(where); err != nil || got != want {
			t.Errorf("found at %s, %v", got, err)
		}
	}
	// Where both forms are, the binary one is read.
	if err := os.CopyFS(filepath.Dir(dir), d.folder(d.Dir)); err != nil {
		t.Fatal(err)
	}
	if d.isPython(filepath.Dir(dir)) {
		t.Error("the binary form is passed over")
	}

	lacking := filepath.Join(t.TempDir(), "tiny-py")
	if err := os.Mkdir(lacking, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lacking, "a"), files["a"], 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := d.Open(lacking, "train")
	mustSay(t, err, ErrNotFound, "b: not found", "carso data get tiny")
	for name, c := range map[string]struct {
		content []byte
		say     string
	}{
		"truncated": {files["b"][:300], "truncated at byte 300"},
		"empty":     {nil, "is empty"},
		"HTML":      {[]byte("<html>"), "HTML page"},
		"label":     {cifarPickle("labels", []int{3}, 192, make([]byte, 192)), "label 3 for image 0"},
		"shape":     {cifarPickle("labels", []int{1}, 96, make([]byte, 96)), "shape [1 96]"},
		"count":     {cifarPickle("labels", []int{1}, 192, make([]byte, 192)), "21 images instead of 40"},
		"other key": {cifarPickle("fine_labels", []int{1}, 192, make([]byte, 192)), "lacks labels"},
		"code":      {[]byte("\x80\x02cos\nsystem\n(U\x02lstR."), `"os.system"`},
		"protocol":  {[]byte("\x80\x05\x95."), "protocol 5"},
		"object":    {[]byte("\x80\x02)\x81."), "instruction 0x81"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(lacking, "b"), c.content, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := d.Open(lacking, "train")
			mustSay(t, err, ErrDamaged, c.say, "carso data get tiny", lacking)
		})
	}
}

// *.pickle were written by Python 3 and NumPy: three images of 2x2 whose bytes are 7k modulo 256, labels 1 0 2; one array in Fortran's order.
func TestNumPyPickles(t *testing.T) {
	d := Dataset{Name: "three", H: 2, W: 2, Classes: []string{"a", "b", "c"}, Python: &Python{Labels: "fine_labels"}}
	for _, name := range []string{"protocol3", "fortran"} {
		content := fixture(name + ".pickle")
		set, err := d.parsePickle(content)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(set.Labels) != "[1 0 2]" {
			t.Errorf("labels %v", set.Labels)
		}
		for i := range 3 {
			for k := range 4 {
				for c := range 3 {
					if got, want := set.Image(i)[3*k+c], byte(7*(12*i+4*c+k)); got != want {
						t.Errorf("%s image %d, pixel %d, channel %d: %d, want %d", name, i, k, c, got, want)
					}
				}
			}
		}
	}
}

func FuzzPickle(f *testing.F) {
	d := Dataset{Name: "three", H: 2, W: 2, Classes: []string{"a", "b", "c"}, Python: &Python{Labels: "fine_labels"}}
	for _, name := range []string{"protocol3", "fortran"} {
		content := fixture(name + ".pickle")
		f.Add(content)
	}
	f.Add(cifarPickle("fine_labels", []int{2, 1}, 12, make([]byte, 24)))
	f.Add([]byte("\x80\x02]q\x00h\x00a(u."))
	f.Add([]byte("\x80\x02cos\nsystem\n(U\x02lstR."))
	f.Fuzz(func(t *testing.T, content []byte) {
		set, err := d.parsePickle(content)
		if err == nil && len(set.Pixels) != 12*set.Len() {
			t.Errorf("%d images, %d bytes", set.Len(), len(set.Pixels))
		}
	})
}

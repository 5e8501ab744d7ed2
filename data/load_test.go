package data

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// mustSay checks that an error is there, wraps want and says all of the fragments.
func mustSay(t *testing.T, err, want error, fragments ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("error %q does not wrap %q", err, want)
	}
	for _, f := range fragments {
		if !strings.Contains(err.Error(), f) {
			t.Errorf("error %q does not say %q", err, f)
		}
	}
}

// checkTiny compares a loaded split with the official bytes it came from, pixel by pixel.
func checkTiny(t *testing.T, d tiny, set *Set, split string) {
	t.Helper()
	i := 0
	for _, f := range d.Files {
		if f.Split != split {
			continue
		}
		for k := range d.count(f) {
			record := d.content[f.Name][k*int(d.recordSize()):][:d.recordSize()]
			if set.Labels[i] != int32(record[0]) {
				t.Fatalf("image %d: label %d, want %d", i, set.Labels[i], record[0])
			}
			for y := range d.H {
				for x := range d.W {
					for c := range 3 {
						if got, want := set.Image(i)[(y*d.W+x)*3+c], record[1+c*d.H*d.W+y*d.W+x]; got != want {
							t.Fatalf("image %d, row %d, column %d, channel %d: %d, want %d", i, y, x, c, got, want)
						}
					}
				}
			}
			i++
		}
	}
	if set.Len() != i || set.Name != d.Name || set.Split != split || set.Digest != set.digest() {
		t.Errorf("set %s %s of %d images, want %s %s of %d", set.Name, set.Split, set.Len(), d.Name, split, i)
	}
}

func TestLoadAndOpen(t *testing.T) {
	d := newTiny(t)
	root := t.TempDir()
	archive := filepath.Join(root, "tiny.tar.gz")
	if err := os.WriteFile(archive, d.archive(t), 0o644); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "folder")
	if err := os.CopyFS(folder, d.folder(d.Dir)); err != nil {
		t.Fatal(err)
	}
	for split, n := range map[string]int{"train": 40, "test": 20} {
		for _, dir := range []string{".", d.Dir} {
			set, err := d.Load(d.folder(dir), split)
			if err != nil {
				t.Fatal(err)
			}
			if set.Len() != n {
				t.Errorf("%d images", set.Len())
			}
			checkTiny(t, d, set, split)
		}
		for _, path := range []string{archive, folder, filepath.Join(folder, d.Dir)} {
			set, err := d.Open(path, split)
			if err != nil {
				t.Fatal(err)
			}
			checkTiny(t, d, set, split)
		}
	}
	_, err := d.Load(d.folder("."), "validation")
	mustSay(t, err, nil, `"validation"`, "train, test")
	_, err = d.Open(filepath.Join(root, "nothing"), "test")
	mustSay(t, err, ErrNotFound, "nothing", "carso data get tiny")
}

// A CIFAR-10 test batch of known content: record k is of class k mod 10 and its byte j is k+j.
func TestLoadCIFAR10Layout(t *testing.T) {
	batch := make([]byte, 0, 30_730_000)
	for k := range 10_000 {
		batch = append(batch, byte(k%10))
		for j := range 3072 {
			batch = append(batch, byte(k+j))
		}
	}
	set, err := LoadCIFAR10(fstest.MapFS{"cifar-10-batches-bin/test_batch.bin": {Data: batch}}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if set.Len() != 10_000 || set.H != 32 || set.W != 32 || len(set.Classes) != 10 || set.Official() {
		t.Fatalf("%d images of %dx%d, official %v", set.Len(), set.H, set.W, set.Official())
	}
	const k, y, x = 4711, 5, 30
	if set.Labels[k] != 1 {
		t.Errorf("label %d", set.Labels[k])
	}
	for c, got := range set.Image(k)[(y*32+x)*3:][:3] {
		if want := byte((k + c*1024 + y*32 + x) % 256); got != want {
			t.Errorf("channel %d: %d, want %d", c, got, want)
		}
	}
}

func TestOfficialDigests(t *testing.T) {
	for split, n := range map[string]int{"train": 50_000, "test": 10_000} {
		set := fullSet(t, split)
		if set.Len() != n || !set.Official() {
			t.Errorf("%s: %d images with digest %s", split, set.Len(), set.Digest)
		}
		head, err := set.Head(100)
		if err != nil || head.Official() {
			t.Errorf("a part of %s passes for the whole (%v)", split, err)
		}
		c100, err := Lookup("cifar100")
		if err != nil {
			t.Fatal(err)
		}
		set, err = c100.Open(os.Getenv("CARSO_DATA"), split)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil || set.Len() != n || !set.Official() {
			t.Errorf("CIFAR-100, %s: %v", split, err)
		}
	}
}

func TestDamagedFiles(t *testing.T) {
	d := newTiny(t)
	good := d.content["test.bin"]
	size := d.recordSize()
	badLabel := func(k int, label byte) []byte {
		b := bytes.Clone(good)
		b[int64(k)*size] = label
		return b
	}
	page := []byte("\n <!DOCTYPE HTML><html><body>Log in first</body></html>")
	for name, c := range map[string]struct {
		content []byte
		say     []string
	}{
		"empty":           {nil, []string{"is empty"}},
		"cut in a record": {good[:7*size+50], []string{"truncated in record 7", "1401 bytes instead of 3860"}},
		"cut at a record": {good[:7*size], []string{"truncated in record 7"}},
		"too long":        {append(bytes.Clone(good), 0), []string{"too long", "3861 bytes instead of 3860"}},
		"HTML":            {page, []string{"HTML page"}},
		"HTML, padded":    {append(page, make([]byte, len(good)-len(page))...), []string{"HTML page"}},
		"packed":          {gz(t, good), []string{"gzip archive"}},
		"label 255":       {badLabel(3, 255), []string{"record 3", "offset 579", "label 255", "0..2"}},
		"label 3":         {badLabel(0, 3), []string{"record 0", "offset 0", "label 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := d.folder(d.Dir)
			fsys[d.Dir+"/test.bin"] = &fstest.MapFile{Data: c.content}
			_, err := d.Load(fsys, "test")
			mustSay(t, err, ErrDamaged, append(c.say, "tiny-bin/test.bin", "carso data get tiny")...)
			if _, err := d.Load(fsys, "train"); err != nil {
				t.Errorf("the other split: %v", err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		fsys := d.folder(d.Dir)
		delete(fsys, d.Dir+"/b.bin")
		_, err := d.Load(fsys, "train")
		mustSay(t, err, ErrNotFound, "tiny-bin/b.bin", "carso data get tiny")
	})
	t.Run("folder", func(t *testing.T) {
		fsys := d.folder(".")
		fsys["test.bin"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
		_, err := d.Load(fsys, "test")
		mustSay(t, err, ErrDamaged, "test.bin", "is a folder where a file should be", "carso data get tiny")
	})
}

func TestDamagedArchives(t *testing.T) {
	d := newTiny(t)
	official := officialMembers(d.Dataset, d.content)
	packed := d.archive(t)
	with := func(m ...member) []byte { return tarGz(t, append(slices.Clone(official), m...)...) }
	replaced := func(name string, content []byte) []byte {
		c := maps.Clone(d.content)
		c[name] = content
		return tarGz(t, officialMembers(d.Dataset, c)...)
	}
	// Archives whose header promises far more than there is.
	huge := func(name string) []byte {
		var out bytes.Buffer
		if err := tar.NewWriter(&out).WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 1 << 40, Format: tar.FormatGNU}); err != nil {
			t.Fatal(err)
		}
		return gz(t, out.Bytes())
	}
	badSum := bytes.Clone(packed)
	badSum[len(badSum)-8] ^= 1
	badLabel := bytes.Clone(d.content["test.bin"])
	badLabel[0] = 255
	for name, c := range map[string]struct {
		archive []byte
		say     []string
	}{
		"empty":              {nil, []string{"is empty"}},
		"HTML":               {[]byte("<html>not found</html>"), []string{"HTML page, not an archive"}},
		"not gzip":           {[]byte("PK\x03\x04 a zip"), []string{"not a gzip archive", `"PK`}},
		"gzip header only":   {packed[:5], []string{"gzip header", "unexpected EOF"}},
		"gzip truncated":     {packed[:len(packed)/2], []string{"unexpected EOF"}},
		"checksum cut off":   {packed[:len(packed)-8], []string{"unexpected EOF"}},
		"wrong checksum":     {badSum, []string{"checksum"}},
		"not tar":            {gz(t, bytes.Repeat([]byte("x"), 2048)), []string{"invalid tar header"}},
		"missing member":     {tarGz(t, official[:len(official)-1]...), []string{"lacks test.bin"}},
		"no member":          {tarGz(t), []string{"lacks a.bin, b.bin, test.bin"}},
		"duplicate":          {with(member{name: d.Dir + "/test.bin", content: d.content["test.bin"]}), []string{"comes twice"}},
		"duplicate at root":  {with(member{name: "./test.bin", content: d.content["test.bin"]}), []string{"comes twice"}},
		"traversal":          {with(member{name: "../../evil"}), []string{`"../../evil" leads outside`}},
		"inner traversal":    {with(member{name: "x/../../evil"}), []string{"leads outside"}},
		"absolute":           {with(member{name: "/etc/evil"}), []string{"leads outside"}},
		"backslash":          {with(member{name: `..\evil`}), []string{"leads outside"}},
		"symbolic link":      {with(member{name: "link", kind: tar.TypeSymlink}), []string{"link is a link"}},
		"hard link":          {with(member{name: "link", kind: tar.TypeLink}), []string{"link is a link"}},
		"folder for a file":  {tarGz(t, append(slices.Clone(official[:4]), member{name: d.Dir + "/test.bin/", kind: tar.TypeDir})...), []string{"lacks test.bin"}},
		"huge member":        {huge("readme"), []string{"readme declares 1099511627776 bytes"}},
		"huge file":          {huge("test.bin"), []string{"test.bin declares 1099511627776 bytes"}},
		"bomb of members":    {with(member{name: "zeros", content: make([]byte, d.unpackedLimit()-20000)}, member{name: "more", content: make([]byte, 1<<15)}), []string{"more declares 32768 bytes"}},
		"bomb after the end": {gz(t, append(tarBytes(t, official...), make([]byte, d.unpackedLimit())...)), []string{"unpacks to more than"}},
		"truncated member":   {replaced("test.bin", d.content["test.bin"][:100]), []string{"test.bin", "truncated in record 0"}},
		"label":              {replaced("test.bin", badLabel), []string{"tiny-bin/test.bin", "record 0", "label 255"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tiny.tar.gz")
			if err := os.WriteFile(path, c.archive, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := d.Open(path, "test")
			mustSay(t, err, ErrDamaged, append(c.say, path, "carso data get tiny")...)
		})
	}
}

// Whatever the bytes of a batch: an error of ours, or a set that holds exactly them.
func FuzzBatch(f *testing.F) {
	d := newTiny(f)
	good := d.content["test.bin"]
	f.Add(good)
	f.Add(good[:500])
	f.Add([]byte{})
	f.Add([]byte("<!doctype html><title>404</title>"))
	f.Add(gz(f, good))
	f.Add(bytes.Repeat([]byte{255}, len(good)))
	f.Add(bytes.Repeat([]byte{2}, len(good)))
	f.Fuzz(func(t *testing.T, batch []byte) {
		d := tiny{d.Dataset, map[string][]byte{"test.bin": batch}}
		set, err := d.Load(fstest.MapFS{"test.bin": {Data: batch}}, "test")
		if err != nil {
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "test.bin") {
				t.Errorf("error %v", err)
			}
			return
		}
		for i, y := range set.Labels {
			if y < 0 || y > 2 {
				t.Errorf("image %d: label %d", i, y)
			}
		}
		d.Files = d.Files[2:]
		checkTiny(t, d, set, "test")
	})
}

// Whatever the bytes of an archive, packed by us or not: an error of ours that names it, or a whole split.
func FuzzArchive(f *testing.F) {
	d := newTiny(f)
	official := officialMembers(d.Dataset, d.content)
	for _, tarball := range [][]byte{
		tarBytes(f, official...),
		tarBytes(f, official[1:3]...),
		tarBytes(f, append(official, official[2])...),
		tarBytes(f, member{name: "../x", content: []byte("x")}, member{name: "l", kind: tar.TypeSymlink}),
		bytes.Repeat([]byte{0}, 1024),
		[]byte("<html>"),
		nil,
	} {
		f.Add(tarball, true)
		f.Add(gz(f, tarball), false)
		f.Add(gz(f, tarball)[:20], false)
	}
	f.Fuzz(func(t *testing.T, content []byte, pack bool) {
		if pack {
			content = gz(t, content)
		}
		files, err := d.files("test")
		if err != nil {
			t.Fatal(err)
		}
		b := d.builder(files)
		if err := d.walkArchive("the archive", bytes.NewReader(content), b.add); err != nil {
			if !errors.Is(err, ErrDamaged) || !strings.HasPrefix(err.Error(), "the archive") {
				t.Errorf("error %v", err)
			}
			return
		}
		if set := b.finish("test"); set.Len() != 20 {
			t.Errorf("%d images", set.Len())
		}
	})
}

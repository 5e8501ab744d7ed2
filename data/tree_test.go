package data

import (
	"archive/zip"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// smallTree is a data set of TinyImageNet-200's layout: 8x8 images of three classes, twelve training images and two validation images of each.
func smallTree() Dataset {
	return Dataset{Name: "trees", Title: "Trees", H: 8, W: 8, Dir: "trees-3", Evaluation: "val",
		Tree: &Tree{Classes: 3, PerClass: map[string]int{"train": 12, "val": 2},
			Repacked: map[string]File{"train": {Name: "train.npz"}, "val": {Name: "val.npz"}}},
		Archive: Archive{URL: "http://example.invalid/trees.zip"}}
}

// flat is a JPEG of one grey level, which JPEG keeps exactly; in one channel or in three.
func flat(t testing.TB, size int, level byte, channels int) []byte {
	t.Helper()
	var img image.Image
	if channels == 1 {
		g := image.NewGray(image.Rect(0, 0, size, size))
		for i := range g.Pix {
			g.Pix[i] = level
		}
		img = g
	} else {
		c := image.NewRGBA(image.Rect(0, 0, size, size))
		for i := range c.Pix {
			c.Pix[i] = level
		}
		for i := 3; i < len(c.Pix); i += 4 {
			c.Pix[i] = 255
		}
		img = c
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, &jpeg.Options{Quality: 100}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// treeFiles are the files of smallTree under dir. Image k of class c has the grey level 20c+k in training and 100+20c+k in validation; every third
// image has one channel. wnids.txt is not sorted, has Windows' line ends, and words.txt knows more than is needed.
func treeFiles(t testing.TB, dir string) fstest.MapFS {
	t.Helper()
	fsys := fstest.MapFS{}
	add := func(name string, content []byte) {
		fsys[strings.TrimPrefix(dir+"/"+name, "./")] = &fstest.MapFile{Data: content}
	}
	ids := []string{"n01", "n02", "n03"}
	add("wnids.txt", []byte("n03\r\nn01\r\nn02 \r\n"))
	add("words.txt", []byte("n00\tentity\nn01\tgoldfish, Carassius auratus\nn03\tbullfrog\n"))
	for c, id := range ids {
		for k := range 12 {
			channels := 3
			if k%3 == 0 {
				channels = 1
			}
			add(fmt.Sprintf("train/%s/images/%s_%d.JPEG", id, id, k), flat(t, 8, byte(20*c+k), channels))
		}
		add("train/"+id+"/"+id+"_boxes.txt", []byte("x"))
	}
	var list strings.Builder
	for k := range 6 {
		c := (k + 1) % 3
		add(fmt.Sprintf("val/images/val_%d.JPEG", k), flat(t, 8, byte(100+20*c+k), 3))
		fmt.Fprintf(&list, "val_%d.JPEG\t%s\t0\t1\t2\t3\n", k, ids[c])
	}
	add("val/val_annotations.txt", []byte(list.String()))
	return fsys
}

func zipOf(t testing.TB, fsys fstest.MapFS) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(fsys)) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(fsys[name].Mode | 0o644)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(fsys[name].Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func checkTree(t *testing.T, set *Set) {
	t.Helper()
	if set.Name != "trees" || set.H != 8 || set.W != 8 || !slices.Equal(set.Classes, []string{"goldfish", "n02", "bullfrog"}) || set.Digest != set.digest() {
		t.Fatalf("%s of %dx%d, classes %q, digest %s", set.Name, set.H, set.W, set.Classes, set.Digest)
	}
	want := func(i int) (label int32, level byte) { return int32(i / 12), byte(20*(i/12) + i%12) }
	n := 36
	if set.Split == "val" {
		n = 6
		want = func(i int) (int32, byte) { c := (i + 1) % 3; return int32(c), byte(100 + 20*c + i) }
	}
	if set.Len() != n {
		t.Fatalf("%d images", set.Len())
	}
	for i := range n {
		label, level := want(i)
		if set.Labels[i] != label || !bytes.Equal(set.Image(i), bytes.Repeat([]byte{level}, 192)) {
			t.Errorf("%s image %d: label %d, pixels %v...; want %d and %d", set.Split, i, set.Labels[i], set.Image(i)[:6], label, level)
		}
	}
}

func TestTree(t *testing.T) {
	d := smallTree()
	root := t.TempDir()
	archive := filepath.Join(root, "trees.zip")
	if err := os.WriteFile(archive, zipOf(t, treeFiles(t, d.Dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "folder")
	if err := os.CopyFS(folder, treeFiles(t, d.Dir)); err != nil {
		t.Fatal(err)
	}
	for split := range d.Tree.PerClass {
		for _, dir := range []string{".", d.Dir} {
			set, err := d.Load(treeFiles(t, dir), split)
			if err != nil {
				t.Fatal(err)
			}
			checkTree(t, set)
		}
		for _, where := range []string{archive, folder, filepath.Join(folder, d.Dir)} {
			for range 2 { // decoded, then from the cache
				set, err := d.Open(where, split)
				if err != nil {
					t.Fatal(err)
				}
				checkTree(t, set)
			}
		}
		if !exists(archive+"."+split+cacheExt) || !exists(filepath.Join(folder, d.Dir, "carso-"+split+cacheExt)) {
			t.Error("no cache")
		}
	}
	_, err := d.Load(treeFiles(t, "."), "test")
	mustSay(t, err, nil, `"test"`, "train and val")
	for where, want := range map[string]string{root: archive, folder: folder, archive: archive} {
		if got, err := d.in(where); err != nil || got != want {
			t.Errorf("%s is in %s: %s, %v", d.Name, where, got, err)
		}
	}
	_, err = d.in(t.TempDir())
	mustSay(t, err, ErrNotFound, "trees.zip", "carso data get trees")
}

// A cache is used only while its source and itself are what they were.
func TestTreeCache(t *testing.T) {
	d := smallTree()
	root := t.TempDir()
	if err := os.CopyFS(root, treeFiles(t, ".")); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(root, "carso-val"+cacheExt)
	open := func() *Set {
		t.Helper()
		set, err := d.Open(root, "val")
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	open()
	good, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	// That the cache is used shows by a cache of other pixels and a digest of them.
	other := open()
	fake := *other
	fake.Pixels = make([]byte, len(other.Pixels))
	fake.Digest = fake.digest()
	var header struct{ Source string }
	stampOf(t, good, &header.Source)
	if err := writeCache(cache, header.Source, &fake); err != nil {
		t.Fatal(err)
	}
	if set := open(); set.Digest != fake.Digest {
		t.Error("the cache is not used")
	}
	for name, content := range map[string][]byte{
		"flipped":   append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"truncated": good[:len(good)-7],
		"too long":  append(bytes.Clone(good), 0),
		"empty":     {},
		"no header": []byte(cacheMagic),
	} {
		if err := os.WriteFile(cache, content, 0o644); err != nil {
			t.Fatal(err)
		}
		checkTree(t, open())
		if now, err := os.ReadFile(cache); err != nil || !bytes.Equal(now, good) {
			t.Errorf("%s: the cache was not made anew: %v", name, err)
		}
	}
	changed := filepath.Join(root, "val", "images", "val_3.JPEG")
	if err := os.WriteFile(changed, flat(t, 8, 250, 3), 0o644); err != nil {
		t.Fatal(err)
	}
	if set := open(); set.Image(3)[0] != 250 {
		t.Error("a cache of other images was used")
	}
	// Where nothing can be written, the data is read all the same.
	if err := os.Remove(cache); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	open()
}

func stampOf(t *testing.T, cache []byte, stamp *string) {
	t.Helper()
	_, after, ok := strings.Cut(string(cache), `"Source":"`)
	if !ok {
		t.Fatal("no source in the cache")
	}
	*stamp, _, _ = strings.Cut(after, `"`)
}

func TestDamagedTrees(t *testing.T) {
	d := smallTree()
	page := []byte("<!DOCTYPE html><html>Log in first</html>")
	whole := flat(t, 8, 90, 3)
	var rgba, deep bytes.Buffer
	see := image.NewNRGBA(image.Rect(0, 0, 8, 8))
	if err := errors.Join(png.Encode(&rgba, see), png.Encode(&deep, image.NewGray16(see.Rect))); err != nil {
		t.Fatal(err)
	}
	const one = "val/images/val_2.JPEG"
	replace := func(name string, content []byte) func(fstest.MapFS) {
		return func(f fstest.MapFS) { f[name] = &fstest.MapFile{Data: content} }
	}
	remove := func(name string) func(fstest.MapFS) { return func(f fstest.MapFS) { delete(f, name) } }
	edit := func(name, old, new string) func(fstest.MapFS) {
		return func(f fstest.MapFS) {
			if text := string(f[name].Data); !strings.Contains(text, old) {
				t.Fatalf("%s lacks %q", name, old)
			} else {
				f[name] = &fstest.MapFile{Data: []byte(strings.Replace(text, old, new, 1))}
			}
		}
	}
	const list = "val/val_annotations.txt"
	for name, c := range map[string]struct {
		split  string
		damage func(fstest.MapFS)
		want   error
		say    []string
	}{
		"empty image":           {"val", replace(one, nil), ErrDamaged, []string{one, "is empty"}},
		"cut image":             {"val", replace(one, whole[:len(whole)/2]), ErrDamaged, []string{one, "truncated or damaged"}},
		"HTML image":            {"val", replace(one, page), ErrDamaged, []string{one, "neither JPEG nor PNG", "<!DOCTYP"}},
		"large image":           {"val", replace(one, flat(t, 9, 1, 3)), ErrDamaged, []string{one, "9 pixels high and 9 wide instead of 8 and 8"}},
		"transparent":           {"val", replace(one, rgba.Bytes()), ErrDamaged, []string{one, "transparent"}},
		"16 bits":               {"val", replace(one, deep.Bytes()), ErrDamaged, []string{one, "16 bits"}},
		"huge image file":       {"val", replace(one, make([]byte, maxImage+1)), ErrDamaged, []string{one, "1048577 bytes"}},
		"missing image":         {"val", remove(one), ErrNotFound, []string{one, "val_annotations.txt lists it"}},
		"no annotations":        {"val", remove(list), ErrNotFound, []string{list}},
		"HTML annotations":      {"val", replace(list, page), ErrDamaged, []string{list, "HTML"}},
		"image not annotated":   {"val", edit(list, "val_2.JPEG\tn01\t0\t1\t2\t3\n", ""), ErrDamaged, []string{list, "lacks val_2.JPEG"}},
		"annotated twice":       {"val", edit(list, "val_3.JPEG", "val_2.JPEG"), ErrDamaged, []string{list, "line 4", "val_2.JPEG comes twice"}},
		"unknown class":         {"val", edit(list, "val_1.JPEG\tn03", "val_1.JPEG\tn09"), ErrDamaged, []string{list, "line 2", `"n09"`}},
		"half a line":           {"val", edit(list, "val_1.JPEG\tn03\t0\t1\t2\t3", "val_1.JPEG"), ErrDamaged, []string{list, "line 2", "val_1.JPEG"}},
		"annotation traversal":  {"val", edit(list, "val_1.JPEG", "../val_1.JPEG"), ErrDamaged, []string{list, "line 2"}},
		"wrong count of val":    {"val", edit(list, "val_1.JPEG\tn03", "val_1.JPEG\tn01"), ErrDamaged, []string{"n01", "goldfish", "3 images instead of 2"}},
		"wrong count of train":  {"train", remove("train/n02/images/n02_7.JPEG"), ErrDamaged, []string{"train", "n02", "11 images instead of 12"}},
		"unknown class folder":  {"train", replace("train/n04/images/n04_0.JPEG", whole), ErrDamaged, []string{"train/n04", "wnids.txt"}},
		"no ids":                {"train", remove("wnids.txt"), ErrNotFound, []string{"wnids.txt"}},
		"ids cut short":         {"train", replace("wnids.txt", []byte("n01\nn02\n")), ErrDamaged, []string{"wnids.txt", "lists 2 ids"}},
		"id twice":              {"val", replace("wnids.txt", []byte("n01\nn02\nn02\n")), ErrDamaged, []string{"wnids.txt", "lists 3 ids, 2 of them different, instead of 3"}},
		"id that is a path":     {"train", replace("wnids.txt", []byte("n01\nn02\n../n03\n")), ErrDamaged, []string{"wnids.txt", `"../n03"`}},
		"folder where an image": {"val", func(f fstest.MapFS) { f[one] = &fstest.MapFile{Mode: fs.ModeDir | 0o755} }, ErrNotFound, []string{one}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := treeFiles(t, ".")
			c.damage(fsys)
			_, err := d.Load(fsys, c.split)
			mustSay(t, err, c.want, append(c.say, "carso data get trees", "load trees "+c.split)...)
		})
	}
}

func TestDamagedZips(t *testing.T) {
	d := smallTree()
	good := zipOf(t, treeFiles(t, d.Dir))
	with := func(name string, mode fs.FileMode) []byte {
		fsys := treeFiles(t, d.Dir)
		fsys[name] = &fstest.MapFile{Data: []byte("x"), Mode: mode}
		return zipOf(t, fsys)
	}
	for name, c := range map[string]struct {
		archive []byte
		say     []string
	}{
		"empty":     {nil, []string{"is empty"}},
		"HTML":      {[]byte("<html>not found</html>"), []string{"HTML page, not an archive"}},
		"gzip":      {gz(t, good), []string{"not a zip archive"}},
		"truncated": {good[:len(good)/2], []string{"truncated or damaged"}},
		"traversal": {with("../../evil", 0), []string{`"../../evil" leads outside`}},
		"absolute":  {with("/etc/evil", 0), []string{"leads outside"}},
		"backslash": {with(`..\evil`, 0), []string{"leads outside"}},
		"link":      {with("trees-3/link", fs.ModeSymlink), []string{"link is a link"}},
		"twice":     {with("wnids.txt", 0), []string{"wnids.txt comes twice"}},
		"no tree":   {zipOf(t, fstest.MapFS{"readme": {Data: []byte("x")}}), []string{"wnids.txt"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "trees.zip")
			if err := os.WriteFile(file, c.archive, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := d.Open(file, "val")
			mustSay(t, err, nil, append(c.say, file, "carso data get trees")...)
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) {
				t.Errorf("%v", err)
			}
		})
	}
	// A member whose bytes changed fails its checksum.
	flipped := bytes.Clone(good)
	at := bytes.Index(flipped, []byte("trees-3/val/images/val_2.JPEG")) + 29 + 40
	flipped[at] ^= 0x55
	file := filepath.Join(t.TempDir(), "trees.zip")
	if err := os.WriteFile(file, flipped, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := d.Open(file, "val")
	mustSay(t, err, ErrDamaged, "val_2.JPEG", "carso data get trees")
}

func TestVerifyTree(t *testing.T) {
	d := smallTree()
	root := t.TempDir()
	if err := os.CopyFS(root, treeFiles(t, d.Dir)); err != nil {
		t.Fatal(err)
	}
	r, err := d.Verify(root)
	if err != nil || !r.OK() || len(r.Files) != 2 || !strings.Contains(r.String(), "36 images") {
		t.Errorf("%v\n%s", err, r)
	}
	if err := os.Remove(filepath.Join(root, d.Dir, "val", "images", "val_0.JPEG")); err != nil {
		t.Fatal(err)
	}
	r, err = d.Verify(root)
	if err != nil || r.OK() || r.Files[0].Problem != "" || !strings.Contains(r.Files[1].Problem, "val_0.JPEG") {
		t.Errorf("%v\n%s", err, r)
	}
	archive := filepath.Join(root, "trees.zip")
	if err := os.WriteFile(archive, []byte("PK"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err = d.Verify(archive)
	if err != nil || r.OK() || !strings.Contains(r.String(), "BAD") || !strings.Contains(r.String(), "carso data get trees") {
		t.Errorf("%v\n%s", err, r)
	}
}

// The real sample has four training and two validation images of each class. Levels and counts were read off it with libjpeg, through Pillow.
func TestTreeRealSample(t *testing.T) {
	fsys := realSample(t, "tiny-imagenet-200-sample")
	d, err := Lookup("tinyimagenet")
	if err != nil {
		t.Fatal(err)
	}
	tree := *d.Tree
	d.Tree, tree.PerClass = &tree, map[string]int{"train": 4, "val": 2}
	for split, want := range map[string]struct{ n, grey int }{"train": {800, 15}, "val": {400, 13}} {
		set, err := d.Load(fsys, split)
		if err != nil {
			t.Fatal(err)
		}
		if set.Len() != want.n || set.H != 64 || len(set.Classes) != 200 || set.Classes[0] != "goldfish" {
			t.Fatalf("%d images, classes %.40q", set.Len(), set.Classes)
		}
		grey := 0
		for i := range set.Len() {
			isGrey := true
			for p := range slices.Chunk(set.Image(i), 3) {
				isGrey = isGrey && p[0] == p[1] && p[1] == p[2]
			}
			if isGrey {
				grey++
			}
		}
		t.Logf("%s: %d grey, digest %s", split, grey, set.Digest)
		if grey != want.grey {
			t.Errorf("%s: %d grey images instead of %d", split, grey, want.grey)
		}
		counts := make([]int, 200)
		for _, y := range set.Labels {
			counts[y]++
		}
		if slices.Min(counts) != want.n/200 || slices.Max(counts) != want.n/200 {
			t.Errorf("images of each class: %v", counts)
		}
	}
}

func FuzzImage(f *testing.F) {
	for _, c := range []int{1, 3} {
		f.Add(flat(f, 8, 77, c))
	}
	var out bytes.Buffer
	img := image.NewPaletted(image.Rect(0, 0, 8, 8), color.Palette{color.Gray{0}, color.RGBA{9, 8, 7, 255}})
	img.Pix[3] = 1
	if err := png.Encode(&out, img); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte("\xff\xd8\xff"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		a, b := make([]byte, 192), make([]byte, 192)
		if decodeImage(a, content, 8, 8) != nil {
			return
		}
		if err := decodeImage(b, content, 8, 8); err != nil || !bytes.Equal(a, b) {
			t.Errorf("not the same twice: %v", err)
		}
	})
}

// Whatever the lists say: an error that names a file, or every image once with the label of a class.
func FuzzTreeLists(f *testing.F) {
	d := smallTree()
	good := treeFiles(f, ".")
	f.Add(good["wnids.txt"].Data, good["words.txt"].Data, good["val/val_annotations.txt"].Data)
	f.Add([]byte("n01\nn02\nn03"), []byte("n01\t,\n\t\nn02"), []byte("val_0.JPEG n01\n../x n02"))
	f.Add([]byte("."), []byte{}, []byte("<html>"))
	f.Fuzz(func(t *testing.T, ids, words, list []byte) {
		fsys := maps.Clone(good)
		fsys["wnids.txt"], fsys["words.txt"] = &fstest.MapFile{Data: ids}, &fstest.MapFile{Data: words}
		fsys["val/val_annotations.txt"] = &fstest.MapFile{Data: list}
		s, err := folderSource(fsys, "wnids.txt", "words.txt", "val")
		if err != nil {
			t.Fatal(err)
		}
		l, err := d.Tree.locate(s, "val")
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) {
				t.Errorf("error %v", err)
			}
			return
		}
		if len(l.images) != 6 || len(l.labels) != 6 || len(l.classes) != 3 {
			t.Errorf("%+v", l)
		}
	})
}

func FuzzTreeZip(f *testing.F) {
	d := smallTree()
	f.Add(zipOf(f, fstest.MapFS{"trees-3/wnids.txt": {Data: []byte("n01\nn02\nn03\n")}, "trees-3/val/val_annotations.txt": {Data: []byte("a n01")}}))
	f.Add(zipOf(f, fstest.MapFS{"../x": {Data: []byte("x")}, "l": {Mode: fs.ModeSymlink}}))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		s, err := zipSource(r, d.Dir)
		if err != nil {
			return
		}
		for name := range s.files {
			if !fs.ValidPath(name) {
				t.Errorf("member %q", name)
			}
		}
		if set, err := d.decodeTree(s, "val", ""); err == nil && set.Len() != 6 {
			t.Errorf("%d images", set.Len())
		}
	})
}

func FuzzCache(f *testing.F) {
	file := filepath.Join(f.TempDir(), "x")
	set := (&Set{Name: "trees", Split: "val", Classes: []string{"a", "b"}, H: 2, W: 1}).empty(2)
	set.Labels[1], set.Pixels[3] = 1, 9
	set.Digest = set.digest()
	if err := writeCache(file, "stamp", set); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Add(bytes.Replace(good, []byte(`"N":2`), []byte(`"N":-2`), 1))
	f.Add(bytes.Replace(good, []byte(`"N":2`), []byte(`"N":922337203685477580`), 1))
	f.Fuzz(func(t *testing.T, content []byte) {
		if got := parseCache(content, "stamp", *set); got != nil && (got.digest() != got.Digest || got.H != 2 || len(got.Pixels) != 6*got.Len()) {
			t.Errorf("%+v", got)
		}
	})
}

func TestGetTree(t *testing.T) {
	d := smallTree()
	archive := zipOf(t, treeFiles(t, d.Dir))
	sum := md5.Sum(archive)
	d.Archive.Size, d.Archive.MD5 = int64(len(archive)), hex.EncodeToString(sum[:])
	check := func(dest string) {
		t.Helper()
		set, _, err := d.open(filepath.Join(dest, "trees.zip"), ".", "val")
		if err != nil {
			t.Fatal(err)
		}
		checkTree(t, set)
		if exists(d.part(dest)) {
			t.Error("the partial download stayed")
		}
	}
	s := serve(t, ranges(archive))
	dest := filepath.Join(t.TempDir(), "new")
	for range 2 {
		if err := d.Get(t.Context(), dest, GetOptions{URL: s.URL}); err != nil {
			t.Fatal(err)
		}
		check(dest)
	}
	if n := s.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	other := t.TempDir()
	if err := d.Get(t.Context(), other, GetOptions{From: filepath.Join(dest, "trees.zip")}); err != nil {
		t.Fatal(err)
	}
	check(other)
	// What is broken is neither taken nor left behind.
	page := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>Log in first</html>") })
	wrong := serve(t, ranges(append(bytes.Clone(archive[:len(archive)-1]), 1)))
	bad := t.TempDir()
	mustSay(t, d.Get(t.Context(), bad, GetOptions{URL: page.URL}), nil, "trees", bad)
	mustSay(t, d.Get(t.Context(), bad, GetOptions{URL: wrong.URL}), ErrDamaged, "MD5", d.Archive.MD5)
	mustSay(t, d.Get(t.Context(), bad, GetOptions{From: bad}), nil, "a folder is read where it is", Env)
	if left, err := os.ReadDir(bad); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

package data

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"
)

// smallCIFAR100 is CIFAR-100 with files of so many images, otherwise as in the catalogue.
func smallCIFAR100(t *testing.T, train, test int) Dataset {
	t.Helper()
	d, err := Lookup("cifar100")
	if err != nil {
		t.Fatal(err)
	}
	d.Files = []File{{"train.bin", "train", int64(train) * d.recordSize(), ""}, {"test.bin", "test", int64(test) * d.recordSize(), ""}}
	return d
}

func TestCIFAR100Catalogue(t *testing.T) {
	d, err := Lookup("cifar100")
	if err != nil {
		t.Fatal(err)
	}
	if d.recordSize() != 3074 || d.count(d.Files[0]) != 50_000 || d.count(d.Files[1]) != 10_000 || len(d.Classes) != 100 {
		t.Errorf("records of %d bytes, %d and %d images, %d classes", d.recordSize(), d.count(d.Files[0]), d.count(d.Files[1]), len(d.Classes))
	}
	for k := 1; k < len(d.Classes); k++ {
		if d.Classes[k-1] >= d.Classes[k] {
			t.Errorf("classes %q and %q are out of order", d.Classes[k-1], d.Classes[k])
		}
	}
}

// The second label byte counts; the first is the group of classes.
func TestCIFAR100Layout(t *testing.T) {
	d := smallCIFAR100(t, 3, 2)
	var file []byte
	for k, label := range []byte{99, 0} {
		file = append(file, 19, label)
		for j := range 3072 {
			file = append(file, byte(7*k+j))
		}
	}
	set, err := d.Load(fstest.MapFS{"cifar-100-binary/test.bin": {Data: file}}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if set.Labels[0] != 99 || set.Labels[1] != 0 || set.Classes[99] != "worm" {
		t.Errorf("labels %v", set.Labels)
	}
	const y, x = 9, 31
	for c, got := range set.Image(1)[(y*32+x)*3:][:3] {
		if want := byte((7 + c*1024 + y*32 + x) % 256); got != want {
			t.Errorf("channel %d: %d, want %d", c, got, want)
		}
	}
	file[3074+1] = 100
	_, err = d.Load(fstest.MapFS{"cifar-100-binary/test.bin": {Data: file}}, "test")
	mustSay(t, err, ErrDamaged, "test.bin", "record 1", "offset 3075", "label 100", "0..99", "carso data get cifar100")
}

// The sample holds five training and three test images of every class, classes interleaved.
func TestCIFAR100RealSample(t *testing.T) {
	fsys := realSample(t, "cifar-100-binary-sample")
	d := smallCIFAR100(t, 500, 300)
	names := strings.Fields(string(fsys["cifar-100-binary/fine_label_names.txt"].Data))
	for k, name := range names {
		if d.Classes[k] != name {
			t.Errorf("class %d is %s, in the file %s", k, d.Classes[k], name)
		}
	}
	for split, n := range map[string]int{"train": 500, "test": 300} {
		set, err := d.Load(fsys, split)
		if err != nil {
			t.Fatal(err)
		}
		if set.Len() != n || len(names) != 100 {
			t.Fatalf("%d images, %d names", set.Len(), len(names))
		}
		raw := fsys["cifar-100-binary/"+split+".bin"].Data
		for i, y := range set.Labels {
			if y != int32(i%100) {
				t.Fatalf("%s image %d has label %d", split, i, y)
			}
			chw := make([]byte, 0, 3072)
			for c := range 3 {
				for k := range 1024 {
					chw = append(chw, set.Image(i)[3*k+c])
				}
			}
			if !bytes.Equal(chw, raw[i*3074+2:(i+1)*3074]) {
				t.Fatalf("%s image %d differs from its record", split, i)
			}
		}
	}
}

func TestOpenTestAndTrain(t *testing.T) {
	t.Setenv(Env, "")
	root := t.TempDir()
	_, _, err := OpenTest("cifar100", "", root)
	mustSay(t, err, ErrNotFound, "cifar100", "carso data get cifar100")
	_, _, err = OpenTrain("cifar10", "", root)
	mustSay(t, err, ErrNotFound, "carso data get cifar10")
	_, _, err = OpenTest("mnist", "", root)
	mustSay(t, err, nil, `"mnist"`, "cifar100")
	set, _, err := OpenTest("cifar10", "", root)
	if err != nil || set.Digest != sampleDigest {
		t.Errorf("%v", err)
	}
	// What somebody names is never replaced by the sample.
	_, _, err = OpenTest("cifar10", root, root)
	mustSay(t, err, ErrNotFound, root)
}

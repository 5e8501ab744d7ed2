package eval

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"carsokit/carso/record"
	"carsokit/checkpoints"
)

// savedPoints reads all saved images of a folder by index, in both forms.
func savedPoints(t *testing.T, dir string) (points map[int][]float32, lattice map[int][]byte) {
	t.Helper()
	points, lattice = map[int][]float32{}, map[int][]byte{}
	all, err := readManifests(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		for _, file := range m.Files {
			f, err := checkpoints.Open(filepath.Join(dir, file.File))
			if err != nil {
				t.Fatal(err)
			}
			x, shape, err := f.Float32s("float32")
			if err != nil {
				t.Fatal(err)
			}
			b, err := f.Tensor("uint8")
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			d := shape[1] * shape[2] * shape[3]
			for k, i := range file.Index {
				points[i], lattice[i] = x[k*d:(k+1)*d], b.Data[k*d:(k+1)*d]
			}
		}
	}
	return points, lattice
}

// Saving changes no record; the images are the same whether they are saved with the record, after it, or by a run that was interrupted; both forms keep to the ball
// and the box, and are judged again.
func TestSavedImages(t *testing.T) {
	const n, eps = 23, 0.04
	ctx := context.Background()
	want, _ := whole(t, n)
	job, _ := toyJob(t, n)
	var first map[int][]float32
	for _, how := range []string{"at once", "afterwards", "interrupted"} {
		dir, images := t.TempDir(), t.TempDir()
		switch how {
		case "afterwards":
			if _, err := evaluate(ctx, job, dir, Options{}); err != nil {
				t.Fatal(err)
			}
		case "interrupted":
			cut, stop := context.WithCancel(ctx)
			_, err := evaluate(cut, job, dir, Options{Save: images, Progress: func(p Progress) {
				if p.Fresh >= 2*toyChunk {
					stop()
				}
			}})
			if stop(); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			// A file that the manifest does not name yet is what a kill leaves.
			if err := os.WriteFile(filepath.Join(SavedFolder(images, job.Spec), "images-000010-000014.safetensors"), []byte("torn"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run, err := evaluate(ctx, job, dir, Options{Save: images})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(dir, run.File)); !bytes.Equal(got, want) {
			t.Errorf("%s: saving images changed the record", how)
		}
		folder := SavedFolder(images, job.Spec)
		points, lattice := savedPoints(t, folder)
		if len(points) != n {
			t.Fatalf("%s: %d images saved", how, len(points))
		}
		if first == nil {
			first = points
		} else if !reflect.DeepEqual(points, first) {
			t.Errorf("%s: other images than at once", how)
		}
		moved := 0
		for i, p := range points {
			for k, v := range p {
				clean := job.Set.Image(i)[k]
				if v != float32(clean)/255 {
					moved++
				}
				if far := math.Abs(float64(v) - float64(clean)/255); far > eps+1e-6 || v < 0 || v > 1 {
					t.Fatalf("%s: image %d: pixel %v is %v away", how, i, v, far)
				}
				if far := math.Abs(float64(lattice[i][k]) - float64(clean)); far > 255*eps {
					t.Fatalf("%s: image %d: byte %d is %v levels away, the bound is %v", how, i, lattice[i][k], far, 255*eps)
				}
			}
		}
		if moved == 0 {
			t.Errorf("%s: all saved images are clean", how)
		}
		all, err := readManifests(folder)
		if err != nil || len(all) != 1 || all["manifest.json"].Key != job.Spec.Key() {
			t.Fatalf("%s: manifests %+v, %v", how, all, err)
		}
		for _, f := range all["manifest.json"].Files {
			if len(f.Differ) > 0 {
				t.Errorf("%s: made again, the attacks on %v differ from the record", how, f.Differ)
			}
		}
		// Complete, it computes nothing again.
		if _, err := evaluate(ctx, job, dir, Options{Save: images, Progress: func(Progress) { t.Error("progress of nothing") }}); err != nil {
			t.Fatal(err)
		}
	}
}

// Saved images are judged again by the same defence, by another seed and by another classifier, the verdicts stay beside them, and damage is found.
func TestRescore(t *testing.T) {
	const n = 23
	ctx := context.Background()
	job, _ := toyJob(t, n)
	images := t.TempDir()
	run, err := evaluate(ctx, job, t.TempDir(), Options{Save: images})
	if err != nil {
		t.Fatal(err)
	}
	be, err := goBackend()
	if err != nil {
		t.Fatal(err)
	}
	dir := SavedFolder(images, job.Spec)
	one, err := Rescore(ctx, be, job, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := one.Estimates()
	if a.N != n || b.N != n || one.Of != run.Key || len(one.Images[3].Float32) != job.Spec.Draws || len(one.Images[3].Uint8) != job.Spec.Draws {
		t.Errorf("%+v, %+v, %+v", a, b, one.Images[3])
	}
	// The saved points are those of `strongest`; only the draws are others.
	if s := run.Estimate(record.Strongest); a.Hi < s.Lo || a.Lo > s.Hi {
		t.Errorf("saved images are right in %+v, the record's strongest points in %+v", a, s)
	}
	again, err := Rescore(ctx, be, job, dir, Options{Buckets: []int{8}})
	if err != nil || !reflect.DeepEqual(again.Images, one.Images) {
		t.Errorf("judged twice, the verdicts differ (%v)", err)
	}
	job.Spec.Seed++
	other, err := Rescore(ctx, be, job, dir, Options{})
	if err != nil || reflect.DeepEqual(other.Images, one.Images) || other.File == one.File {
		t.Errorf("another seed gives the same draws or file %s (%v)", other.File, err)
	}
	if spec, err := SavedSpec(dir); err != nil || spec.Key() != run.Key {
		t.Errorf("saved images of %s, %v", spec.Key(), err)
	}
	if _, err := Rescore(ctx, be, job, t.TempDir(), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	damaged := filepath.Join(dir, "images-000005-000009.safetensors")
	raw := read(t, damaged)
	raw[len(raw)-1]++
	if err := os.WriteFile(damaged, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Rescore(ctx, be, job, dir, Options{}); err == nil || !strings.Contains(err.Error(), "SHA-256") || !strings.Contains(err.Error(), damaged) {
		t.Errorf("a damaged file: %v", err)
	}
	job.Protocol = Protocol{Decides: "toy", Stages: []Stage{}}
	if _, err := evaluate(ctx, job, t.TempDir(), Options{Save: images}); err == nil || !strings.Contains(err.Error(), "attacks none") {
		t.Errorf("saving clean images: %v", err)
	}
}

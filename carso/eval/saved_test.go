package eval

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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

// files are the contents of a folder, hidden files and folders below included.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, relErr := filepath.Rel(dir, path)
		all[name] = string(raw)
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sameFiles compares two folders byte by byte.
func sameFiles(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %s is not that of an uninterrupted run", what, name)
		}
	}
	for name := range got {
		if _, there := want[name]; !there {
			t.Errorf("%s: %s is too many", what, name)
		}
	}
}

// An evaluation that saves its images is killed at random moments: what its manifest names is whole, what is recorded is saved, and in the end records and images are byte for byte
// those of an uninterrupted run, without anything left behind.
func TestKillsWhileSaving(t *testing.T) {
	kills := killsOr(t, 8)
	n := 6 * toyChunk * kills
	job, _ := toyJob(t, n)
	dir, straight := t.TempDir(), t.TempDir()
	folder := SavedFolder(filepath.Join(dir, "images"), job.Spec)
	r := rand.New(rand.NewPCG(5, 6))
	ahead, temporary := 0, 0
	for range kills {
		c, out, complaints := startChild(t, "save", dir, n)
		for range r.IntN(60) {
			if !out.Scan() {
				break
			}
		}
		time.Sleep(time.Duration(r.IntN(20_000)) * time.Microsecond) // writing a chunk takes some milliseconds
		c.Process.Signal(syscall.SIGKILL)                            // of this child alone
		for out.Scan() {
		}
		if c.Wait() == nil {
			t.Fatalf("the evaluation of %d images ended before it was killed %d times: %s", n, kills, complaints)
		}
		saved, err := openSaved(filepath.Join(dir, "images"), job.Spec, Shard{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range saved.manifest.Files {
			if sum := fmt.Sprintf("%x", sha256.Sum256(read(t, filepath.Join(folder, f.File)))); sum != f.SHA256 {
				t.Fatalf("%s is named, but not whole", f.File)
			}
		}
		recorded := 0
		if runs, err := record.Load(filepath.Join(dir, "records")); err == nil && len(runs) > 0 {
			recorded = len(runs[0].Images)
			for _, im := range runs[0].Images {
				if !saved.has[im.Index] {
					t.Fatalf("image %d is recorded, but not saved", im.Index)
				}
			}
		}
		if len(saved.has) > recorded {
			ahead++
		}
		if left, err := filepath.Glob(filepath.Join(folder, ".*.tmp")); err != nil || len(left) > 0 {
			temporary++
		}
	}
	t.Logf("%d kills, %d of them between image and record, %d inside a file", kills, ahead, temporary)
	for _, dir := range []string{dir, straight} {
		c, out, complaints := startChild(t, "save", dir, n)
		for out.Scan() {
		}
		if c.Wait() != nil {
			t.Fatal(complaints)
		}
	}
	sameFiles(t, "killed and continued", files(t, dir), files(t, straight))
}

// What a kill between manifest and record, or inside a file, leaves: the chunk is named once, and no temporary file stays.
func TestSavingAgain(t *testing.T) {
	const n = 13
	ctx := context.Background()
	job, _ := toyJob(t, n)
	dir, images := t.TempDir(), t.TempDir()
	run, err := evaluate(ctx, job, dir, Options{Save: images})
	if err != nil {
		t.Fatal(err)
	}
	want, folder := files(t, images), SavedFolder(images, job.Spec)
	// The last of three lines was never appended.
	path := filepath.Join(dir, run.File)
	whole := read(t, path)
	if err := os.WriteFile(path, whole[:bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".manifest.json.123.tmp", ".images-000010-000012.safetensors.456.tmp"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := evaluate(ctx, job, dir, Options{Save: images}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, path), whole) {
		t.Error("the record is not that of an uninterrupted run")
	}
	sameFiles(t, "made again", files(t, images), want)
}

// Shards save into one folder side by side, each under a manifest of its own: the files are those of one process, they are judged as one, and nothing is left to save.
func TestShardsSaveIntoOneFolder(t *testing.T) {
	const n, count = 23, 2
	ctx := context.Background()
	job, _ := toyJob(t, n)
	straight, images, dir := t.TempDir(), t.TempDir(), t.TempDir()
	if _, err := evaluate(ctx, job, t.TempDir(), Options{Save: straight}); err != nil {
		t.Fatal(err)
	}
	want := files(t, straight)
	var wg sync.WaitGroup
	errs := make([]error, count)
	for i := range count {
		wg.Go(func() {
			job, _ := toyJob(nil, n)
			_, errs[i] = evaluate(ctx, job, dir, Options{Save: images, Shard: Shard{i, count}})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	folder := SavedFolder(images, job.Spec)
	manifests, err := readManifests(folder)
	if err != nil || len(manifests) != count {
		t.Fatalf("manifests %v, %v", slices.Sorted(maps.Keys(manifests)), err)
	}
	got := files(t, images)
	maps.DeleteFunc(got, func(name, _ string) bool { return strings.Contains(name, "manifest") })
	maps.DeleteFunc(want, func(name, _ string) bool { return strings.Contains(name, "manifest") })
	sameFiles(t, "two shards", got, want)
	be, err := goBackend()
	if err != nil {
		t.Fatal(err)
	}
	one, err := Rescore(ctx, be, job, SavedFolder(straight, job.Spec), Options{})
	if err != nil {
		t.Fatal(err)
	}
	two, err := Rescore(ctx, be, job, folder, Options{})
	if err != nil || !bytes.Equal(read(t, one.File), read(t, two.File)) {
		t.Errorf("the images of two shards are judged otherwise than those of one process (%v)", err)
	}
	if _, err := evaluate(ctx, job, dir, Options{Save: images, Progress: func(Progress) { t.Error("progress of nothing") }}); err != nil {
		t.Fatal(err)
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

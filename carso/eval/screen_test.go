package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/carso/paper"
	"carsokit/carso/record"
)

// Cheap attacks first: an image that they do not break has the verdict, the predictions and the diagnostics of the evaluation without them, so that the accuracy is never
// higher; and they break next to nothing that the protocol itself does not.
func TestScreen(t *testing.T) {
	const n = 400
	job, _ := toyJob(t, n)
	for k, loss := range []attacks.Loss{attacks.CE, attacks.DLR} {
		a := attacks.StandardAPGD(loss, 0.04, 4)
		a.Steps = 30
		job.Protocol.Stages[k].Attack = a
	}
	job.Protocol.Confirm = 4
	toy := quiet{attacktest.NewNoisy(4, 2), 0.1}
	job.System.Output = func(string) (attacks.Classifier, error) { return toy, nil }
	job.Spec.Defence = json.RawMessage("{}")
	describe := func(job *Job) {
		var err error
		if job.Spec.Attack, err = json.Marshal(job.Protocol); err != nil {
			t.Fatal(err)
		}
	}
	describe(&job)
	full, err := evaluate(context.Background(), job, t.TempDir(), Options{Chunk: 50, Buckets: []int{32}})
	if err != nil {
		t.Fatal(err)
	}
	job.Protocol = job.Protocol.Screened(0.04)
	describe(&job)
	if job.Spec.Key() == full.Key || !job.Spec.Settings().Screened || full.Spec.Settings().Screened {
		t.Error("the record does not say that it was screened")
	}
	screened, err := evaluate(context.Background(), job, t.TempDir(), Options{Chunk: 50, Buckets: []int{32}})
	if err != nil {
		t.Fatal(err)
	}
	byScreen, differ := 0, 0
	for i, im := range screened.Images {
		was := full.Images[i]
		if (im.Broken != "") != (was.Broken != "") {
			differ++
		}
		if strings.HasPrefix(im.Broken, "screen-") {
			byScreen++
			continue
		}
		im.Parts = slices.DeleteFunc(slices.Clone(im.Parts), func(p record.Part) bool { return strings.HasPrefix(p.Attack, "screen-") })
		if strings.HasPrefix(im.FirstHit, "screen-") {
			im.FirstHit = was.FirstHit
		}
		if len(im.Parts) == 0 {
			im.Parts = nil
		}
		if !reflect.DeepEqual(im, was) {
			t.Errorf("image %d, which the screen left: %+v, without it %+v", i, im, was)
		}
	}
	t.Logf("%d of %d images broken, %d of them by the screen; %d verdicts differ", n-int(full.Estimate(record.Internal).Value*n/100+0.5), n, byScreen, differ)
	if byScreen == 0 {
		t.Error("the screen broke nothing")
	}
	if float64(differ) > 0.005*n {
		t.Errorf("%d of %d verdicts differ", differ, n)
	}
	for _, s := range []record.Score{record.Internal, record.FirstHit} {
		if a, b := screened.Estimate(s), full.Estimate(s); a.Value > b.Value || a.N != b.N {
			t.Errorf("accuracy %+v with the screen, %+v without", a, b)
		}
	}
	table, err := paper.Build("main", "tiny", []record.Run{screened})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := paper.Render(&out, table, "json"); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.Bytes(), []byte(screened.Key)) {
		t.Error("a screened evaluation stands in the table of the full one")
	}
}

// Pinned images are evaluated like the same images among the first ones, in chunks of their own, whole or in shards.
func TestPinnedImages(t *testing.T) {
	const n = 43
	index := []int{1, 2, 5, 7, 11, 12, 13, 20, 30, 31, 41, 42}
	job, _ := toyJob(t, n)
	all, err := evaluate(context.Background(), job, t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	job.Spec.Index, job.Images = index, len(index)
	if job.Spec.Key() == all.Key || !job.Spec.Settings().Pinned {
		t.Error("the record does not say that its images are pinned")
	}
	dir, parts, merged := t.TempDir(), t.TempDir(), t.TempDir()
	run, err := evaluate(context.Background(), job, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Images) != len(index) || len(run.Missing(job.Images)) != 0 {
		t.Fatalf("%d images, missing %v", len(run.Images), run.Missing(job.Images))
	}
	for k, im := range run.Images {
		if im.Index != index[k] || !reflect.DeepEqual(im, all.Images[index[k]]) {
			t.Errorf("image %d pinned: %+v, among all %+v", index[k], im, all.Images[index[k]])
		}
	}
	text := read(t, filepath.Join(dir, run.File))
	if lines := bytes.Count(text, []byte("\n")); lines != 3 {
		t.Errorf("%d lines for %d images in chunks of %d", lines, len(index), toyChunk)
	}
	for i := range 2 {
		if _, err := evaluate(context.Background(), job, parts, Options{Shard: Shard{1 - i, 2}}); err != nil {
			t.Fatal(err)
		}
	}
	store, err := record.Open(merged)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := record.Join(parts)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	joined, err := store.Merge(runs[0], toyChunk)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, filepath.Join(merged, joined.File)), text) {
		t.Error("the merged record of pinned images is not that of one process")
	}
	job.Spec.Index = []int{3, n}
	job.Images = 2
	if _, err := evaluate(context.Background(), job, t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), "up to 43") {
		t.Errorf("an image beyond the set: %v", err)
	}
}

func TestReadIndex(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "index")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, text := range []string{"[3, 14,1]", file("14\n1\n\n3\n"), file(" [1,3,14]\n")} {
		if got, err := ReadIndex(text); err != nil || !slices.Equal(got, []int{1, 3, 14}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for want, text := range map[string]string{"line 2": file("1\nx"), "negative": "[-1]", "twice": "[4,2,4]", "no positions": file("\n"), "JSON": "[1,", "reading": "nowhere/index"} {
		if _, err := ReadIndex(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

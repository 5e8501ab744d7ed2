package eval

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/attacks/check"
	"carsokit/carso"
	"carsokit/carso/record"
	"carsokit/data"
)

// TestFindings checks a small classifier as a job's deciding output and keeps the findings beside its records, which do not notice.
func TestFindings(t *testing.T) {
	be, err := goBackend()
	if err != nil {
		t.Fatal(err)
	}
	images := attacktest.ZooImages(8, 1)
	set := &data.Set{Name: "zoo", Split: "test", Classes: []string{"a", "b", "c", "d"}, H: images.H, W: images.W, Labels: images.Y, Digest: "0"}
	for _, v := range images.X {
		set.Pixels = append(set.Pixels, byte(v*255+0.5))
	}
	zoo := attacktest.Zoo()
	named := func(name string) attacks.Classifier {
		for _, s := range zoo {
			if s.Name == name {
				return s.Classifier
			}
		}
		t.Fatalf("the zoo has no %s", name)
		return nil
	}
	// A defence whose deciding output has no gradient, around a classifier that has.
	asked := map[string]bool{}
	job := Job{Set: set, Images: 8, Protocol: Protocol{Decides: string(carso.PeelReference)}, System: System{Output: func(name string) (attacks.Classifier, error) {
		asked[name] = true
		if name == string(carso.PeelReference) {
			return named("gradient-killer"), nil
		}
		return named("mlp"), nil
	}}}
	job.Spec = record.Spec{Schema: record.Schema, Scenario: "a", Row: "toy", Column: "rand", Scale: "tiny", Data: record.Data{Name: "zoo", Split: "test", Digest: "0"},
		Eps: 16. / 255, Draws: 1, Seed: 4, Defence: json.RawMessage("null"), Attack: json.RawMessage("null"), Versions: map[string]string{"kit": Kit}}
	r, err := Findings(context.Background(), be, job, 8, check.Options{Steps: 4, Queries: 5})
	if err != nil {
		t.Fatal(err)
	}
	if r.Seed != 4 || r.Eps != job.Spec.Eps || r.Images != 8 || r.Subject == "" || !asked[Classifier] || !asked[string(carso.LogSum)] {
		t.Errorf("report of seed %d, eps %g, %d images, %q; outputs asked for: %v", r.Seed, r.Eps, r.Images, r.Subject, asked)
	}
	for _, name := range []string{"zero-gradient-margin", "transfer-weaker-" + Classifier, "transfer-weaker-" + string(carso.LogSum)} {
		if r.Find(name).Verdict != check.Fail {
			t.Errorf("%s: %+v", name, r.Find(name))
		}
	}
	dir := t.TempDir()
	file, err := SaveFindings(dir, job.Spec, r)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, FindingsFile(job.Spec)); file != want {
		t.Errorf("findings in %s, want %s", file, want)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if back, err := check.Read(f); err != nil || len(back.Findings) != len(r.Findings) {
		t.Errorf("read back: %v", err)
	}
	if runs, err := record.Load(dir); err != nil || len(runs) != 0 {
		t.Errorf("findings read as %d records: %v", len(runs), err)
	}
	if _, err := Findings(context.Background(), be, job, 9, check.Options{}); err == nil {
		t.Error("more images than there are were accepted")
	}
}

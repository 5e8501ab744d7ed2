package eval

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/carso/record"
)

// TestModel: an evaluation of one's own classifier goes on where an earlier one stopped, with the bytes of one that did not stop; another configuration is another evaluation;
// the attack breaks what it can, and what cannot be evaluated is refused.
func TestModel(t *testing.T) {
	be, err := goBackend()
	if err != nil {
		t.Fatal(err)
	}
	toy := attacktest.NewNoisy(4, 2)
	job, _ := toyJob(t, 12) // for its images
	apgd := attacks.StandardAPGD(attacks.CE, 0.04, 2)
	apgd.Steps = 4
	m := Model{Name: "toy", Classifier: toy, Config: map[string]any{"seed": 2}}
	run := func(m Model, dir string, images int, by ...attacks.Attack) record.Run {
		t.Helper()
		j, err := m.Job(be, job.Set, images, 0.04, 3, by...)
		if err != nil {
			t.Fatal(err)
		}
		store, err := record.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Run(t.Context(), be, store, j, Options{Chunk: 3, Workers: 1, Buckets: []int{4}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one, two := t.TempDir(), t.TempDir()
	whole := run(m, one, 12, apgd)
	run(m, two, 6, apgd)
	joined := run(m, two, 12, apgd)
	a, err1 := os.ReadFile(filepath.Join(one, whole.File))
	b, err2 := os.ReadFile(filepath.Join(two, joined.File))
	if err1 != nil || err2 != nil || len(a) == 0 || !bytes.Equal(a, b) {
		t.Errorf("going on gives other records than going through: %v, %v", err1, err2)
	}
	clean, worst := run(m, one, 12).Estimate(record.Clean), whole.Estimate(record.Worst)
	if clean.N != 12 || worst.N != 12 || !(worst.Value < clean.Value) {
		t.Errorf("clean %+v, under attack %+v", clean, worst)
	}
	if len(whole.Images[0].Fresh) != 10 || whole.Spec.Scenario != "toy" || !strings.Contains(string(whole.Spec.Attack), `"eot":2`) {
		t.Errorf("passes %v, spec %+v", whole.Images[0].Fresh, whole.Spec)
	}
	m.Config = map[string]any{"seed": 3}
	if again := run(m, one, 12, apgd); again.Key == whole.Key {
		t.Error("another configuration under the same key")
	}

	apgd.Eps = 0.05
	for want, try := range map[string]func() (Job, error){
		"moves pixels by up to 12.75/255": func() (Job, error) { return m.Job(be, job.Set, 12, 0.04, 3, apgd) },
		"spec.scenario":                   func() (Job, error) { return Model{Name: "My net", Classifier: toy}.Job(be, job.Set, 12, 0.05, 3, apgd) },
		"Eps is -1":                       func() (Job, error) { return m.Job(be, job.Set, 12, 0.05, 3, attacks.FGSM{Eps: -1, EoT: 1}) },
	} {
		if _, err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

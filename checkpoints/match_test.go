package checkpoints

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestMatchFits(t *testing.T) {
	specs := []Spec{{"conv.weight", []int{4, 3, 3, 3}}, {"bn.num_batches_tracked", nil}}
	// A scalar's shape may be nil or empty.
	r := Match([]Spec{{"bn.num_batches_tracked", []int{}}, specs[0]}, specs)
	if !r.OK() || r.Err() != nil || r.Source["conv.weight"] != "conv.weight" || len(r.Stripped) != 0 {
		t.Errorf("%+v: %v", r, r.Err())
	}
}

func TestMatchReportsEveryDifference(t *testing.T) {
	have := []Spec{{"a", []int{1}}, {"x", []int{9}}, {"b", []int{2, 3}}}
	want := []Spec{{"c", []int{5}}, {"b", []int{3, 2}}, {"a", []int{1}}}
	r := Match(have, want)
	if !reflect.DeepEqual(r.Missing, want[:1]) || !reflect.DeepEqual(r.Unexpected, have[1:2]) ||
		!reflect.DeepEqual(r.Misshapen, []Misshapen{{"b", []int{2, 3}, []int{3, 2}}}) {
		t.Errorf("%+v", r)
	}
	const wantText = `checkpoints: the weights do not fit the model: 1 tensors fit, 1 missing, 1 unexpected, 1 misshapen
  missing    "c" [5]
  unexpected "x" [9]
  misshapen  "b": file has [2 3], model wants [3 2]
check that file and model belong together`
	if err := r.Err(); err == nil || err.Error() != wantText {
		t.Errorf("error reads\n%v", err)
	}
}

func TestMatchStripsPrefixes(t *testing.T) {
	want := []Spec{{"conv.weight", []int{1}}, {"model.head", []int{2}}, {"fc", []int{3}}}
	for _, c := range []struct {
		name     string
		have     []Spec
		prefixes []string
		ok       bool
		stripped []Strip
	}{
		{"not on request", []Spec{{"module.conv.weight", []int{1}}, {"module.model.head", []int{2}}, {"module.fc", []int{3}}}, nil, false, nil},
		{"one", []Spec{{"module.conv.weight", []int{1}}, {"module.model.head", []int{2}}, {"module.fc", []int{3}}},
			[]string{"module.", "model."}, true, []Strip{{"module.", 3}}},
		{"two, one on the other", []Spec{{"module.model.conv.weight", []int{1}}, {"module.model.head", []int{2}}, {"model.module.fc", []int{3}}},
			[]string{"module.", "model."}, true, []Strip{{"module.model.", 1}, {"module.", 1}, {"model.module.", 1}}},
		{"never from a wanted name", []Spec{{"conv.weight", []int{1}}, {"model.head", []int{2}}, {"fc", []int{3}}}, []string{"model."}, true, nil},
		{"never over an exact name", []Spec{{"module.fc", []int{3}}, {"conv.weight", []int{1}}, {"model.head", []int{2}}, {"fc", []int{3}}},
			[]string{"module."}, false, nil},
		{"an empty prefix is no prefix", []Spec{{"conv", []int{1}}}, []string{""}, false, nil},
	} {
		r := Match(c.have, want, c.prefixes...)
		if r.OK() != c.ok || !reflect.DeepEqual(r.Stripped, c.stripped) {
			t.Errorf("%s: %v", c.name, r)
		}
		for _, s := range c.stripped {
			if !strings.Contains(r.String(), s.Prefix) {
				t.Errorf("%s: %q is not said in %s", c.name, s.Prefix, r)
			}
		}
		if c.ok && len(r.Source) != len(want) {
			t.Errorf("%s: sources %v", c.name, r.Source)
		}
	}
}

func TestMatchTextStaysReadable(t *testing.T) {
	var have []Spec
	for range 500 {
		have = append(have, Spec{strings.Repeat("x", len(have)+1), []int{1}})
	}
	text := Match(have, nil).Err().Error()
	if strings.Count(text, "\n") > 15 || !strings.Contains(text, "and 490 more") || !strings.Contains(text, "no name agrees") {
		t.Errorf("text is\n%s", text)
	}
}

// CIFAR-10 weights must not load as CIFAR-100's and the other way round, nor a purifier's as a classifier's: the real manifests.
func TestSwappedScenario(t *testing.T) {
	a, b := manifest(t, "scenario_a"), manifest(t, "scenario_b")
	if r := Match(a.classifier, a.classifier); !r.OK() {
		t.Errorf("A does not fit A: %v", r)
	}
	for _, r := range []*Report{Match(a.classifier, b.classifier), Match(b.classifier, a.classifier)} {
		if len(r.Missing)+len(r.Unexpected) != 0 || len(r.Misshapen) == 0 {
			t.Fatalf("swapped classifiers: %v", r)
		}
		text := r.Err().Error()
		for _, want := range []string{"logits", "[10 640]", "[100 640]", "another data set"} {
			if !strings.Contains(text, want) {
				t.Errorf("the error does not say %q:\n%s", want, text)
			}
		}
	}
	if r := Match(a.decoder, a.classifier); r.OK() || len(r.Source) != 0 || !strings.Contains(r.Err().Error(), "no name agrees") {
		t.Errorf("a decoder fits a classifier: %v", r)
	}
}

type scenario struct{ classifier, decoder []Spec }

func manifest(t *testing.T, name string) (s scenario) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir(t), "manifests", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	type module struct {
		StateDict []json.RawMessage `json:"state_dict"`
	}
	var m struct {
		Classifier    module            `json:"classifier"`
		PurifierFiles map[string]module `json:"purifier_files"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	specs := func(m module) (out []Spec) {
		for _, r := range m.StateDict {
			var e Spec
			var dtype string
			if err := json.Unmarshal(r, &[]any{&e.Name, &e.Shape, &dtype}); err != nil {
				t.Fatal(err)
			}
			out = append(out, e)
		}
		return out
	}
	s = scenario{specs(m.Classifier), specs(m.PurifierFiles["decoder"])}
	if len(s.classifier) == 0 || len(s.decoder) == 0 {
		t.Fatalf("manifest %s lacks a classifier or a decoder", name)
	}
	return s
}

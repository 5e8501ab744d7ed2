package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// spec is a complete Spec for tests.
func spec() Spec {
	return Spec{
		Schema: Schema, Scenario: "a", Row: "carso-paper", Column: "rand", Scale: "tiny",
		Data:    Data{"cifar10", "test", "d1"},
		Weights: []Weight{{"classifier", "f.safetensors", "aa"}, {"purifier", "p.safetensors", "bb"}},
		Defence: json.RawMessage(`{"n": 8, "aggregation": "peel"}`),
		Attack:  json.RawMessage(`[{"name": "apgd-ce", "steps": 2}]`),
		Eps:     8. / 255, Draws: 3, Seed: 1,
		Versions: map[string]string{"kit": "1", "gomlx": "0.28.2"},
	}
}

// image is one whose every field is a function of its index.
func image(i int) Image {
	im := Image{Index: i, Label: i % 10, Clean: []int{i % 10, (i + 1) % 10}, Initial: i%3 != 0, Linf: 8. / 255,
		Fresh: []int{i % 10, i % 7}, Strongest: []int{i % 5},
		Parts: []Part{{Attack: "apgd-ce", Output: "peel", NaNStart: i%2 == 0, Steps: 2, Hit: -1}}}
	if i%4 == 1 {
		im.Broken, im.Parts[0].Broken, im.Parts[0].Hit = "apgd-ce/peel", true, 1
	}
	return im
}

func images(from, to int) []Image {
	var out []Image
	for i := from; i < to; i++ {
		out = append(out, image(i))
	}
	return out
}

func TestKeyIsCanonical(t *testing.T) {
	a, b := spec(), spec()
	b.Defence = json.RawMessage("{\"aggregation\":\"peel\",\n\"n\":8}")
	if a.Key() != b.Key() || len(a.Key()) != 32 {
		t.Errorf("the spelling of the JSON changed the key: %q, %q", a.Key(), b.Key())
	}
	a.Attack, b.Attack = nil, json.RawMessage("null")
	if a.Key() != b.Key() {
		t.Error("no attack and a null attack have different keys")
	}
	if got, want := spec().FileName(), "a-carso-paper-rand-tiny-"+spec().Key()[:12]+".jsonl"; got != want {
		t.Errorf("file name %q, want %q", got, want)
	}
}

// Every field of Spec must reach the key: a changed field that leaves it alone would let a resume mix two experiments.
func TestKeyCoversEveryField(t *testing.T) {
	changes := map[string]func(*Spec){
		"Scenario": func(s *Spec) { s.Scenario = "b" },
		"Row":      func(s *Spec) { s.Row = "plain" },
		"Column":   func(s *Spec) { s.Column = "clean" },
		"Scale":    func(s *Spec) { s.Scale = "small" },
		"Data":     func(s *Spec) { s.Data.Digest = "d2" },
		"Weights":  func(s *Spec) { s.Weights[1].SHA256 = "cc" },
		"Defence":  func(s *Spec) { s.Defence = json.RawMessage(`{"n": 9, "aggregation": "peel"}`) },
		"Attack":   func(s *Spec) { s.Attack = nil },
		"Eps":      func(s *Spec) { s.Eps = math.Nextafter(s.Eps, 1) },
		"Draws":    func(s *Spec) { s.Draws++ },
		"Seed":     func(s *Spec) { s.Seed = math.MaxUint64 },
		"Versions": func(s *Spec) { s.Versions["gomlx"] = "0.28.3" },
		"Index":    func(s *Spec) { s.Index = []int{2, 5} },
		"Schema":   nil, // another schema is refused altogether
	}
	fields := reflect.TypeFor[Spec]()
	for i := range fields.NumField() {
		field := fields.Field(i).Name
		change, ok := changes[field]
		if !ok {
			t.Errorf("no test changes Spec.%s", field)
			continue
		}
		if change == nil {
			continue
		}
		s := spec()
		change(&s)
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", field, err)
		}
		if s.Key() == spec().Key() {
			t.Errorf("Spec.%s does not change the key", field)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, spoil := range map[string]func(*Spec){
		"schema 2":     func(s *Spec) { s.Schema = 2 },
		"spec.row":     func(s *Spec) { s.Row = "../x" },
		"spec.column":  func(s *Spec) { s.Column = "" },
		"spec.data":    func(s *Spec) { s.Data.Digest = "" },
		"weights[0]":   func(s *Spec) { s.Weights[0].File = "here/f.safetensors" },
		"spec.eps":     func(s *Spec) { s.Eps = math.NaN() },
		"spec.draws":   func(s *Spec) { s.Draws = 0 },
		"spec.defence": func(s *Spec) { s.Defence = json.RawMessage("{") },
		"spec.attack":  func(s *Spec) { s.Attack = json.RawMessage("{} {}") },
	} {
		s := spec()
		spoil(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
		if s.Key() != "" {
			t.Errorf("%s: an invalid spec has a key", want)
		}
	}
}

func line(t testing.TB, s Spec, images []Image) []byte {
	raw, err := json.Marshal(Line{s.Key(), &s, images})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestParseLineRefuses(t *testing.T) {
	good := string(line(t, spec(), images(0, 2)))
	if _, err := ParseLine([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for want, raw := range map[string]string{
		"not a record":        `hello`,
		"no spec.schema":      `{"key":"x"}`,
		"unknown schema":      strings.Replace(good, `"schema":1`, `"schema":2,"new":3`, 1),
		"unknown field":       strings.Replace(good, `"seed":1`, `"seed":1,"sed":2`, 1),
		"the line was edited": strings.Replace(good, `"seed":1`, `"seed":2`, 1),
		"after top-level":     good + good,
		"there twice":         strings.Replace(good, `"index":1`, `"index":0`, 1),
		"negative":            strings.Replace(good, `"index":1`, `"index":-1`, 1),
		"linf":                strings.Replace(good, `"linf":0.0`, `"linf":-0.0`, 1),
		"hit":                 strings.Replace(good, `"hit":-1`, `"hit":-2`, 1),
		"no images":           string(line(t, spec(), nil)),
	} {
		_, err := ParseLine([]byte(raw))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
		if want == "unknown schema" && !errors.Is(err, ErrSchema) {
			t.Errorf("%v does not wrap ErrSchema", err)
		}
	}
}

// What the parser accepts must survive being written and read again, under the same key.
func FuzzParseLine(f *testing.F) {
	f.Add(line(f, spec(), images(0, 3)))
	f.Add([]byte(`{"key":"","spec":{"schema":1}}`))
	f.Add([]byte(`{"spec":null}`))
	f.Add([]byte("\x00\x00"))
	s := spec()
	s.Attack, s.Versions, s.Weights, s.Defence = nil, nil, nil, json.RawMessage(`[1e400,"\u2028<&>",{"b":{},"a":null}]`)
	f.Add(line(f, s, []Image{{Linf: 1e-300}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := ParseLine(raw)
		if err != nil {
			return
		}
		once, err := json.Marshal(l)
		if err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		again, err := ParseLine(once)
		if err != nil {
			t.Fatalf("written, but cannot be read: %v\n%s", err, once)
		}
		twice, err := json.Marshal(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("not stable (%v):\n%s\n%s", err, once, twice)
		}
	})
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carsokit/carso/eval"
	"carsokit/carso/record"
)

// steps of an evaluation of 100 images in chunks of 10 by two workers, 20 of them there before: 4 s for the first chunk.
func steps() []eval.Progress {
	p := eval.Progress{Done: 20, Total: 100, Measure: "fresh"}
	var all []eval.Progress
	for k := range 9 {
		p.Done, p.Fresh = 20+10*k, 10*k
		p.Elapsed = time.Duration(2*(k+1)) * time.Second // 4, 6, ..., 18 s
		p.Estimate = record.Estimate{Value: 50, Lo: 40, Hi: 60, N: p.Done}
		p.Note = "note"
		all = append(all, p)
	}
	return all
}

func TestReporter(t *testing.T) {
	var text, lines bytes.Buffer
	for form, out := range map[string]*bytes.Buffer{"text": &text, "json": &lines} {
		r, err := newReporter(out, form, 10, 2)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(0, 0)
		r.now = func() time.Time { at = at.Add(time.Second); return at }
		for _, p := range steps() {
			r.tell(p)
			r.tell(p) // a gradient evaluation in between
		}
		r.end()
	}
	// 8 chunks, 4 rounds of 2 workers, 4 s each.
	if !strings.Contains(text.String(), "cost: about 16s in all for 80 images") || strings.Count(text.String(), "cost:") != 1 {
		t.Errorf("no cost after the first chunk: %q", text.String())
	}
	// At the fourth chunk: 40 images in 10 s, 40 left.
	if want := "60/100 images  4 images/s  ETA 10s  fresh 50.0 % [40.0, 60.0]  note"; !strings.Contains(text.String(), want) {
		t.Errorf("no %q in %q", want, text.String())
	}
	all := strings.Split(strings.TrimSpace(lines.String()), "\n")
	if len(all) != 8 {
		t.Fatalf("%d lines for 8 chunks: %s", len(all), lines.String())
	}
	var fourth struct {
		Done int     `json:"done"`
		Rate float64 `json:"images_per_s"`
		ETA  float64 `json:"eta_s"`
		Cost float64 `json:"cost_s"`
		Lo   float64 `json:"lo"`
		N    int     `json:"n"`
	}
	if err := json.Unmarshal([]byte(all[3]), &fourth); err != nil || fourth.Done != 60 || fourth.Rate != 4 || fourth.ETA != 10 || fourth.Cost != 20 || fourth.Lo != 40 || fourth.N != 60 {
		t.Errorf("%+v, %v", fourth, err)
	}
	if _, err := newReporter(&text, "loud", 1, 1); err == nil {
		t.Error("accepted a form that is none")
	}
}

func TestRates(t *testing.T) {
	dir := t.TempDir()
	s := record.Spec{Scenario: "a", Row: "plain", Column: "rand", Scale: "tiny", Versions: map[string]string{"backend": "go"}}
	for _, rate := range []float64{2, 3} {
		if err := remember(dir, s, rate); err != nil {
			t.Fatal(err)
		}
	}
	other := s
	other.Row = "classifier"
	if err := remember(dir, other, 5); err != nil {
		t.Fatal(err)
	}
	fewer := s
	fewer.Defence = json.RawMessage(`{"samples":1}`)
	if err := remember(dir, fewer, 9); err != nil {
		t.Fatal(err)
	}
	r, err := loadRates(dir)
	if err != nil || len(r) != 3 || r[rateName(s)] != 3 || r[rateName(other)] != 5 || r[rateName(fewer)] != 9 || !strings.HasPrefix(rateName(s), "a/plain/rand/tiny/go/") {
		t.Errorf("%v, %v", r, err)
	}
	if runs, err := record.Load(dir); err != nil || len(runs) != 0 {
		t.Errorf("rates were taken for records: %v, %v", runs, err)
	}
	if err := os.WriteFile(filepath.Join(dir, ratesFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadRates(dir); err == nil || !strings.Contains(err.Error(), "may be removed") {
		t.Errorf("a broken file of rates: %v", err)
	}
}

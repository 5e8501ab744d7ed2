package check_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/attacks/check"
	"carsokit/internal/rng"
)

// find returns a specimen of the zoo.
func find(t *testing.T, name string) attacks.Classifier {
	t.Helper()
	for _, s := range attacktest.Zoo() {
		if s.Name == name {
			return s.Classifier
		}
	}
	t.Fatalf("the zoo has no %s", name)
	return nil
}

func run(t *testing.T, c attacks.Classifier, images attacks.Batch, o check.Options) *check.Report {
	t.Helper()
	r, err := check.Run(context.Background(), backend, c, images, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func render(t *testing.T, r *check.Report, format string) string {
	t.Helper()
	var out strings.Builder
	if err := r.Render(&out, format); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// small options for tests of the machinery.
var small = check.Options{Subject: "a | b", Steps: 4, EoT: 2, Confirm: 2, Queries: 10, Seed: 3}

// TestReproducible: the same seed gives the same bytes, read back they are the same report, and another seed gives other ones. Of a stochastic, staged classifier, where most
// randomness is used.
func TestReproducible(t *testing.T) {
	one, two := run(t, find(t, "staged"), attacktest.ZooImages(8, 1), small), run(t, find(t, "staged"), attacktest.ZooImages(8, 1), small)
	text := render(t, one, "json")
	if text != render(t, two, "json") {
		t.Errorf("two runs with one seed differ:\n%s\n%s", text, render(t, two, "json"))
	}
	back, err := check.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if render(t, back, "json") != text {
		t.Errorf("reading a report back changes it")
	}
	for _, format := range []string{"text", "markdown"} {
		page := render(t, one, format)
		for _, f := range one.Findings {
			if !strings.Contains(page, f.Name) || !strings.Contains(strings.Join(strings.Fields(page), " "), f.Says) {
				t.Errorf("the %s page lacks %s: %s", format, f.Name, f.Says)
			}
			if f.Source == "" || f.Says == "" || f.Verdict != check.NotApplicable && (f.What == "" || f.N == 0) {
				t.Errorf("an incomplete finding: %+v", f)
			}
		}
	}
	if one.Cost.Forward == 0 || one.Cost.Gradient == 0 {
		t.Errorf("cost %+v", one.Cost)
	}
}

// TestSubstitutes: adversarial examples of the bare network break the same network behind a stopped gradient, and the finding says so.
func TestSubstitutes(t *testing.T) {
	o := small
	o.Eps, o.Queries = 32./255, 100
	o.Substitutes = []check.Substitute{{Name: "bare", Classifier: find(t, "mlp")}}
	r := run(t, find(t, "gradient-killer"), attacktest.ZooImages(12, 1), o)
	if f := r.Find("transfer-weaker"); f.Verdict != check.Fail || f.Figure <= 0.5 {
		t.Errorf("transfer to a classifier without gradient: %+v", f)
	}
	if f := r.Find("black-box-weaker"); f.Verdict != check.Fail {
		t.Errorf("black box on a classifier without gradient: %+v", f)
	}
	o.Substitutes[0].Classifier = attacktest.NewLinear(3, 1)
	if _, err := check.Run(context.Background(), backend, find(t, "mlp"), attacktest.ZooImages(4, 1), o); err == nil {
		t.Error("a substitute with another number of classes was accepted")
	}
}

// TestRefused: input that cannot be is an error that says so.
func TestRefused(t *testing.T) {
	c, ctx := find(t, "linear"), context.Background()
	images := attacktest.ZooImages(4, 1)
	for name, spoil := range map[string]func(b *attacks.Batch, o *check.Options){
		"one image":       func(b *attacks.Batch, _ *check.Options) { *b = b.Pick([]int{0}) },
		"label too large": func(b *attacks.Batch, _ *check.Options) { b.Y[0] = 9 },
		"bound too large": func(_ *attacks.Batch, o *check.Options) { o.Eps = 0.5 },
		"negative steps":  func(_ *attacks.Batch, o *check.Options) { o.Steps = -1 },
		"negative draws":  func(_ *attacks.Batch, o *check.Options) { o.Queries = -1 },
		"empty buckets":   func(_ *attacks.Batch, o *check.Options) { o.Buckets = []int{0} },
	} {
		b, o := images.Pick([]int{0, 1, 2, 3}), small
		spoil(&b, &o)
		if _, err := check.Run(ctx, backend, c, b, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := check.Run(ctx, backend, nil, images, small); err == nil {
		t.Error("no classifier: no error")
	}
	if err := (&check.Report{}).Render(&bytes.Buffer{}, "html"); err == nil {
		t.Error("an unknown format was accepted")
	}
	if _, err := check.Read(strings.NewReader(`{"other": 1}`)); err == nil {
		t.Error("another JSON file was read as a report")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := check.Run(ended, backend, c, images, small); !errors.Is(err, context.Canceled) {
		t.Errorf("under an ended context: %v", err)
	}
}

// dynamic is a classifier that says of itself that it adapts.
type dynamic struct{ attacks.Classifier }

func (dynamic) Dynamic() bool { return true }

// TestDynamic: what a classifier says of itself is reported; of one that says nothing there is no finding.
func TestDynamic(t *testing.T) {
	o := check.Options{Steps: 2, Queries: 1, Seed: 3}
	if f := run(t, dynamic{find(t, "linear")}, attacktest.ZooImages(4, 1), o).Find("dynamic"); f.Verdict != check.Warn {
		t.Errorf("a classifier that adapts: %+v", f)
	}
	if f := run(t, find(t, "linear"), attacktest.ZooImages(4, 1), o).Find("dynamic"); f.Verdict != "" {
		t.Errorf("a classifier that says nothing: %+v", f)
	}
}

// TestZooImages: the images keep to bytes and do not depend on how many there are.
func TestZooImages(t *testing.T) {
	few, many := attacktest.ZooImages(3, rng.Seed(4)), attacktest.ZooImages(9, rng.Seed(4))
	for k, v := range few.X {
		if v != many.X[k] || v*255 != float32(int(v*255+0.5)) && float32(int(v*255+0.5))/255 != v {
			t.Fatalf("value %d: %v and %v", k, v, many.X[k])
		}
	}
}

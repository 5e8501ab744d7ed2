package models

import (
	"math"
	"strings"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
)

// TestDevices: four devices and one give the same losses over 20 steps of an adversarial training, to float32's roundings, BatchNorm's statistics over the whole
// batch included, and then the same weights; what four saved one continues.
func TestDevices(t *testing.T) {
	be := goldentest.Backend(t)
	if be.NumDevices() < 4 {
		t.Skipf("backend %s has %d devices", be.Name(), be.NumDevices())
	}
	r := toyRecipe()
	r.Epochs, r.Steps, r.StepSize, r.HeldOut = 6, 1, 0.1, 100
	open := func(devices int, dir string) *Trainer {
		tr, err := NewTrainer(be, r, noise(132, 4, 8), nil, dir)
		if err == nil {
			err = tr.UseDevices(devices)
		}
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	// Twenty steps of a chaotic system on sums in another order: 3e-7 was seen.
	const tolerance = 1e-5
	same := func(what string, a, b float64) {
		if math.Abs(a-b) > tolerance*math.Max(1, math.Abs(a)) {
			t.Errorf("%s: %g on one device, %g on four", what, a, b)
		}
	}
	one, four := open(1, ""), open(4, "")
	step := func(other *Trainer) {
		a, _, err := one.Advance(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := other.Advance(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		same("loss", a, b)
	}
	for range 20 {
		step(four)
	}
	for _, p := range r.Net.Params() {
		if p.FileOnly() {
			continue
		}
		a, err := nn.Get(one.Store.Scope(emaScope), p)
		if err != nil {
			t.Fatal(err)
		}
		b, err := nn.Get(four.Store.Scope(emaScope), p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range a {
			same(p.Name, float64(a[i]), float64(b[i]))
		}
	}
	probe, err := four.newProbe() // on one device
	if err != nil {
		t.Fatal(err)
	}
	if clean, pgd, err := probe(t.Context()); err != nil || clean == 0 && pgd == 0 {
		t.Errorf("probing the held-out images: %g, %g, %v", clean, pgd, err)
	}
	dir := t.TempDir()
	if err := four.Save(dir); err != nil {
		t.Fatal(err)
	}
	if again := open(1, dir); again.Step() != 20 {
		t.Errorf("continued at step %d", again.Step())
	} else {
		step(again)
	}
	for n, want := range map[int]string{0: "on 0 devices", 3: "split evenly", 64: "on 64 devices"} {
		if err := one.UseDevices(n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d devices: %v", n, err)
		}
	}
}

// TestBF16: with convolutions in bfloat16 a training has the losses of one in float32 within what eight bits of mantissa leave, keeps float32 weights, and is another computation.
func TestBF16(t *testing.T) {
	be := goldentest.Backend(t)
	r := toyRecipe()
	r.Epochs, r.Steps, r.StepSize = 2, 1, 0.1
	half := r
	half.BF16 = true
	var losses [2][]float64
	for k, r := range []Recipe{r, half} {
		tr, err := NewTrainer(be, r, noise(40, 4, 8), nil, "")
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			loss, _, err := tr.Advance(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			losses[k] = append(losses[k], loss)
		}
		for _, p := range r.Net.Params() {
			if p.FileOnly() {
				continue
			}
			if _, err := nn.Get(tr.Store.Scope(liveScope), p); err != nil { // reads float32 only
				t.Fatal(err)
			}
		}
	}
	// A product is rounded to 2^-9 of itself, a dozen layers deep; 0.0015 was seen.
	const tolerance = 0.01
	same := true
	for i, want := range losses[0] {
		got := losses[1][i]
		same = same && got == want
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("step %d: loss %g, in float32 %g", i, got, want)
		}
	}
	if same {
		t.Errorf("the losses are those of float32 to the bit: %v", losses[0])
	}
	t.Log(losses)
}

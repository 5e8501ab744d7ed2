package record

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance }

func TestScores(t *testing.T) {
	type want [9]Estimate // in the order of Definitions; only Value and N are compared
	e := func(value float64, n int) Estimate { return Estimate{Value: value, N: n} }
	none := e(0, 0)
	for name, c := range map[string]struct {
		im Image
		want
	}{
		"only clean passes": {Image{Label: 1, Clean: []int{1, 1, 2, 1}}, want{e(75, 1), none, none, none, none, none, none, none, none}},
		"survives":          {Image{Label: 1, Initial: true, Fresh: []int{1, 1}, Strongest: []int{1}}, want{none, e(100, 1), e(100, 1), e(100, 1), e(100, 1), e(100, 1), e(100, 1), e(100, 1), none}},
		"broken, lucky fresh draw": {Image{Label: 1, Initial: true, Broken: "x/y", Fresh: []int{1, 2, 2}},
			want{none, e(100, 1), e(100./3, 1), e(0, 1), e(0, 1), e(0, 1), none, none, none}},
		"unbroken, strongest point wrong": {Image{Label: 1, Initial: true, Fresh: []int{1, 1}, Strongest: []int{1, 0}},
			want{none, e(100, 1), e(100, 1), e(100, 1), e(0, 1), e(100, 1), e(100, 1), e(50, 1), none}},
		"initially wrong, right now": {Image{Label: 1, FirstHit: HitInitially, Fresh: []int{1, 1}}, want{none, e(100, 1), e(100, 1), e(0, 1), e(100, 1), e(100, 1), none, none, e(0, 1)}},
		"unbroken, hit by one draw": {Image{Label: 1, Initial: true, FirstHit: "x/y", Fresh: []int{1}},
			want{none, e(100, 1), e(100, 1), e(100, 1), e(100, 1), e(100, 1), none, none, e(0, 1)}},
		"never hit": {Image{Label: 1, Initial: true, FirstHit: NoHit, Fresh: []int{2}},
			want{none, e(0, 1), e(0, 1), e(100, 1), e(0, 1), e(0, 1), none, none, e(100, 1)}},
		"a tie is no majority": {Image{Label: 1, Initial: true, Fresh: []int{2, 1}}, want{none, e(0, 1), e(50, 1), e(100, 1), e(0, 1), e(0, 1), none, none, none}},
	} {
		for i, d := range Definitions() {
			got := Run{Images: []Image{c.im}}.Estimate(d.Score)
			if !near(got.Value, c.want[i].Value, 1e-9) || got.N != c.want[i].N {
				t.Errorf("%s: %s is %.2f of %d, want %.2f of %d", name, d.Name, got.Value, got.N, c.want[i].Value, c.want[i].N)
			}
		}
	}
}

// The accounting of a small run that shows the point: without a usable gradient images survive, with one they do not.
func TestParts(t *testing.T) {
	ce, dlr := PartID{"apgd-ce", "peel"}, PartID{"apgd-dlr", "peel"}
	part := func(id PartID, p Part) Part { p.Attack, p.Output = id.Attack, id.Output; return p }
	fresh := []int{1}
	run := Run{Images: []Image{
		{Index: 0, Label: 1, Fresh: fresh}, // wrong from the start, hence not attacked
		{Index: 1, Label: 1, Fresh: fresh, Initial: true, Parts: []Part{part(ce, Part{NaNStart: true, NaNEver: true}), part(dlr, Part{NaNStart: true})}},
		{Index: 2, Label: 1, Fresh: fresh, Initial: true, Parts: []Part{part(ce, Part{ZeroStart: true, ZeroEver: true, LossZeroStart: true}), part(dlr, Part{Broken: true})}, Broken: dlr.String()},
		{Index: 3, Label: 1, Fresh: fresh, Initial: true, Parts: []Part{part(ce, Part{Broken: true, NaNEver: true})}, Broken: ce.String()},
	}}
	// An image that the first part did not attack, in front of all others, does not make the second one the first.
	late := Run{Images: []Image{{Index: 0, Initial: true, Parts: []Part{{Attack: dlr.Attack, Output: dlr.Output}}}}}
	late.Images = append(late.Images, run.Images...)
	if ids := late.PartIDs(); !slices.Equal(ids, []PartID{ce, dlr}) {
		t.Errorf("parts, with an image that met the second only: %v", ids)
	}
	if ids := run.PartIDs(); !slices.Equal(ids, []PartID{ce, dlr}) {
		t.Errorf("parts %v", ids)
	}
	for name, c := range map[string]struct {
		s     Score
		value float64
		n     int
	}{
		"nan start":       {Share(ce, NaNStart), 100. / 3, 3},
		"nan ever":        {Share(ce, NaNEver), 200. / 3, 3},
		"zero start":      {Share(ce, ZeroStart), 100. / 3, 3},
		"zero ever":       {Share(ce, ZeroEver), 100. / 3, 3},
		"loss zero start": {Share(ce, LossZeroStart), 100. / 3, 3},
		"robust, ce":      {PartRobust(ce), 50, 4},
		"robust, dlr":     {PartRobust(dlr), 100. / 3, 3}, // image 3 never met it
		"internal":        {Internal, 25, 4},
	} {
		if got := run.Estimate(c.s); !near(got.Value, c.value, 1e-9) || got.N != c.n {
			t.Errorf("%s: %.2f of %d, want %.2f of %d", name, got.Value, got.N, c.value, c.n)
		}
	}
	if ran, attacked := run.Covers(dlr); ran != 2 || attacked != 3 {
		t.Errorf("dlr covers %d of %d", ran, attacked)
	}
	if a := run.Account(ce, false); a != (Accounting{Tally{1, 1}, Tally{1, 1}, Tally{1, 0}}) {
		t.Errorf("accounting of the part: %+v", a)
	}
	if a := run.Account(ce, true); a != (Accounting{Tally{1, 1}, Tally{1, 0}, Tally{1, 0}}) {
		t.Errorf("accounting of the run: %+v", a)
	}
}

// Values that the literature and other tools print for Wilson's interval without continuity correction.
func TestWilsonKnownValues(t *testing.T) {
	for _, c := range []struct{ k, n, lo, hi float64 }{
		{0, 10, 0, 27.75}, {10, 10, 72.25, 100}, {5, 10, 23.66, 76.34}, {81, 263, 25.53, 36.62}, {56, 160, 28.04, 42.66},
	} {
		lo, hi := wilson(c.k/c.n, c.n)
		if !near(100*lo, c.lo, 0.006) || !near(100*hi, c.hi, 0.006) {
			t.Errorf("%v of %v: [%.3f, %.3f], want [%v, %v]", c.k, c.n, 100*lo, 100*hi, c.lo, c.hi)
		}
	}
}

// cover is the share of trials whose interval holds truth.
func cover(trials int, truth float64, interval func() (lo, hi float64)) float64 {
	hits := 0
	for range trials {
		if lo, hi := interval(); lo <= truth && truth <= hi {
			hits++
		}
	}
	return float64(hits) / float64(trials)
}

// With 2,000 trials the coverage itself is known to +-1 point (two standard errors at 95 %). Score intervals oscillate around their
// nominal level at these sizes (Wilson's exact coverage at n = 40, p = 0.35 is 93.3 %), hence the band of 92 to 97.5 %.
const coverTrials, coverLo, coverHi = 2000, 0.92, 0.975

func TestCoverageOfProportions(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{40, 160, 500} {
		for _, p := range []float64{0.1, 0.35, 0.5, 0.76} {
			got := cover(coverTrials, 100*p, func() (lo, hi float64) {
				run := Run{Images: make([]Image, n)}
				for i := range run.Images {
					run.Images[i] = Image{Label: 1, Fresh: []int{bit(r.Float64() < p)}}
				}
				e := run.Estimate(Fresh)
				return e.Lo, e.Hi
			})
			if got < coverLo || got > coverHi {
				t.Errorf("n %d, p %v: coverage %.3f", n, p, got)
			}
		}
	}
}

// Passes of one image agree far more than passes of different images. An interval that took each pass for a trial would cover far less
// than 95 %; one that took only images would be too wide where passes are independent.
func TestCoverageOfMeansOverPasses(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const n, passes = 120, 10
	for name, own := range map[string]func() float64{ // an image's own accuracy
		"alike":  func() float64 { return 0.4 },
		"spread": func() float64 { return 0.3 + 0.4*r.Float64() },
		"nearly decided": func() float64 {
			if r.Float64() < 0.6 {
				return 0.97
			}
			return 0.03
		},
	} {
		truth := map[string]float64{"alike": 40, "spread": 50, "nearly decided": 0.6*97 + 0.4*3}[name]
		got := cover(coverTrials, truth, func() (lo, hi float64) {
			run := Run{Images: make([]Image, n)}
			for i := range run.Images {
				p, im := own(), Image{Label: 1}
				for range passes {
					im.Clean = append(im.Clean, bit(r.Float64() < p))
				}
				run.Images[i] = im
			}
			e := run.Estimate(Clean)
			return e.Lo, e.Hi
		})
		if got < coverLo || got > coverHi {
			t.Errorf("%s: coverage %.3f", name, got)
		}
	}
	sure := Run{Images: []Image{{Label: 1, Clean: []int{1, 1, 1, 1}}, {Label: 1, Clean: []int{1, 1, 1, 1}}}}
	lo, _ := wilson(1, 2)
	if e := sure.Estimate(Clean); !near(e.Lo, 100*lo, 1e-9) {
		t.Errorf("two images, always right: lower bound %.1f, want that of 2 of 2, %.1f", e.Lo, 100*lo)
	}
}

// pair makes two runs with the given counts of images right in both, in a only, in b only, in none.
func pair(both, a, b, none int) (x, y Run) {
	x.Spec, y.Spec = spec(), spec()
	add := func(n, ra, rb int) {
		for range n {
			i := len(x.Images)
			x.Images = append(x.Images, Image{Index: i, Label: 1, Fresh: []int{ra}})
			y.Images = append(y.Images, Image{Index: i, Label: 1, Fresh: []int{rb}})
		}
	}
	add(both, 1, 1)
	add(a, 1, 0)
	add(b, 0, 1)
	add(none, 0, 0)
	return x, y
}

func TestCompare(t *testing.T) {
	x, y := pair(50, 6, 1, 43)
	d, err := Compare(x, Fresh, y, Fresh)
	// McNemar exact with 6 and 1 discordant pairs: 2*(1+7)/2^7 = 0.125.
	if err != nil || d.N != 100 || d.Better != 6 || d.Worse != 1 || !near(d.Value, 5, 1e-9) || !near(d.P, 0.125, 1e-12) {
		t.Errorf("%+v, error %v", d, err)
	}
	if back, _ := Compare(y, Fresh, x, Fresh); !near(back.Value, -d.Value, 1e-9) || !near(back.Lo, -d.Hi, 1e-9) || !near(back.P, d.P, 1e-12) {
		t.Errorf("not antisymmetric: %+v, %+v", d, back)
	}
	x, y = pair(100, 0, 0, 0)
	if d, _ := Compare(x, Fresh, y, Fresh); d.Value != 0 || d.P != 1 || d.Lo >= 0 || d.Hi <= 0 {
		t.Errorf("no discordant pair must not mean no uncertainty: %+v", d)
	}
	y.Images = y.Images[60:]
	if d, _ := Compare(x, Fresh, y, Fresh); d.N != 40 {
		t.Errorf("%d images in common, want 40", d.N)
	}
	for want, spoil := range map[string]func(*Run){
		"different data": func(r *Run) { r.Spec.Data.Digest = "other" },
		"has labels":     func(r *Run) { r.Images = slices.Clone(r.Images); r.Images[0].Label = 3 },
		"no scored":      func(r *Run) { r.Images = nil },
	} {
		z := x
		spoil(&z)
		if _, err := Compare(x, Fresh, z, Fresh); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestCoverageOfDifferences(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, c := range []struct {
		n          int
		both, a, b float64
	}{{60, 0.4, 0.15, 0.05}, {160, 0.3, 0.05, 0.2}, {500, 0.6, 0.02, 0.02}} {
		got := cover(coverTrials, 100*(c.a-c.b), func() (lo, hi float64) {
			var k [4]int
			for range c.n {
				u := r.Float64()
				k[bit(u > c.both)+bit(u > c.both+c.a)+bit(u > c.both+c.a+c.b)]++
			}
			x, y := pair(k[0], k[1], k[2], k[3])
			d, err := Compare(x, Fresh, y, Fresh)
			if err != nil {
				t.Fatal(err)
			}
			return d.Lo, d.Hi
		})
		if got < coverLo || got > coverHi {
			t.Errorf("%+v: coverage %.3f", c, got)
		}
	}
}

func TestBest(t *testing.T) {
	run := func(file string, n int, change func(*Spec)) Run {
		s := spec()
		if change != nil {
			change(&s)
		}
		return Run{Key: s.Key(), Spec: s, Images: images(0, n), File: file}
	}
	eps := func(e float64, seed uint64) func(*Spec) { return func(s *Spec) { s.Eps, s.Seed = e, seed } }
	runs := []Run{
		run("c", 20, eps(0.1, 2)), run("b", 20, eps(0.1, 1)), run("a", 20, eps(0.1, 1)), run("d", 10, eps(0.1, 0)),
		run("e", 30, eps(0, 9)), run("f", 0, eps(0.2, 1)), run("g", 50, func(s *Spec) { s.Row = "plain" }),
	}
	q := Query{Scenario: "a", Row: "carso-paper", Column: "rand", Scale: "tiny"}
	for range 2 {
		if r, err := Best(runs, q, func(s Spec) bool { return s.Eps == 0.1 }); err != nil || r.File != "a" {
			t.Errorf("best is %q, error %v", r.File, err)
		}
		slices.Reverse(runs) // the order of runs must not matter
	}
	if _, err := Best(runs, Query{Row: "nobody"}, nil); err == nil {
		t.Error("found a run that is not there")
	}
}

// A query matches by names, by the bound and by the settings that the JSON of the spec holds; an empty field matches anything.
func TestQuerySettings(t *testing.T) {
	attacked := Spec{Scenario: "a", Row: "carso-paper", Column: "rand", Scale: "small", Eps: float64(float32(8. / 255)),
		Defence: json.RawMessage(`{"purifier":{"cond":1},"samples":4}`),
		Attack:  json.RawMessage(`{"decides":"count","stages":[{"output":"count","attack":{"kind":"apgd","steps":40,"eot":2}},{"output":"x","attack":{"steps":7}}]}`)}
	clean := Spec{Scenario: "a", Row: "carso-paper", Column: "clean", Scale: "small", Defence: json.RawMessage(`{"samples":8,"decides":"logit"}`), Attack: json.RawMessage("null")}
	if got, want := attacked.Settings(), (Settings{Decides: "count", Samples: 4, Steps: 40, EoT: 2}); got != want {
		t.Errorf("settings %+v, want %+v", got, want)
	}
	if got, want := clean.Settings(), (Settings{Decides: "logit", Samples: 8}); got != want {
		t.Errorf("settings %+v, want %+v", got, want)
	}
	if got := (Spec{Defence: json.RawMessage("{")}).Settings(); got != (Settings{}) {
		t.Errorf("settings of no JSON: %+v", got)
	}
	for _, c := range []struct {
		q    Query
		want bool
	}{
		{Query{}, true},
		{Query{Eps: 8. / 255}, true},
		{Query{Eps: 4. / 255}, false},
		{Query{Row: "plain"}, false},
		{Query{Settings: Settings{Decides: "count", Samples: 4, Steps: 40, EoT: 2}}, true},
		{Query{Settings: Settings{Decides: "logit"}}, false},
		{Query{Settings: Settings{Samples: 8}}, false},
		{Query{Settings: Settings{Steps: 7}}, false},
		{Query{Settings: Settings{EoT: 4}}, false},
	} {
		if got := c.q.Match(attacked); got != c.want {
			t.Errorf("%+v: %v", c.q, got)
		}
	}
}

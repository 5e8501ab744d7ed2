package eval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/models"
)

// Every column that the table of adaptive attacks asks for is one attack, decided as the honest protocol decides.
func TestAdaptiveProtocols(t *testing.T) {
	scale, err := paper.FindScale("small")
	if err != nil {
		t.Fatal(err)
	}
	honest, err := Find("carso-honest", "rand", scale, 8./255)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, column := range paper.Adaptive() {
		p, err := Find("carso-adaptive", column, scale, 8./255)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Stages) != 1 || p.All || p.Decides != honest.Decides || p.Confirm != honest.Confirm {
			t.Errorf("%s: %+v is not one attack on the decisions of the honest protocol", column, p)
		}
		if b := p.Stages[0].Attack.Budget(); b != 8./255 {
			t.Errorf("%s: budget %g", column, b)
		}
		id := p.Stages[0].Output + "/" + p.Stages[0].Attack.Name()
		if seen[id] {
			t.Errorf("%s: %s is there twice", column, id)
		}
		seen[id] = true
		if a, ok := p.Stages[0].Attack.(attacks.APGD); ok && (a.Steps != scale.Steps || a.EoT != scale.EoT) {
			t.Errorf("%s: %d steps of %d draws at a scale of %d and %d", column, a.Steps, a.EoT, scale.Steps, scale.EoT)
		}
		switch p.Stages[0].Output {
		case Classifier, DrawFree:
		default:
			if err := carso.Aggregation(p.Stages[0].Output).Validate(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := Find("carso-adaptive", "rand", scale, 8./255); err == nil || !strings.Contains(err.Error(), "transfer-z0") {
		t.Errorf("an unknown column: %v", err)
	}
}

// TestStrictProtocol: no stage of it ends on what another output decides, none skips an image, and every loss that the honest rand has is there.
func TestStrictProtocol(t *testing.T) {
	scale, err := paper.FindScale("small")
	if err != nil {
		t.Fatal(err)
	}
	rand, err := Find("carso-honest", "rand", scale, 8./255)
	if err != nil {
		t.Fatal(err)
	}
	strict, err := Find("carso-honest", "strict", scale, 8./255)
	if err != nil {
		t.Fatal(err)
	}
	if strict.Decides != rand.Decides || strict.Confirm != rand.Confirm || !strict.ConfirmBest || rand.ConfirmBest {
		t.Errorf("strict: %+v\nrand: %+v", strict, rand)
	}
	names := func(p Protocol) (all []string) {
		for _, s := range p.Stages {
			all = append(all, s.Output+"/"+s.Attack.Name())
		}
		return all
	}
	for _, name := range names(rand) {
		// peel-stable is a monotone function of log-sum.
		if !strings.HasPrefix(name, string(carso.PeelStable)) && !slices.Contains(names(strict), name) {
			t.Errorf("strict lacks %s: %v", name, names(strict))
		}
	}
	for _, s := range strict.Stages {
		a := s.Attack.(attacks.APGD)
		if own := s.Output == strict.Decides; a.StopWhenBroken != own || !a.Always || !a.AverageLoss || a.Steps != scale.Steps || a.EoT != scale.EoT || a.Eps != 8./255 {
			t.Errorf("%s: %+v", s.Output, a)
		}
	}
	if _, err := Find("carso-paper", "strict", scale, 8./255); err == nil || !strings.Contains(err.Error(), "carso-honest") {
		t.Errorf("strict of the paper's protocol: %v", err)
	}
}

// questions are those of all rows and columns at a scale, at the usual bound.
func questions(scale string) []Question {
	var all []Question
	for _, row := range []string{"classifier", "plain", "carso-paper", "carso-honest"} {
		for _, column := range []string{"clean", "apgd-ce", "rand", "pgd-eot"} {
			all = append(all, Question{Scenario: "a", Row: row, Column: column, Scale: scale, Eps: paper.Bound})
		}
	}
	for _, row := range []string{"classifier", "plain", "carso-honest"} {
		all = append(all, Question{Scenario: "a", Row: row, Column: "strict", Scale: scale, Eps: paper.Bound})
	}
	for _, column := range paper.Adaptive() {
		all = append(all, Question{Scenario: "a", Row: "carso-adaptive", Column: column, Scale: scale, Eps: paper.Bound})
	}
	return all
}

// The cost that a table states is what a plan counts, with settings of its own as without.
func TestCostOfIsThePlan(t *testing.T) {
	for _, scale := range paper.Scales() {
		for _, q := range questions(scale.Name) {
			for _, own := range []Question{q, {Scenario: q.Scenario, Row: q.Row, Column: q.Column, Scale: q.Scale, Eps: q.Eps, Steps: 7, EoT: 3}} {
				if own.Steps > 0 && (q.Column == "representation" || q.Column == "clean") {
					continue // no draws, no attack
				}
				p, _, err := own.protocol()
				if err != nil {
					t.Fatal(err)
				}
				store, err := record.Open(t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				job := Job{Protocol: p, Images: scale.Images, Set: &data.Set{}, Spec: record.Spec{Schema: record.Schema, Scenario: q.Scenario, Row: q.Row, Column: q.Column,
					Scale: q.Scale, Data: record.Data{Name: "d", Split: "test", Digest: "0"}, Draws: scale.Draws}}
				plan, err := job.Plan(store, Options{})
				if err != nil {
					t.Fatal(err)
				}
				cost, err := paper.CostOf(record.Query{Scenario: q.Scenario, Row: q.Row, Column: q.Column, Scale: q.Scale,
					Settings: record.Settings{Steps: own.Steps, EoT: own.EoT}})
				if want := (paper.Cost{Forward: scale.Images * plan.Forward, Backward: scale.Images * plan.Gradient}); err != nil || cost != want {
					t.Errorf("%s/%s/%s: %+v, the plan says %+v (%v)", own.Row, own.Column, own.Scale, cost, want, err)
				}
			}
		}
	}
}

// What a plan takes for an output without noise is one, on the weights that ship; and a plan of them says what it takes in operations.
func TestPlanOfShippedWeights(t *testing.T) {
	be, set := withSample(t, goBackend)
	store, err := record.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range questions("small-full") {
		job, err := NewJob(be, q, set)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := job.Plan(store, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range plan.Outputs {
			c, err := job.System.Output(w.Output)
			if err != nil {
				t.Fatal(err)
			}
			if still := c.NoiseDims() == nil; still != (drawn(w.Output, 9) == 1) {
				t.Errorf("%s/%s: output %s without noise: %v", q.Row, q.Column, w.Output, still)
			}
		}
		var d struct {
			Purifier carso.Config `json:"purifier"`
			Net      models.WRN   `json:"net"`
		}
		if err := json.Unmarshal(job.Spec.Defence, &d); err != nil {
			t.Fatal(err)
		}
		if d.Purifier.Base.Depth == 0 { // a classifier alone, inside any defence
			d.Purifier = carso.PaperConfig(d.Net, d.Net)
		}
		if n, err := Operations(q, d.Purifier); err != nil || n != plan.FLOPs {
			t.Errorf("%s/%s: %g operations without weights (%v), %g with them", q.Row, q.Column, n, err, plan.FLOPs)
		}
		if plan.FLOPs <= 0 {
			t.Errorf("%s/%s takes %g operations", q.Row, q.Column, plan.FLOPs)
		}
		if q.Row != "classifier" || q.Column != "rand" {
			continue
		}
		// Two attacks of a start and 100 steps, one draw of which is computed. An initial pass, two that score, for each attack a first and a confirming one.
		if got := []int{plan.Stages[0].EoT, plan.Gradient, plan.Forward}; !slices.Equal(got, []int{1, 2 * 101, 1 + 2 + 2*2}) {
			t.Errorf("draws and passes of %s/%s: %v", q.Row, q.Column, got)
		}
		pass := float64(plan.Outputs[0].Condition.FLOPs)
		if want := (2*2*101 + 7) * pass; len(plan.Outputs) != 1 || plan.FLOPs != want {
			t.Errorf("%s/%s takes %g operations, want %g", q.Row, q.Column, plan.FLOPs, want)
		}
		var text bytes.Buffer
		plan.Print(&text, 0, "")
		for _, s := range []string{"101 steps of 1 draw: 101 passes", "one pass of classifier: 89 MFLOP; 178 MFLOP with gradient", "36.6 GFLOP an image, for the images left 7.31 TFLOP"} {
			if !strings.Contains(text.String(), s) {
				t.Errorf("no %q in:\n%s", s, text.String())
			}
		}
	}
}

// How the passes of a gradient add up, by the chain rule that the oracle uses.
func TestWork(t *testing.T) {
	c, s := models.Work{FLOPs: 1000}, models.Work{FLOPs: 10}
	for _, w := range []struct {
		work              Work
		draws             int
		forward, gradient float64
	}{
		{Work{Condition: c}, 1, 1000, 2000},
		{Work{Condition: c, Sample: s, Samples: 1}, 1, 1010, 2020},
		{Work{Condition: c, Sample: s, Samples: 8}, 1, 1080, 2160},
		{Work{Condition: c, Sample: s, Samples: 8}, 20, 1000 + 20*80, 3000 + 20*160}, // to the condition, and there and back
		{Work{Condition: c, Sample: s, Samples: 40}, 1, 1640, 3000 + 3*640},          // two parts of 32
	} {
		if f, g := w.work.Forward(w.draws), w.work.Gradient(w.draws); f != w.forward || g != w.gradient {
			t.Errorf("%+v in %d draws: %g and %g, want %g and %g", w.work, w.draws, f, g, w.forward, w.gradient)
		}
	}
	for n, want := range map[float64]string{12: "12 FLOP", 999.6: "1 kFLOP", 88.26e6: "88.3 MFLOP", 7.2e18: "7.2 EFLOP"} {
		if got := flops(n); got != want {
			t.Errorf("%g is %s, want %s", n, got, want)
		}
	}
	if got, want := (Work{Output: "log-sum", Condition: c, Sample: s, Samples: 8}).String(), "log-sum: 1 kFLOP to the condition, 10 FLOP for each of 8 samples; 2.16 kFLOP with gradient"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What a question changes is what its record says that it changed, and the question comes back out of the record.
// The networks of one data set are not evaluated on the images of another, though they are of one size.
func TestImagesOfAnotherDataSet(t *testing.T) {
	set, err := data.Sample()
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewJob(backend(t), Question{Scenario: "b", Row: "classifier", Column: "clean", Scale: "tiny"}, set)
	if err == nil || !strings.Contains(err.Error(), "scenario b is evaluated on cifar100, and these are images of cifar10") {
		t.Errorf("CIFAR-100 networks on CIFAR-10: %v", err)
	}
}

func TestQuestionSettings(t *testing.T) {
	for _, q := range questions("small") {
		if q.Column == "clean" || q.Column == "representation" {
			continue
		}
		q.Steps, q.EoT = 7, 3
		if strings.HasPrefix(q.Row, "carso-") {
			q.Samples, q.Decides = 2, carso.SoftmaxProb
		}
		p, _, err := q.protocol()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		spec := record.Spec{Scenario: q.Scenario, Row: q.Row, Column: q.Column, Scale: q.Scale, Eps: q.Eps, Attack: text,
			Defence: json.RawMessage(fmt.Sprintf(`{"samples":%d}`, q.Samples))}
		want := record.Settings{Decides: p.Decides, Samples: q.Samples, Steps: 7, EoT: 3}
		if got := spec.Settings(); got != want {
			t.Errorf("%s/%s: settings %+v, want %+v", q.Row, q.Column, got, want)
		}
		back, err := QuestionOf(spec)
		back.Weights, q.Weights = nil, nil
		if err != nil || !reflect.DeepEqual(back, q) {
			t.Errorf("%+v came back as %+v (%v)", q, back, err)
		}
		attacksIt := slices.ContainsFunc(p.Stages, func(s Stage) bool { return s.Output == string(carso.SoftmaxProb) })
		if attacksIt != (q.Row == "carso-paper") {
			t.Errorf("%s/%s attacks %+v", q.Row, q.Column, p.Stages)
		}
	}
	for _, bad := range []Question{{Row: "carso-paper", Column: "rand", Scale: "small", Decides: "most"}, {Row: "plain", Column: "rand", Scale: "small", Steps: -1}} {
		if _, _, err := bad.protocol(); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}

// TestAnsweredElsewhere: a run of another device answers, one of the job's own before it; a run of something else does not.
func TestAnsweredElsewhere(t *testing.T) {
	be, set := withSample(t, goBackend)
	job, err := NewJob(be, Question{Scenario: "a", Row: "classifier", Column: "rand", Scale: "tiny", Eps: 8. / 255, Images: 2}, set)
	if err != nil {
		t.Fatal(err)
	}
	run := func(backend string, seed uint64, images ...int) record.Run {
		s := job.Spec
		s.Seed += seed
		s.Versions = map[string]string{"kit": Kit, "gomlx": GoMLX, "backend": backend}
		r := record.Run{Key: s.Key(), Spec: s, File: backend}
		for _, i := range images {
			r.Images = append(r.Images, record.Image{Index: i})
		}
		return r
	}
	own := be.Name()
	for _, c := range []struct {
		known []record.Run
		want  string
	}{
		{nil, ""},
		{[]record.Run{run("elsewhere", 0, 0, 1)}, "elsewhere"},
		{[]record.Run{run("elsewhere", 0, 0, 1), run(own, 0, 0, 1)}, own},
		{[]record.Run{run(own, 0, 0), run("elsewhere", 0, 0, 1)}, "elsewhere"}, // the own one is not whole
		{[]record.Run{run("elsewhere", 1, 0, 1)}, ""},                          // another seed
		{[]record.Run{run("elsewhere", 0, 0)}, ""},
	} {
		if r, ok := Answered(c.known, job); r.File != c.want || ok != (c.want != "") {
			t.Errorf("%d known: answered by %q, want %q", len(c.known), r.File, c.want)
		}
	}
	if job.Spec.Versions["backend"] != own {
		t.Errorf("the job's backend became %s", job.Spec.Versions["backend"])
	}
}

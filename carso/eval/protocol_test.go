package eval

import (
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

// questions are those of all rows and columns at a scale, at the usual bound.
func questions(scale string) []Question {
	var all []Question
	for _, row := range []string{"classifier", "plain", "carso-paper", "carso-honest"} {
		for _, column := range []string{"clean", "apgd-ce", "rand", "pgd-eot"} {
			all = append(all, Question{Scenario: "a", Row: row, Column: column, Scale: scale, Eps: paper.Bound})
		}
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

// What a question changes is what its record says that it changed, and the question comes back out of the record.
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

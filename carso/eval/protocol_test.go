package eval

import (
	"strings"
	"testing"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/carso/paper"
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

package paper

import (
	"fmt"
	"slices"
	"strings"

	"carsokit/carso/record"
)

// HighEps is the bound of the paper's check for obfuscated gradients.
const HighEps = 0.95

// aggregationOf is the aggregation that the authors' scripts evaluate beside peel.
func aggregationOf(scenario string) string {
	if scenario == "c" {
		return "logit"
	}
	return "count"
}

// grid is a table of declared cells.
type grid struct {
	id, title string
	lines     []line
	measures  []measure
}

// grids lists, after the main table, every other evaluation of the authors' code, then ablations that the paper lacks. Each row is the evaluation of its
// ID: as the authors' scripts are called, where one of them runs it.
func grids() []grid {
	return []grid{
		{"pgd-eot", "CARSO under PGD+EoT, beside AutoAttack rand, l_inf 8/255", byScenario("_pgdeot", record.Query{}), []measure{
			{Head{"clean", "clean images, mean over passes"}, "clean"},
			{Head{"rand", "AutoAttack rand, end to end"}, "rand"},
			{Head{"pgd-eot", "PGD+EoT, end to end"}, "pgd-eot"},
			{Head{"pgd-eot-internal", "PGD+EoT, by the attack's own count"}, "pgd-eot"},
			{Head{"nan-start", "PGD+EoT, attacked images whose first gradient held a NaN"}, "pgd-eot"},
			{Head{"zero-start", "PGD+EoT, attacked images whose first gradient was exactly zero"}, "pgd-eot"},
			{Head{"finite-survivors", "PGD+EoT, survivors among the attacked images whose first gradient was finite and not zero"}, "pgd-eot"},
		}},
		{"high-eps", "The check for obfuscated gradients: AutoAttack rand with l_inf 0.95, where accuracy should fall below chance", byScenario("_hieps", record.Query{Eps: HighEps}), attacked()[1:]},
		{"aggregation", "CARSO with other aggregations of its samples, l_inf 8/255", aggregations(), attacked()},
		{"swaps", "CARSO with other classifiers for its representations and its decisions, l_inf 8/255", swaps(), attacked()},
		{"purifiers", "CARSO by the training of its purifier, l_inf 8/255", purifiers(), append(attacked(),
			measure{Head{"strict", "the attacks that a claim of a gain has to withstand, worst case per image"}, "strict"},
			measure{Head{"gain-strict", "strict, minus the classifier alone on the same images under the same losses"}, "strict"})},
		{"gains", "Gains in robust accuracy over other defences", headline("_gain"), []measure{
			{Head{"gain", "rand, minus the classifier alone on the same images"}, "rand"},
			{Head{"gain-best-at", "rand, minus the best adversarially trained classifier under AutoAttack standard"}, ""},
			{Head{"gain-best-purifier", "rand, minus the best other purifier"}, ""},
		}},
		{"training", "Training the purifier", headline("_training"), []measure{
			{Head{"training-minutes", "duration in minutes, of the paper on its own machines"}, ""},
			{Head{"adversarial-fraction", "share of a batch that is attacked"}, ""},
		}},
		{"ablation-fraction", "CARSO over the share of adversaries in the purifier's training, a short one, l_inf 8/255",
			trained("fraction", [][2]string{{"phi0", "0"}, {"phi25", "0.25"}, {"short", "0.5"}, {"phi100", "1"}}), attacked()},
		{"ablation-taps", "CARSO by the group of layers whose representations the purifier sees, in a short training, l_inf 8/255",
			trained("representations", [][2]string{{"group0", "first"}, {"group1", "second"}, {"group2", "third"}, {"short", "all"}}), attacked()},
		{"ablation-posterior", "CARSO by what might keep the purifier's posterior from collapsing, in a short training, l_inf 8/255",
			trained("posterior", [][2]string{{"short", "as it is"}, {"free", "free bits"}, {"beta10", "beta of 0.1"}, {"beta1", "beta of 0.01"}, {"cond16", "condition of 16"}, {"latent8", "8 latent dimensions"}, {"latent128", "128 latent dimensions"}}), attacked()},
		{"ablation-samples", "CARSO over the number of samples N, l_inf 8/255", ablation("samples", []float64{1, 2, 4, 8, 16, 32}, func(q *record.Query, n float64) {
			if n != Samples {
				q.Samples = int(n)
			}
		}, defended...), attacked()},
		{"ablation-eot", "CARSO over the gradient draws per step of the attacks, l_inf 8/255", ablation("eot", []float64{1, 2, 4, 10, 20, 40}, func(q *record.Query, n float64) { q.EoT = int(n) }, defended...), attacked()[1:]},
		{"ablation-steps", "CARSO and its classifier over the steps of the attacks, l_inf 8/255", ablation("steps", []float64{5, 10, 20, 40, 100, 200}, func(q *record.Query, n float64) { q.Steps = int(n) }, attackedRows...), attacked()[1:]},
		{"ablation-eps", "CARSO and its classifier over the bound", slices.Concat(ablation("eps", bounds, setBound, attackedRows...), alone("peel-stable", ablation("eps", bounds, setBound, "carso-adaptive"))),
			attacked()[1:]},
	}
}

// bounds are those of the curve over the bound, in 1/255.
var bounds = []float64{1, 2, 4, 8, 12, 16, 32, 64, 128}

func setBound(q *record.Query, n float64) {
	if n != 8 {
		q.Eps = n / 255
	}
}

// alone makes lines of the row carso-adaptive those of one of its attacks, which is then in the place of rand.
func alone(attack string, lines []line) []line {
	for i := range lines {
		l := &lines[i]
		l.of.Column = attack
		l.ID = strings.Replace(l.ID, l.of.Row, attack, 1)
		l.Title = strings.Replace(l.Title, titleOf(l.of.Row), "CARSO, APGD-CE on "+attack+" alone", 1)
	}
	return lines
}

// attacked are the columns of a run of AutoAttack rand, behind clean accuracy.
func attacked() []measure {
	return []measure{
		{Head{"clean", "clean images, mean over passes"}, "clean"},
		{Head{"rand", "AutoAttack rand, end to end"}, "rand"},
		{Head{"rand-internal", "rand, by the attack's own count"}, "rand"},
		{Head{"gain", "rand, minus the classifier alone on the same images"}, "rand"},
		{Head{"gain-mean", "the same, of the mean over fresh passes on the points where the attacks ended: an upper bound where draws differ"}, "rand"},
		{Head{"nan-start", "rand, attacked images whose first gradient held a NaN"}, "rand"},
		{Head{"zero-start", "rand, attacked images whose first gradient was exactly zero"}, "rand"},
		{Head{"finite-survivors", "rand, survivors among the attacked images whose first gradient was finite and not zero"}, "rand"},
	}
}

var (
	defended     = []string{"carso-paper", "carso-honest"}
	attackedRows = append([]string{"classifier"}, defended...)
)

// titleOf is the meaning of a row of the main table.
func titleOf(row string) string { return protocolOf(row).Title }

// byScenario has one line per scenario and row, of the given settings.
func byScenario(suffix string, of record.Query) []line {
	var lines []line
	for _, s := range Scenarios() {
		for _, row := range attackedRows {
			q := of
			q.Scenario, q.Row = s.ID, row
			lines = append(lines, line{Head{s.ID + suffix + "/" + row, s.Data + ": " + titleOf(row)}, q})
		}
	}
	return lines
}

// headline has one line per scenario, of the paper's protocol.
func headline(suffix string) []line {
	var lines []line
	for _, s := range Scenarios() {
		lines = append(lines, line{Head{s.ID + suffix, s.Data + ": " + titleOf("carso-paper")}, record.Query{Scenario: s.ID, Row: "carso-paper"}})
	}
	return lines
}

// aggregations: under the paper's protocol the aggregation decides and is attacked, under the honest one it decides, and what is attacked stays. Aggregations
// without gradients (count, vote) are not attacked at all by the first.
func aggregations() []line {
	var lines []line
	for _, s := range Scenarios() {
		for _, a := range []struct {
			row     string
			decides []string // the first is the row's own
		}{
			{"carso-paper", []string{"peel-reference", "count", "logit", "prob"}},
			{"carso-honest", []string{"log-sum", "count", "logit", "prob", "softmax-prob", "vote"}},
		} {
			for k, name := range a.decides {
				q := record.Query{Scenario: s.ID, Row: a.row}
				if k > 0 {
					q.Decides = name
				}
				lines = append(lines, line{Head{fmt.Sprintf("%s_agg/%s/%s", s.ID, a.row, name), fmt.Sprintf("%s: %s, %s decides", s.Data, titleOf(a.row), name)}, q})
			}
		}
	}
	return lines
}

// swaps: the scenarios of the main table and their variants, with each classifier alone once.
func swaps() []line {
	var lines []line
	for _, s := range append(Scenarios()[:2], Variants()...) { // of c there are no variants
		what := "f = g = " + sizes(s.Classifier)
		if s.Final != "" {
			what = "f = " + sizes(s.Classifier) + ", g = " + sizes(s.Final)
		}
		rows := defended
		if alone := aloneOf(record.Query{Scenario: s.ID}); alone.Scenario == s.ID {
			rows = attackedRows
		} else if s.Final == "" {
			lines = append(lines, line{Head{alone.Scenario + "/" + alone.Row, fmt.Sprintf("%s, %s: %s", s.Data, sizes(s.Classifier), titleOf(alone.Row))}, alone})
		}
		for _, row := range rows {
			lines = append(lines, line{Head{s.ID + "/" + row, fmt.Sprintf("%s, %s: %s", s.Data, what, titleOf(row))}, record.Query{Scenario: s.ID, Row: row}})
		}
	}
	return lines
}

// sizes says what kind of network a classifier of the authors' is, which is what the small one in its place has in common with it.
func sizes(classifier string) string {
	kind := "adversarially trained"
	if strings.HasPrefix(classifier, "own_") {
		kind = "plain"
	}
	return kind + " (at full size " + classifier + ")"
}

// purifiers: classifiers, alone and behind purifiers trained in other ways.
func purifiers() []line {
	a := Scenarios()[0]
	lines := []line{{Head{a.ID + "/classifier", a.Data + ": " + titleOf("classifier")}, record.Query{Scenario: a.ID, Row: "classifier"}}}
	add := func(id, what string) {
		for _, row := range defended {
			lines = append(lines, line{Head{id + "/" + row, fmt.Sprintf("%s, purifier %s: %s", a.Data, what, titleOf(row))}, record.Query{Scenario: id, Row: row}})
		}
	}
	add(a.ID, "trained as in the paper")
	for _, o := range trainings {
		if o.suffix == "short" {
			break // the ablations have tables of their own
		}
		if strings.HasPrefix(o.suffix, "bis") {
			lines = append(lines, line{Head{a.ID + "/plain", a.Data + ": " + titleOf("plain")}, record.Query{Scenario: a.ID, Row: "plain"}})
		}
		add(a.ID+"_"+o.suffix, o.what)
	}
	return lines
}

// trained has one line per row and purifier, of the trainings whose suffixes these are, each with its name in the table.
func trained(setting string, of [][2]string) []line {
	var lines []line
	a := Scenarios()[0]
	for _, row := range defended {
		for _, o := range of {
			id := fmt.Sprintf("%s/%s/%s-%s", a.ID, row, setting, o[1])
			lines = append(lines, line{Head{id, fmt.Sprintf("%s: %s, %s %s", a.Data, titleOf(row), setting, o[1])}, record.Query{Scenario: a.ID + "_" + o[0], Row: row}})
		}
	}
	return lines
}

// aloneOf is the evaluation of the representation classifier of q's scenario alone, under the same attack.
func aloneOf(q record.Query) record.Query {
	q.Row, q.Decides, q.Samples = "classifier", "", 0
	base, variant, _ := strings.Cut(q.Scenario, "_")
	switch variant {
	case "bis", "quinquies", "bis_e2e":
		q.Scenario, q.Row = base, "plain"
	case "quater":
		q.Scenario = base
	default:
		for _, o := range trainings {
			if o.suffix == variant {
				q.Scenario = base
			}
		}
	}
	return q
}

// ablation has one line per row and value of a setting, of scenario a: the paper has none, and one data set says what a setting does.
func ablation(setting string, values []float64, set func(*record.Query, float64), rows ...string) []line {
	var lines []line
	s := Scenarios()[0]
	for _, row := range rows {
		for _, v := range values {
			q := record.Query{Scenario: s.ID, Row: row}
			set(&q, v)
			lines = append(lines, line{Head{fmt.Sprintf("%s/%s/%s-%g", s.ID, row, setting, v), fmt.Sprintf("%s: %s, %s %g", s.Data, titleOf(row), setting, v)}, q})
		}
	}
	return lines
}

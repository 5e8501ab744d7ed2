// Package eval is the host loop from (data, defence, attack, seed) to records: it cuts the images into chunks, attacks them, scores what comes back on
// fresh draws, appends a record per chunk and continues where an earlier run stopped.
package eval

import (
	"encoding/json"
	"fmt"
	"strings"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/carso/paper"
)

// Stage is one attack on one output of the evaluated system.
type Stage struct {
	Output string         `json:"output"` // an aggregation, Classifier or DrawFree
	Attack attacks.Attack `json:"-"`
}

// MarshalJSON writes the stage with its attack's full configuration.
func (s Stage) MarshalJSON() ([]byte, error) {
	a, err := attacks.Describe(s.Attack)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Output string          `json:"output"`
		Attack json.RawMessage `json:"attack"`
	}{s.Output, a})
}

// Protocol is how a row and column of the main table are measured. No stages: clean accuracy.
type Protocol struct {
	Decides string  `json:"decides"` // the output whose decisions count
	Stages  []Stage `json:"stages"`
	Confirm int     `json:"confirm"` // fresh passes that decide whether a stage broke an image
	All     bool    `json:"all"`     // also attack images that are wrong initially
}

// Outputs beside the aggregations. Of a defence, attacks on them transfer.
const (
	Classifier = "classifier" // the representation classifier alone
	DrawFree   = "z0"         // one reconstruction at z = 0, deterministic, under log S
)

// Find returns the protocol of a row and column at a scale and bound.
//
// classifier, plain: the network itself. carso-paper: the reference's aggregation decides and is attacked, with PyTorch's NaN rules, AutoAttack's
// orchestration and one confirming pass. carso-honest: the decisions are those of peel, taken from log S, which is monotone in it and finite; every
// attack that the column names runs on log S and on the other outputs whose gradients survive, and an image is robust if none breaks it. There, images
// that all draws of a step misclassify leave, and four passes confirm.
//
// carso-adaptive: the same decisions under one attack at a time, the column's name (paper.Adaptive), each on all images that are right initially:
// what each is worth by itself. Transfer attacks see another classifier only; the representation attack sees neither label nor draw.
func Find(row, column string, scale paper.Scale, eps float64) (Protocol, error) {
	apgd := func(loss attacks.Loss, stop bool) attacks.Attack {
		a := attacks.StandardAPGD(loss, eps, scale.EoT)
		a.Steps, a.StopWhenBroken = scale.Steps, stop
		return a
	}
	pgd := attacks.PaperPGDEoT(eps)
	pgd.Steps, pgd.EoT, pgd.Step = scale.PGDSteps, scale.PGDEoT, scale.PGDStep

	p := Protocol{Decides: Classifier, Confirm: 1}
	switch row {
	case "classifier", "plain":
	case "carso-paper":
		p.Decides = string(carso.PeelReference)
	case "carso-honest":
		p.Decides, p.Confirm = string(carso.LogSum), 4
	case "carso-adaptive":
		p.Decides, p.Confirm = string(carso.LogSum), 4
		single := map[string]Stage{
			"margin":              {string(carso.LogSum), apgd(attacks.Margin, true)},
			"logit":               {string(carso.MeanLogit), apgd(attacks.CE, true)},
			"peel-stable":         {string(carso.PeelStable), apgd(attacks.CE, true)},
			"representation":      {string(carso.LogSum), attacks.StandardRepresentation(eps, scale.Steps)},
			"transfer-z0":         {DrawFree, apgd(attacks.CE, true)},
			"transfer-classifier": {Classifier, apgd(attacks.CE, true)},
		}
		if stage, ok := single[column]; ok {
			p.Stages = []Stage{stage}
			return p, nil
		}
		if column != "clean" {
			return p, fmt.Errorf("no column %q in row carso-adaptive: there are clean, %s", column, strings.Join(paper.Adaptive(), ", "))
		}
		return p, nil
	default:
		return p, fmt.Errorf("no row %q: there are classifier, plain, carso-paper, carso-honest, carso-adaptive", row)
	}
	honest := row == "carso-honest"
	add := func(output carso.Aggregation, a attacks.Attack) {
		name := string(output)
		if p.Decides == Classifier {
			name = Classifier
		}
		p.Stages = append(p.Stages, Stage{name, a})
	}
	own := carso.PeelReference // what the paper's protocol attacks
	if honest {
		own = carso.LogSum
	}
	switch column {
	case "clean":
	case "apgd-ce", "rand":
		add(own, apgd(attacks.CE, honest))
		if honest {
			add(carso.MeanLogit, apgd(attacks.CE, true))
			add(carso.PeelStable, apgd(attacks.CE, true))
			p.Stages = append(p.Stages, Stage{Classifier, apgd(attacks.CE, true)})
		}
		if column == "rand" { // behind every APGD-CE, so that a run of rand also tells what those alone broke
			add(own, apgd(attacks.DLR, honest))
		}
	case "pgd-eot":
		add(own, pgd)
		p.All = !honest // the paper attacks every image; the worst case over attacks is of those still right
		if honest {
			add(carso.MeanLogit, pgd)
		}
	default:
		return p, fmt.Errorf("no column %q: there are clean, apgd-ce, rand, pgd-eot", column)
	}
	return p, nil
}

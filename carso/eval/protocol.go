// Package eval is the host loop from (data, defence, attack, seed) to records: it cuts the images into chunks, attacks them, scores what comes back on
// fresh draws, appends a record per chunk and continues where an earlier run stopped.
package eval

import (
	"encoding/json"
	"fmt"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/carso/paper"
)

// Stage is one attack on one output of the evaluated system.
type Stage struct {
	Output string         `json:"output"` // an aggregation, or "classifier" for the classifier alone
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

// Classifier is the output of the classifier alone; of a defence, an attack on it transfers.
const Classifier = "classifier"

// Find returns the protocol of a row and column at a scale and bound.
//
// classifier, plain: the network itself. carso-paper: the reference's aggregation decides and is attacked, with PyTorch's NaN rules, AutoAttack's
// orchestration and one confirming pass. carso-honest: the decisions are those of peel, taken from log S, which is monotone in it and finite; every
// attack that the column names runs on log S and on the other outputs whose gradients survive, and an image is robust if none breaks it. There, images
// that all draws of a step misclassify leave, and four passes confirm.
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
	default:
		return p, fmt.Errorf("no row %q: there are classifier, plain, carso-paper, carso-honest", row)
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

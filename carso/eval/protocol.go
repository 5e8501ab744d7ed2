// Package eval is the host loop from (data, defence, attack, seed) to records: it cuts the images into chunks, attacks them, scores what comes back on
// fresh draws, appends a record per chunk and continues where an earlier run stopped.
package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/carso/paper"
)

// Stage is one attack on one output of the evaluated system.
type Stage struct {
	Output string         `json:"output"` // an aggregation, Classifier or DrawFree
	Attack attacks.Attack `json:"-"`
	screen bool           // one of Protocol.Screen, see attackName
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
	// Screen are cheap attacks that run before Stages, which then attack only what is left. An image that the screen does not break is judged as without it.
	Screen  []Stage `json:"screen,omitempty"`
	Confirm int     `json:"confirm"` // fresh passes that decide whether a stage broke an image
	All     bool    `json:"all"`     // also attack images that are wrong initially
	// ConfirmBest asks about a stage's point of highest loss, too, see attacks.Sequence.
	ConfirmBest bool `json:"confirm_best,omitempty"`
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
// Column strict is what a claim of a gain has to withstand: no stage stops before an image is wrong in its decisions, losses are means over the draws, an unlucky first pass
// exempts no image, the point of highest loss of every stage is tried, and the stages include the margin, one reconstruction at z = 0 and two attacks on the classifier alone.
// The cheap stages come first and the margin, whose best point is scored, last. The classifier alone meets the same losses.
//
// carso-adaptive: the same decisions under one attack at a time, the column's name (paper.Adaptive), each on all images that are right initially:
// what each is worth by itself. Transfer attacks see another classifier only; the representation attack sees neither label nor draw.
func Find(row, column string, scale paper.Scale, eps float64) (Protocol, error) {
	apgd := func(loss attacks.Loss, stop bool) attacks.APGD {
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
			"margin":         {Output: string(carso.LogSum), Attack: apgd(attacks.Margin, true)},
			"logit":          {Output: string(carso.MeanLogit), Attack: apgd(attacks.CE, true)},
			"peel-stable":    {Output: string(carso.PeelStable), Attack: apgd(attacks.CE, true)},
			"representation": {Output: string(carso.LogSum), Attack: attacks.StandardRepresentation(eps, scale.Steps)},
			// What just misleads the substitute is not what misleads the defence most: these go on.
			"transfer-z0":         {Output: DrawFree, Attack: apgd(attacks.CE, false)},
			"transfer-classifier": {Output: Classifier, Attack: apgd(attacks.CE, false)},
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
		p.Stages = append(p.Stages, Stage{Output: name, Attack: a})
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
			p.Stages = append(p.Stages, Stage{Output: Classifier, Attack: apgd(attacks.CE, true)})
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
	case "strict":
		strict := func(loss attacks.Loss, stop bool) attacks.Attack {
			a := apgd(loss, stop)
			a.AverageLoss, a.Always = true, true
			return a
		}
		switch row {
		case "carso-paper":
			return p, errors.New("column strict is of the rows carso-honest, classifier and plain: the paper's protocol is what it is")
		case "carso-honest":
			p.ConfirmBest = true
			for _, s := range []struct {
				output carso.Aggregation
				loss   attacks.Loss
			}{
				{Classifier, attacks.CE}, {Classifier, attacks.Margin}, {DrawFree, attacks.CE},
				{own, attacks.CE}, {carso.MeanLogit, attacks.CE}, {own, attacks.DLR}, {own, attacks.Margin},
			} {
				add(s.output, strict(s.loss, s.output == own)) // another output may decide otherwise
			}
		default:
			for _, loss := range []attacks.Loss{attacks.CE, attacks.DLR, attacks.Margin} {
				add(own, strict(loss, true))
			}
		}
	default:
		return p, fmt.Errorf("no column %q: there are clean, apgd-ce, rand, pgd-eot, strict", column)
	}
	return p, nil
}

// screenSteps is the length of the attacks that screen. Most images that fall at all fall early.
const screenSteps = 10

// Screened puts cheap attacks before those of the protocol: short ones of a single draw on the classifier alone, if that is not what decides, and on each output that
// the protocol attacks. Clean accuracy has nothing to screen.
func (p Protocol) Screened(eps float64) Protocol {
	if len(p.Stages) == 0 {
		return p
	}
	outputs := []string{Classifier}
	for _, s := range p.Stages {
		if !slices.Contains(outputs, s.Output) {
			outputs = append(outputs, s.Output)
		}
	}
	p.Screen = nil
	for _, output := range outputs {
		a := attacks.StandardAPGD(attacks.CE, eps, 1)
		a.Steps, a.StopWhenBroken = screenSteps, true
		p.Screen = append(p.Screen, Stage{Output: output, Attack: a, screen: true})
	}
	return p
}

// all are the stages in the order in which they run.
func (p Protocol) all() []Stage { return slices.Concat(p.Screen, p.Stages) }

// attackName is the attack's name in records. Those of a screen are told from the real ones, which may be the same on the same output.
func (s Stage) attackName() string {
	if s.screen {
		return "screen-" + s.Attack.Name()
	}
	return s.Attack.Name()
}

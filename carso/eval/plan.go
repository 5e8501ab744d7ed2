package eval

import (
	"fmt"
	"io"
	"slices"
	"time"

	"carsokit/attacks"
	"carsokit/carso/record"
)

// Plan is what an evaluation will compute. Numbers are of one image, and the most that it can take: images that are wrong from the start, broken on the way or without
// a finite gradient take less. An output without noise is passed once where one with noise is passed in several draws, and counted once.
type Plan struct {
	Images   int         `json:"images"`   // of the evaluation, or the shard
	Recorded int         `json:"recorded"` // of them, already there
	Stages   []StagePlan `json:"stages"`
	Forward  int         `json:"forward"`           // passes that decide: initial, confirming and scoring
	Gradient int         `json:"gradient"`          // passes with gradient
	Outputs  []Work      `json:"outputs,omitempty"` // what one pass through each output takes, as far as it is known
	FLOPs    float64     `json:"flops,omitempty"`   // all passes
}

// StagePlan is one attack of a plan.
type StagePlan struct {
	Name     string `json:"name"`     // "apgd-ce/log-sum"
	Steps    int    `json:"steps"`    // gradient evaluations
	EoT      int    `json:"eot"`      // draws computed in each: those averaged, or 1 of an output without noise
	Gradient int    `json:"gradient"` // Steps * EoT
}

// Plan says what [Run] would compute with the same arguments, without computing anything.
func (j Job) Plan(store *record.Store, o Options) (Plan, error) {
	o, err := o.withDefaults().withSaved(j)
	if err != nil {
		return Plan{}, err
	}
	before, _, err := store.Run(j.Spec)
	if err != nil {
		return Plan{}, err
	}
	p, err := j.passes()
	p.Images = j.total(o)
	p.Recorded = p.Images
	for _, c := range j.pending(before, nil, o) {
		p.Recorded -= len(c)
	}
	return p, err
}

// passes is the part of a plan that is about one image.
func (j Job) passes() (p Plan, err error) {
	work := func(output string) Work {
		if j.System.Work == nil {
			return Work{}
		}
		w := j.System.Work(output)
		if w.Output = output; !slices.Contains(p.Outputs, w) {
			p.Outputs = append(p.Outputs, w)
		}
		return w
	}
	forward := func(output string, draws int) {
		draws = drawn(output, draws)
		p.Forward += draws
		p.FLOPs += work(output).Forward(draws)
	}
	decides := j.Protocol.Decides
	if len(j.Protocol.Stages) == 0 {
		forward(decides, j.Spec.Draws)
		return p, nil
	}
	confirm := max(j.Protocol.Confirm, 1)
	forward(decides, confirm)
	for range 2 { // what is returned and the strongest points are scored
		forward(decides, j.Spec.Draws)
	}
	for k, s := range j.Protocol.all() {
		draws, err := eot(s)
		if err != nil {
			return p, err
		}
		stage := StagePlan{Name: stageName(s), Steps: s.Attack.Evaluations(), EoT: draws}
		stage.Gradient = stage.Steps * stage.EoT
		p.Stages = append(p.Stages, stage)
		p.Gradient += stage.Gradient
		w := work(s.Output)
		switch s.Attack.(type) {
		case attacks.Representation: // neither decodes nor classifies
			p.Forward++
			p.FLOPs += float64(w.Condition.FLOPs) * float64(1+gradientFactor*stage.Steps)
		case attacks.PGD, attacks.PGDEoT: // attack every image they are given
			p.FLOPs += float64(stage.Steps) * w.Gradient(stage.EoT)
		default: // begin with a pass of their own
			forward(s.Output, 1)
			p.FLOPs += float64(stage.Steps) * w.Gradient(stage.EoT)
		}
		if k < len(j.Protocol.Screen) {
			forward(decides, attacks.ScreenPasses)
		} else {
			forward(decides, confirm)
		}
		if j.Protocol.ConfirmBest {
			forward(decides, confirm)
		}
	}
	return p, nil
}

// Left is how many images are still to be computed.
func (p Plan) Left() int { return p.Images - p.Recorded }

// Time is how long the rest takes at a rate in images a second.
func (p Plan) Time(rate float64) time.Duration {
	return time.Duration(float64(p.Left()) / rate * float64(time.Second)).Round(time.Second)
}

// Print writes the plan; a rate of 0 is unknown, and source says where a known one comes from.
func (p Plan) Print(w io.Writer, rate float64, source string) {
	fmt.Fprintf(w, "  plan: %d images, %d of them recorded; of each at most\n", p.Images, p.Recorded)
	for _, s := range p.Stages {
		draws := "draws"
		if s.EoT == 1 {
			draws = "draw"
		}
		fmt.Fprintf(w, "    %-28s %4d steps of %d %s: %d passes with gradient\n", s.Name, s.Steps, s.EoT, draws, s.Gradient)
	}
	fmt.Fprintf(w, "    %d passes with gradient and %d without; for the %d images left %d and %d\n", p.Gradient, p.Forward, p.Left(), p.Left()*p.Gradient, p.Left()*p.Forward)
	for k := 0; k < len(p.Outputs); k++ {
		o := p.Outputs[k]
		for same := o; k+1 < len(p.Outputs); k++ { // the aggregations of one defence
			if same.Output = p.Outputs[k+1].Output; same != p.Outputs[k+1] {
				break
			}
			o.Output += ", " + same.Output
		}
		fmt.Fprintf(w, "    one pass of %s\n", o)
	}
	if p.FLOPs > 0 {
		fmt.Fprintf(w, "    %s an image, for the images left %s (two operations a multiply-add; a gradient, of pixels alone, is reckoned as one more forward pass)\n", flops(p.FLOPs), flops(p.FLOPs*float64(p.Left())))
	}
	switch {
	case p.Left() == 0:
		fmt.Fprintln(w, "    nothing is left to compute")
	case rate > 0:
		fmt.Fprintf(w, "    about %s at %.3g images/s (%s)\n", p.Time(rate), rate, source)
	default:
		fmt.Fprintln(w, "    no rate is known yet: the first chunk measures it, or give -rate")
	}
}

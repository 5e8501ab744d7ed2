package eval

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/checkpoints"
	"carsokit/data"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/ml/model"
)

// Versions of what a number depends on beside its configuration. Kit changes when an algorithm does, so that old records are not taken for new ones.
const (
	Kit   = "1"
	GoMLX = "0.28.2"
)

// Question is one cell of a table, or one point of a curve: what to evaluate and how.
type Question struct {
	Scenario string  // "a"
	Row      string  // "classifier", "plain", "carso-paper", "carso-honest", "carso-adaptive"
	Column   string  // "clean", "apgd-ce", "rand", "pgd-eot", "strict"; of carso-adaptive one of paper.Adaptive
	Scale    string  // see paper.Scales
	Eps      float64 // l_inf bound in [0,1] units; ignored for clean
	Images   int     // the first ones of the set; 0: as many as the scale says
	Samples  int     // N; 0: paper.Samples
	Steps    int     // of every attack; 0: the scale's
	EoT      int     // gradient draws per step of every attack; 0: the scale's
	Seed     uint64
	Screen   bool  // cheap attacks first, see Protocol.Screened
	Index    []int // pins the images, ascending; Images are then the first ones of these. nil: the first of the set
	// Decides replaces the aggregation that decides a CARSO row, and that carso-paper attacks, as the reference's other aggregations are; empty: the row's own.
	Decides carso.Aggregation
	// Weights opens the weight files; nil: those that ship.
	Weights carso.Opener
}

// Shipped opens the weights that are part of the binary.
func Shipped(file string) (*checkpoints.File, error) {
	return checkpoints.Shipped(strings.TrimSuffix(file, ".safetensors"))
}

// NewJob turns a question into a job on a test set.
func NewJob(be compute.Backend, q Question, set *data.Set) (Job, error) {
	if q.Column == "clean" {
		q.Eps = 0
	}
	if !(q.Eps >= 0 && q.Eps <= 1) || q.Images < 0 {
		return Job{}, fmt.Errorf("a bound of %g/255 on %d images: want a bound from 0 to 255, and a positive number of images or 0 for the scale's", q.Eps*255, q.Images)
	}
	if s, err := paper.FindScenario(q.Scenario); err == nil && s.Dataset != set.Name {
		return Job{}, fmt.Errorf("scenario %s is evaluated on %s, and these are images of %s", q.Scenario, s.Dataset, set.Name)
	}
	p, scale, err := q.protocol()
	if err != nil {
		return Job{}, err
	}
	if q.Screen {
		p = p.Screened(q.Eps)
	}
	if q.Images == 0 {
		if q.Images = scale.Images; q.Index != nil {
			q.Images = len(q.Index)
		}
	}
	if q.Index != nil {
		q.Images = min(q.Images, len(q.Index))
	}
	if q.Samples == 0 {
		q.Samples = paper.Samples
	}
	if q.Weights == nil {
		q.Weights = Shipped
	}
	// The first thousand images are those of the built-in sample: their records read the same whether or not the whole set is there.
	wanted := record.Spec{Index: q.Index}.Wanted(q.Images)
	if len(wanted) > 0 && wanted[len(wanted)-1] < 1000 && set.Len() > 1000 {
		if set, err = set.Head(1000); err != nil {
			return Job{}, err
		}
	}
	sys, err := open(q)
	if err != nil {
		return Job{}, err
	}
	j := Job{Protocol: p, System: sys, Set: set, Images: q.Images}
	j.Spec = record.Spec{Scenario: q.Scenario, Row: q.Row, Column: q.Column, Scale: q.Scale, Eps: q.Eps, Draws: scale.Draws, Seed: q.Seed, Index: q.Index}
	if q.Column == "clean" && q.Decides != "" && p.Decides != Classifier {
		sys.Defence["decides"] = q.Decides // attacked columns say it in their attack
	}
	return j, j.describe(be)
}

// protocol is that of the question's row, column, scale and bound, with its own settings in place of the usual ones.
func (q Question) protocol() (Protocol, paper.Scale, error) {
	scale, err := paper.FindScale(q.Scale)
	if err != nil {
		return Protocol{}, scale, err
	}
	if q.Steps < 0 || q.EoT < 0 || q.Samples < 0 {
		return Protocol{}, scale, fmt.Errorf("%d samples, %d steps, %d draws: none may be negative; 0 is the usual number", q.Samples, q.Steps, q.EoT)
	}
	if q.Steps > 0 {
		scale.Steps, scale.PGDSteps = q.Steps, q.Steps
	}
	if q.EoT > 0 {
		scale.EoT, scale.PGDEoT = q.EoT, q.EoT
	}
	p, err := Find(q.Row, q.Column, scale, q.Eps)
	if err != nil || q.Decides == "" || p.Decides == Classifier {
		return p, scale, err
	}
	if err := q.Decides.Validate(); err != nil {
		return p, scale, err
	}
	p.Decides = string(q.Decides)
	if q.Row == "carso-paper" {
		for k := range p.Stages {
			p.Stages[k].Output = p.Decides
		}
	}
	return p, scale, nil
}

// open loads the weights that a question needs.
func open(q Question) (System, error) {
	s, err := carso.FindScenario(q.Scenario, q.Scale)
	if err != nil {
		return System{}, err
	}
	var sys System
	weight := func(role, file string) error {
		f, err := q.Weights.Open(file)
		if err != nil {
			return err
		}
		sum, err := f.SHA256()
		sys.Weights = append(sys.Weights, record.Weight{Role: role, File: file, SHA256: sum})
		return errors.Join(err, f.Close())
	}
	switch q.Row {
	case "classifier", "plain":
		file := s.Classifier
		if q.Row == "plain" {
			file = s.Plain
		}
		if file == "" {
			return sys, fmt.Errorf("scenario %s has no plain classifier", s.ID)
		}
		f, err := q.Weights.Open(file)
		if err != nil {
			return sys, err
		}
		c, err := carso.OpenClassifier(model.NewStore(), "/f", f, file)
		if err = errors.Join(err, f.Close()); err != nil {
			return sys, err
		}
		sys.Defence = map[string]any{"net": c.Net}
		sys.Output = func(string) (attacks.Classifier, error) { return c, nil }
		sys.Work = func(string) Work { return Work{Condition: c.Net.Work()} }
		return sys, weight("classifier", file)
	}
	d, err := carso.OpenDefence(s, q.Weights, q.Samples, carso.LogSum)
	if err != nil {
		return sys, err
	}
	sys.Defence = map[string]any{"purifier": d.Config, "samples": d.Samples}
	sys.Output = func(name string) (attacks.Classifier, error) {
		switch name {
		case Classifier:
			return d.Alone(), nil
		case DrawFree:
			return d.DrawFree()
		}
		return d.With(carso.Aggregation(name))
	}
	sys.Work = workOf(d.Config, d.Samples)
	err = weight("classifier", s.Classifier)
	if s.Final != "" {
		err = errors.Join(err, weight("final", s.Final))
	}
	for _, p := range d.Parts() {
		if !p.TrainOnly {
			err = errors.Join(err, weight(p.Name, carso.PartFile(s.Stem, p.Name)))
		}
	}
	return sys, err
}

// Answered returns the run, of those given, that has all images of a job: of the job's own backend, else of another, whose verdicts may differ by what rounding turns.
func Answered(known []record.Run, job Job) (record.Run, bool) {
	elsewhere := func(s record.Spec) string {
		s.Versions = maps.Clone(s.Versions)
		s.Versions["backend"] = "any"
		return s.Key()
	}
	for _, key := range []func(record.Spec) string{record.Spec.Key, elsewhere} {
		want := key(job.Spec)
		for _, r := range known {
			if want != "" && key(r.Spec) == want && len(r.Missing(job.Images)) == 0 {
				return r, true
			}
		}
	}
	return record.Run{}, false
}

// Ensure returns the run of a job: from the given runs if one of them has all its images, else by running it into the store.
func Ensure(ctx context.Context, be compute.Backend, store *record.Store, known []record.Run, job Job, o Options) (record.Run, error) {
	if r, ok := Answered(known, job); ok {
		return r, nil
	}
	return Run(ctx, be, store, job, o)
}

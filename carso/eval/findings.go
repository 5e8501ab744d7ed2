package eval

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"carsokit/attacks"
	"carsokit/attacks/check"
	"carsokit/carso"
	"carsokit/carso/record"
	"carsokit/internal/atomicfile"
	"carsokit/internal/rng"

	"github.com/gomlx/compute"
)

// Findings checks whether attacks on what decides in a job can be believed, on the first images of the job's set. Where the job has a purifier, adversarial examples
// of the classifier alone and of another output of the defence are tried on it. Subject, Seed, Eps and Substitutes of o are filled in where they are empty.
func Findings(ctx context.Context, be compute.Backend, job Job, images int, o check.Options) (*check.Report, error) {
	s := job.Set
	if images < 1 || images > s.Len() {
		return nil, fmt.Errorf("checking on %d images: %s %s here has %d", images, s.Name, s.Split, s.Len())
	}
	b := attacks.Batch{X: make([]float32, images*s.H*s.W*3), H: s.H, W: s.W, C: 3}
	for i := range images {
		b.Y, b.ID = append(b.Y, s.Labels[i]), append(b.ID, i)
	}
	s.Floats(b.X, b.ID...)
	decides := job.Protocol.Decides
	c, err := job.System.Output(decides)
	if err != nil {
		return nil, err
	}
	if o.Subject == "" {
		o.Subject = fmt.Sprintf("Scenario %s, row %s, output %s", job.Spec.Scenario, job.Spec.Row, decides)
	}
	if o.Seed == 0 {
		o.Seed = rng.Seed(job.Spec.Seed)
	}
	if o.Eps == 0 {
		o.Eps = job.Spec.Eps
	}
	if decides != Classifier && o.Substitutes == nil {
		for _, name := range []string{Classifier, string(carso.LogSum), string(carso.MeanLogit)} {
			if name == decides || len(o.Substitutes) == 2 {
				continue
			}
			other, err := job.System.Output(name)
			if err != nil {
				return nil, err
			}
			o.Substitutes = append(o.Substitutes, check.Substitute{Name: name, Classifier: other})
		}
	}
	return check.Run(ctx, be, c, b, o)
}

// FindingsFile is where the findings of a run lie: beside its records, under the same name.
func FindingsFile(spec record.Spec) string {
	return strings.TrimSuffix(spec.FileName(), ".jsonl") + ".findings.json"
}

// SaveFindings writes a report beside the records of a spec in dir. Records name no findings, so that they read the same with and without.
func SaveFindings(dir string, spec record.Spec, r *check.Report) (file string, err error) {
	file = filepath.Join(dir, FindingsFile(spec))
	return file, atomicfile.Write(file, func(w io.Writer) error { return r.Render(w, "json") })
}

package eval

import (
	"context"
	"path/filepath"
	"time"

	"carsokit/attacks"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/internal/setup"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/compute"
)

// Lab is all that a notebook needs: the backend, the test images, and where records are.
type Lab struct {
	Backend compute.Backend
	Set     *data.Set
	Note    string // which images these are, for people
	Store   *record.Store
	known   []record.Run
	dir     string
}

// OpenLab opens the backend and the test set, and build/records of the checkout for new records.
func OpenLab() (*Lab, error) {
	root, err := setup.Root()
	if err != nil {
		root = "."
	}
	l := &Lab{dir: filepath.Join(root, "build", "records")}
	if l.Backend, err = xlaenv.Backend(); err != nil {
		return nil, err
	}
	if l.Set, l.Note, err = data.TestSet(root); err != nil {
		return nil, err
	}
	if l.Store, err = record.Open(l.dir); err != nil {
		return nil, err
	}
	l.known, err = paper.Committed()
	return l, err
}

// Ask answers a question from the records, or by evaluating it now; progress may be nil.
func (l *Lab) Ask(ctx context.Context, q Question, progress func(done int, words string)) (record.Run, error) {
	job, err := NewJob(l.Backend, q, l.Set)
	if err != nil {
		return record.Run{}, err
	}
	o := Options{Chunk: 16}
	if progress != nil {
		last := time.Time{}
		o.Progress = func(p Progress) {
			if time.Since(last) > 250*time.Millisecond || p.Done == p.Total {
				last = time.Now()
				progress(p.Done, p.Note)
			}
		}
	}
	return Ensure(ctx, l.Backend, l.Store, l.known, job, o)
}

// Output opens one output of a row's system, on the weights that ship: Classifier, DrawFree or an aggregation.
func (l *Lab) Output(row, name string) (attacks.Classifier, error) {
	job, err := NewJob(l.Backend, Question{Scenario: "a", Row: row, Column: "clean", Scale: "tiny"}, l.Set)
	if err != nil {
		return nil, err
	}
	return job.System.Output(name)
}

// Batch is the first n test images, ready to be attacked; all where there are fewer.
func (l *Lab) Batch(n int) attacks.Batch {
	s := l.Set
	n = min(n, s.Len())
	b := attacks.Batch{X: make([]float32, n*s.H*s.W*3), Y: s.Labels[:n:n], ID: make([]int, n), H: s.H, W: s.W, C: 3}
	for i := range b.ID {
		b.ID[i] = i
	}
	s.Floats(b.X, b.ID...)
	return b
}

// Runs returns all records: the program's own and those made here.
func (l *Lab) Runs() ([]record.Run, error) {
	more, err := l.Store.Load()
	return append(append([]record.Run(nil), l.known...), more...), err
}

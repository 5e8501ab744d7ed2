package eval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"carsokit/attacks"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/internal/rng"

	"github.com/gomlx/compute"
)

// System is what is evaluated: a classifier or a defence, under the names of its outputs.
type System struct {
	// Output returns the system's output of that name, on shared weights.
	Output func(name string) (attacks.Classifier, error)
	// Work says what a pass through that output takes, for plans; nil where nobody knows.
	Work    func(name string) Work
	Defence map[string]any // its configuration, for the record
	Weights []record.Weight
}

// Job is one evaluation. Spec names it; Data, Attack, Eps and Weights of the spec are filled in by NewJob.
type Job struct {
	Spec     record.Spec
	Protocol Protocol
	System   System
	Set      *data.Set
	Images   int // the first Images of Set, or of those that Spec.Index pins
}

// Options are settings that cannot change a number.
type Options struct {
	Chunk   int   // images in one record; default 25
	Workers int   // chunks under way at once; default 2, which fills the gaps that one leaves between parallel operations
	Buckets []int // batch sizes compiled, see attacks.OracleOptions; default 16 and 4
	Shard   Shard // the part of the images to evaluate, into a file of its own; zero: all
	// Until, if positive, ends the evaluation with the first chunk after which the interval of Progress.Estimate is at most so many percentage points
	// wide. The images are then the first ones, as of an evaluation of fewer, and continuing without it gives the same records as ever.
	Until float64
	// Save, if not empty, is a folder that also gets the adversarial images, in a folder of the evaluation's own (SavedFolder). Images that are recorded but not
	// saved are attacked again, with the same noise; their records stay.
	Save string
	// Progress is told of every gradient evaluation and every finished chunk. Calls do not overlap.
	Progress func(Progress)

	saved *saved // what Save holds
}

// Progress is the state of an evaluation.
type Progress struct {
	Done, Total int // images
	Elapsed     time.Duration
	Fresh       int             // images done in this run, which the rate is made of
	Measure     string          // what Estimate counts: the name of a record.Definition
	Estimate    record.Estimate // over all images known so far, of this run or not
	Note        string          // what is going on
}

// narrow says whether the interval of the accuracy so far is at most so many points wide; never, if that is 0.
func (p Progress) narrow(until float64) bool {
	return until > 0 && p.Estimate.N > 0 && p.Estimate.Hi-p.Estimate.Lo <= until
}

// Run evaluates the images, of the shard, that the store does not hold yet and returns the whole run. If none is left it computes nothing. Where ctx
// ends it returns ctx's error with all finished chunks recorded; running again continues, and the final records are those of an uninterrupted run.
// At a kill at most the chunks under way are lost, one a worker.
func Run(ctx context.Context, be compute.Backend, store *record.Store, job Job, o Options) (record.Run, error) {
	if wanted := job.Spec.Wanted(job.Images); job.Images < 1 || len(wanted) == 0 || wanted[len(wanted)-1] >= job.Set.Len() {
		if len(wanted) > 0 && job.Spec.Index != nil {
			return record.Run{}, fmt.Errorf("evaluating pinned images up to %d: %s %s here has %d; `carso data get %s` brings all", wanted[len(wanted)-1], job.Set.Name, job.Set.Split, job.Set.Len(), job.Set.Name)
		}
		return record.Run{}, fmt.Errorf("evaluating %d images: %s %s here has %d; `carso data get %s` brings all", job.Images, job.Set.Name, job.Set.Split, job.Set.Len(), job.Set.Name)
	}
	o, err := o.withDefaults().withSaved(job)
	if err != nil {
		return record.Run{}, err
	}
	before, there, err := store.Run(job.Spec)
	if err != nil {
		return record.Run{}, err
	}
	_, score := job.measure()
	if there && (len(job.pending(before, nil, o)) == 0 || (Progress{Estimate: before.Estimate(score)}).narrow(o.Until)) {
		return before, nil
	}
	w, err := store.ShardWriter(job.Spec, o.Shard.String())
	if err != nil {
		return record.Run{}, err
	}
	if err = errors.Join(job.evaluate(ctx, be, before, w, o), w.Close()); err != nil {
		return record.Run{}, err
	}
	run, there, err := store.Run(job.Spec)
	if err == nil && !there {
		err = fmt.Errorf("the run just recorded in %s is not there", w.Path())
	}
	return run, err
}

// Buckets are the compiled batch sizes up to a largest one: that, and a quarter of it for what is left at the end. 0 is the default.
func Buckets(largest int) []int {
	switch {
	case largest < 1:
		return nil
	case largest < 4:
		return []int{largest}
	}
	return []int{largest, largest / 4}
}

func (o Options) withDefaults() Options {
	if o.Chunk < 1 {
		o.Chunk = 25
	}
	if o.Workers < 1 {
		o.Workers = 2
	}
	if len(o.Buckets) == 0 {
		o.Buckets = []int{16, 4}
	}
	return o
}

// withSaved reads what is saved already.
func (o Options) withSaved(j Job) (Options, error) {
	if o.Save == "" {
		return o, nil
	}
	if len(j.Protocol.Stages) == 0 {
		return o, fmt.Errorf("saving images of column %s: it attacks none", j.Spec.Column)
	}
	var err error
	o.saved, err = openSaved(o.Save, j.Spec, o.Shard)
	return o, err
}

// pending lists the shard's images that are in neither of the two, or not saved where they shall be, chunk by chunk. Chunks are counted from the first image of the evaluation, so that who
// evaluates them, and what was there before, does not move their ends.
func (j Job) pending(before record.Run, done map[int]bool, o Options) [][]int {
	var chunks [][]int
	last := -1
	known := byIndex(before)
	for _, i := range j.Spec.Wanted(j.Images) {
		c := j.Spec.Place(i) / o.Chunk
		_, recorded := known[i]
		if recorded && (o.saved == nil || o.saved.has[i]) || done[i] && !recorded || !o.Shard.has(c) {
			continue
		}
		if c != last {
			chunks, last = append(chunks, nil), c
		}
		chunks[len(chunks)-1] = append(chunks[len(chunks)-1], i)
	}
	return chunks
}

func byIndex(r record.Run) map[int]record.Image {
	m := make(map[int]record.Image, len(r.Images))
	for _, im := range r.Images {
		m[im.Index] = im
	}
	return m
}

// evaluate appends what is missing to w.
func (j Job) evaluate(ctx context.Context, be compute.Backend, before record.Run, w *record.Writer, o Options) error {
	// Another process may have appended to this file since before was read.
	chunks := j.pending(before, w.Done(), o)
	if len(chunks) == 0 {
		return nil
	}
	seq, err := j.sequence(be, o.Buckets)
	if err != nil {
		return err
	}
	defer func() {
		seq.Decide.Close()
		for _, s := range seq.Stages {
			s.Oracle.Close() // the same one more than once where stages share it, which is harmless
		}
	}()
	return j.run(ctx, seq, before, chunks, w, o)
}

// sequence binds the protocol to the system's outputs. Stages on one output share its compiled graphs.
func (j Job) sequence(be compute.Backend, buckets []int) (attacks.Sequence, error) {
	oracles := map[string]*attacks.Oracle{}
	oracle := func(name string) (*attacks.Oracle, error) {
		if o := oracles[name]; o != nil {
			return o, nil
		}
		c, err := j.System.Output(name)
		if err != nil {
			return nil, err
		}
		o, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: buckets})
		oracles[name] = o
		return o, err
	}
	seq := attacks.Sequence{Confirm: j.Protocol.Confirm, ConfirmBest: j.Protocol.ConfirmBest, All: j.Protocol.All, Screen: len(j.Protocol.Screen)}
	var err error
	if seq.Decide, err = oracle(j.Protocol.Decides); err != nil {
		return seq, err
	}
	for _, s := range j.Protocol.all() {
		o, err := oracle(s.Output)
		if err != nil {
			return seq, err
		}
		seq.Stages = append(seq.Stages, attacks.Stage{Oracle: o, Output: s.Output, Attack: s.Attack})
	}
	return seq, nil
}

func (j Job) run(ctx context.Context, seq attacks.Sequence, known record.Run, chunks [][]int, w *record.Writer, o Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	measure, score := j.measure()
	p := Progress{Total: j.total(o), Measure: measure}
	known.Images = slices.Clone(known.Images)
	p.Estimate = known.Estimate(score)
	recorded := byIndex(known)
	p.Done = p.Total
	for _, c := range chunks {
		p.Done -= len(c)
	}
	start := time.Now()
	var mu sync.Mutex
	tell := func(change func(*Progress)) {
		mu.Lock()
		defer mu.Unlock()
		change(&p)
		p.Elapsed = time.Since(start)
		if o.Progress != nil {
			o.Progress(p)
		}
	}
	// Chunks are computed side by side and appended in order, so that the file does not depend on which was faster. A chunk begins only while less than
	// Workers before it are not appended: what a kill can take is bounded.
	results := make([]chan *chunkResult, len(chunks))
	next := make(chan int, len(chunks))
	for i := range results {
		results[i] = make(chan *chunkResult, 1)
		next <- i
	}
	close(next)
	open := make(chan struct{}, o.Workers)
	var wg sync.WaitGroup
	defer wg.Wait()
	for range o.Workers {
		wg.Go(func() {
			for {
				select {
				case open <- struct{}{}:
				case <-ctx.Done():
					return
				}
				i, more := <-next
				if !more {
					return
				}
				result, err := j.chunk(ctx, seq, chunks[i], func(note string) { tell(func(p *Progress) { p.Note = note }) })
				if err != nil {
					cancel(err)
					return
				}
				results[i] <- result
			}
		})
	}
	for i := range chunks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var result *chunkResult
		select {
		case result = <-results[i]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		images, err := j.keep(w, recorded, o.saved, result)
		if err != nil {
			cancel(err)
			return err
		}
		<-open
		tell(func(p *Progress) {
			p.Done += len(result.images)
			p.Fresh += len(result.images)
			known.Images = append(known.Images, images...)
			p.Estimate = known.Estimate(score)
		})
		if p.narrow(o.Until) { // nobody else changes the estimate
			cancel(nil)
			return nil
		}
	}
	return nil
}

// measure is the accuracy that progress tells of.
func (j Job) measure() (string, record.Score) {
	if len(j.Protocol.Stages) == 0 {
		return "clean", record.Clean
	}
	return "fresh", record.Fresh
}

// total is how many images the shard has.
func (j Job) total(o Options) int {
	n := 0
	for _, c := range j.pending(record.Run{}, nil, o) { // nothing recorded: all
		n += len(c)
	}
	return n
}

// chunk evaluates the images at the given positions of the set. Randomness depends on the spec's seed and each image's index only.
func (j Job) chunk(ctx context.Context, seq attacks.Sequence, at []int, note func(string)) (*chunkResult, error) {
	s := j.Set
	b := attacks.Batch{X: make([]float32, len(at)*s.H*s.W*3), Y: make([]int32, len(at)), ID: at, H: s.H, W: s.W, C: 3}
	s.Floats(b.X, at...)
	images := make([]record.Image, len(at))
	for k, i := range at {
		b.Y[k] = s.Labels[i]
		images[k] = record.Image{Index: i, Label: int(s.Labels[i])}
	}
	root := rng.Seed(j.Spec.Seed)
	score := func(x []float32, seed rng.Seed) ([][]int, error) {
		p := b
		p.X = x
		return predictions(ctx, seq.Decide, p, seed, j.Spec.Draws)
	}
	if len(seq.Stages) == 0 {
		clean, err := score(b.X, root.Child("score clean"))
		for k := range clean {
			images[k].Clean, images[k].Initial = clean[k], clean[k][0] == images[k].Label
		}
		return &chunkResult{images: images}, err
	}
	seq.Progress = func(done, total int, what string) {
		note(fmt.Sprintf("images %d-%d: %s, %d/%d gradients", at[0], at[len(at)-1], what, done, total))
	}
	out, err := seq.Run(ctx, b, root.Child("attack"))
	if err != nil {
		return nil, err
	}
	fresh, err := score(out.Adv, root.Child("score fresh"))
	if err != nil {
		return nil, err
	}
	strongest, err := score(out.Strongest, root.Child("score strongest"))
	if err != nil {
		return nil, err
	}
	stages := j.Protocol.all()
	linf := attacks.Distance(out.Adv, b.X, len(at))
	for k := range images {
		im := &images[k]
		im.Initial, im.Fresh, im.Strongest, im.Linf = !out.Initially[k], fresh[k], strongest[k], linf[k]
		switch hit := out.FirstHit[k]; {
		case !im.Initial && !seq.All:
			im.FirstHit = record.HitInitially
		case hit >= 0:
			im.FirstHit = stageName(stages[hit])
		case hit == attacks.NotBroken:
			im.FirstHit = record.NoHit
		}
		for n, stage := range stages {
			d := out.Diag[n][k]
			if out.BrokenBy[k] == n {
				im.Broken = stageName(stage)
			}
			if d.Steps == 0 {
				continue
			}
			im.Parts = append(im.Parts, record.Part{Attack: stage.attackName(), Output: stage.Output, Broken: out.BrokenBy[k] == n,
				NaNStart: d.NaNStart, NaNEver: d.NaNEver, ZeroStart: d.ZeroStart, ZeroEver: d.ZeroEver, LossZeroStart: d.LossZeroStart,
				Moved: d.Moved, Steps: d.Steps, Hit: -1})
		}
	}
	return &chunkResult{images, b, out.Strongest}, nil
}

// chunkResult is what came of a chunk: the observations, and the images that they are of.
type chunkResult struct {
	images []record.Image
	clean  attacks.Batch
	points []float32 // where the attacks ended, see attacks.Outcome.Strongest
}

// predictions are those of so many fresh passes on each image.
func predictions(ctx context.Context, decide *attacks.Oracle, b attacks.Batch, seed rng.Seed, draws int) ([][]int, error) {
	logits, err := decide.Logits(ctx, b, seed, draws)
	if err != nil {
		return nil, err
	}
	n, classes := b.Len(), decide.Classes()
	all := make([][]int, n)
	for d := range draws {
		for k := range n {
			row := logits[(d*n+k)*classes:]
			all[k] = append(all[k], int(attacks.Predict(row[:classes])))
		}
	}
	return all, nil
}

// stageName is the stage's name in records, "attack/output".
func stageName(s Stage) string {
	return record.PartID{Attack: s.attackName(), Output: s.Output}.String()
}

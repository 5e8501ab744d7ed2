package carso

import (
	"context"
	"fmt"
	"math"
	"path/filepath"

	"carsokit/attacks"
	"carsokit/checkpoints"
	"carsokit/internal/nn"
	"carsokit/internal/training"
	"carsokit/models"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// Point is one line of a purifier's training curve. Losses are means over the steps since the point before, per image; the rest is measured on held-out
// training images with the weights at that step and the statistics of evaluation mode.
type Point struct {
	Step  int     `json:"step"`
	LR    float64 `json:"lr"`
	Beta  float64 `json:"beta"`
	Loss  float64 `json:"loss"`
	BCE   float64 `json:"bce"`
	KL    float64 `json:"kl"`                 // nats per image, unweighted
	CE    float64 `json:"ce,omitempty"`       // class loss, nats per image, unweighted
	Alone float64 `json:"held_classifier"`    // percent correct of the classifier alone, clean images
	CARSO float64 `json:"held_carso"`         // percent correct of the defence, clean images, 8 samples, deciding by log-sum
	Zero  float64 `json:"held_carso_z0"`      // the same with the one sample z = 0
	Std   float64 `json:"between_draws_std"`  // mean over pixels of the standard deviation between the samples' reconstructions
	MSE   float64 `json:"reconstruction_mse"` // of the samples against the clean image
	// The classifier and z = 0, each attacked by ten steps of PGD at 8/255 on fewer images: for comparison along an end-to-end run, no evaluation. Others do
	// not have it, since compiling the attack takes longer than measuring.
	AloneRobust float64 `json:"held_classifier_pgd,omitempty"`
	ZeroRobust  float64 `json:"held_carso_z0_pgd,omitempty"`
}

// At is the number of steps done.
func (p Point) At() int { return p.Step }

type job struct {
	*Trainer
	probe func(context.Context, *Point) error
}

func (j *job) Every() int { return max(1, j.Total()/20) }

func (j *job) Advance(ctx context.Context) (float64, error) {
	l, err := j.Trainer.Advance(ctx)
	if err == nil {
		s := &j.since
		*s = tally{Losses{s.Total + l.Total, s.BCE + l.BCE, s.KL + l.KL, l.Beta, l.LR, s.CE + l.CE}, s.Steps + 1}
	}
	return l.Total, err
}

func (j *job) Measure(ctx context.Context, _ []Point) (Point, error) {
	s, n := j.since, float64(j.since.Steps)
	p := Point{Step: j.step, LR: s.LR, Beta: s.Beta, Loss: s.Total / n, BCE: s.BCE / n, KL: s.KL / n, CE: s.CE / n}
	j.since = tally{}
	return p, j.probe(ctx, &p)
}

// Run trains until the end or until ctx is done, in which case it saves the state and returns ctx's error: running again continues.
func (t *Trainer) Run(ctx context.Context, o training.Options[Point]) error {
	probe, err := t.newProbe()
	if err != nil {
		return err
	}
	return training.Run(ctx, &job{Trainer: t, probe: probe}, o)
}

// newProbe returns a function that measures the defence on at most 500 held-out images.
func (t *Trainer) newProbe() (func(context.Context, *Point) error, error) {
	const samples, batch = 8, 50
	n := min(t.held.Len(), 500) / batch * batch
	c := t.Recipe.Config
	sampled := &Defence{c, samples, LogSum, t.Store}
	zero := &Defence{c, 0, LogSum, t.Store}
	alone := models.NewClassifier(t.Store, baseScope, c.Base)
	exec, err := model.NewExec(t.backend, t.Store, func(s *model.Scope, x, z *node) []*node {
		return probeGraph(sampled, zero, alone, s, x, z)
	})
	if err != nil {
		return nil, fmt.Errorf("building the probe: %w", err)
	}
	quick := func(context.Context, *Point) error { return nil }
	if t.Recipe.EndToEnd > 0 {
		quick, err = t.quickRobust(map[attacks.Classifier]func(*Point) *float64{
			alone: func(p *Point) *float64 { return &p.AloneRobust },
			zero:  func(p *Point) *float64 { return &p.ZeroRobust },
		})
		if err != nil {
			return nil, fmt.Errorf("building the probe: %w", err)
		}
	}
	size := c.Base.Size
	return func(ctx context.Context, p *Point) error {
		if n == 0 {
			return nil
		}
		x, z := make([]float32, batch*size*size*3), make([]float32, batch*samples*c.Latent)
		for first := 0; first < n; first += batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			idx := make([]int, batch)
			for i := range idx {
				idx[i] = first + i
			}
			t.held.Floats(x, idx...)
			t.Recipe.Seed.Child("probe", first).Normal(z)
			in := []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, batch, size, size, 3), tensors.FromFlatDataAndDimensions(z, batch, samples, c.Latent)}
			out, err := exec.Call(in[0], in[1])
			for _, v := range in {
				v.MustFinalizeAll()
			}
			if err != nil {
				return fmt.Errorf("probing the held-out images: %w", err)
			}
			values := make([][]float32, len(out))
			for i, v := range out {
				if values[i], err = tensors.CopyFlatData[float32](v); err != nil {
					return fmt.Errorf("probing the held-out images: %w", err)
				}
				v.MustFinalizeAll()
			}
			classes := c.Final.Classes
			for i := range batch {
				y := t.held.Labels[first+i]
				for k, dst := range []*float64{&p.Alone, &p.CARSO, &p.Zero} {
					if attacks.Predict(values[k][i*classes:(i+1)*classes]) == y {
						*dst += 100 / float64(n)
					}
				}
			}
			p.Std += float64(values[3][0]) * batch / float64(n)
			p.MSE += float64(values[4][0]) * batch / float64(n)
		}
		for _, v := range []*float64{&p.Alone, &p.CARSO, &p.Zero} {
			*v = math.Round(*v*100) / 100
		}
		return quick(ctx, p)
	}, nil
}

// quickRobust returns a function that attacks at most 250 held-out images and writes each classifier's percentage of correct ones where it says.
func (t *Trainer) quickRobust(of map[attacks.Classifier]func(*Point) *float64) (func(context.Context, *Point) error, error) {
	const batch = 50
	n := min(t.held.Len(), 250) / batch * batch
	b := attacks.Batch{H: t.held.H, W: t.held.W, C: 3, X: make([]float32, n*t.held.H*t.held.W*3), Y: t.held.Labels[:n]}
	for i := range n {
		b.ID = append(b.ID, i)
	}
	t.held.Floats(b.X, b.ID...)
	oracles := map[attacks.Classifier]*attacks.Oracle{}
	for c := range of {
		o, err := attacks.NewOracle(t.backend, c, attacks.OracleOptions{Buckets: []int{batch}})
		if err != nil {
			return nil, err
		}
		oracles[c] = o
	}
	pgd := attacks.PGD{Eps: 8. / 255, Step: 2. / 255, Steps: 10, EoT: 1, RandomStart: true}
	return func(ctx context.Context, p *Point) error {
		if n == 0 {
			return nil
		}
		for c, dst := range of {
			res, err := pgd.Run(ctx, oracles[c], b, t.Recipe.Seed.Child("probe pgd"))
			if err != nil {
				return fmt.Errorf("attacking the held-out images: %w", err)
			}
			attacked := b
			attacked.X = res.Adv
			logits, err := oracles[c].Logits(ctx, attacked, t.Recipe.Seed, 1)
			if err != nil {
				return fmt.Errorf("attacking the held-out images: %w", err)
			}
			correct, k := 0, c.Classes()
			for i, y := range b.Y {
				if attacks.Predict(logits[i*k:(i+1)*k]) == y {
					correct++
				}
			}
			*dst(p) = math.Round(1e4*float64(correct)/float64(n)) / 100
		}
		return nil
	}, nil
}

// ExportState writes the three files that inference needs from the state of a finished training in dir, as the reference saves them: the slow
// parameters of Lookahead with the current BatchNorm statistics. With half set the numbers are rounded to float16, which halves the files.
//
// It returns the number of steps that the weights have learnt from, and what was wrong with a newer state that had to be passed over.
func ExportState(dir, out, stem string, half bool) (steps int, warning string, err error) {
	var meta trainState
	ts, step, warning, err := checkpoints.LoadState(dir, stateName, &meta)
	if err != nil {
		return 0, warning, err
	}
	return int(step), warning, meta.export(ts, dir, out, stem, half)
}

func (meta trainState) export(ts []checkpoints.Tensor, dir, out, stem string, half bool) error {
	state := map[string]checkpoints.Tensor{}
	for _, t := range ts {
		state[t.Name] = t
	}
	meta.Since = nil // of the run, not of the weights
	text := describe(meta)
	for _, part := range meta.Recipe.Config.Parts() {
		if part.TrainOnly {
			continue
		}
		var file []checkpoints.Tensor
		for _, p := range part.Params {
			if p.Kind == nn.BNCount {
				file = append(file, checkpoints.I64(p.Name, p.Shape, []int64{0}))
				continue
			}
			path := "/" + part.Name + "/" + p.Name
			if !p.Buffer() {
				path = slowScope + path
			}
			t, ok := state[path]
			if !ok {
				return fmt.Errorf("exporting the purifier in %s: its state has no %s", dir, path)
			}
			v, err := t.Float32s()
			if err != nil {
				return err
			}
			v = p.Torch(v)
			t = checkpoints.F32(p.Name, p.Shape, v)
			if half {
				if t, err = checkpoints.F16(p.Name, p.Shape, v); err != nil {
					return err
				}
			}
			file = append(file, t)
		}
		if err := checkpoints.Write(filepath.Join(out, PartFile(stem, part.Name)), file, map[string]string{"training": text}); err != nil {
			return err
		}
	}
	return nil
}

package eval

import (
	"context"
	"fmt"
	"image"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/internal/rng"
	"carsokit/plots"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// Picture is what happened to one image under the first stage of a protocol.
type Picture struct {
	Index, Label          int
	Clean, Attacked       image.Image
	Perturbation          image.Image   // around grey, magnified so that the bound is full scale
	FromClean, FromAttack []image.Image // reconstructions, one for each sample
	Mean                  image.Image   // of FromAttack, pixel by pixel
	// Predictions of one pass.
	CleanClass, AttackedClass int
	NaN                       bool // the attack's first gradient was NaN
}

// Pictures attacks the given images of the set by the first stage of a CARSO question's protocol and decodes samples of the purifier before and after.
func (l *Lab) Pictures(ctx context.Context, q Question, at []int) ([]Picture, error) {
	job, err := NewJob(l.Backend, q, l.Set)
	if err != nil {
		return nil, err
	}
	c, err := job.System.Output(string(carso.LogSum))
	if err != nil {
		return nil, err
	}
	d, ok := c.(*carso.Defence)
	if !ok || len(job.Protocol.Stages) == 0 {
		return nil, fmt.Errorf("pictures of %s %s: only CARSO under attack has reconstructions", q.Row, q.Column)
	}
	job.Protocol.Screen, job.Protocol.Stages = nil, job.Protocol.Stages[:1]
	seq, err := job.sequence(l.Backend, []int{8})
	if err != nil {
		return nil, err
	}
	s := l.Set // a job keeps to the images that it evaluates
	b := attacks.Batch{X: make([]float32, len(at)*s.H*s.W*3), ID: at, H: s.H, W: s.W, C: 3}
	s.Floats(b.X, at...)
	for _, i := range at {
		b.Y = append(b.Y, s.Labels[i])
	}
	seed := rng.Seed(q.Seed)
	seq.All = true
	out, err := seq.Run(ctx, b, seed.Child("attack"))
	if err != nil {
		return nil, err
	}
	points := out.Strongest
	exec, err := model.NewExec(l.Backend, d.Store(), func(s *model.Scope, x, z *node) (*node, *node) {
		images := d.Reconstruct(d.Condition(s, x), z)
		return images, d.LogitsGiven(s, d.Condition(s, x), z)
	})
	if err != nil {
		return nil, fmt.Errorf("building the pictures: %w", err)
	}
	decode := func(x []float32) (images, logits []float32, err error) {
		z := make([]float32, len(at)*d.Samples*d.Latent)
		seed.Child("pictures").Normal(z)
		in := []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, len(at), s.H, s.W, 3), tensors.FromFlatDataAndDimensions(z, len(at), d.Samples, d.Latent)}
		res, err := exec.Call(in[0], in[1])
		if err != nil {
			return nil, nil, fmt.Errorf("decoding the pictures: %w", err)
		}
		if images, err = tensors.CopyFlatData[float32](res[0]); err != nil {
			return nil, nil, err
		}
		logits, err = tensors.CopyFlatData[float32](res[1])
		for _, t := range append(in, res...) {
			t.MustFinalizeAll()
		}
		return images, logits, err
	}
	cleanImages, cleanLogits, err := decode(b.X)
	if err != nil {
		return nil, err
	}
	attackedImages, attackedLogits, err := decode(points)
	if err != nil {
		return nil, err
	}
	var ps []Picture
	n, classes := b.Dim(), d.Classes()
	for k, i := range at {
		p := Picture{Index: i, Label: int(b.Y[k]), NaN: out.Diag[0][k].NaNStart,
			CleanClass: int(attacks.Predict(cleanLogits[k*classes : (k+1)*classes])), AttackedClass: int(attacks.Predict(attackedLogits[k*classes : (k+1)*classes])),
			Clean: plots.RGB(b.X[k*n:(k+1)*n], s.W, 1, 0), Attacked: plots.RGB(points[k*n:(k+1)*n], s.W, 1, 0)}
		delta := make([]float32, n)
		for v := range delta {
			delta[v] = points[k*n+v] - b.X[k*n+v]
		}
		p.Perturbation = plots.RGB(delta, s.W, float32(0.5/q.Eps), 0.5)
		mean := make([]float32, n)
		for m := range d.Samples {
			from := (k*d.Samples + m) * n
			for v := range mean {
				mean[v] += attackedImages[from+v] / float32(d.Samples)
			}
			p.FromClean = append(p.FromClean, plots.RGB(cleanImages[from:from+n], s.W, 1, 0))
			p.FromAttack = append(p.FromAttack, plots.RGB(attackedImages[from:from+n], s.W, 1, 0))
		}
		p.Mean = plots.RGB(mean, s.W, 1, 0)
		ps = append(ps, p)
	}
	return ps, nil
}

// Grid composes pictures, a row each.
func Grid(ps []Picture, classes []string, zoom int) image.Image {
	var rows [][]image.Image
	var titles []string
	for _, p := range ps {
		rows = append(rows, []image.Image{p.Clean, p.Attacked, p.Perturbation, p.FromClean[0], p.FromAttack[0], p.Mean})
		titles = append(titles, fmt.Sprintf("%s: %s, attacked %s", classes[p.Label], classes[p.CleanClass], classes[p.AttackedClass]))
	}
	return plots.Grid(rows, titles, []string{"clean", "attacked", "perturbation", "purified, from clean", "purified, from attacked", "the same, mean of N"}, zoom)
}

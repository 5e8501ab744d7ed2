package attacks

import (
	"context"
	"math"
	"slices"

	"carsokit/internal/rng"
)

// APGD is the Auto-PGD of Croce and Hein (2020), l-infinity, as in their AutoAttack repository (commit a3922004): a random start on the
// surface of the ball, momentum, and a step size that each image halves, returning to its best point, when its loss stops rising.
//
// Two habits of the reference are kept because numbers depend on them. Loss and prediction are those of the last EoT draw while the gradient
// is the mean. And the first check of the step size compares the first loss with a row of the history that is still zero.
type APGD struct {
	Eps      float64 `json:"eps"`
	Loss     Loss    `json:"loss"` // CE, DLR or Margin
	Steps    int     `json:"steps"`
	EoT      int     `json:"eot"`
	Restarts int     `json:"restarts"` // random starts tried on the images not broken before
	Rho      float64 `json:"rho"`      // share of rising steps below which the step size is halved
	// StopWhenBroken lets an image leave once every draw of one gradient evaluation misclassifies it. The reference goes on, which changes
	// neither whether it counts as broken nor the cost of the others.
	StopWhenBroken bool `json:"stop_when_broken"`
	// AverageLoss compares the mean loss over the draws instead of the last draw's, which is less noisy on a stochastic classifier.
	AverageLoss bool `json:"average_loss,omitempty"`
	// Always attacks the images, too, that the first pass has wrong. On a stochastic classifier that may be one unlucky draw.
	Always bool `json:"always,omitempty"`
}

// StandardAPGD is AutoAttack's setting: 100 steps, one start, rho 0.75.
func StandardAPGD(loss Loss, eps float64, eot int) APGD {
	return APGD{Eps: eps, Loss: loss, Steps: 100, EoT: eot, Restarts: 1, Rho: 0.75}
}

func (a APGD) Name() string     { return "apgd-" + string(a.Loss) }
func (a APGD) Budget() float64  { return a.Eps }
func (a APGD) Evaluations() int { return (1 + a.Steps) * a.Restarts }

func (a APGD) Validate() error {
	if err := a.Loss.Validate(); err != nil {
		return err
	}
	return firstBroken(a.Name(), epsRule(a.Eps), countRule("Steps", a.Steps), countRule("EoT", a.EoT), countRule("Restarts", a.Restarts),
		rule{!a.Loss.targeted(), "Loss", a.Loss, "an untargeted loss; APGDTargeted takes the others"}, shareRule("Rho", a.Rho))
}

func (a APGD) MarshalJSON() ([]byte, error) {
	type fields APGD
	return withKind("apgd", fields(a))
}

// Run attacks the images that one fresh pass classifies correctly; without Always the others return as they are, broken without a step.
func (a APGD) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	if err := a.Loss.check(o.Classes(), nil); err != nil {
		return nil, err
	}
	r, err := unattacked(ctx, o, b, seed)
	if err != nil {
		return nil, err
	}
	if a.Always {
		clear(r.Broken)
	}
	for restart := range a.Restarts {
		if err := a.ascender().start(ctx, o, b, seed.Child("restart", restart), 0, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// unattacked is the result before the first start: the images that one fresh pass misclassifies are broken.
func unattacked(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	n, classes := b.Len(), o.Classes()
	r := &Result{Adv: slices.Clone(b.X), Best: slices.Clone(b.X), Broken: make([]bool, n), BestLoss: make([]float32, n), Hit: make([]int, n), Diag: make([]Diag, n)}
	logits, err := o.Logits(ctx, b, seed.Child("initial"), 1)
	if err != nil {
		return nil, err
	}
	for i := range n {
		r.Broken[i] = Predict(logits[i*classes:(i+1)*classes]) != b.Y[i]
		r.BestLoss[i], r.Hit[i] = float32(math.NaN()), -1
	}
	return r, nil
}

// ascender is what APGD and the attacks built like it share: signed steps up a loss from a random start, keeping the best point.
type ascender struct {
	APGD                        // budget, loss, steps, draws; its Restarts and Rho are not read
	step     float64            // the first step size
	momentum float32            // share of the new direction in a step; 1: no momentum
	adapt    func(*ascent, int) // sets the step sizes of the active images after step t
}

// ascender halves step sizes as APGD does.
func (a APGD) ascender() ascender {
	return ascender{APGD: a, step: 2 * a.Eps, momentum: 0.75, adapt: func(s *ascent, t int) {
		if s.since++; s.since < s.window {
			return
		}
		each(s.active, len(s.x)/len(s.diag), func(_, i int) { s.check(i, t, s.window, a.Rho) })
		s.window, s.since = max(s.window-max(int(0.03*float64(a.Steps)), 1), max(int(0.06*float64(a.Steps)), 1)), 0
	}}
}

// start makes one start on the images not broken so far and merges what it finds into r. Of a targeted loss the target is the class of the
// rank-th largest logit of a fresh pass at the clean image.
func (a ascender) start(ctx context.Context, o *Oracle, b Batch, seed rng.Seed, rank int, r *Result) error {
	d := b.Dim()
	left := drop(upTo(b.Len()), func(i int) bool { return r.Broken[i] })
	if len(left) == 0 {
		return nil
	}
	at := b.Pick(left)
	var target []int32
	if a.Loss.targeted() {
		logits, err := o.Logits(ctx, at, seed.Child("target"), 1)
		if err != nil {
			return err
		}
		target = ranked(logits, o.Classes(), rank)
	}
	s, err := a.ascend(ctx, o, at, target, seed, nil)
	if err != nil {
		return err
	}
	for k, i := range left {
		// The first start always counts, so that a NaN loss does not leave the clean image as the best point.
		if r.Diag[i].Steps == 0 || s.bestLoss[k] > r.BestLoss[i] {
			r.BestLoss[i] = s.bestLoss[k]
			copy(r.Best[i*d:], s.best[k*d:(k+1)*d])
		}
		r.Diag[i].merge(s.diag[k])
		if s.hit[k] >= 0 {
			r.Broken[i], r.Hit[i] = true, s.hit[k]
			copy(r.Adv[i*d:], s.adv[k*d:(k+1)*d])
		}
	}
	return nil
}

// merge adds the diagnostics of a later start.
func (d *Diag) merge(next Diag) {
	if d.Steps == 0 { // what the first evaluation saw
		d.NaNStart, d.ZeroStart, d.LossZeroStart = next.NaNStart, next.ZeroStart, next.LossZeroStart
	}
	d.NaNEver = d.NaNEver || next.NaNEver
	d.ZeroEver = d.ZeroEver || next.ZeroEver
	d.Moved = d.Moved || next.Moved
	d.Steps += next.Steps
	d.Draws += next.Draws
	d.Halvings += next.Halvings
	d.Queries += next.Queries
}

// ascent is the state of one start of APGD on n images.
type ascent struct {
	target     []int32   // class that a targeted loss leads to; else nil
	x, old     []float32 // this iterate and the one before
	best, adv  []float32 // point of highest loss; last misclassified iterate, or the start
	g, bestG   []float32 // gradient at x, and at best
	step       []float32 // step size
	loss       []float32 // at x
	bestLoss   []float32
	checkLoss  []float32   // bestLoss at the last check
	reduced    []bool      // halved at the last check
	done       []bool      // broken in every draw, where that ends the attack
	hit        []int       // evaluation that set adv; -1: none
	history    [][]float32 // loss after each step
	diag       []Diag
	active     []int // images still attacked
	start      []float32
	window     int                       // APGD: steps between two checks of the step size
	since      int                       // APGD: steps since the last check
	onEvaluate func(step int, s *ascent) // after each evaluation, before the check; for tests
}

// ascend runs one start on all images of b, whether or not they are classified correctly. target is nil but for targeted losses.
func (a ascender) ascend(ctx context.Context, o *Oracle, b Batch, target []int32, seed rng.Seed, onEvaluate func(int, *ascent)) (*ascent, error) {
	n, d, eps := b.Len(), b.Dim(), float32(a.Eps)
	s := &ascent{target: target, x: slices.Clone(b.X), g: make([]float32, n*d), step: make([]float32, n), loss: make([]float32, n), reduced: make([]bool, n), done: make([]bool, n),
		hit: make([]int, n), diag: make([]Diag, n), active: upTo(n), onEvaluate: onEvaluate}
	s.history = make([][]float32, a.Steps)
	for k := range s.history {
		s.history[k] = make([]float32, n)
	}
	each(s.active, d, func(_, i int) {
		t := make([]float32, d)
		o.random.Start(t, seed.Child("start"), b.ID[i])
		largest := largestOf(t)
		x := s.x[i*d : (i+1)*d]
		for k, v := range t {
			x[k] = clip(x[k]+float32(eps*(v/(largest+1e-12))), 0, 1)
		}
		s.step[i], s.hit[i], s.reduced[i] = float32(a.step), -1, true
	})
	s.start, s.old, s.adv = slices.Clone(s.x), slices.Clone(s.x), slices.Clone(s.x)
	if err := a.evaluate(ctx, o, b, s, seed, 0); err != nil {
		return nil, err
	}
	s.best, s.bestG = slices.Clone(s.x), slices.Clone(s.g)
	s.bestLoss, s.checkLoss = slices.Clone(s.loss), slices.Clone(s.loss)
	s.active = drop(s.active, func(i int) bool { return s.done[i] })

	s.window = max(int(0.22*float64(a.Steps)), 1)
	for t := range a.Steps {
		if len(s.active) == 0 {
			break
		}
		momentum := a.momentum
		if t == 0 {
			momentum = 1
		}
		each(s.active, d, func(_, i int) { s.move(b.X, i, d, eps, momentum) })
		if err := a.evaluate(ctx, o, b, s, seed, t+1); err != nil {
			return nil, err
		}
		each(s.active, d, func(_, i int) {
			s.history[t][i] = s.loss[i]
			if s.loss[i] > s.bestLoss[i] {
				s.bestLoss[i] = s.loss[i]
				copy(s.best[i*d:(i+1)*d], s.x[i*d:])
				copy(s.bestG[i*d:(i+1)*d], s.g[i*d:])
			}
		})
		if s.onEvaluate != nil {
			s.onEvaluate(t+1, s)
		}
		a.adapt(s, t)
		s.active = drop(s.active, func(i int) bool { return s.done[i] })
	}
	return s, nil
}

// evaluate computes gradient, loss and prediction of the active images at x.
func (a ascender) evaluate(ctx context.Context, o *Oracle, b Batch, s *ascent, seed rng.Seed, t int) error {
	d, classes := b.Dim(), o.Classes()
	at := b.with(s.x, s.active)
	var target []int32
	if s.target != nil {
		target = pick(s.target, s.active)
	}
	g, err := o.gradient(ctx, a.Loss, at, seed.Child("step", t), a.EoT, target)
	if err != nil {
		return err
	}
	loss := g.Loss
	if a.AverageLoss {
		loss = g.MeanLoss
	}
	each(s.active, d, func(k, i int) {
		copy(s.g[i*d:(i+1)*d], g.G[k*d:])
		s.loss[i] = loss[k]
		s.diag[i].note(g, k)
		x := s.x[i*d : (i+1)*d]
		s.diag[i].Moved = s.diag[i].Moved || moved(x, s.start[i*d:(i+1)*d])
		if Predict(g.Logits[k*classes:(k+1)*classes]) != b.Y[i] {
			copy(s.adv[i*d:], x)
			s.hit[i] = t
		}
		s.done[i] = a.StopWhenBroken && g.Wrong[k] == a.EoT
	})
	g.Halvings = make([]int, len(s.active))
	for k, i := range s.active {
		g.Halvings[k] = s.diag[i].Halvings
	}
	o.notify(at, g)
	return nil
}

// move makes the step with momentum: ball first, then box, twice. Conversions to float32 keep compilers from fusing the products into
// sums, which would round differently on other machines.
func (s *ascent) move(clean []float32, i, d int, eps, a float32) {
	step := s.step[i]
	for k := i * d; k < (i+1)*d; k++ {
		x := s.x[k]
		lo, hi := clean[k]-eps, clean[k]+eps
		z := clip(clip(x+float32(step*sign(s.g[k])), lo, hi), 0, 1)
		next := x + float32((z-x)*a) + float32((x-s.old[k])*(1-a))
		s.old[k] = x
		s.x[k] = clip(clip(next, lo, hi), 0, 1)
	}
}

// check halves the step size of an image and returns it to its best point if too few of the last steps raised its loss, or if it has
// found nothing better since the last check and was not halved there. old stays: the next momentum starts from the iterate before.
func (s *ascent) check(i, t, window int, rho float64) {
	d := len(s.x) / len(s.diag)
	rising := 0
	for c := range window {
		// The reference's row -1 is the last one, still zero at the first check.
		before := s.history[(t-c-1+len(s.history))%len(s.history)][i]
		if s.history[t-c][i] > before {
			rising++
		}
	}
	oscillating := float64(rising) <= float64(window)*rho
	stuck := !s.reduced[i] && s.checkLoss[i] >= s.bestLoss[i]
	s.reduced[i] = oscillating || stuck
	s.checkLoss[i] = s.bestLoss[i]
	if s.reduced[i] {
		s.step[i] /= 2
		s.diag[i].Halvings++
		copy(s.x[i*d:(i+1)*d], s.best[i*d:])
		copy(s.g[i*d:(i+1)*d], s.bestG[i*d:])
	}
}

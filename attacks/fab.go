package attacks

import (
	"context"
	"math"
	"slices"

	"carsokit/internal/rng"
)

// FAB is the fast adaptive boundary attack of Croce and Hein (2020), l-infinity, as in their AutoAttack repository (commit a3922004): it looks for the nearest adversarial image, by
// projections onto the linearised decision boundary that are drawn back to the clean image, and accepts one within Eps.
//
// Targets 0 is the untargeted form, which linearises the boundaries to all classes in each step; otherwise it is fab-t, which tries the classes of rank 2 to
// Targets+1 of the clean logits one after the other and costs one gradient a step.
//
// Where a gradient is not finite the image stays where it is; the reference moves it to a corner of [0,1].
type FAB struct {
	Eps      float64 `json:"eps"`
	Steps    int     `json:"steps"`
	EoT      int     `json:"eot"`
	Targets  int     `json:"targets"`   // 0: untargeted; at most all classes but one are used
	Restarts int     `json:"restarts"`  // starts after the first are random
	AlphaMax float64 `json:"alpha_max"` // largest share of the step that starts from the clean image
	Eta      float64 `json:"eta"`       // by how much a step overshoots the plane
	Beta     float64 `json:"beta"`      // share of the change kept when an adversarial image was found
}

// StandardFAB is AutoAttack's setting: 100 steps. Its fab-t has 9 targets and 1 restart, its fab in version plus no targets and 5 restarts.
func StandardFAB(eps float64, targets, restarts int) FAB {
	return FAB{Eps: eps, Steps: 100, EoT: 1, Targets: targets, Restarts: restarts, AlphaMax: 0.1, Eta: 1.05, Beta: 0.9}
}

func (a FAB) Name() string {
	if a.Targets > 0 {
		return "fab-t"
	}
	return "fab"
}
func (a FAB) Budget() float64 { return a.Eps }

// Evaluations counts the gradients towards all classes at one point as one.
func (a FAB) Evaluations() int { return a.Steps * max(a.Targets, 1) * a.Restarts }

func (a FAB) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), countRule("Steps", a.Steps), countRule("EoT", a.EoT), countRule("Restarts", a.Restarts),
		rule{a.Targets >= 0, "Targets", a.Targets, "a number that is not negative"}, shareRule("AlphaMax", a.AlphaMax), shareRule("Beta", a.Beta),
		rule{a.Eta >= 1 && !math.IsInf(a.Eta, 0), "Eta", a.Eta, "a number of at least 1"})
}

func (a FAB) MarshalJSON() ([]byte, error) {
	type fields FAB
	return withKind("fab", fields(a))
}

// Run attacks the images that one fresh pass classifies correctly; the others return as they are, broken without a step. Adv and Best are the nearest adversarial
// image found within the budget, or the clean one.
func (a FAB) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	r, err := unattacked(ctx, o, b, seed)
	if err != nil {
		return nil, err
	}
	r.BestLoss = nil
	for rank := range min(max(a.Targets, 1), o.Classes()-1) {
		for restart := range a.Restarts {
			if err := a.start(ctx, o, b, seed.Child("target", rank).Child("restart", restart), rank+2, restart > 0, r); err != nil {
				return nil, err
			}
		}
	}
	r.Best = r.Adv
	return r, nil
}

// start makes one start on the images not broken so far and merges what it finds into r.
func (a FAB) start(ctx context.Context, o *Oracle, b Batch, seed rng.Seed, rank int, random bool, r *Result) error {
	d, classes := b.Dim(), o.Classes()
	left := drop(upTo(b.Len()), func(i int) bool { return r.Broken[i] })
	if len(left) == 0 {
		return nil
	}
	at := b.Pick(left)
	var target []int32
	if a.Targets > 0 {
		logits, err := o.Logits(ctx, at, seed.Child("target"), 1)
		if err != nil {
			return err
		}
		target = ranked(logits, classes, rank)
	}
	s, err := a.approach(ctx, o, at, target, seed, random)
	if err != nil {
		return err
	}
	logits, err := o.Logits(ctx, at.with(s.adv, upTo(at.Len())), seed.Child("accept"), 1)
	if err != nil {
		return err
	}
	for k, i := range left {
		r.Diag[i].merge(s.diag[k])
		if s.norm[k] <= float32(a.Eps) && Predict(logits[k*classes:(k+1)*classes]) != b.Y[i] {
			r.Broken[i], r.Hit[i] = true, s.hit[k]
			copy(r.Adv[i*d:], s.adv[k*d:(k+1)*d])
		}
	}
	return nil
}

// notFound is the norm of an adversarial image that was not found, as the reference has it.
const notFound = 1e10

// nearby is the state of one start of FAB on n images.
type nearby struct {
	adv  []float32 // the nearest adversarial image, or the clean one
	norm []float32 // its distance, or notFound
	hit  []int     // the step that found it; -1: none
	diag []Diag
}

// approach makes one start on all images of b, whatever their predictions.
func (a FAB) approach(ctx context.Context, o *Oracle, b Batch, target []int32, seed rng.Seed, random bool) (*nearby, error) {
	n, d := b.Len(), b.Dim()
	s := &nearby{adv: slices.Clone(b.X), norm: make([]float32, n), hit: make([]int, n), diag: make([]Diag, n)}
	now := b
	now.X = slices.Clone(b.X)
	for i := range n {
		s.norm[i], s.hit[i] = notFound, -1
		if !random {
			continue
		}
		t := make([]float32, d)
		o.random.Start(t, seed.Child("start"), b.ID[i])
		largest := largestOf(t)
		for k, v := range t {
			now.X[i*d+k] = clip(b.X[i*d+k]+float32(0.5*float32(a.Eps)*v/largest), 0, 1)
		}
	}
	start := slices.Clone(now.X)
	for step := range a.Steps {
		noise := seed.Child("step", step)
		var g *Grad
		var err error
		if target != nil {
			g, err = o.Gradient(ctx, MarginTargeted, now, noise, a.EoT, target)
		} else if g, err = o.nearest(ctx, now, noise, a.EoT, 1e-12); err == nil {
			o.notify(now, g)
		}
		if err != nil {
			return nil, err
		}
		each(upTo(n), d, func(_, i int) {
			s.diag[i].note(g, i)
			x := now.Image(i)
			a.step(x, b.Image(i), g.G[i*d:(i+1)*d], float64(g.MeanLoss[i]))
			// Without a gradient a random start is drawn back to the clean image, which is no step of the attack.
			s.diag[i].Moved = s.diag[i].Moved || !g.Zero[i] && moved(x, start[i*d:(i+1)*d])
		})
		seen, err := o.look(ctx, now, seed.Child("look", step), a.EoT)
		if err != nil {
			return nil, err
		}
		each(upTo(n), d, func(_, i int) {
			if !seen.wrong[i] {
				return
			}
			x, clean := now.Image(i), b.Image(i)
			if far := distance(x, clean); far < s.norm[i] {
				s.norm[i], s.hit[i] = far, step
				copy(s.adv[i*d:], x)
			}
			for k, c := range clean {
				x[k] = c + float32((x[k]-c)*float32(a.Beta))
			}
		})
	}
	return s, nil
}

// step moves x over the plane on which the linearised difference of logits is 0: g is its gradient, value its value at x.
func (a FAB) step(x, clean, g []float32, value float64) {
	b := -value
	for k, v := range g {
		b += float64(v) * float64(x[k])
	}
	if !(math.Abs(b) <= math.MaxFloat64) {
		return
	}
	own, home := make([]float64, len(x)), make([]float64, len(x))
	ownNorm, homeNorm := max(toPlane(x, g, b, own), 1e-8), max(toPlane(clean, g, b, home), 1e-8)
	alpha := min(ownNorm/(ownNorm+homeNorm), a.AlphaMax)
	for k := range x {
		x[k] = clip(float32((float64(x[k])+a.Eta*own[k])*(1-alpha)+(float64(clean[k])+a.Eta*home[k])*alpha), 0, 1)
	}
}

// nearest differentiates, of every image, the logit of each class minus that of its label, and returns the one whose linearised boundary is nearest in l-infinity:
// least |difference| / (small + ||gradient||_1). Bad says that some of the gradients were not finite. Observers are not told.
func (o *Oracle) nearest(ctx context.Context, b Batch, noise rng.Seed, draws int, small float64) (*Grad, error) {
	d, classes := b.Dim(), o.Classes()
	var best *Grad
	least := make([]float64, b.Len())
	for away := 1; away < classes; away++ {
		target := make([]int32, b.Len())
		for i, y := range b.Y {
			target[i] = int32((int(y) + away) % classes)
		}
		g, err := o.gradient(ctx, MarginTargeted, b, noise, draws, target)
		if err != nil {
			return nil, err
		}
		if best == nil {
			best = g
		}
		each(upTo(b.Len()), d, func(_, i int) {
			size := small
			for _, v := range g.G[i*d : (i+1)*d] {
				size += math.Abs(float64(v))
			}
			far := math.Abs(float64(g.MeanLoss[i])) / size
			if away == 1 {
				least[i] = far
				return
			}
			best.Bad[i] = best.Bad[i] || g.Bad[i]
			best.Draws[i] += g.Draws[i]
			if far < least[i] || least[i] != least[i] {
				least[i] = far
				copy(best.G[i*d:(i+1)*d], g.G[i*d:])
				best.Loss[i], best.MeanLoss[i], best.Zero[i] = g.Loss[i], g.MeanLoss[i], g.Zero[i]
			}
		})
	}
	return best, nil
}

// largestOf is the largest absolute value.
func largestOf(t []float32) float32 {
	var largest float32
	for _, v := range t {
		largest = max(largest, max(v, -v))
	}
	return largest
}

// distance is the l-infinity distance of two images.
func distance(a, b []float32) float32 {
	var far float32
	for k, v := range a {
		far = max(far, max(v-b[k], b[k]-v))
	}
	return far
}

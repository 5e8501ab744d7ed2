package attacks

import (
	"context"
	"math"
	"slices"

	"carsokit/internal/rng"
)

// SquareAttack is the black-box attack of Andriushchenko et al. (2020), l-infinity, as in the AutoAttack repository (commit a3922004): random squares of the largest change, kept where they lower
// the margin of the label. It sees logits only, so it does not care how gradients fail.
//
// The reference draws one window and one set of signs a query for a whole batch, so that a result depends on the company; here every image has its own, which is
// the same attack on each image. Like there, the last row and column that a window could start at are never drawn.
type SquareAttack struct {
	Eps      float64 `json:"eps"`
	Queries  int     `json:"queries"`
	P        float64 `json:"p"`   // share of the pixels in the first squares; it falls with the number of the query
	EoT      int     `json:"eot"` // passes whose margins are averaged in each query; 1 for a deterministic classifier
	Restarts int     `json:"restarts"`
}

// StandardSquare is AutoAttack's setting: 5000 queries, one start, p 0.8.
func StandardSquare(eps float64, eot int) SquareAttack {
	return SquareAttack{Eps: eps, Queries: 5000, P: 0.8, EoT: eot, Restarts: 1}
}

func (a SquareAttack) Name() string     { return "square" }
func (a SquareAttack) Budget() float64  { return a.Eps }
func (a SquareAttack) Evaluations() int { return (1 + a.Queries) * a.Restarts }

func (a SquareAttack) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), countRule("Queries", a.Queries), shareRule("P", a.P), countRule("EoT", a.EoT), countRule("Restarts", a.Restarts))
}

func (a SquareAttack) MarshalJSON() ([]byte, error) {
	type fields SquareAttack
	return withKind(a.Name(), fields(a))
}

// Run attacks the images that one fresh pass classifies correctly; the others return as they are, broken without a query.
func (a SquareAttack) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	r, err := unattacked(ctx, o, b, seed)
	if err != nil {
		return nil, err
	}
	d, classes := b.Dim(), o.Classes()
	for restart := range a.Restarts {
		left := drop(upTo(b.Len()), func(i int) bool { return r.Broken[i] })
		if len(left) == 0 {
			break
		}
		at, s := b.Pick(left), seed.Child("restart", restart)
		best, err := a.search(ctx, o, at, s)
		if err != nil {
			return nil, err
		}
		logits, err := o.Logits(ctx, at.with(best.x, upTo(at.Len())), s.Child("accept"), 1)
		if err != nil {
			return nil, err
		}
		for k, i := range left {
			x := best.x[k*d : (k+1)*d]
			r.Diag[i].merge(best.diag[k])
			if loss := float32(-best.margin[k]); restart == 0 || loss > r.BestLoss[i] {
				r.BestLoss[i] = loss
				copy(r.Best[i*d:], x)
			}
			if Predict(logits[k*classes:(k+1)*classes]) != b.Y[i] {
				r.Broken[i], r.Hit[i] = true, best.diag[k].Queries-1
				copy(r.Adv[i*d:], x)
				copy(r.Best[i*d:], x)
			}
		}
	}
	return r, nil
}

// found is the state of a random search on n images.
type found struct {
	x      []float32 // the point of the lowest margin
	margin []float64
	diag   []Diag
}

// search makes one start on all images of b, whatever their predictions.
func (a SquareAttack) search(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*found, error) {
	n, d, eps := b.Len(), b.Dim(), float32(a.Eps)
	s := &found{x: slices.Clone(b.X), diag: make([]Diag, n)}
	for i := range n { // vertical stripes
		stripes := make([]float32, b.W*b.C)
		o.random.Start(stripes, seed.Child("start"), b.ID[i])
		x := s.x[i*d : (i+1)*d]
		for k := range x {
			x[k] = clip(x[k]+eps*sign(stripes[k%len(stripes)]), 0, 1)
		}
	}
	first, err := o.query(ctx, b.with(s.x, upTo(n)), seed.Child("noise", 0), a.EoT)
	if err != nil {
		return nil, err
	}
	s.margin = first.margin
	least := slices.Clone(first.margin) // differs from margin only where a query was accepted for its margin of exactly 0
	for i := range n {
		s.diag[i].Queries = 1
		s.diag[i].Moved = moved(s.x[i*d:(i+1)*d], b.Image(i))
	}
	active := drop(upTo(n), func(i int) bool { return !(s.margin[i] > 0) })
	for query := range a.Queries {
		if len(active) == 0 {
			break
		}
		side := a.side(query, b.H, b.W)
		next := b.with(s.x, active)
		each(active, d, func(k, i int) {
			r := seed.Child("image", b.ID[i]).Child("query", query).Rand()
			row, column := int(float32(b.H-side)*r.Float32()), int(float32(b.W-side)*r.Float32())
			x, clean := next.Image(k), b.Image(i)
			for c := range b.C {
				change := 2 * eps * sign(2*r.Float32()-1)
				for h := row; h < row+side; h++ {
					for w := column; w < column+side; w++ {
						at := (h*b.W+w)*b.C + c
						x[at] = clip(clip(x[at]+change, clean[at]-eps, clean[at]+eps), 0, 1)
					}
				}
			}
		})
		seen, err := o.query(ctx, next, seed.Child("noise", query+1), a.EoT)
		if err != nil {
			return nil, err
		}
		for k, i := range active {
			margin := seen.margin[k]
			s.diag[i].Queries++
			better := margin < least[i]
			if better {
				least[i] = margin
			}
			if better || margin <= 0 {
				s.margin[i] = margin
				copy(s.x[i*d:(i+1)*d], next.Image(k))
				s.diag[i].Moved = s.diag[i].Moved || moved(next.Image(k), b.Image(i))
			}
		}
		active = drop(active, func(i int) bool { return !(s.margin[i] > 0) })
	}
	return s, nil
}

// share of the pixels in the squares of a query: it halves after fixed numbers of queries.
func (a SquareAttack) share(query int) float64 {
	share := a.P
	for _, after := range []int{10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000} {
		if query > after {
			share /= 2
		}
	}
	return share
}

// side of those squares in images of h x w pixels.
func (a SquareAttack) side(query, h, w int) int {
	return min(max(int(math.RoundToEven(math.Sqrt(a.share(query)*float64(h)*float64(w)))), 1), h, w)
}

// seen is what passes of n images say about their labels.
type seen struct {
	margin []float64 // label's logit minus the largest other, mean over the passes
	wrong  []bool    // misclassified in at least half of the passes
	logits []float32 // of the last pass
	misses []int     // passes that misclassify
}

// look classifies images in several fresh passes; a deterministic classifier in one.
func (o *Oracle) look(ctx context.Context, b Batch, noise rng.Seed, passes int) (*seen, error) {
	if o.noise == nil {
		passes = 1
	}
	logits, err := o.Logits(ctx, b, noise, passes)
	if err != nil {
		return nil, err
	}
	n, classes := b.Len(), o.Classes()
	s := &seen{margin: make([]float64, n), wrong: make([]bool, n), misses: make([]int, n), logits: logits[(passes-1)*n*classes:]}
	for row := range passes * n {
		i := row % n
		z := logits[row*classes : (row+1)*classes]
		rival := math.Inf(-1)
		for c, v := range z {
			if int32(c) != b.Y[i] {
				rival = max(rival, float64(v))
			}
		}
		s.margin[i] += (float64(z[b.Y[i]]) - rival) / float64(passes)
		if Predict(z) != b.Y[i] {
			s.misses[i]++
		}
	}
	for i, m := range s.misses {
		s.wrong[i] = 2*m >= passes
	}
	return s, nil
}

// query is look, and tells the observers.
func (o *Oracle) query(ctx context.Context, b Batch, noise rng.Seed, passes int) (*seen, error) {
	s, err := o.look(ctx, b, noise, passes)
	if err != nil {
		return nil, err
	}
	n := b.Len()
	g := &Grad{Loss: make([]float32, n), Logits: s.logits, Wrong: s.misses, Draws: make([]int, n), Bad: make([]bool, n), Zero: make([]bool, n)}
	for i, m := range s.margin {
		g.Loss[i] = float32(-m)
	}
	g.MeanLoss = g.Loss
	o.notify(b, g)
	return s, nil
}

// UniformNoise is the baseline that any gradient attack has to beat: independent uniform points of the ball. Adv is the first misclassified one, Best that of the lowest margin.
type UniformNoise struct {
	Eps   float64 `json:"eps"`
	Tries int     `json:"tries"`
	EoT   int     `json:"eot"` // passes whose margins are averaged for each point; 1 for a deterministic classifier
}

func (a UniformNoise) Name() string     { return "noise" }
func (a UniformNoise) Budget() float64  { return a.Eps }
func (a UniformNoise) Evaluations() int { return a.Tries }

func (a UniformNoise) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), countRule("Tries", a.Tries), countRule("EoT", a.EoT))
}

func (a UniformNoise) MarshalJSON() ([]byte, error) {
	type fields UniformNoise
	return withKind(a.Name(), fields(a))
}

// Run attacks the images that one fresh pass classifies correctly; the others return as they are, broken without a query.
func (a UniformNoise) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	r, err := unattacked(ctx, o, b, seed)
	if err != nil {
		return nil, err
	}
	d, eps := b.Dim(), float32(a.Eps)
	for try := range a.Tries {
		left := drop(upTo(b.Len()), func(i int) bool { return r.Broken[i] })
		if len(left) == 0 {
			break
		}
		at := b.Pick(left)
		for k := range left {
			t := make([]float32, d)
			o.random.Start(t, seed.Child("try", try), at.ID[k])
			x := at.Image(k)
			for j, v := range t {
				x[j] = clip(x[j]+float32(v*eps), 0, 1)
			}
		}
		seen, err := o.query(ctx, at, seed.Child("noise", try), a.EoT)
		if err != nil {
			return nil, err
		}
		for k, i := range left {
			x := at.Image(k)
			r.Diag[i].Queries++
			r.Diag[i].Moved = r.Diag[i].Moved || moved(x, b.Image(i))
			if loss := float32(-seen.margin[k]); try == 0 || loss > r.BestLoss[i] || seen.wrong[k] {
				r.BestLoss[i] = loss
				copy(r.Best[i*d:], x)
			}
			if seen.wrong[k] {
				r.Broken[i], r.Hit[i] = true, try
				copy(r.Adv[i*d:], x)
			}
		}
	}
	return r, nil
}

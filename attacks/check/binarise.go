package check

import (
	"fmt"
	"math"
	"slices"

	"carsokit/attacks"
	"carsokit/internal/rng"
)

// Sizes of the binarisation test.
const (
	innerPoints  = 64   // of class 0 beside each image, which is one more; the paper has 999
	innerRadius  = 0.95 // of the bound, as in the paper's code
	cornerPoints = 8    // candidates for the one point of class 1
	randomPoints = 8    // tries of the random search that the attack is compared with
)

// binarise is the decision-boundary binarisation test of Zimmermann et al. For each image it makes a problem of two classes: points well inside the ball
// against one corner of it. A linear layer on the classifier's features tells them apart, so an adversarial example of the new classifier is known to exist.
// An attack that does not find one would not find one of the old classifier either.
//
// The features are those of [Featured], else the logits. The linear layer is a discriminant in closed form (inverse covariance of the inner points times
// the difference of means, the threshold at three quarters of the way from the nearest inner point to the corner), which needs no training. Of some corners the best
// separated one is taken. The noise of a stochastic classifier is held fixed per image: what is tested is the way of the gradient.
func (p *probe) binarise() error {
	const name = "binarisation"
	const what = "share of images whose known adversarial example the attack misses"
	n, d := p.b.Len(), p.b.Dim()
	o, features, k := p.o, builder(p.c.Logits), p.c.Classes()
	kind := fmt.Sprintf("%d logits", k)
	if f, ok := p.c.(Featured); ok {
		var err error
		if o, err = p.oracle(featurer{f}); err != nil {
			return err
		}
		defer o.Close()
		features, k = f.Features, f.FeatureDim()
		kind = fmt.Sprintf("%d features", k)
	}
	seed := p.seedOf("binarise")

	// The points of one image share its ID, and so its noise.
	collect := func(count int, point func(i, j int, dst []float32)) ([]float32, error) {
		all := attacks.Batch{H: p.b.H, W: p.b.W, C: p.b.C, X: make([]float32, n*count*d)}
		for i := range n {
			for j := range count {
				all.Y, all.ID = append(all.Y, p.b.Y[i]), append(all.ID, p.b.ID[i])
				point(i, j, all.X[(i*count+j)*d:(i*count+j+1)*d])
			}
		}
		return p.logits(o, all, seed.Child("noise"), 1)
	}
	inner, err := collect(innerPoints+1, func(i, j int, dst []float32) {
		copy(dst, p.b.Image(i))
		if j > 0 {
			p.noise(dst, p.b.Image(i), innerRadius*p.Eps, seed.Child("inner", p.b.ID[i], j))
		}
	})
	if err != nil {
		return err
	}
	corner := func(stream string) func(i, j int, dst []float32) {
		return func(i, j int, dst []float32) { p.corner(dst, p.b.Image(i), seed.Child(stream, p.b.ID[i], j)) }
	}
	corners, err := collect(cornerPoints, corner("corner"))
	if err != nil {
		return err
	}

	noise := 0
	if dims := p.c.NoiseDims(); dims != nil {
		noise = 1
		for _, v := range dims {
			noise *= v
		}
	}
	inputs := fixed{}
	var usable []int
	layers := make([]layer, n)
	infinite := 0
	for i := range n {
		in, out := inner[i*(innerPoints+1)*k:(i+1)*(innerPoints+1)*k], corners[i*cornerPoints*k:(i+1)*cornerPoints*k]
		if !finite(in) || !finite(out) {
			infinite++
			continue
		}
		l, ok := discriminant(in, out, k)
		if !ok {
			continue
		}
		layers[i] = l
		usable = append(usable, i)
		row := make([]float32, noise+k+1)
		if noise > 0 {
			attacks.Seeded{}.Noise(row[:noise], seed.Child("noise"), p.b.ID[i], 0)
		}
		copy(row[noise:], l.w)
		row[noise+k] = l.bias
		inputs[p.b.ID[i]] = row
	}
	if 2*infinite > n {
		p.add(name, zimmermann, what, 1, 0.05, 0.25, infinite, "For %d of %d images the %s are not finite: no two-class problem can be built on them, and no gradient goes through them.", infinite, n, kind)
		return nil
	}
	if 4*len(usable) < n {
		p.skip(name, zimmermann, fmt.Sprintf("For only %d of %d images do the %s separate a corner of the ball from points inside.", len(usable), n, kind))
		return nil
	}
	random, err := collect(randomPoints, corner("random"))
	if err != nil {
		return err
	}
	lucky := 0
	for _, i := range usable {
		if slices.ContainsFunc(slices.Collect(slices.Chunk(random[i*randomPoints*k:(i+1)*randomPoints*k], k)), func(f []float32) bool { return layers[i].score(f) > 0 }) {
			lucky++
		}
	}

	ro, err := attacks.NewOracle(p.be, readout{p.c, features, noise, k}, attacks.OracleOptions{Buckets: p.Buckets, Random: inputs})
	if err != nil {
		return err
	}
	ro = ro.Observed(func(_ []int, g *attacks.Grad) {
		for _, t := range g.Draws {
			p.r.Cost.Gradient += t
		}
	})
	defer ro.Close()
	b := p.b.Pick(usable)
	for i := range b.Y {
		b.Y[i] = 0
	}
	r, err := p.attack(ro, p.auto(attacks.Margin, 1), b, seed.Child("attack"))
	if err != nil {
		return err
	}
	found := total(r.Broken)
	says := fmt.Sprintf("On %s, %d of %d images gave a two-class problem with a known adversarial example. Auto-PGD finds one for %d, %d random corners for %d.", kind, len(usable), n, found, randomPoints, lucky)
	missed := 1 - share(found, len(usable))
	if missed > 0.05 {
		says += " An attack that misses what is there shows nothing where it finds nothing."
	}
	p.add(name, zimmermann, what, missed, 0.05, max(0.25, oneImage(len(usable))), len(usable), "%s", says)
	return nil
}

// corner fills dst with a random corner of the ball around clean, within [0,1].
func (p *probe) corner(dst, clean []float32, seed rng.Seed) {
	seed.Symmetric(dst)
	for k, t := range dst {
		dst[k] = min(max(clean[k]+float32(math.Copysign(p.Eps, float64(t))), 0), 1)
	}
}

// fixed is the noise of a readout: one row an image, whatever the seed and draw.
type fixed map[int][]float32

func (fixed) Start(dst []float32, seed rng.Seed, id int) { attacks.Seeded{}.Start(dst, seed, id) }

func (f fixed) Noise(dst []float32, _ rng.Seed, id, _ int) { copy(dst, f[id]) }

// layer is a linear readout of features; its score is positive on class 1.
type layer struct {
	w    []float32
	bias float32
}

func (l layer) score(f []float32) float64 {
	s := float64(l.bias)
	for k, v := range f {
		s += float64(l.w[k]) * float64(v)
	}
	return s
}

// discriminant separates the inner points [n,k] from one of the outer points: the one with the widest gap. The score is -3 at the nearest inner point and
// 1 at the outer one. ok is false if no outer point can be separated.
func discriminant(inner, outer []float32, k int) (best layer, ok bool) {
	n := len(inner) / k
	mean := make([]float64, k)
	for i, v := range inner {
		mean[i%k] += float64(v) / float64(n)
	}
	cov := make([][]float64, k)
	trace := 0.
	for p := range cov {
		cov[p] = make([]float64, k)
	}
	for i := range n {
		row := inner[i*k : (i+1)*k]
		for p := range k {
			for q := range p + 1 {
				cov[p][q] += (float64(row[p]) - mean[p]) * (float64(row[q]) - mean[q]) / float64(n)
			}
		}
	}
	for p := range k {
		trace += cov[p][p]
	}
	if !(trace > 0) {
		return best, false // the features do not move
	}
	for p := range k {
		cov[p][p] += 1e-2*cov[p][p] + 1e-8*trace/float64(k) // few points: shrink towards independent features, each of its own scale
	}
	cholesky(cov)
	widest := 0.
	for out := range slices.Chunk(outer, k) {
		w := make([]float64, k)
		for p := range w {
			w[p] = float64(out[p]) - mean[p]
		}
		substitute(cov, w)
		dot := func(f []float32) float64 {
			s := 0.
			for p, v := range f {
				s += w[p] * (float64(v) - mean[p])
			}
			return s
		}
		nearest := math.Inf(-1)
		for in := range slices.Chunk(inner, k) {
			nearest = max(nearest, dot(in))
		}
		far := dot(out)
		if gap := (far - nearest) / math.Sqrt(far); far > 0 && gap > widest {
			// dot is the squared Mahalanobis distance of the outer point, so gap is in standard deviations.
			widest = gap
			scale := 4 / (far - nearest)
			best.w = make([]float32, k)
			bias := 1 - scale*far
			for p := range w {
				best.w[p] = float32(scale * w[p])
				bias -= scale * w[p] * mean[p]
			}
			best.bias = float32(bias)
			// In float32, as the graph will compute it, the known point must still be on its side, and the inner ones on theirs.
			ok = best.score(out) > 0.5
		}
	}
	return best, ok && widest > 0.1
}

// cholesky factors a positive definite matrix, of which the lower half is given, in place: a = l l'.
func cholesky(a [][]float64) {
	for p := range a {
		for q := range p + 1 {
			s := a[p][q]
			for r := range q {
				s -= a[p][r] * a[q][r]
			}
			if p == q {
				a[p][p] = math.Sqrt(s)
			} else {
				a[p][q] = s / a[q][q]
			}
		}
	}
}

// substitute solves l l' x = b in place.
func substitute(l [][]float64, b []float64) {
	for p := range b {
		for q := range p {
			b[p] -= l[p][q] * b[q]
		}
		b[p] /= l[p][p]
	}
	for p := len(b) - 1; p >= 0; p-- {
		for q := p + 1; q < len(b); q++ {
			b[p] -= l[q][p] * b[q]
		}
		b[p] /= l[p][p]
	}
}

package check

import (
	"fmt"
	"math"
	"slices"

	"carsokit/attacks"
	"carsokit/internal/rng"
)

// losses that the classifier has classes enough for.
func (p *probe) losses() []attacks.Loss {
	if p.c.Classes() < 3 {
		return []attacks.Loss{attacks.CE, attacks.Margin}
	}
	return []attacks.Loss{attacks.CE, attacks.DLR, attacks.Margin}
}

// gradients checks the first gradient that an attack meets, and that gradients are slopes.
func (p *probe) gradients() error {
	b, n := p.rightImages(), len(p.right)
	nan := make([]bool, n)
	zero := map[attacks.Loss]int{}
	for _, loss := range p.losses() {
		if n == 0 {
			break
		}
		g, err := p.o.Gradient(p.ctx, loss, b, p.seedOf("first"), p.EoT, nil)
		if err != nil {
			return err
		}
		for i := range n {
			nan[i] = nan[i] || g.Bad[i]
		}
		zero[loss] = total(g.Zero)
	}
	bad := total(nan)
	says := "All first gradients are finite."
	if bad > 0 {
		says = "The gradient at the clean image is NaN or infinite. Its sign is 0, so gradient attacks do not move and the image counts as robust unattacked. Attack an output with the same decisions and finite gradients."
	}
	p.add("nan-gradient", pintor+" (I1, unavailable gradients)", "share of right images whose first gradient, of any loss, is not finite", share(bad, n), 0, 0, n, "%s", says)
	for _, loss := range []attacks.Loss{attacks.CE, attacks.DLR, attacks.Margin} {
		name := "zero-gradient-" + string(loss)
		if !slices.Contains(p.losses(), loss) {
			p.skip(name, autoAttack, "Too few classes for this loss.")
			continue
		}
		says := fmt.Sprintf("No gradient of %s vanishes.", loss)
		switch k := zero[loss]; {
		case k > 0 && loss == attacks.CE:
			says = "The gradient of the cross-entropy is exactly 0: attacks on it do not move these images. If that of the margin is not 0 the loss is saturated by large logits, and attacks on the margin are the remedy."
		case k > 0:
			says = fmt.Sprintf("The gradient of %s is exactly 0 though this loss does not saturate: a step without derivative lies between the pixels and the logits.", loss)
		}
		p.add(name, autoAttack+"; "+pintor+" (I1)", "share of right images whose first gradient is exactly 0", share(zero[loss], n), 0, 0.1, n, "%s", says)
	}
	if err := p.slopes(); err != nil {
		return err
	}
	return p.signal(b)
}

// slopes compares directional derivatives with differences of the margin. At each image and at one point of noise around it, along the sign of the gradient and
// along a random vector of signs, for two steps far below a grey level, so that rounding to bytes is seen; the better step counts.
func (p *probe) slopes() error {
	const tolerance = 0.1
	steps := []float32{0.1 / 255, 0.3 / 255}
	n, d, k := p.b.Len(), p.b.Dim(), p.c.Classes()
	draws := 1
	if p.r.Stochastic {
		draws = 2 // so that the way through the stages is taken
	}
	tests, failed := 0, 0
	for at := range 2 {
		point := p.b
		point.X = slices.Clone(p.b.X)
		if at == 1 {
			p.noise(point.X, p.b.X, p.Eps, p.seedOf("slope point"))
		}
		seed := p.seedOf("slope", at)
		g, err := p.o.Gradient(p.ctx, attacks.Margin, point, seed, draws, nil)
		if err != nil {
			return err
		}
		for way := range 2 {
			u := make([]float32, n*d)
			p.seedOf("direction", at, way).Symmetric(u)
			expected := make([]float64, n)
			for i := range n {
				for v := i * d; v < (i+1)*d; v++ {
					slope := float64(g.G[v])
					switch {
					case point.X[v] < steps[1] || point.X[v] > 1-steps[1]:
						u[v] = 0 // both ends must be images
					case way == 0 && slope != 0 && !math.IsNaN(slope):
						u[v] = float32(math.Copysign(1, slope))
					default:
						u[v] = float32(math.Copysign(1, float64(u[v])))
					}
					if u[v] != 0 {
						expected[i] += slope * float64(u[v])
					}
				}
			}
			best := make([]float64, n)
			for i := range best {
				best[i] = math.Inf(1)
			}
			for _, h := range steps {
				var ends [2][]float64
				floor := make([]float64, n)
				for side, s := range []float32{h, -h} {
					end := point
					end.X = make([]float32, n*d)
					for v := range end.X {
						end.X[v] = point.X[v] + s*u[v]
					}
					z, err := p.logits(p.o, end, seed, draws)
					if err != nil {
						return err
					}
					ends[side] = make([]float64, n)
					for i := range n {
						for t := range draws {
							row := z[(t*n+i)*k : (t*n+i+1)*k]
							ends[side][i] += margin(row, p.b.Y[i]) / float64(draws)
							for _, v := range row {
								// What rounding of the logits alone, some units of 6e-8 of them, does to the quotient.
								floor[i] = max(floor[i], 1e-6*math.Abs(float64(v))/(2*float64(h)))
							}
						}
					}
				}
				for i := range n {
					measured := (ends[0][i] - ends[1][i]) / (2 * float64(h))
					off := math.Abs(measured-expected[i]) / max(math.Abs(measured), math.Abs(expected[i]), floor[i]/tolerance, 1e-30)
					if off == off { // NaN where something is not finite
						best[i] = min(best[i], off)
					}
				}
			}
			for i := range n {
				tests++
				if !(best[i] <= tolerance) {
					failed++
				}
			}
		}
	}
	says := "Gradients are the slopes that finite differences measure."
	if failed > 0 {
		says = fmt.Sprintf("In %d of %d comparisons the gradient is not the slope of the margin that finite differences measure (tolerance 10 %%). A wrong, cut, replaced or infinite gradient, a step function on the way, or a function that is rough at a tenth of a grey level.", failed, tests)
	}
	p.add("finite-difference", "directional derivatives; "+carlini+" (gradient masking)", "share of directional derivatives that differ from finite differences", share(failed, tests), 0.05, 0.25, tests, "%s", says)
	return nil
}

// margin is the largest wrong logit less the right one.
func margin(z []float32, y int32) float64 {
	best := math.Inf(-1)
	for c, v := range z {
		if int32(c) != y {
			best = max(best, float64(v))
		}
	}
	return best - float64(z[y])
}

// noise fills dst with uniform noise of at most eps around clean, within [0,1].
func (p *probe) noise(dst, clean []float32, eps float64, seed rng.Seed) {
	seed.Symmetric(dst)
	for k, t := range dst {
		dst[k] = min(max(clean[k]+float32(float32(eps)*t), 0), 1)
	}
}

// signal compares two gradients from separate draws.
func (p *probe) signal(b attacks.Batch) error {
	const name, source = "eot-signal", "Athalye et al. 2018, arXiv 1802.00420 (stochastic gradients)"
	if !p.r.Stochastic {
		p.skip(name, source, "The classifier is deterministic.")
		return nil
	}
	n, d := b.Len(), b.Dim()
	if n == 0 {
		p.skip(name, source, "No image is right.")
		return nil
	}
	var gs [2]*attacks.Grad
	for k := range gs {
		var err error
		if gs[k], err = p.o.Gradient(p.ctx, attacks.Margin, b, p.seedOf("signal", k), p.EoT, nil); err != nil {
			return err
		}
	}
	var cosines []float64
	for i := range n {
		var ab, aa, bb float64
		for v := i * d; v < (i+1)*d; v++ {
			x, y := float64(gs[0].G[v]), float64(gs[1].G[v])
			ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
		}
		if c := ab / math.Sqrt(aa*bb); c == c {
			cosines = append(cosines, c)
		}
	}
	if len(cosines) == 0 {
		p.skip(name, source, "No gradient is finite and different from 0.")
		return nil
	}
	slices.Sort(cosines)
	median := cosines[len(cosines)/2]
	says := fmt.Sprintf("Two gradients from separate draws point the same way (median cosine %.2f).", median)
	if median < 0.5 {
		says = fmt.Sprintf("Two gradients from separate draws hardly agree (median cosine %.2f): noise outweighs the signal. Average over more draws.", median)
	}
	// A warning at most: a stochastic defence may be sound and need many draws.
	p.add(name, source, "1 - median cosine between gradients of separate draws", 1-median, 0.5, 2, len(cosines), "%s", says)
	return nil
}

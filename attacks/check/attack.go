package check

import (
	"fmt"
	"math"
	"slices"

	"carsokit/attacks"
	"carsokit/internal/rng"
)

// whiteBox attacks the right images as an evaluation would: Auto-PGD on every loss, then plain steps from the clean image, each on what is
// left. Its verdict, p.broken, is what all weaker attacks are held against.
func (p *probe) whiteBox() error {
	nan := make([]bool, p.b.Len())
	steps := 0
	for _, loss := range p.losses() {
		left := p.unbroken()
		if len(left) == 0 {
			break
		}
		b := p.b.Pick(left)
		a := p.auto(loss, p.EoT)
		r, err := p.attack(p.o, a, b, p.seedOf("white box "+string(loss)))
		if err != nil {
			return err
		}
		b.X = r.Adv
		if err := p.score(left, b); err != nil {
			return err
		}
		for k, i := range left {
			nan[i] = nan[i] || r.Diag[k].NaNEver
			steps += r.Diag[k].Steps
		}
	}
	bad := total(nan)
	says := "No gradient on the way of the white-box attacks was NaN or infinite."
	if bad > 0 {
		says = "Attacks met a NaN or infinite gradient on their way. Where the first is already one they never move; where a later one is, they stay there."
	}
	p.add("nan-gradient-path", pintor+" (I1, unavailable gradients)", "share of right images that met such a gradient at any step", share(bad, len(p.right)), 0, 0, len(p.right), "%s", says)
	return p.path()
}

// auto is Auto-PGD as the report's options say.
func (p *probe) auto(loss attacks.Loss, eot int) attacks.APGD {
	a := attacks.StandardAPGD(loss, p.Eps, eot)
	a.Steps, a.StopWhenBroken = p.Steps, true
	return a
}

// attack runs a; the passes that it makes without gradient before its first step are counted here.
func (p *probe) attack(o *attacks.Oracle, a attacks.Attack, b attacks.Batch, seed rng.Seed) (*attacks.Result, error) {
	p.r.Cost.Forward += b.Len()
	return a.Run(p.ctx, o, b, seed)
}

// unbroken are the right images that no white-box attack has broken.
func (p *probe) unbroken() []int {
	var left []int
	for _, i := range p.right {
		if !p.broken[i] {
			left = append(left, i)
		}
	}
	return left
}

// score marks images of p.b, given at which, as broken where b, their attacked versions, is wrong.
func (p *probe) score(which []int, b attacks.Batch) error {
	wrong, predicted, err := p.wrong(b, p.seedOf("confirm"))
	if err != nil {
		return err
	}
	for k, i := range which {
		if wrong[k] {
			p.broken[i] = true
			p.seen = append(p.seen, predicted[k])
		}
	}
	p.r.Broken = total(p.broken)
	return nil
}

// climb is plain projected ascent on the margin from the clean image: the attack whose every step the checks can look at. The margin does not saturate, and the clean
// start lets nothing but gradients do the work.
type climb struct {
	eps, step  float64
	steps, eot int
	stop       bool // images leave once every draw misclassifies them: of a stochastic classifier, three times in a row, well inside
}

// path is what a climb did; slices are indexed by image.
type path struct {
	last   []float32   // the last iterate
	adv    []float32   // the iterate of highest loss: a misclassified one if there is any, as the loss is the margin
	hit    []bool      // some iterate was misclassified in at least half of its draws
	losses [][]float64 // [step][image], the mean over draws; the last value again where the image left
}

func (p *probe) climb(o *attacks.Oracle, b attacks.Batch, c climb, seed rng.Seed) (*path, error) {
	n, d := b.Len(), b.Dim()
	w := &path{last: slices.Clone(b.X), adv: slices.Clone(b.X), hit: make([]bool, n)}
	best, inside, enough := make([]float64, n), make([]int, n), 1
	for i := range best {
		best[i] = math.Inf(-1)
	}
	if o.Stochastic() {
		enough = 3
	}
	active := make([]int, n)
	for i := range active {
		active[i] = i
	}
	eps, step := float32(c.eps), float32(c.step)
	// One more evaluation than steps: the loss at the last iterate.
	for t := 0; t <= c.steps; t++ {
		now := make([]float64, n)
		for i := range now {
			now[i] = math.NaN()
			if t > 0 {
				now[i] = w.losses[t-1][i]
			}
		}
		if len(active) > 0 {
			here := b
			here.X = w.last
			g, err := o.Gradient(p.ctx, attacks.Margin, here.Pick(active), seed.Child("step", t), c.eot, nil)
			if err != nil {
				return nil, err
			}
			var still []int
			for k, i := range active {
				now[i] = float64(g.MeanLoss[k])
				x, clean := w.last[i*d:(i+1)*d], b.Image(i)
				w.hit[i] = w.hit[i] || 2*g.Wrong[k] >= c.eot
				if now[i] > best[i] {
					best[i] = now[i]
					copy(w.adv[i*d:], x)
				}
				if inside[i]++; g.Wrong[k] < c.eot {
					inside[i] = 0
				}
				if c.stop && inside[i] == enough {
					continue
				}
				still = append(still, i)
				if t == c.steps {
					continue
				}
				for v := range x {
					var s float32
					if slope := g.G[k*d+v]; slope > 0 {
						s = step
					} else if slope < 0 {
						s = -step
					}
					x[v] = min(max(min(max(x[v]+s, clean[v]-eps), clean[v]+eps), 0), 1)
				}
			}
			active = still
		}
		w.losses = append(w.losses, now)
	}
	return w, nil
}

// plain are the plain steps at a bound: 2.5 bounds of way, as is customary.
func (p *probe) plain(eps float64, steps int) climb {
	return climb{eps: eps, step: 2.5 * eps / float64(steps), steps: steps, eot: p.EoT, stop: true}
}

// path looks at the way of the plain steps: does the loss rise, has it stopped rising, and would an attack that returns its last iterate have lost what it found.
func (p *probe) path() error {
	const rises, settled, silent = "loss-rises", "loss-settled", "silent-success"
	b, n := p.rightImages(), len(p.right)
	if n == 0 {
		for _, name := range []string{silent, rises, settled} {
			p.skip(name, pintor, "No image is right.")
		}
		return nil
	}
	c := p.plain(p.Eps, p.Steps)
	c.stop = false
	w, err := p.climb(p.o, b, c, p.seedOf("plain"))
	if err != nil {
		return err
	}
	end := b
	end.X = w.last
	last, _, err := p.wrong(end, p.seedOf("confirm"))
	if err != nil {
		return err
	}
	end.X = w.adv
	if err := p.score(p.right, end); err != nil {
		return err
	}
	lost, stuck, open, unbroken := 0, 0, 0, 0
	for k, i := range p.right {
		if w.hit[k] && !last[k] {
			lost++
		}
		if p.broken[i] {
			continue
		}
		unbroken++
		// The loss so far: the largest of the steps, as an attack that keeps its best point sees it.
		best := make([]float64, 0, len(w.losses))
		top := math.Inf(-1)
		for _, l := range w.losses {
			if l[k] > top {
				top = l[k]
			}
			best = append(best, top)
		}
		first, final := best[0], best[len(best)-1]
		if !(final > first) {
			stuck++
			continue
		}
		window := min(10, len(best)/2)
		if (final-best[len(best)-1-window])/(final-first) > 0.05 {
			open++
		}
	}
	says := "What the plain attack found on its way it still had at its end."
	if lost > 0 {
		says = "Some iterates were misclassified and the last one was not: an attack that returns its last iterate, as PGD+EoT does, counts these images as robust. Keep what was found."
	}
	p.add(silent, pintor+" (I3, silent success)", "share of right images misclassified on the way but not at the end", share(lost, n), 0.1, 1, n, "%s", says)
	says = "The loss rose for every image that withstood."
	if stuck > 0 {
		says = "For images that withstood the loss never rose above that of the clean image: the attack did not attack them."
	}
	p.add(rises, pintor+" (break-point angle of its first version); evaluation checklist", "share of unbroken images whose loss never rose", share(stuck, unbroken), 0, max(0.25, oneImage(unbroken)), unbroken, "%s", says)
	says = "The loss had settled when the attack ended."
	if open > 0 {
		says = "For some images that withstood the loss was still rising when the attack ended (over 5 % of its gain in the last steps): more steps may break them."
	}
	p.add(settled, pintor+" (I4, incomplete optimisation)", "share of unbroken images whose loss still rose at the end", share(open, unbroken), 0.5, 1, unbroken, "%s", says)
	return nil
}

// beats adds a finding that a weaker attack must not break what the white-box attacks do not.
func (p *probe) beats(name, source, attack string, by []bool, remedy string) {
	more := 0
	for _, i := range p.unbroken() {
		if by[i] {
			more++
		}
	}
	says := fmt.Sprintf("Broken by %s: %d of %d right images, all of which the white-box attacks break too.", attack, total(by), len(p.right))
	switch {
	case total(by) == 0:
		says = fmt.Sprintf("Broken by %s: none of %d right images.", attack, len(p.right))
	case more > 0:
		says = fmt.Sprintf("Broken by %s: %d of %d right images, of which %d withstand the white-box attacks. %s", attack, total(by), len(p.right), more, remedy)
	}
	n := len(p.right)
	p.add(name, source, "share of right images that this breaks and the white-box attacks do not", share(more, n), 0, oneImage(n), n, "%s", says)
}

// verdicts scores attacked versions of the right images, indexed as p.b. All attacks are scored on the same fresh draws, so that the draws do not decide which is
// stronger.
func (p *probe) verdicts(x []float32) ([]bool, error) {
	by := make([]bool, p.b.Len())
	b := p.rightImages()
	b.X = x
	wrong, predicted, err := p.wrong(b, p.seedOf("confirm"))
	if err != nil {
		return nil, err
	}
	for k, i := range p.right {
		by[i] = wrong[k]
		if wrong[k] {
			p.seen = append(p.seen, predicted[k])
		}
	}
	return by, nil
}

const masked = "Gradients are masked: believe the stronger of the two, and repair the gradient."

// weaker tries attacks that know less.
func (p *probe) weaker() error {
	if len(p.right) == 0 {
		for _, name := range []string{"noise-weaker", "transfer-weaker", "black-box-weaker", "abstention"} {
			p.skip(name, carlini, "No image is right.")
		}
		return nil
	}
	clean := p.rightImages()
	// Signs of full size are the strongest noise in the ball.
	const tries = 10
	by := make([]bool, p.b.Len())
	for t := range tries {
		x := make([]float32, len(clean.X))
		p.seedOf("noise", t).Symmetric(x)
		for k, v := range x {
			x[k] = min(max(clean.X[k]+float32(math.Copysign(p.Eps, float64(v))), 0), 1)
		}
		some, err := p.verdicts(x)
		if err != nil {
			return err
		}
		for i := range by {
			by[i] = by[i] || some[i]
		}
	}
	p.beats("noise-weaker", carlini, fmt.Sprintf("random signs of full size (%d tries)", tries), by, masked)

	if len(p.Substitutes) == 0 {
		p.skip("transfer-weaker", carlini, "No substitute was given to transfer from.")
	}
	for k, s := range p.Substitutes {
		name := "transfer-weaker"
		if len(p.Substitutes) > 1 {
			name += "-" + s.Name
		}
		by, err := p.transfer(k, s, clean)
		if err != nil {
			return fmt.Errorf("transfer from %s: %w", s.Name, err)
		}
		p.beats(name, carlini+"; "+pintor, "transfer from "+s.Name, by, "Attacks on that find what attacks on the classifier itself do not: its gradients are masked. Believe the stronger of the two.")
	}
	if err := p.blackBox(clean); err != nil {
		return err
	}
	p.abstention()
	return nil
}

// transfer attacks a substitute and scores on the classifier.
func (p *probe) transfer(k int, s Substitute, clean attacks.Batch) ([]bool, error) {
	if s.Classes() != p.c.Classes() {
		return nil, fmt.Errorf("check: %d classes, the classifier has %d", s.Classes(), p.c.Classes())
	}
	o, err := p.oracle(s.Classifier)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	c := p.plain(p.Eps, p.Steps)
	c.stop = false // what just misleads the substitute may not mislead the classifier
	if !o.Stochastic() {
		c.eot = 1
	}
	w, err := p.climb(o, clean, c, p.seedOf("transfer", k))
	if err != nil {
		return nil, err
	}
	return p.verdicts(w.last)
}

// abstention: a class that is no image's and that nothing clean is taken for gets most of what attacks break.
func (p *probe) abstention() {
	const name, source = "abstention", "Tramèr 2022, arXiv 2107.11630 (detectors); contract of attacks.Classifier"
	known := make([]bool, p.c.Classes())
	for i, y := range p.b.Y {
		known[y], known[attacks.Predict(p.row(i))] = true, true
	}
	to := make([]int, p.c.Classes())
	for _, c := range p.seen {
		to[c]++
	}
	if len(p.seen) < 4 {
		p.skip(name, source, "Too few images were broken to say where they go.")
		return
	}
	most := -1
	for c, k := range to {
		if !known[c] && (most < 0 || k > to[most]) {
			most = c
		}
	}
	says, figure := "Every class is that of some clean image.", 0.
	if most >= 0 {
		figure = share(to[most], len(p.seen))
		says = fmt.Sprintf("Class %d, which no clean image has, gets %d of %d misclassified images under attack.", most, to[most], len(p.seen))
		if figure > 0.5 {
			says += " It looks like a class of rejection: the attack takes rejected images for broken ones and stops. Attack the network behind the detector and count rejections apart."
		}
	}
	p.add(name, source, "share of broken images that go to a class that no clean image has", figure, 0.25, 0.5, len(p.seen), "%s", says)
}

// monotone are the rows that must be ordered: more steps, more draws, another start, larger bounds.
func (p *probe) monotone() error {
	names := []string{"single-step-weaker", "steps-monotone", "eot-monotone", "restarts", "eps-monotone", "unbounded"}
	n := len(p.right)
	if n == 0 {
		for _, name := range names {
			p.skip(name, carlini, "No image is right.")
		}
		return nil
	}
	clean := p.rightImages()
	row := func(c climb, name string, index ...int) ([]bool, error) {
		w, err := p.climb(p.o, clean, c, p.seedOf(name, index...))
		if err != nil {
			return nil, err
		}
		return p.verdicts(w.adv)
	}
	one := p.plain(p.Eps, 1)
	one.step = p.Eps
	single, err := row(one, "single step")
	if err != nil {
		return err
	}
	p.beats(names[0], carlini, "one step", single, "Many steps are weaker than one: the way is blocked, by masked gradients or a bad step size.")

	base, err := row(p.plain(p.Eps, p.Steps), "steps", 1)
	if err != nil {
		return err
	}
	twice, err := row(p.plain(p.Eps, 2*p.Steps), "steps", 2)
	if err != nil {
		return err
	}
	p.ordered(names[1], carlini, fmt.Sprintf("%d steps", p.Steps), fmt.Sprintf("%d", 2*p.Steps), base, twice)

	if p.r.Stochastic && p.EoT > 1 {
		c := p.plain(p.Eps, p.Steps)
		c.eot = 1
		by, err := row(c, "one draw")
		if err != nil {
			return err
		}
		p.ordered(names[2], carlini, "Gradients of one draw", fmt.Sprintf("of %d", p.EoT), by, base)
	} else {
		p.skip(names[2], carlini, "There are no draws to average over, or only one is asked for.")
	}

	if err := p.restart(names[3]); err != nil {
		return err
	}

	// From half the bound to four times, and the whole range. Each is compared with the one before.
	before, worst, where := []bool(nil), 0., ""
	var rates []string
	for k, f := range []float64{0.5, 1, 2, 4} {
		by := base
		if f != 1 {
			if by, err = row(p.plain(f*p.Eps, p.Steps), "eps", k); err != nil {
				return err
			}
		}
		rates = append(rates, fmt.Sprintf("%d at %.3g/255", total(by), f*p.Eps*255))
		if before != nil {
			if fall := share(total(before)-total(by), n); fall > worst {
				worst, where = fall, fmt.Sprintf(" Fewer at %.3g/255 than below: steps of that size lose their way, or gradients mislead.", f*p.Eps*255)
			}
		}
		before = by
	}
	p.add(names[4], carlini, "largest fall, from one bound to the next larger, of the share of images broken", worst, 0, oneImage(n), n,
		"Of %d right images plain steps break %s.%s", n, join(rates), where)

	// Without a bound: twice the steps, each a twentieth of the range or less, from the clean image.
	c := climb{eps: 1, step: 2.5 / float64(2*p.Steps), steps: 2 * p.Steps, eot: p.EoT, stop: true}
	by, err := row(c, "unbounded")
	if err != nil {
		return err
	}
	left := n - total(by)
	says := "Without a bound, from the clean image, every image is broken."
	if left > 0 {
		says = fmt.Sprintf("Without a bound, from the clean image, %d of %d images withstand. Some image of another class is always in reach, so the gradient does not lead there.", left, n)
	}
	p.add(names[5], carlini+"; "+pintor+" (I6)", "share of right images that an unbounded attack does not break", share(left, n), 0.05, max(0.1, oneImage(n)), n, "%s", says)
	return nil
}

// ordered adds a finding that the second, stronger attack breaks no fewer images than the first.
func (p *probe) ordered(name, source, first, second string, a, b []bool) {
	n := len(p.right)
	says := fmt.Sprintf("%s break %d of %d right images, %s break %d.", first, total(a), n, second, total(b))
	fall := max(share(total(a)-total(b), n), 0)
	if fall > 0 {
		says += " More effort breaks less: the attack is unstable or its gradients mislead."
	}
	p.add(name, source, "fall of the share of images broken with more effort", fall, 0, oneImage(n), n, "%s", says)
}

// restart runs Auto-PGD again on what withstood, from another start.
func (p *probe) restart(name string) error {
	left := p.unbroken()
	if len(left) == 0 {
		p.skip(name, carlini, "Nothing withstood the white-box attacks.")
		return nil
	}
	b := p.b.Pick(left)
	r, err := p.attack(p.o, p.auto(attacks.Margin, p.EoT), b, p.seedOf("restart"))
	if err != nil {
		return err
	}
	b.X = r.Adv
	wrong, _, err := p.wrong(b, p.seedOf("confirm"))
	if err != nil {
		return err
	}
	more := total(wrong)
	says := "A second random start breaks nothing more."
	if more > 0 {
		says = fmt.Sprintf("A second random start breaks %d of %d images that withstood: use several.", more, len(left))
	}
	p.add(name, carlini, "share of right images that a second start breaks in addition", share(more, len(p.right)), 0.05, 1, len(p.right), "%s", says)
	return nil
}

func join(parts []string) string {
	s := ""
	for k, part := range parts {
		switch {
		case k == 0:
		case k == len(parts)-1:
			s += " and "
		default:
			s += ", "
		}
		s += part
	}
	return s
}

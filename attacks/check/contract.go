package check

import (
	"math"

	"carsokit/attacks"
)

// contract checks what an attack takes for granted of a classifier: it looks at logits only.
func (p *probe) contract() error {
	n, k := p.b.Len(), p.c.Classes()
	var err error
	if p.clean, err = p.logits(p.o, p.b, p.seedOf("clean"), 1); err != nil {
		return err
	}
	initially, _, err := p.wrong(p.b, p.seedOf("initial"))
	if err != nil {
		return err
	}
	for i, w := range initially {
		if !w {
			p.right = append(p.right, i)
		}
	}
	p.r.Right, p.broken = len(p.right), make([]bool, n)

	p.finiteLogits()
	p.probabilities()
	p.classes()
	if d, ok := p.c.(Dynamic); ok {
		is, says := 0., "The classifier says that it does not adapt while it answers."
		if d.Dynamic() {
			is, says = 1, "The classifier says that it adapts while it answers. Attacks of a standing classifier overstate its robustness: attack the adaptation too (Croce et al. 2022, arXiv 2202.13711)."
		}
		p.add("dynamic", autoAttack, "1 where the classifier says that it adapts at test time", is, 0, 1, p.b.Len(), "%s", says)
	}
	p.better()
	if err := p.repeats(); err != nil {
		return err
	}
	if err := p.company(n, k); err != nil {
		return err
	}
	return p.stages(n, k)
}

func (p *probe) row(i int) []float32 {
	k := p.c.Classes()
	return p.clean[i*k : (i+1)*k]
}

func (p *probe) finiteLogits() {
	bad := 0
	for i := range p.b.Len() {
		if !finite(p.row(i)) {
			bad++
		}
	}
	says := "All logits of clean images are finite."
	if bad > 0 {
		says = "Some logits of clean images are infinite or NaN. Losses on them are NaN or constant, and so are their gradients: attack an output with the same decisions whose logits are finite."
	}
	p.add("finite-logits", autoAttack, "share of clean images with a logit that is not finite", share(bad, p.b.Len()), 0, 0, p.b.Len(), "%s", says)
}

// probabilities: AutoAttack's test, in [0,1] and summing to 1, with its tolerance of 1e-5.
func (p *probe) probabilities() {
	looks := 0
	for i := range p.b.Len() {
		sum, inside := 0., true
		for _, v := range p.row(i) {
			sum += float64(v)
			inside = inside && v > -1e-5 && v < 1+1e-5
		}
		if inside && math.Abs(sum-1) <= 1e-5 {
			looks++
		}
	}
	says := "The outputs are not probabilities."
	if looks > p.b.Len()/2 {
		says = "The outputs lie in [0,1] and sum to 1: they are probabilities. Losses expect logits; a softmax of a softmax flattens them and their gradient."
	}
	p.add("probabilities", autoAttack, "share of images whose outputs look like probabilities", share(looks, p.b.Len()), 0.5, 0.5, p.b.Len(), "%s", says)
}

func (p *probe) classes() {
	missing, says := 0., "Enough classes for every loss."
	switch k := p.c.Classes(); {
	case k <= 2:
		missing, says = 1, "Two classes: the difference of logits ratio does not exist, attacks with it are left out."
	case k == 3:
		missing, says = 0.5, "Three classes: the targeted difference of logits ratio does not exist."
	}
	p.add("classes", autoAttack, "losses that do not exist for so few classes (1: DLR, 0.5: targeted DLR)", missing, 0, 1, p.b.Len(), "%s", says)
}

// better: the accuracy differs from that of guessing at the 5 % level, by the normal approximation.
func (p *probe) better() {
	n, k := float64(p.b.Len()), float64(p.c.Classes())
	guess := 1 / k
	limit := 1 - min(guess+1.645*math.Sqrt(guess*(1-guess)/n), 1-1/n)
	says := "The classifier beats guessing."
	if share(len(p.right), p.b.Len()) < 1-limit {
		says = "The classifier is not better than guessing: nothing can be said of its robustness. Look at the scale of the pixels (here [0,1]), their order, the weights and the labels."
	}
	p.add("clean-accuracy", contract, "share of clean images that are wrong", 1-share(len(p.right), p.b.Len()), limit, limit, p.b.Len(), "%s", says)
}

// repeats: five passes over the same images with the same noise agree, and five with fresh noise do not.
func (p *probe) repeats() error {
	const passes = 5
	n, k := p.b.Len(), p.c.Classes()
	// Accelerators may sum in another order from call to call; that is 1e-6 or so of a logit.
	const rounding = 1e-5
	differ := make([]bool, n)
	for range passes - 1 {
		again, err := p.logits(p.o, p.b, p.seedOf("clean"), 1)
		if err != nil {
			return err
		}
		for i := range n {
			differ[i] = differ[i] || apart(p.row(i), again[i*k:(i+1)*k]) > rounding
		}
	}
	bad := total(differ)
	says := "Five passes over the same images gave the same logits, as a deterministic classifier's must."
	switch {
	case bad > 0 && p.r.Stochastic:
		says = "The same images and the same noise gave different logits: there is randomness beside the declared noise, which attacks cannot average over and results cannot reproduce. Declare all of it."
	case bad > 0:
		says = "The same images gave different logits, though the classifier declares no noise. Declare it as NoiseDims, so that attacks average over it."
	case p.r.Stochastic:
		says = "The same noise gave the same logits: the declared noise is all there is."
	}
	p.add("deterministic", autoAttack, "share of images whose logits differ between passes with the same inputs", share(bad, n), 0, 0.1, n, "%s", says)

	if !p.r.Stochastic {
		p.skip("noise-used", contract, "The classifier declares no noise.")
		return nil
	}
	still := make([]bool, n)
	for i := range still {
		still[i] = true
	}
	z, err := p.logits(p.o, p.b, p.seedOf("fresh"), passes)
	if err != nil {
		return err
	}
	for d := range passes {
		for i := range n {
			still[i] = still[i] && apart(p.row(i), z[(d*n+i)*k:(d*n+i+1)*k]) == 0
		}
	}
	stuck := total(still)
	says = "Fresh noise changes the logits."
	if stuck > 0 {
		says = "For some images fresh noise changes nothing. If it does for all, the declared noise does not reach the logits, or its state is stuck, and averaging over draws averages nothing."
	}
	p.add("noise-used", contract, "share of images whose logits do not depend on the noise", share(stuck, n), 0, 0.5, n, "%s", says)
	return nil
}

// company: the same image in another place of the batch and beside other images has the same logits.
func (p *probe) company(n, k int) error {
	reversed := make([]int, n)
	for i := range reversed {
		reversed[i] = n - 1 - i
	}
	// Every second place goes to an image of noise with an ID of its own.
	mixed := attacks.Batch{H: p.b.H, W: p.b.W, C: p.b.C}
	strangers := make([]float32, len(p.b.X))
	p.seedOf("strangers").Uniform(strangers)
	d := p.b.Dim()
	most := 0
	for _, id := range p.b.ID {
		most = max(most, id)
	}
	for i := range n {
		mixed.X = append(append(mixed.X, strangers[i*d:(i+1)*d]...), p.b.Image(i)...)
		mixed.Y = append(mixed.Y, p.b.Y[i], p.b.Y[i])
		mixed.ID = append(mixed.ID, most+1+i, p.b.ID[i])
	}
	differ := make([]bool, n)
	// A row may be rounded differently in another place of the batch; 1e-3 of the largest logit is far above that.
	const rounding = 1e-3
	for what, other := range []attacks.Batch{p.b.Pick(reversed), mixed} {
		z, err := p.logits(p.o, other, p.seedOf("clean"), 1)
		if err != nil {
			return err
		}
		for i := range n {
			at := n - 1 - i
			if what == 1 {
				at = 2*i + 1
			}
			differ[i] = differ[i] || apart(p.row(i), z[at*k:(at+1)*k]) > rounding
		}
	}
	bad := total(differ)
	says := "An image has the same logits in another place of the batch and beside other images."
	if bad > 0 {
		says = "The logits of an image depend on the other images of its batch or on its place. An attack then optimises something else than what decides. Usual cause: batch normalisation in training mode."
	}
	p.add("batch-invariance", contract, "share of images whose logits depend on their batch", share(bad, n), 0, 0.1, n, "%s", says)
	return nil
}

// stages: the pass in two stages, which serves several draws, gives what the pass in one gives.
func (p *probe) stages(n, k int) error {
	if _, ok := p.c.(attacks.Staged); !ok || !p.r.Stochastic {
		p.skip("staged-consistency", contract, "The classifier does not offer its pass in two stages.")
		return nil
	}
	z, err := p.logits(p.o, p.b, p.seedOf("clean"), 2)
	if err != nil {
		return err
	}
	const rounding = 1e-3 // of differently fused sums, generously
	bad := 0
	for i := range n {
		if apart(p.row(i), z[i*k:(i+1)*k]) > rounding {
			bad++
		}
	}
	says := "The pass in two stages gives the logits of the pass in one."
	if bad > 0 {
		says = "The pass in two stages, which attacks with several draws use, gives other logits than the pass in one: they attack another classifier."
	}
	p.add("staged-consistency", contract, "share of images whose logits differ between the two ways", share(bad, n), 0, 0.1, n, "%s", says)
	return nil
}

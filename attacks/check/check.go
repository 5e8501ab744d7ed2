package check

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"

	"carsokit/attacks"
	"carsokit/internal/rng"
)

// Options are the settings of Run; zero values take the defaults.
type Options struct {
	Subject string   // what is checked, for people
	Eps     float64  // l_inf bound; default 8/255
	Seed    rng.Seed // root of all randomness
	Steps   int      // of each gradient attack; default 20
	EoT     int      // draws that a gradient of a stochastic classifier is averaged over; default 4
	Confirm int      // fresh passes that decide about a stochastic classifier, as in attacks.Sequence; default 4
	Queries int      // of the black-box attack; default 200
	// Substitutes are other classifiers of the same images whose adversarial examples are tried on this one: the network without its defence, or another
	// output of the defence with the same decisions.
	Substitutes []Substitute
	// Buckets are the compiled batch sizes, see attacks.OracleOptions; default 16.
	Buckets []int
	// Progress, if set, is told what is done next.
	Progress func(what string)
}

// Substitute is a classifier to transfer adversarial examples from.
type Substitute struct {
	Name string
	attacks.Classifier
}

// Featured is a classifier that shows what its last linear layer sees. The binarisation test then replaces that layer; of other classifiers it takes the
// logits for features.
type Featured interface {
	attacks.Classifier
	// FeatureDim is K.
	FeatureDim() int
	// Features builds x [B,H,W,C] and noise as in Logits -> [B,K].
	Features(scope *scope, x, noise *node) *node
}

// Dynamic is a classifier that may say of itself that it learns or optimises while it answers, on its inputs or in its own state. AutoAttack finds that out by watching for
// gradients in the forward pass; a graph does not show it.
type Dynamic interface {
	attacks.Classifier
	Dynamic() bool
}

func (o *Options) fill(stochastic bool) error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if o.Eps == 0 {
		o.Eps = 8. / 255
	}
	def(&o.Steps, 20)
	def(&o.EoT, 4)
	def(&o.Confirm, 4)
	def(&o.Queries, 200)
	if !stochastic {
		o.EoT, o.Confirm = 1, 1
	}
	if len(o.Buckets) == 0 {
		o.Buckets = []int{16}
	}
	if !(o.Eps > 0 && o.Eps <= 0.25) || o.Steps < 2 || o.EoT < 1 || o.Confirm < 1 || o.Queries < 1 {
		return fmt.Errorf("check: eps %g, %d steps, %d draws, %d confirming passes, %d queries: want eps in (0,0.25], at least 2 steps, and at least 1 of the others",
			o.Eps, o.Steps, o.EoT, o.Confirm, o.Queries)
	}
	return nil
}

// Run checks a classifier on labelled images. A classifier that fails a check is no error; what cannot be computed is.
func Run(ctx context.Context, be compute.Backend, c attacks.Classifier, b attacks.Batch, o Options) (*Report, error) {
	if c == nil {
		return nil, errors.New("check: Run needs a classifier")
	}
	if b.Len() < 2 {
		return nil, fmt.Errorf("check: %d images; want at least 2", b.Len())
	}
	if err := b.Validate(c.Classes()); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	if err := o.fill(c.NoiseDims() != nil); err != nil {
		return nil, err
	}
	p := &probe{ctx: ctx, be: be, c: c, b: b, Options: o}
	p.r = &Report{Subject: o.Subject, Images: b.Len(), Classes: c.Classes(), Stochastic: c.NoiseDims() != nil,
		Eps: o.Eps, Steps: o.Steps, EoT: o.EoT, Confirm: o.Confirm, Queries: o.Queries, Seed: uint64(o.Seed)}
	var err error
	if p.o, err = p.oracle(c); err != nil {
		return nil, err
	}
	defer p.o.Close()
	for _, part := range []struct {
		what string
		do   func() error
	}{
		{"contract", p.contract}, {"gradients", p.gradients}, {"white-box attacks", p.whiteBox}, {"weaker attacks", p.weaker},
		{"monotone rows", p.monotone}, {"binarisation test", p.binarise},
	} {
		if o.Progress != nil {
			o.Progress(part.what)
		}
		if err := part.do(); err != nil {
			return nil, fmt.Errorf("check: %s: %w", part.what, err)
		}
	}
	return p.r, nil
}

// probe is the state of one Run.
type probe struct {
	Options
	ctx context.Context
	be  compute.Backend
	c   attacks.Classifier
	b   attacks.Batch
	o   *attacks.Oracle
	r   *Report

	clean  []float32 // logits of one pass over b
	right  []int     // the images that are right before any attack
	broken []bool    // by the white-box attacks, indexed as b
	// What attacks made of the right images, for the look at rejection: one prediction each.
	seen []int32
}

// oracle prepares a classifier and counts its passes with gradient.
func (p *probe) oracle(c attacks.Classifier) (*attacks.Oracle, error) {
	o, err := attacks.NewOracle(p.be, c, attacks.OracleOptions{Buckets: p.Buckets})
	if err != nil {
		return nil, err
	}
	return o.Observed(func(_ []int, g *attacks.Grad) {
		if g.G == nil { // queries of an attack without gradients
			p.r.Cost.Forward += len(g.Draws) * p.EoT
		}
		for _, d := range g.Draws {
			p.r.Cost.Gradient += d
		}
	}), nil
}

// seedOf is the stream of one use of randomness.
func (p *probe) seedOf(name string, index ...int) rng.Seed {
	return p.Seed.Child("check").Child(name, index...)
}

// logits classifies in draws passes and counts them: [draws][n][classes].
func (p *probe) logits(o *attacks.Oracle, b attacks.Batch, seed rng.Seed, draws int) ([]float32, error) {
	p.r.Cost.Forward += b.Len() * draws
	return o.Logits(p.ctx, b, seed, draws)
}

// wrong says which images fresh passes misclassify in at least half, and what the first of them predicts.
func (p *probe) wrong(b attacks.Batch, seed rng.Seed) (wrong []bool, predicted []int32, err error) {
	n, k := b.Len(), p.c.Classes()
	z, err := p.logits(p.o, b, seed, p.Confirm)
	if err != nil {
		return nil, nil, err
	}
	wrong, predicted = make([]bool, n), make([]int32, n)
	for i := range n {
		misses := 0
		for d := range p.Confirm {
			class := attacks.Predict(z[(d*n+i)*k : (d*n+i+1)*k])
			if d == 0 {
				predicted[i] = class
			}
			if class != b.Y[i] {
				misses++
			}
		}
		wrong[i] = 2*misses >= p.Confirm
	}
	return wrong, predicted, nil
}

// rightImages are the images that are right before any attack.
func (p *probe) rightImages() attacks.Batch { return p.b.Pick(p.right) }

// add judges a figure by its limits and appends the finding.
func (p *probe) add(name, source, what string, figure, warn, fail float64, n int, says string, args ...any) {
	f := Finding{Name: name, Verdict: Pass, Figure: figure, Warn: warn, Fail: fail, N: n, What: what, Says: fmt.Sprintf(says, args...), Source: source}
	switch {
	case n == 0:
		f.Verdict, f.Figure = NotApplicable, 0
	case !(figure <= fail):
		f.Verdict = Fail
	case figure > warn:
		f.Verdict = Warn
	}
	p.r.Findings = append(p.r.Findings, f)
}

// skip appends a finding that does not apply.
func (p *probe) skip(name, source, why string) {
	p.r.Findings = append(p.r.Findings, Finding{Name: name, Verdict: NotApplicable, Says: why, Source: source})
}

// Where the checks are from.
const (
	autoAttack = "AutoAttack's flags (Croce and Hein 2020)"
	carlini    = "Carlini et al. 2019, arXiv 1902.06705"
	pintor     = "Pintor et al. 2022, arXiv 2106.09947"
	zimmermann = "Zimmermann et al. 2022, arXiv 2206.13991"
	contract   = "the contract of attacks.Classifier"
)

// share is k of n.
func share(k, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(k) / float64(n)
}

// oneImage is the limit of comparisons that count images: one of n, or AutoAttack's 0.2 %, whichever is more.
func oneImage(n int) float64 { return max(share(1, n), 0.002) }

// apart is the largest difference of two rows of logits, relative to the largest of them, from 0 to 1. Equal infinities are no difference; a NaN, or an
// infinity on one side only, is 1.
func apart(a, b []float32) float64 {
	var far, size float64
	for k := range a {
		x, y := float64(a[k]), float64(b[k])
		switch {
		case x == y:
			if !math.IsInf(x, 0) {
				size = max(size, math.Abs(x))
			}
		case math.IsNaN(x-y) || math.IsInf(x-y, 0):
			return 1
		default:
			far, size = max(far, math.Abs(x-y)), max(size, math.Abs(x), math.Abs(y))
		}
	}
	return min(far/max(size, 1e-12), 1)
}

// finite says whether all values are.
func finite(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return x-x != 0 })
}

// total counts what is true.
func total(is []bool) int {
	n := 0
	for _, b := range is {
		if b {
			n++
		}
	}
	return n
}

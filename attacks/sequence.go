package attacks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"carsokit/internal/rng"
)

// Stage is one attack of a Sequence.
type Stage struct {
	Oracle *Oracle // what is attacked: the defence itself, or a surrogate of it with better gradients
	Output string  // the name of the attacked output, for progress and records
	Attack Attack
}

func (s Stage) String() string {
	if s.Output == "" {
		return s.Attack.Name()
	}
	return s.Attack.Name() + " on " + s.Output
}

// Sequence runs attacks one after the other as AutoAttack does (Croce and Hein 2020): an initial pass tells the images that are wrong
// anyhow; each stage attacks the images that are still right, from the clean pixels; fresh passes of Decide on what it returns tell which are
// broken.
type Sequence struct {
	Stages []Stage
	Decide *Oracle // the defence whose decisions count
	// Confirm is the number of fresh passes of Decide, initially and after each stage; an image counts as wrong if it is wrong in at
	// least half of them. 1, AutoAttack's number and what 0 means, lets one lucky draw of a stochastic defence decide.
	Confirm int
	// ConfirmBest tries the point of highest loss of a stage where the one that the stage returns is not confirmed. AutoAttack does not: it asks about the last iterate
	// that one draw misclassified, or, where none was, about the clean image.
	ConfirmBest bool
	// All also attacks the images that are wrong in the initial pass, as the paper does with PGD+EoT. What the stages return decides
	// about them like about the others; the initial pass is then only reported.
	All bool
	// Screen says that so many first stages only screen. They break an image only if it is wrong in all of ScreenPasses passes, so that luck decides little that the
	// other stages would not decide the same way; those draw the noise that they draw without a screen, so that an image which it does not break has the outcome
	// of the sequence without it.
	Screen int
	// Progress, if set, is called after each gradient evaluation and each stage with the evaluations done of those planned for the stage.
	Progress func(done, total int, note string)
}

// ScreenPasses is how many fresh passes have to confirm that a screening stage broke an image.
const ScreenPasses = 8

// NotBroken is the value of Outcome.BrokenBy for images that no stage broke.
const NotBroken = -1

// NotKept is the value of Outcome.FirstHit for images of which an attack that does not look at its iterates left it open.
const NotKept = -2

// Outcome is what a Sequence found; slices are indexed by image.
type Outcome struct {
	Adv       []float32 // [n][H*W*C] the confirmed adversarial image, else the clean one: what AutoAttack returns
	Strongest []float32 // Adv where broken, else the point of highest loss of the last stage that attacked the image
	Initially []bool    // wrong in the initial pass
	BrokenBy  []int     // the first stage whose result was confirmed, or NotBroken
	FirstHit  []int     // the first stage that saw an iterate misclassified in its own draw, or whose result was confirmed; or NotBroken, NotKept
	Remaining []int     // how many images are right in the initial pass, and how many are not broken after each stage
	Diag      [][]Diag  // [stage][image]; Steps is 0 where the stage did not attack the image
}

// Validate reports what is missing or does not fit.
func (s Sequence) Validate() error {
	if s.Decide == nil || len(s.Stages) == 0 || s.Confirm < 0 || s.Screen < 0 || s.Screen > len(s.Stages) {
		return fmt.Errorf("attacks: sequence of %d stages with Confirm %d and Screen %d: want at least one stage, Decide set, Confirm not negative and Screen from 0 to the number of stages", len(s.Stages), s.Confirm, s.Screen)
	}
	for k, stage := range s.Stages {
		if stage.Oracle == nil || stage.Attack == nil {
			return fmt.Errorf("attacks: stage %d of the sequence lacks its oracle or its attack", k)
		}
		if err := stage.Attack.Validate(); err != nil {
			return fmt.Errorf("stage %d: %w", k, err)
		}
		if stage.Oracle.Classes() != s.Decide.Classes() {
			return fmt.Errorf("attacks: stage %d attacks %d classes, the deciding classifier has %d", k, stage.Oracle.Classes(), s.Decide.Classes())
		}
	}
	return nil
}

// Run attacks the images of b. Where ctx ends it returns ctx's error; nothing is kept.
func (s Sequence) Run(ctx context.Context, b Batch, seed rng.Seed) (*Outcome, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := b.Validate(s.Decide.Classes()); err != nil {
		return nil, err
	}
	n, d := b.Len(), b.Dim()
	out := &Outcome{Adv: slices.Clone(b.X), Strongest: slices.Clone(b.X), BrokenBy: make([]int, n)}
	usual := max(s.Confirm, 1)
	initially, err := s.wrong(ctx, b, seed.Child("initial"), usual, usual)
	if err != nil {
		return nil, err
	}
	out.Initially = initially
	attacked := func(i int) bool { return out.BrokenBy[i] == NotBroken && (s.All || !initially[i]) }
	right := n
	out.FirstHit = make([]int, n)
	for i := range n {
		out.BrokenBy[i], out.FirstHit[i] = NotBroken, NotBroken
		if initially[i] {
			right--
		}
	}
	out.Remaining = append(out.Remaining, right)
	for k := range s.Stages {
		diag := make([]Diag, n)
		at := drop(upTo(n), func(i int) bool { return !attacked(i) })
		right = len(at)
		if len(at) > 0 {
			clean := b.Pick(at)
			r, err := s.attack(ctx, k, clean, s.branch(seed, "stage", k))
			if err != nil {
				return nil, err
			}
			result := clean
			result.X = slices.Clone(r.Adv)
			passes, need := usual, usual
			if k < s.Screen {
				passes, need = ScreenPasses, 2*ScreenPasses
			}
			wrong, err := s.wrong(ctx, result, s.branch(seed, "confirm", k), passes, need)
			if err != nil {
				return nil, err
			}
			if s.ConfirmBest {
				best := clean
				best.X = r.Best
				if err := s.confirm(ctx, best, s.branch(seed, "confirm-best", k), passes, need, result.X, wrong); err != nil {
					return nil, err
				}
			}
			for j, i := range at {
				diag[i] = r.Diag[j]
				switch {
				case out.FirstHit[i] >= 0:
				case wrong[j] || r.Broken != nil && r.Broken[j]:
					out.FirstHit[i] = k
				case r.Broken == nil:
					out.FirstHit[i] = NotKept
				}
				strongest := r.Best
				if wrong[j] {
					right--
					out.BrokenBy[i] = k
					copy(out.Adv[i*d:(i+1)*d], result.X[j*d:])
					strongest = result.X
				}
				// A stage whose own first pass has the image wrong gives it back as it is, which is no reason to forget what an earlier one found.
				if found := strongest[j*d : (j+1)*d]; !slices.Equal(found, b.X[i*d:(i+1)*d]) {
					copy(out.Strongest[i*d:], found)
				}
			}
		}
		out.Diag = append(out.Diag, diag)
		out.Remaining = append(out.Remaining, right)
	}
	return out, nil
}

// confirm asks about other points of the images that are not wrong yet, and puts those that are wrong there into adv and wrong.
func (s Sequence) confirm(ctx context.Context, other Batch, seed rng.Seed, passes, need int, adv []float32, wrong []bool) error {
	left := drop(upTo(other.Len()), func(j int) bool { return wrong[j] })
	if len(left) == 0 {
		return nil
	}
	found, err := s.wrong(ctx, other.Pick(left), seed, passes, need)
	if err != nil {
		return err
	}
	d := other.Dim()
	for k, j := range left {
		if found[k] {
			wrong[j] = true
			copy(adv[j*d:(j+1)*d], other.X[j*d:])
		}
	}
	return nil
}

// branch is the randomness of a stage for one purpose.
func (s Sequence) branch(seed rng.Seed, purpose string, k int) rng.Seed {
	if k < s.Screen {
		return seed.Child("screen").Child(purpose, k)
	}
	return seed.Child(purpose, k-s.Screen)
}

// attack runs stage k on its images and checks that the result keeps to the budget.
func (s Sequence) attack(ctx context.Context, k int, clean Batch, seed rng.Seed) (*Result, error) {
	stage, o := s.Stages[k], s.Stages[k].Oracle
	total, done := stage.Attack.Evaluations(), 0
	report := func(images int) {
		if s.Progress != nil {
			s.Progress(done, total, fmt.Sprintf("stage %d of %d, %s, %d images", k+1, len(s.Stages), stage, images))
		}
	}
	report(clean.Len())
	seen, place := make([]Diag, clean.Len()), map[int]int{}
	for i, id := range clean.ID {
		place[id] = i
	}
	r, err := stage.Attack.Run(ctx, o.Observed(func(ids []int, g *Grad) {
		done++
		report(len(ids))
		for i, id := range ids {
			if at, ours := place[id]; ours && g.G != nil {
				seen[at].note(g, i)
			} else if ours {
				seen[at].Queries++
			}
		}
	}), clean, seed)
	if err == nil {
		err = r.complete(clean, seen)
	}
	if err != nil {
		return nil, fmt.Errorf("stage %d, %s: %w", k, stage, err)
	}
	if done < total {
		done = total
		report(clean.Len())
	}
	for _, points := range [][]float32{r.Adv, r.Best} {
		if err := CheckBudget(points, clean, stage.Attack.Budget()); err != nil {
			return nil, fmt.Errorf("stage %d, %s: %w", k, stage, err)
		}
	}
	return r, nil
}

// complete checks the lengths of what an attack returned for the images of b, and fills in what it left out: Best is Adv then, and Diag what the oracle answered.
func (r *Result) complete(b Batch, seen []Diag) error {
	if r == nil {
		return errors.New("attacks: the attack returned neither a result nor an error")
	}
	if r.Best == nil {
		r.Best = r.Adv
	}
	n, d := b.Len(), b.Dim()
	for _, f := range []struct {
		field     string
		len, want int
		optional  bool
	}{{"Adv", len(r.Adv), n * d, false}, {"Best", len(r.Best), n * d, false}, {"Diag", len(r.Diag), n, r.Diag == nil}, {"Broken", len(r.Broken), n, r.Broken == nil}} {
		if f.len != f.want && !f.optional {
			return fmt.Errorf("attacks: the result's %s has %d values for %d images; want %d", f.field, f.len, n, f.want)
		}
	}
	if r.Diag == nil {
		r.Diag = seen
		for i := range n {
			r.Diag[i].Moved = moved(r.Best[i*d:(i+1)*d], b.Image(i))
		}
	}
	return nil
}

// wrong says of which images at least half of need fresh passes, of so many draws, are misclassified.
func (s Sequence) wrong(ctx context.Context, b Batch, seed rng.Seed, draws, need int) ([]bool, error) {
	n, classes := b.Len(), s.Decide.Classes()
	logits, err := s.Decide.Logits(ctx, b, seed, draws)
	if err != nil {
		return nil, err
	}
	wrong := make([]bool, n)
	for i := range n {
		misses := 0
		for k := range draws {
			if at := (k*n + i) * classes; Predict(logits[at:at+classes]) != b.Y[i] {
				misses++
			}
		}
		wrong[i] = 2*misses >= need
	}
	return wrong, nil
}

// budgetSlack allows for the float32 rounding of x + eps; the reference's own check allows as much.
const budgetSlack = 1e-6

// CheckBudget reports the first image of points that leaves the ball of radius eps around its clean version or the range [0,1], or holds a
// NaN.
func CheckBudget(points []float32, clean Batch, eps float64) error {
	for i, far := range Distance(points, clean.X, clean.Len()) {
		if !(far <= eps+budgetSlack) {
			return fmt.Errorf("attacks: image %d was changed by %g; the budget is %g", clean.ID[i], far, eps)
		}
	}
	for k, v := range points {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("attacks: image %d has a pixel value %v after the attack; want values in [0,1]", clean.ID[k/clean.Dim()], v)
		}
	}
	return nil
}

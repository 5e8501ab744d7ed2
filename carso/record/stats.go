package record

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Score is one definition of accuracy, for one image: in how many of how many passes it counts as correct. Zero passes leave the image
// out, because the definition says nothing about it.
type Score func(Image) (correct, passes int)

// Estimate is a percentage over N images with its 95 % interval. With N = 0 the other fields mean nothing.
type Estimate struct {
	Value, Lo, Hi float64 // percent
	N             int
}

// Definition is a named Score with its explanation, for tables and help texts.
type Definition struct {
	Name, Says string
	Needs      string // the fields of Image that it is computed from
	Score      Score
}

// Definitions lists the accuracies of an image. All are computed from one set of records; an image whose record lacks what one needs is
// left out of it. On one image they are ordered: first-hit is never above internal, worst never above fresh, strongest and majority.
func Definitions() []Definition {
	return []Definition{
		{"clean", "correct in fresh passes on the clean image, mean over passes", "clean", Clean},
		{"fresh", "correct in one fresh pass on the image that the attack returned (the paper's count)", "fresh", Fresh},
		{"fresh-mean", "correct in fresh passes on the returned image, mean over passes", "fresh", FreshMean},
		{"internal", "correct in the attack's initial pass and never confirmed broken (the attack's own count)", "initial, broken", Internal},
		{"worst", "correct in every fresh pass, on the returned image and on the point of highest loss", "fresh, strongest", Worst},
		{"majority", "the most frequent prediction over fresh passes on the returned image is correct", "fresh", Majority},
		{"strongest", "correct in one fresh pass on the point of highest loss", "strongest", Strongest},
		{"strongest-mean", "correct in fresh passes on the point of highest loss, mean over passes", "strongest", StrongestMean},
		{"first-hit", "correct in the attack's initial pass, and no iterate of any attack was misclassified in its own draw, confirmed or not", "first_hit", FirstHit},
	}
}

// Clean is the accuracy on clean images, a mean over the fresh passes.
func Clean(im Image) (correct, passes int) { return count(im.Clean, im.Label), len(im.Clean) }

// Fresh is the paper's accuracy: the first fresh pass on the image that the attack returned (the clean one if the attack failed).
func Fresh(im Image) (correct, passes int) {
	first := im.Fresh[:min(1, len(im.Fresh))]
	return count(first, im.Label), len(first)
}

// FreshMean is like [Fresh], a mean over all fresh passes.
func FreshMean(im Image) (correct, passes int) { return count(im.Fresh, im.Label), len(im.Fresh) }

// Internal is the attack's own count: correct in its initial pass and never confirmed broken. An image without fresh passes met no
// attack and is left out.
func Internal(im Image) (correct, passes int) {
	return bit(im.Initial && im.Broken == ""), min(1, len(im.Fresh))
}

// Strongest is the first fresh pass on the point of highest loss: what [Fresh] is on the returned image. It is lower than Fresh where an
// attack raised the loss without a confirmed success, because AutoAttack then returns the clean image.
func Strongest(im Image) (correct, passes int) {
	first := im.Strongest[:min(1, len(im.Strongest))]
	return count(first, im.Label), len(first)
}

// StrongestMean is like [Strongest], a mean over all fresh passes.
func StrongestMean(im Image) (correct, passes int) {
	return count(im.Strongest, im.Label), len(im.Strongest)
}

// FirstHit counts an image as broken as soon as any attack saw any iterate misclassified in a draw of its own. One unlucky draw of a
// stochastic defence is enough, so it is a lower bound rather than an accuracy. Images whose record does not hold it (Image.FirstHit is
// empty, as in records of before that field) are left out, broken or not: those that are known to be broken are no fair sample.
func FirstHit(im Image) (correct, passes int) {
	return bit(im.Initial && im.FirstHit == NoHit), bit(im.FirstHit != "")
}

// Worst asks for a correct prediction in every fresh pass, on the returned image and on the point of highest loss.
func Worst(im Image) (correct, passes int) {
	all := len(im.Fresh) + len(im.Strongest)
	right := count(im.Fresh, im.Label) + count(im.Strongest, im.Label)
	return bit(right == all), min(1, len(im.Fresh))
}

// Majority asks that the label be predicted more often than any other class over the fresh passes on the returned image.
func Majority(im Image) (correct, passes int) {
	votes := map[int]int{}
	for _, p := range im.Fresh {
		votes[p]++
	}
	won := len(im.Fresh) > 0
	for class, n := range votes {
		won = won && (class == im.Label || n < votes[im.Label])
	}
	return bit(won), min(1, len(im.Fresh))
}

// PartID names one attack on one output.
type PartID struct{ Attack, Output string }

// String is "attack/output", as in [Image.Broken].
func (id PartID) String() string { return id.Attack + "/" + id.Output }

// Part returns the image's part id.
func (im Image) Part(id PartID) (Part, bool) {
	for _, p := range im.Parts {
		if p.Attack == id.Attack && p.Output == id.Output {
			return p, true
		}
	}
	return Part{}, false
}

// PartRobust is the accuracy under one part alone, by the attack's own verdict: correct in the initial pass and not broken by the part.
// An attacked image on which the part did not run, because an earlier one broke it, is left out: see [Run.Covers].
func PartRobust(id PartID) Score {
	return func(im Image) (int, int) {
		if !im.Initial {
			return 0, min(1, len(im.Fresh))
		}
		p, ok := im.Part(id)
		return bit(ok && !p.Broken), bit(ok)
	}
}

// FirstPartRobust is PartRobust for the part that runs first. It is given every attacked image but takes no step, and leaves no Part, where its own
// fresh pass happens to misclassify the clean image; such an image counts as broken by it only if a confirming pass agreed.
func FirstPartRobust(id PartID) Score {
	return func(im Image) (int, int) {
		return bit(im.Initial && im.Broken != id.String()), min(1, len(im.Fresh))
	}
}

// NotBrokenBy counts an image correct that is right initially and that no part of the named attack broke, on any output.
func NotBrokenBy(attack string) Score {
	return func(im Image) (correct, passes int) {
		if len(im.Fresh) == 0 {
			return 0, 0
		}
		return bit(im.Initial && !strings.HasPrefix(im.Broken, attack+"/")), 1
	}
}

// Share is the share of attacked images (correct in the initial pass) whose part id has the property is: NaNStart and the like.
func Share(id PartID, is func(Part) bool) Score {
	return func(im Image) (int, int) {
		p, ok := im.Part(id)
		return bit(ok && is(p)), bit(ok && im.Initial)
	}
}

// NaNStart is, like the four functions below it, a property of a part that says how far its gradients can be trusted, for [Share].
func NaNStart(p Part) bool { return p.NaNStart }

// NaNEver is for [Share].
func NaNEver(p Part) bool { return p.NaNEver }

// ZeroStart is for [Share].
func ZeroStart(p Part) bool { return p.ZeroStart }

// ZeroEver is for [Share].
func ZeroEver(p Part) bool { return p.ZeroEver }

// LossZeroStart is for [Share].
func LossZeroStart(p Part) bool { return p.LossZeroStart }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func count(predictions []int, label int) int {
	n := 0
	for _, p := range predictions {
		n += bit(p == label)
	}
	return n
}

// PartIDs lists the run's parts in the order in which they ran. The first is the one that met every attacked image. An image that its own first passes have wrong may lack it, so
// a part that is new takes its place before those of its image that are known.
func (r Run) PartIDs() []PartID {
	var ids []PartID
	for _, im := range r.Images {
		at := len(ids)
		for _, p := range slices.Backward(im.Parts) {
			id := PartID{p.Attack, p.Output}
			if k := slices.Index(ids, id); k >= 0 {
				at = k
			} else {
				ids = slices.Insert(ids, at, id)
			}
		}
	}
	return ids
}

// Covers says on how many of the attacked images the part ran.
func (r Run) Covers(id PartID) (ran, attacked int) {
	for _, im := range r.Images {
		if im.Initial {
			attacked++
			_, ok := im.Part(id)
			ran += bit(ok)
		}
	}
	return ran, attacked
}

// Tally counts images and those among them that survived.
type Tally struct{ Images, Survived int }

// Accounting splits the attacked images of a part by its first gradient: a NaN, exactly zero, or usable (finite and not zero). Images
// that survive without a usable gradient were never attacked by it, so they are no evidence of robustness.
type Accounting struct{ NaN, Zero, Usable Tally }

// Account does the accounting of one part. Survived means: not broken by this part, by its own verdict; with whole, not confirmed
// broken by any part of the run.
func (r Run) Account(id PartID, whole bool) Accounting {
	var a Accounting
	for _, im := range r.Images {
		p, ok := im.Part(id)
		if !ok || !im.Initial {
			continue
		}
		t := &a.Usable
		if p.NaNStart {
			t = &a.NaN
		} else if p.ZeroStart {
			t = &a.Zero
		}
		t.Images++
		if whole {
			t.Survived += bit(im.Broken == "")
		} else {
			t.Survived += bit(!p.Broken)
		}
	}
	return a
}

// z95 is the 97.5 % quantile of the normal distribution.
const z95 = 1.959963984540054

// wilson is the 95 % Wilson interval of the proportion p of n trials, n > 0.
func wilson(p, n float64) (lo, hi float64) {
	z2 := z95 * z95
	centre := (p + z2/(2*n)) / (1 + z2/n)
	half := z95 / (1 + z2/n) * math.Sqrt(p*(1-p)/n+z2/(4*n*n))
	// At the ends the bound is exactly 0 or 1; rounding must not move it beyond p.
	return max(0, min(p, centre-half)), min(1, max(p, centre+half))
}

// Proportion is the percentage k of n with its Wilson interval; no estimate where n is not positive.
func Proportion(k, n int) Estimate {
	if n < 1 {
		return Estimate{}
	}
	p := float64(k) / float64(n)
	lo, hi := wilson(p, float64(n))
	return Estimate{Value: 100 * p, Lo: 100 * lo, Hi: 100 * hi, N: n}
}

// Estimate computes the score over the run's images: the mean over images of their share of correct passes. Images are the units: the
// interval is Wilson's for one pass per image, and for several it is Wilson's with the number of trials that explains the spread
// between images, at least one per image and at most one per pass.
func (r Run) Estimate(s Score) Estimate { return estimate(r.Images, s) }

func estimate(images []Image, s Score) Estimate {
	var sum, squares, n, passes float64
	for _, im := range images {
		if k, of := s(im); of > 0 {
			x := float64(k) / float64(of)
			sum, squares, n, passes = sum+x, squares+x*x, n+1, passes+float64(of)
		}
	}
	if n == 0 {
		return Estimate{}
	}
	p, trials := sum/n, n
	// The variance between images is p(1-p) if each is all right or all wrong, and less the more the passes of one image differ. At 0
	// and 1 no spread can be seen, so images count, not passes.
	if passes > n && p > 0 && p < 1 {
		trials = passes
		if spread := squares/n - p*p; spread > 0 {
			trials = min(passes, n*p*(1-p)/spread)
		}
	}
	lo, hi := wilson(p, trials)
	return Estimate{100 * p, 100 * lo, 100 * hi, int(n)}
}

// Difference is a paired comparison of two scores over the N images that both know, in percentage points.
type Difference struct {
	Value, Lo, Hi float64 // a minus b, with the 95 % interval (Agresti and Min's adjusted Wald interval)
	N             int
	Better, Worse int     // images on which a is above, below b
	P             float64 // two-sided exact McNemar (sign test) on Better and Worse
}

// Compare pairs run a under the score sa with run b under sb, image by image. Both runs must be on the same data. It is an error if no
// image is in both.
func Compare(a Run, sa Score, b Run, sb Score) (Difference, error) {
	if a.Spec.Data != b.Spec.Data {
		return Difference{}, fmt.Errorf("record: comparing %s with %s: different data, %+v and %+v", a.File, b.File, a.Spec.Data, b.Spec.Data)
	}
	others := map[int]Image{}
	for _, im := range b.Images {
		others[im.Index] = im
	}
	var d Difference
	var sum, squares float64
	for _, x := range a.Images {
		y, ok := others[x.Index]
		if !ok {
			continue
		}
		if x.Label != y.Label {
			return Difference{}, fmt.Errorf("record: comparing %s with %s: image %d has labels %d and %d", a.File, b.File, x.Index, x.Label, y.Label)
		}
		kx, nx := sa(x)
		ky, ny := sb(y)
		if nx == 0 || ny == 0 {
			continue
		}
		diff := float64(kx)/float64(nx) - float64(ky)/float64(ny)
		d.N++
		d.Better += bit(diff > 0)
		d.Worse += bit(diff < 0)
		sum, squares = sum+diff, squares+diff*diff
	}
	if d.N == 0 {
		return Difference{}, fmt.Errorf("record: comparing %s with %s: no scored image in common", a.File, b.File)
	}
	// Half an image more in each of the four cells: two images, one of them split between better and worse. Without it, no discordant
	// pair would mean no uncertainty.
	n := float64(d.N) + 2
	mean := sum / n
	half := z95 * math.Sqrt(((squares+1)/n-mean*mean)/n)
	d.Value, d.Lo, d.Hi = 100*sum/float64(d.N), 100*max(-1, mean-half), 100*min(1, mean+half)
	d.P = signTest(d.Better, d.Worse)
	return d, nil
}

// signTest is the two-sided exact probability of a split at least as uneven as (a, b) under even odds.
func signTest(a, b int) float64 {
	n := float64(a + b)
	lgamma := func(x float64) float64 { v, _ := math.Lgamma(x); return v }
	p := 0.0
	for k := 0.0; k <= float64(min(a, b)); k++ {
		p += math.Exp(lgamma(n+1) - lgamma(k+1) - lgamma(n-k+1) - n*math.Ln2)
	}
	return min(1, 2*p)
}

// Query selects runs by what their Spec says. An empty field matches anything.
type Query struct {
	Scenario, Row, Column, Scale string
	Eps                          float64 // l_inf bound, pixels in [0,1]
	Settings
}

// Settings are the choices of an evaluation that tables vary. In a Spec they stand in Defence and Attack; a zero field means that the Spec does not say.
type Settings struct {
	Decides string // aggregation or output that decides
	Samples int    // N, reconstructions per image
	Steps   int    // of the first attack
	EoT     int    // gradient draws per step of the first attack

	Screened bool // cheap attacks came first
	Pinned   bool // the images are a list, not the first ones
}

// Settings reads them from the Spec's Defence and Attack. Where these are not what package eval writes, it reads nothing.
func (s Spec) Settings() Settings {
	var defence struct {
		Samples int
		Decides string
	}
	var attack struct {
		Decides string
		Screen  []any
		Stages  []struct{ Attack struct{ Steps, EoT int } }
	}
	if json.Unmarshal(s.Defence, &defence) != nil || len(s.Attack) > 0 && json.Unmarshal(s.Attack, &attack) != nil {
		return Settings{Pinned: s.Index != nil}
	}
	is := Settings{Decides: cmp.Or(attack.Decides, defence.Decides), Samples: defence.Samples, Screened: len(attack.Screen) > 0, Pinned: s.Index != nil}
	if len(attack.Stages) > 0 {
		is.Steps, is.EoT = attack.Stages[0].Attack.Steps, attack.Stages[0].Attack.EoT
	}
	return is
}

// SameEps says whether two bounds are the same but for a way through float32.
func SameEps(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

// Match says whether the query selects s.
func (q Query) Match(s Spec) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	if !is(q.Scenario, s.Scenario) || !is(q.Row, s.Row) || !is(q.Column, s.Column) || !is(q.Scale, s.Scale) || q.Eps != 0 && !SameEps(q.Eps, s.Eps) {
		return false
	}
	if q.Settings == (Settings{}) {
		return true
	}
	have := s.Settings()
	number := func(want, have int) bool { return want == 0 || want == have }
	return is(q.Decides, have.Decides) && number(q.Samples, have.Samples) && number(q.Steps, have.Steps) && number(q.EoT, have.EoT) && (!q.Screened || have.Screened) && (!q.Pinned || have.Pinned)
}

// ErrNone is returned by [Best] if no run is selected.
var ErrNone = errors.New("no such run")

// Best returns, of the runs that match q and, unless nil, also, the one with the most images; of equals the one with the newest schema,
// then the lowest seed, then the first file name, so that the choice never depends on the order of runs.
func Best(runs []Run, q Query, also func(Spec) bool) (Run, error) {
	best := -1
	for i, r := range runs {
		if q.Match(r.Spec) && (also == nil || also(r.Spec)) && (best < 0 || prefer(r, runs[best])) {
			best = i
		}
	}
	if best < 0 {
		return Run{}, fmt.Errorf("record: %+v: %w", q, ErrNone)
	}
	return runs[best], nil
}

func prefer(a, b Run) bool {
	if len(a.Images) != len(b.Images) {
		return len(a.Images) > len(b.Images)
	}
	if a.Spec.Schema != b.Spec.Schema {
		return a.Spec.Schema > b.Spec.Schema
	}
	if a.Spec.Seed != b.Spec.Seed {
		return a.Spec.Seed < b.Spec.Seed
	}
	return strings.Compare(a.File, b.File) < 0
}

package attacks

import (
	"context"
	"fmt"

	"carsokit/internal/rng"
)

// AutoAttack is a named sequence of attacks of one budget, as a value and as an attack: see Sequence for how they follow each other. The functions that make one are
// the versions of Croce and Hein (2020), as in their repository (commit a3922004); any other list of attacks is the version that they call custom.
type AutoAttack struct {
	Version string   `json:"version"`
	Eps     float64  `json:"eps"`
	Attacks []Attack `json:"attacks"`
}

// AutoAttackStandard is version standard: APGD on cross-entropy, targeted APGD, targeted FAB, Square. For deterministic classifiers of at least 4 classes.
func AutoAttackStandard(eps float64) AutoAttack {
	return AutoAttackCustom("standard", eps, StandardAPGD(CE, eps, 1), StandardAPGDTargeted(eps, 1), StandardFAB(eps, 9, 1), StandardSquare(eps, 1))
}

// AutoAttackPlus is version plus: 5 starts of APGD on cross-entropy and on DLR and of FAB, Square, targeted APGD, targeted FAB. For deterministic classifiers of
// at least 4 classes.
func AutoAttackPlus(eps float64) AutoAttack {
	ce, dlr := StandardAPGD(CE, eps, 1), StandardAPGD(DLR, eps, 1)
	ce.Restarts, dlr.Restarts = 5, 5
	return AutoAttackCustom("plus", eps, ce, dlr, StandardFAB(eps, 0, 5), StandardSquare(eps, 1), StandardAPGDTargeted(eps, 1), StandardFAB(eps, 9, 1))
}

// AutoAttackRand is version rand, for stochastic classifiers: APGD on cross-entropy and on DLR, one start, gradients averaged over 20 draws.
func AutoAttackRand(eps float64) AutoAttack {
	return AutoAttackCustom("rand", eps, StandardAPGD(CE, eps, 20), StandardAPGD(DLR, eps, 20))
}

// AutoAttackRandPlus is no version of the reference: what rand leaves out, for stochastic classifiers. 50 draws, losses averaged over them, 5 starts on the margin, targeted
// APGD, and Square with queries averaged over 20 draws.
func AutoAttackRandPlus(eps float64) AutoAttack {
	untargeted := func(loss Loss, restarts int) APGD {
		a := StandardAPGD(loss, eps, 50)
		a.Restarts, a.AverageLoss = restarts, true
		return a
	}
	targeted := StandardAPGDTargeted(eps, 50)
	targeted.AverageLoss = true
	return AutoAttackCustom("rand-plus", eps, untargeted(CE, 1), untargeted(DLR, 1), untargeted(Margin, 5), targeted, StandardSquare(eps, 20))
}

// AutoAttackCustom is any sequence of attacks of budget eps.
func AutoAttackCustom(version string, eps float64, attacks ...Attack) AutoAttack {
	return AutoAttack{Version: version, Eps: eps, Attacks: attacks}
}

func (a AutoAttack) Name() string    { return "autoattack-" + a.Version }
func (a AutoAttack) Budget() float64 { return a.Eps }

func (a AutoAttack) Evaluations() int {
	n := 0
	for _, each := range a.Attacks {
		n += each.Evaluations()
	}
	return n
}

func (a AutoAttack) Validate() error {
	if err := firstBroken(a.Name(), epsRule(a.Eps), rule{a.Version != "", "Version", a.Version, "a name"}, countRule("the number of Attacks", len(a.Attacks))); err != nil {
		return err
	}
	for k, each := range a.Attacks {
		if each == nil {
			return fmt.Errorf("attacks: %s: attack %d is nil", a.Name(), k)
		}
		if err := each.Validate(); err != nil {
			return fmt.Errorf("%s, attack %d: %w", a.Name(), k, err)
		}
		if each.Budget() != a.Eps {
			return fmt.Errorf("attacks: %s: %s has budget %g; want that of the whole, %g", a.Name(), each.Name(), each.Budget(), a.Eps)
		}
	}
	return nil
}

func (a AutoAttack) MarshalJSON() ([]byte, error) {
	type fields AutoAttack
	return withKind("autoattack", fields(a))
}

// On is the sequence that runs the attacks against o and lets it decide. output is o's name in progress and records; it may be empty.
func (a AutoAttack) On(o *Oracle, output string) Sequence {
	s := Sequence{Decide: o, Confirm: 1}
	for _, each := range a.Attacks {
		s.Stages = append(s.Stages, Stage{o, output, each})
	}
	return s
}

// Run is the sequence as one attack. Adv is a confirmed adversarial image, or the clean one; Broken says that it was confirmed, or that the image was wrong before. The
// diagnostics are merged over the attacks; On keeps them apart.
func (a AutoAttack) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	out, err := a.On(o, "").Run(ctx, b, seed)
	if err != nil {
		return nil, err
	}
	r := &Result{Adv: out.Adv, Best: out.Strongest, Broken: make([]bool, b.Len()), Diag: make([]Diag, b.Len())}
	for i := range r.Broken {
		r.Broken[i] = out.Initially[i] || out.BrokenBy[i] != NotBroken
		for _, diag := range out.Diag {
			r.Diag[i].merge(diag[i])
		}
	}
	return r, nil
}

// Transfer is the baseline of an attack that does not see the defence: its images are made against the classifier from and scored on to. An attack on the defence itself
// that does worse than this one fails for other reasons than robustness. Most attacks leave the images alone that from misclassifies at the start; FGSM, PGD and PGDEoT attack those too.
func Transfer(from *Oracle, name string, to *Oracle, attacks ...Attack) Sequence {
	s := Sequence{Decide: to, Confirm: 1}
	for _, a := range attacks {
		s.Stages = append(s.Stages, Stage{from, name, a})
	}
	return s
}

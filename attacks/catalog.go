package attacks

// Preset is a named attack, ready but for its budget.
type Preset struct {
	Name string // as typed on a command line
	Doc  string // one line
	New  func(eps float64) Attack
	Aim  Aim
}

// Aim is what an attack looks for, which says what it must find on a linear model.
type Aim int

const (
	// Worst is the point of the ball with the highest loss.
	Worst Aim = iota
	// Nearest is the nearest adversarial image.
	Nearest
	// Any is any adversarial image: random search, and sequences of attacks.
	Any
)

// Catalog lists the presets; the conformance suite runs over it. A new attack is a new file and a line here.
func Catalog() []Preset {
	return []Preset{
		{"fgsm", "one signed step on the cross-entropy", func(eps float64) Attack { return FGSM{Eps: eps, EoT: 1} }, Worst},
		{"pgd", "40 steps of 0.01 from a random start, the training adversary", func(eps float64) Attack {
			return PGD{Eps: eps, Step: 0.01, Steps: 40, EoT: 1, RandomStart: true}
		}, Worst},
		{"pgd-eot", "200 steps of 0.007, 20 draws each, from the clean image: the paper's second attack", func(eps float64) Attack { return PaperPGDEoT(eps) }, Worst},
		{"apgd-ce", "Auto-PGD on the cross-entropy, 100 steps", func(eps float64) Attack { return StandardAPGD(CE, eps, 1) }, Worst},
		{"apgd-dlr", "Auto-PGD on the difference of logits ratio, 100 steps", func(eps float64) Attack { return StandardAPGD(DLR, eps, 1) }, Worst},
		{"apgd-margin", "Auto-PGD on the margin, which does not saturate, 100 steps", func(eps float64) Attack { return StandardAPGD(Margin, eps, 1) }, Worst},
		{"apgd-ce-eot20", "first attack of AutoAttack rand: 100 steps, 20 draws each", func(eps float64) Attack { return StandardAPGD(CE, eps, 20) }, Worst},
		{"apgd-dlr-eot20", "second attack of AutoAttack rand: 100 steps, 20 draws each", func(eps float64) Attack { return StandardAPGD(DLR, eps, 20) }, Worst},
		{"apgd-t", "Auto-PGD towards each of 9 classes on the targeted difference of logits ratio, 100 steps", func(eps float64) Attack { return StandardAPGDTargeted(eps, 1) }, Worst},
		{"multi-targeted", "signed steps towards each of 9 classes on the difference of logits, 200 steps", func(eps float64) Attack { return StandardMultiTargeted(eps, 1) }, Worst},
		{"fab", "nearest boundary of all classes, 100 steps, 5 starts", func(eps float64) Attack { return StandardFAB(eps, 0, 5) }, Nearest},
		{"fab-t", "nearest boundary to each of 9 classes, 100 steps", func(eps float64) Attack { return StandardFAB(eps, 9, 1) }, Nearest},
		{"deepfool", "steps just over the nearest boundary, 50 of them", func(eps float64) Attack { return PaperDeepFool(eps) }, Nearest},
		{"square", "random squares, 5000 queries, no gradient", func(eps float64) Attack { return StandardSquare(eps, 1) }, Any},
		{"noise", "100 uniform points of the ball: the baseline that says whether an attack does anything", func(eps float64) Attack {
			return UniformNoise{Eps: eps, Tries: 100, EoT: 1}
		}, Any},
		{"autoattack-standard", "AutoAttack for deterministic classifiers: apgd-ce, apgd-t, fab-t, square", func(eps float64) Attack { return AutoAttackStandard(eps) }, Any},
		{"autoattack-plus", "AutoAttack with more starts: apgd-ce, apgd-dlr, fab, square, apgd-t, fab-t", func(eps float64) Attack { return AutoAttackPlus(eps) }, Any},
		{"autoattack-rand", "AutoAttack for stochastic classifiers: apgd-ce, apgd-dlr, 20 draws each", func(eps float64) Attack { return AutoAttackRand(eps) }, Any},
		{"autoattack-rand-plus", "more than rand for stochastic classifiers: averaged losses, 50 draws, targets, Square on averages", func(eps float64) Attack { return AutoAttackRandPlus(eps) }, Any},
	}
}

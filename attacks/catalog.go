package attacks

// Preset is a named attack, ready but for its budget.
type Preset struct {
	Name string // as typed on a command line
	Doc  string // one line
	New  func(eps float64) Attack
}

// Catalog lists the presets; the conformance suite runs over it. A new attack is a new file and a line here.
func Catalog() []Preset {
	return []Preset{
		{"fgsm", "one signed step on the cross-entropy", func(eps float64) Attack { return FGSM{Eps: eps, EoT: 1} }},
		{"pgd", "40 steps of 0.01 from a random start, the training adversary", func(eps float64) Attack {
			return PGD{Eps: eps, Step: 0.01, Steps: 40, EoT: 1, RandomStart: true}
		}},
		{"pgd-eot", "200 steps of 0.007, 20 draws each, from the clean image: the paper's second attack", func(eps float64) Attack { return PaperPGDEoT(eps) }},
		{"apgd-ce", "Auto-PGD on the cross-entropy, 100 steps", func(eps float64) Attack { return StandardAPGD(CE, eps, 1) }},
		{"apgd-dlr", "Auto-PGD on the difference of logits ratio, 100 steps", func(eps float64) Attack { return StandardAPGD(DLR, eps, 1) }},
		{"apgd-margin", "Auto-PGD on the margin, which does not saturate, 100 steps", func(eps float64) Attack { return StandardAPGD(Margin, eps, 1) }},
		{"apgd-ce-eot20", "first attack of AutoAttack rand: 100 steps, 20 draws each", func(eps float64) Attack { return StandardAPGD(CE, eps, 20) }},
		{"apgd-dlr-eot20", "second attack of AutoAttack rand: 100 steps, 20 draws each", func(eps float64) Attack { return StandardAPGD(DLR, eps, 20) }},
	}
}

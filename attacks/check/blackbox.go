package check

import "carsokit/attacks"

// blackBox searches by squares, which sees logits only: what it finds and gradients do not, gradients hide.
func (p *probe) blackBox(clean attacks.Batch) error {
	a := attacks.StandardSquare(p.Eps, p.EoT)
	a.Queries = p.Queries
	r, err := p.attack(p.o, a, clean, p.seedOf("square"))
	if err != nil {
		return err
	}
	by, err := p.verdicts(r.Best)
	if err != nil {
		return err
	}
	p.beats("black-box-weaker", autoAttack+"; "+carlini, "Square", by, masked)
	return nil
}

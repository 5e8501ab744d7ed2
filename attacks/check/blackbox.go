package check

import "carsokit/attacks"

// blackBox searches with logits only.
func (p *probe) blackBox(attacks.Batch) error {
	p.skip("black-box-weaker", autoAttack+"; "+carlini, "No black-box attack yet.")
	return nil
}

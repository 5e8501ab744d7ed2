package record

// Fate is what became of an image under an attack, with the first gradient that the attack saw of it.
type Fate int

const (
	SurvivedFinite Fate = iota // the attack could see, and failed
	SurvivedNaN                // the attack was blind
	SurvivedZero               // the attack could not move
	Broken
	WrongBefore // misclassified before any attack: not attacked
)

// Fates lists all of them in the order of their values.
func Fates() []Fate { return []Fate{SurvivedFinite, SurvivedNaN, SurvivedZero, Broken, WrongBefore} }

func (f Fate) String() string {
	return [...]string{"survived, finite gradient", "survived, NaN gradient", "survived, zero gradient", "broken", "wrong before the attack"}[f]
}

// Fates tells them for the run's images, by the attack's own count and the gradients of the first part, which met every attacked image.
func (r Run) Fates() []Fate {
	ids := r.PartIDs()
	out := make([]Fate, len(r.Images))
	for i, im := range r.Images {
		out[i] = WrongBefore
		if !im.Initial || len(ids) == 0 {
			continue
		}
		p, ok := im.Part(ids[0])
		switch {
		case im.Broken != "":
			out[i] = Broken
		case !ok: // the attack's own first pass found it wrong
		case p.NaNStart:
			out[i] = SurvivedNaN
		case p.ZeroStart:
			out[i] = SurvivedZero
		default:
			out[i] = SurvivedFinite
		}
	}
	return out
}

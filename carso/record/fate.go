package record

// Fate is what became of an image under an attack, with the first gradient that the attack saw of it.
type Fate int

// The fates an image can have.
const (
	SurvivedFinite Fate = iota // the attack could see, and failed
	SurvivedNaN                // the attack was blind
	SurvivedZero               // the attack could not move
	Broken
	WrongBefore // misclassified before any attack, or in the first pass of each attack: not attacked
)

// Fates lists all of them in the order of their values.
func Fates() []Fate { return []Fate{SurvivedFinite, SurvivedNaN, SurvivedZero, Broken, WrongBefore} }

func (f Fate) String() string {
	return [...]string{"survived, finite gradient", "survived, NaN gradient", "survived, zero gradient", "broken", "wrong before the attack"}[f]
}

// Survived says whether an attack left the image.
func (f Fate) Survived() bool { return f == SurvivedFinite || f == SurvivedNaN || f == SurvivedZero }

// Left counts the survivors of a run, and those of them that survive another run, too.
func (r Run) Left(other Run) (survivors, left int) {
	there := map[int]bool{}
	for i, f := range other.Fates() {
		there[other.Images[i].Index] = f.Survived()
	}
	for i, f := range r.Fates() {
		if f.Survived() {
			survivors++
			left += bit(there[r.Images[i].Index])
		}
	}
	return survivors, left
}

// Fates tells them for the run's images, by the attack's own count and the gradients of the first part that met the image: nearly always the first one, which leaves out those
// that its own first pass has wrong.
func (r Run) Fates() []Fate {
	out := make([]Fate, len(r.Images))
	for i, im := range r.Images {
		switch {
		case !im.Initial:
			out[i] = WrongBefore
		case im.Broken != "":
			out[i] = Broken
		case len(im.Parts) == 0:
			out[i] = WrongBefore
		case im.Parts[0].NaNStart:
			out[i] = SurvivedNaN
		case im.Parts[0].ZeroStart:
			out[i] = SurvivedZero
		}
	}
	return out
}

package paper

import (
	"fmt"
	"strings"
)

// Scale is how much of an evaluation is run: the first Images of the test set, and the length of the attacks. It is data, so that the
// smallest and the paper's run through the same code.
type Scale struct {
	Name     string
	Images   int
	Steps    int     // of APGD
	EoT      int     // gradient draws per step of APGD
	PGDSteps int     // of PGD+EoT
	PGDEoT   int     // gradient draws per step of PGD+EoT
	PGDStep  float64 // step size of PGD+EoT, pixels in [0,1]
	Draws    int     // fresh scoring passes per image
}

// pgdStep is the paper's step size of PGD+EoT at every scale.
const pgdStep = 0.007

// Scales lists the scales from the cheapest to the paper's. medium has the protocol of small, on larger networks.
func Scales() []Scale {
	return []Scale{
		{"tiny", 8, 2, 1, 2, 1, pgdStep, 2},
		{"quickstart", 64, 10, 2, 10, 2, pgdStep, 4},
		{"small", 500, 40, 4, 40, 4, pgdStep, 10},
		{"small-full", 200, 100, 20, 100, 20, pgdStep, 10},
		{"medium", 500, 40, 4, 40, 4, pgdStep, 10},
		{"paper", 10000, 100, 20, 200, 20, pgdStep, 10},
	}
}

// FindScale returns the scale of that name.
func FindScale(name string) (Scale, error) {
	var names []string
	for _, s := range Scales() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scale{}, fmt.Errorf("paper: no scale %q; there are %s", name, strings.Join(names, ", "))
}

// String says what the scale means, in one line.
func (s Scale) String() string {
	return fmt.Sprintf("%s: images %d; APGD steps %d, EoT draws %d; PGD+EoT steps %d of %g, EoT draws %d; scoring passes %d",
		s.Name, s.Images, s.Steps, s.EoT, s.PGDSteps, s.PGDStep, s.PGDEoT, s.Draws)
}

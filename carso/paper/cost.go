package paper

import (
	"cmp"
	"fmt"

	"carsokit/carso/record"
)

// Cost is the most that an evaluation takes, in passes through what is evaluated: images that are wrong from the start, broken on the way or without a finite
// gradient take fewer. A pass of CARSO is one through the classifier that conditions it, and one through the decoder and a classifier for each of its samples.
type Cost struct {
	Forward  int `json:"forward"`  // passes that decide: initial, confirming and scoring
	Backward int `json:"backward"` // passes forward and backward, for a gradient
}

// Add returns the sum of two costs.
func (c Cost) Add(o Cost) Cost { return Cost{c.Forward + o.Forward, c.Backward + o.Backward} }

// String is "at most 10 passes with gradient and 20 without".
func (c Cost) String() string {
	return fmt.Sprintf("at most %d passes with gradient and %d without", c.Backward, c.Forward)
}

// CostOf is the cost of all images of an evaluation. Empty settings of q are the defaults of its row and scale. What has no noise is passed once, whatever the number of draws.
func CostOf(q record.Query) (Cost, error) {
	scale, err := FindScale(q.Scale)
	if err != nil {
		return Cost{}, err
	}
	usual := defaults(q, scale)
	steps, eot := cmp.Or(q.Steps, usual.Steps), cmp.Or(q.EoT, usual.EoT)
	first := 0 // passes with which an attack begins
	if q.Column != "pgd-eot" {
		steps, first = steps+1, 1 // the others evaluate their start, too
	}
	noisy, still := 1, 0 // attacks on outputs with noise and without
	switch q.Column {
	case "rand":
		noisy = 2
	case "strict":
		noisy = 3
	}
	draws, confirm, points := scale.Draws, 1, 1
	switch q.Row {
	case "classifier", "plain":
		noisy, still, draws = 0, noisy, 1
	case "carso-honest": // the same attack on other outputs, each only on what the ones before it left
		confirm = 4
		switch q.Column {
		case "pgd-eot":
			noisy++
		case "strict":
			noisy, still, points = 4, 3, 2 // the point of highest loss is tried, too
		default:
			noisy, still = noisy+2, 1 // the last is the classifier alone
		}
	case "carso-adaptive":
		noisy, confirm = 1, 4
		switch q.Column {
		case "representation", "transfer-z0", "transfer-classifier":
			noisy, still = 0, 1
		}
	}
	if q.Column == "clean" {
		return Cost{Forward: scale.Images * draws}, nil
	}
	return Cost{
		Forward:  scale.Images * (confirm + 2*draws + (noisy+still)*(points*confirm+first)),
		Backward: scale.Images * steps * (noisy*eot + still),
	}, nil
}

// TotalCost sums over evaluations, which must be of scales that exist.
func TotalCost(qs []record.Query) (Cost, error) {
	var sum Cost
	for _, q := range qs {
		c, err := CostOf(q)
		if err != nil {
			return Cost{}, err
		}
		sum = sum.Add(c)
	}
	return sum, nil
}

// Costs is a sheet of what each table takes from nothing at the given scales: evaluations, and passes with gradient at most. An evaluation that several tables
// show runs once.
func Costs(scales ...string) (Sheet, error) {
	s := Sheet{ID: "costs", Title: "What the tables take from nothing", Header: []string{"table", "evaluations"},
		Notes: []string{"Passes with gradient, at most: images that are wrong from the start, are broken on the way or have no finite gradient take fewer. One of CARSO goes through the decoder and a classifier for each of its samples",
			"Evaluations are those of the last scale; one that several tables show runs once, and the sum counts it once"}}
	for _, scale := range scales {
		s.Header = append(s.Header, "passes at scale "+scale)
	}
	all := map[string][]record.Query{}
	row := func(name string, of func(scale string) ([]record.Query, error)) error {
		cells := []string{name, ""}
		for _, scale := range scales {
			qs, err := of(scale)
			if err != nil {
				return err
			}
			cost, err := TotalCost(qs)
			if err != nil {
				return err
			}
			cells[1] = fmt.Sprint(len(qs))
			cells = append(cells, fmt.Sprintf("%.3g", float64(cost.Backward)))
		}
		s.Rows = append(s.Rows, cells)
		return nil
	}
	for _, e := range Tables() {
		err := row(e.ID, func(scale string) ([]record.Query, error) {
			t, err := Build(e.ID, scale, nil)
			qs := distinct(append(t.Missing, t.Blocked...))
			all[scale] = append(all[scale], qs...)
			return qs, err
		})
		if err != nil {
			return s, err
		}
	}
	return s, row("in all", func(scale string) ([]record.Query, error) { return distinct(all[scale]), nil })
}

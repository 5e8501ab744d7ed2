package record

import (
	"slices"
	"testing"
)

func TestFates(t *testing.T) {
	part := func(p Part) []Part { p.Attack, p.Output = "apgd-ce", "peel"; return []Part{p} }
	r := Run{Images: []Image{
		{Initial: true, Parts: part(Part{})},
		{Initial: true, Parts: part(Part{NaNStart: true, ZeroStart: true})},
		{Initial: true, Parts: part(Part{ZeroStart: true})},
		{Initial: true, Parts: part(Part{NaNStart: true}), Broken: "apgd-dlr/peel"},
		{Initial: false},
		{Initial: true},
	}}
	want := []Fate{SurvivedFinite, SurvivedNaN, SurvivedZero, Broken, WrongBefore, WrongBefore}
	if got := r.Fates(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// Survivors are those of the accounting.
	a, n := r.Account(r.PartIDs()[0], true), map[Fate]int{}
	for _, f := range r.Fates() {
		n[f]++
	}
	if n[SurvivedNaN] != a.NaN.Survived || n[SurvivedZero] != a.Zero.Survived || n[SurvivedFinite] != a.Usable.Survived {
		t.Errorf("%v, the accounting says %+v", n, a)
	}
	// An image that the first part's own pass had wrong is told by the next part that met it.
	r.Images = append(r.Images, Image{Initial: true, Parts: []Part{{Attack: "apgd-dlr", Output: "peel", ZeroStart: true}}})
	if got := r.Fates(); got[len(got)-1] != SurvivedZero {
		t.Errorf("met by the second part only: %v", got[len(got)-1])
	}
	// Of the survivors 0 to 2 another attack leaves the second; the third it has not met.
	for i := range r.Images {
		r.Images[i].Index = i
	}
	other := Run{Images: []Image{
		{Index: 1, Initial: true, Parts: part(Part{})},
		{Index: 0, Initial: true, Parts: part(Part{}), Broken: "apgd-ce/peel"},
		{Index: 3, Initial: true, Parts: part(Part{})},
	}}
	if survivors, left := r.Left(other); survivors != 4 || left != 1 {
		t.Errorf("of %d survivors %d are left, want 1 of 4", survivors, left)
	}
	for _, f := range Fates() {
		if f.String() == "" {
			t.Errorf("fate %d has no name", f)
		}
	}
}

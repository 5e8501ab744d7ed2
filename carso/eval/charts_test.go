package eval

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"carsokit/carso/record"
)

// TestByClass: a bar per class and run, whose value is the accuracy over that class's images; a confusion matrix whose rows sum to the passes over a class.
func TestByClass(t *testing.T) {
	classes := []string{"cat", "dog", "owl"}
	clean := record.Run{Spec: record.Spec{Column: "clean"}, Images: []record.Image{
		{Index: 0, Label: 0, Clean: []int{0, 0, 1, 0}}, // 3 of 4 passes right
		{Index: 1, Label: 1, Clean: []int{1, 1, 1, 1}},
	}}
	attack := record.Run{Spec: record.Spec{Row: "carso-honest", Column: "rand"}, Images: []record.Image{
		{Index: 0, Label: 0, Initial: true, Fresh: []int{1, 1, 1, 1}, Strongest: []int{1, 1, 1, 1}},
		{Index: 1, Label: 1, Initial: true, Fresh: []int{1, 1, 2, 1}, Strongest: []int{1, 1, 1, 1}}, // not right in every pass
		{Index: 2, Label: 0, Initial: true, Fresh: []int{0, 0, 0, 0}, Strongest: []int{0, 0, 0, 0}},
	}}
	text := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	bars := ClassBars("t", classes, []string{"clean", "rand"}, []record.Run{clean, attack})
	for k, want := range [][]float64{{75, 100}, {50, 0}} {
		s := text(bars.MultiSeries[k].Data)
		for class, v := range want {
			if !strings.Contains(s, fmt.Sprintf(`"value":%g`, v)) {
				t.Errorf("run %d, %s: no bar of %g in %s", k, classes[class], v, s)
			}
		}
	}
	cells := func(r record.Run) string {
		var all []string
		for _, s := range Confusion("t", classes, r).MultiSeries {
			all = append(all, text(s.Data))
		}
		return strings.Join(all, "")
	}
	// Class 1 of three is in the row above the lowest: y is counted from below.
	for _, want := range []string{"cat / cat: 75", "cat / dog: 25", "dog / dog: 100", "[0,2,75]", "[1,2,25]"} {
		if s := cells(clean); !strings.Contains(s, want) {
			t.Errorf("clean: no %q in %s", want, s)
		}
	}
	s := cells(attack)
	for _, want := range []string{"cat / cat: 50", "cat / dog: 50", "dog / dog: 75", "dog / owl: 25", "dog / cat: 0"} {
		if !strings.Contains(s, want) {
			t.Errorf("attacked: no %q in %s", want, s)
		}
	}
	if strings.Contains(s, "owl / ") {
		t.Errorf("a row without images is not empty: %s", s)
	}
}

package main

import (
	"strings"
	"testing"

	"carsokit/data"
)

// Where there are no data and no weights the doctor says how to get them, for every data set and scenario.
func TestDoctorRemedies(t *testing.T) {
	t.Setenv(data.Env, "")
	found := dataFindings(t.TempDir())
	if len(found) != len(data.Catalog) {
		t.Errorf("%d findings on %d data sets", len(found), len(data.Catalog))
	}
	for _, f := range found {
		if f.OK || !strings.Contains(f.Remedy, "carso data get "+f.What) {
			t.Errorf("%+v", f)
		}
	}
	for _, f := range weightFindings() {
		_, id, _ := strings.Cut(f.What, " ")
		switch {
		case f.OK:
		case id == "a" || id == "a_quater":
			t.Errorf("%+v", f)
		case !strings.Contains(f.Remedy, "carso train classifier -scenario "+id[:1]) && !strings.Contains(f.Remedy, "carso train purifier -scenario "+id+","):
			t.Errorf("%+v", f)
		}
	}
}

package eval

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/checkpoints"
)

func appendix(t *testing.T, scale, id string) paper.Sheet {
	t.Helper()
	all, err := Appendix(scale)
	if err != nil {
		t.Fatal(err)
	}
	k := slices.IndexFunc(all, func(s paper.Sheet) bool { return s.ID == id })
	if k < 0 {
		t.Fatalf("the appendix has no %s", id)
	}
	for _, row := range all[k].Rows {
		if len(row) != len(all[k].Header) {
			t.Fatalf("%s: row %v has %d texts, the header %d", id, row, len(row), len(all[k].Header))
		}
	}
	return all[k]
}

// The parameter counts of the reference, measured on it (spec: architecture 2 and 4).
func TestAppendixParameters(t *testing.T) {
	got := map[string]string{}
	for _, row := range appendix(t, "paper", "parameters").Rows {
		got[row[0]+" "+strings.Fields(row[1])[0]] = row[4]
	}
	for name, want := range map[string]string{
		"a classifier": "36479194", "b classifier": "36536884", "c classifier": "36600984",
		"a input_compressor": "846", "c input_compressor": "846",
		"a repr_compressors": "28442960", "c repr_compressors": "28782600",
		"b repr_fcn_compressor": "75285504", "c repr_fcn_compressor": "289998336",
		"a joint_fcn_compressor": "164096", "c joint_fcn_compressor": "737664",
		"a neck": "33024", "c neck": "74112", "a decoder": "2455107", "c decoder": "4914979",
		"a purifier": "106381537", "c purifier": "324508537",
	} {
		if got[name] != want {
			t.Errorf("%s has %s parameters, the reference %s", name, got[name], want)
		}
	}
}

// Layers add up to their network, and those of the small scale are what the files that ship hold.
func TestAppendixArchitecture(t *testing.T) {
	for _, scale := range []string{"small", "paper"} {
		sums := map[string]int{}
		for _, row := range appendix(t, scale, "architecture").Rows {
			if row[3] == "" || row[4] == "" {
				t.Errorf("%s: layer %v is of no kind or has no tensors", scale, row)
			}
			n, err := strconv.Atoi(row[5])
			if err != nil {
				t.Fatal(err)
			}
			sums[row[0]+row[1]] += n
		}
		for _, row := range appendix(t, scale, "parameters").Rows {
			if row[1] != "purifier in all" && strconv.Itoa(sums[row[0]+row[1]]) != row[4] {
				t.Errorf("%s: the layers of %s %s have %d parameters, the network %s", scale, row[0], row[1], sums[row[0]+row[1]], row[4])
			}
		}
	}
	s, err := carso.FindScenario("a", "small")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range appendix(t, "small", "parameters").Rows {
		name := carso.PartFile(s.Stem, row[1])
		switch {
		case row[0] != s.ID:
			continue
		case strings.HasPrefix(row[1], "classifier"):
			name = s.Classifier
		case row[2] != "inference":
			continue
		}
		f, err := checkpoints.Shipped(strings.TrimSuffix(name, ".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		numbers := 0
		for _, spec := range f.Specs() {
			n := 1
			for _, d := range spec.Shape {
				n *= d
			}
			numbers += n
		}
		f.Close()
		parameters, _ := strconv.Atoi(row[4])
		statistics, _ := strconv.Atoi(row[5])
		if parameters+statistics != numbers || strconv.Itoa(len(f.Specs())) != row[3] {
			t.Errorf("%s: %v, the file has %d numbers in %d tensors", name, row, numbers, len(f.Specs()))
		}
	}
}

// The corners of the reference's schedules (spec: training 2 and 4).
func TestAppendixSchedules(t *testing.T) {
	sheet := appendix(t, "paper", "schedules")
	if len(sheet.Rows) != 250 || !slices.Equal(sheet.Header, []string{"tick", "learning rate a", "beta a", "learning rate b", "beta b", "learning rate c", "beta c"}) {
		t.Fatalf("%d ticks, header %q", len(sheet.Rows), sheet.Header)
	}
	at := func(tick, column int) float64 {
		x, err := strconv.ParseFloat(sheet.Rows[tick][column], 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, c := range []struct {
		tick, column int
		want         float64
	}{
		{25, 2, 0}, {26, 2, 1. / 9}, {34, 2, 1}, {32, 6, 0}, {33, 6, 1. / 11}, {43, 6, 1},
		{0, 1, 5e-9}, {25, 1, 0.064}, {199, 1, 4.35e-4}, {249, 5, 6.97e-5}, {31, 5, 0.0128},
	} {
		// The specification has three digits.
		if got := at(c.tick, c.column); math.Abs(got-c.want) > 2e-3*c.want {
			t.Errorf("tick %d, %s: %g, want %g", c.tick, sheet.Header[c.column], got, c.want)
		}
	}
	if sheet.Rows[200][1] != "" {
		t.Errorf("a has 200 ticks: %v", sheet.Rows[200])
	}
}

// What the paper trains with, by the code's own recipes.
func TestAppendixHyperparameters(t *testing.T) {
	value := map[string][]string{}
	for _, row := range appendix(t, "paper", "hyperparameters").Rows {
		value[row[0]] = row[1:]
	}
	for name, want := range map[string][]string{
		"adversarial fraction": {"0.5", "0.15", "0.01"}, "images of each of four adversaries": {"80", "24", "0"}, "epochs": {"200", "200", "250"},
		"condition K": {"512", "512", "768"}, "latent J": {"128", "128", "192"}, "batch per process": {"640", "640", "128"}, "processes": {"8", "4", "8"},
		"representations (taps)": {"26", "26", "26"}, "samples N at test": {"8", "8", "8"},
	} {
		if !slices.Equal(value[name], want) {
			t.Errorf("%s: %v, want %v", name, value[name], want)
		}
	}
	if rows := appendix(t, "paper", "classifiers").Rows; len(rows) == 0 || rows[1][1] != "120" {
		t.Errorf("classifiers: %v", rows)
	}
	if _, err := Appendix("huge"); err == nil {
		t.Error("accepted a scale that is none")
	}
}

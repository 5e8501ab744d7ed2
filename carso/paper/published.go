package paper

// Scenario is one of the paper's three settings.
type Scenario struct {
	ID         string // "a"
	Data       string
	Classifier string // of the paper, which also conditions the purifier
	Missing    string // why there are no records of it; empty: the kit runs it
}

// Scenarios lists the paper's settings.
func Scenarios() []Scenario {
	return []Scenario{
		{"a", "CIFAR-10", "cui_2023 WRN-28-10", ""},
		{"b", "CIFAR-100", "cui_2023 WRN-28-10", "scenario b (CIFAR-100) is declared, but the kit ships no classifier and purifier for it"},
		{"c", "TinyImageNet-200", "wang_2023 WRN-28-10", "scenario c (TinyImageNet-200) is declared, but the kit ships no classifier and purifier for it"},
	}
}

// Published is a number of the paper, or of a source that it rests on, for one cell of the main table.
type Published struct {
	Scenario, Row, Column string
	Value                 float64 // percent, for a gain percentage points
	Known                 bool    // false: Provenance says what is known instead of a value
	Provenance            string
}

// The paper's body was not at hand. What stems from machine-written reviews of it is called second-hand (review); most likely they
// read version 4. "Unverified" is what no source confirms.
const (
	review       = "v4, second-hand (review)"
	overStandard = "over the classifier under AutoAttack standard; v4, second-hand (review), arithmetic agrees"
	laterOnly    = "not in v4 (review); unknown in later versions"
	dm           = "repository wzekai99/DM-Improves-AT"
)

// PublishedValues lists what is known of the paper's main table.
func PublishedValues() []Published {
	return []Published{
		{"a", "classifier", "clean", 92.16, true, "RobustBench"},
		{"a", "classifier", "rand", 67.73, true, "under AutoAttack standard, not rand; RobustBench, second-hand (review); 67.75 in repository jiequancui/DKL"},
		{"a", "plain", "clean", 94.28, true, "unverified: file name of own_2025"},
		{"a", "carso-paper", "clean", 86.86, true, "unverified"},
		{"a", "carso-paper", "rand", 76.13, true, review},
		{"a", "carso-paper", "pgd-eot", 76.89, true, "v4, second-hand (review, one source)"},
		{"a", "carso-paper", "gain", 8.40, true, overStandard},
		{"b", "classifier", "clean", 73.85, true, "RobustBench"},
		{"b", "classifier", "rand", 39.18, true, "under AutoAttack standard, not rand; RobustBench, second-hand (review)"},
		{"b", "plain", "clean", 74.76, true, "unverified: file name of own_2025"},
		{"b", "carso-paper", "clean", 68.06, true, "unverified"},
		{"b", "carso-paper", "rand", 66.65, true, review},
		{"b", "carso-paper", "pgd-eot", 0, false, laterOnly},
		{"b", "carso-paper", "gain", 27.47, true, overStandard},
		{"c", "classifier", "clean", 65.19, true, dm},
		{"c", "classifier", "rand", 31.30, true, "under AutoAttack standard, not rand; " + dm + ", second-hand (review)"},
		{"c", "carso-paper", "clean", 56.32, true, "unverified; agrees with a drop of 8.87 (review) from 65.19"},
		{"c", "carso-paper", "rand", 53.56, true, review},
		{"c", "carso-paper", "pgd-eot", 0, false, laterOnly},
		{"c", "carso-paper", "gain", 22.26, true, overStandard},
	}
}

// Baseline is a published defence to compare with, l_inf 8/255.
type Baseline struct {
	Data, Model, Architecture string
	Values                    []BaselineValue
}

// BaselineValue is one number of a Baseline.
type BaselineValue struct {
	Column     string  // "clean", "autoattack", "pgd-eot"
	Value      float64 // percent
	Provenance string
}

// Baselines lists the context of the paper's claims: the best adversarially trained classifiers, the best purifiers, and the classifiers
// that variants of CARSO build on.
func Baselines() []Baseline {
	const c10, c100, rb = "CIFAR-10", "CIFAR-100", "RobustBench"
	both := func(data, model, architecture string, clean, robust float64) Baseline {
		return Baseline{data, model, architecture, []BaselineValue{{"clean", clean, rb}, {"autoattack", robust, rb}}}
	}
	peng := both(c10, "Peng2023", "RaWRN-70-16", 93.27, 71.07)
	peng.Values[1].Provenance = "RobustBench, second-hand (review): the paper's best adversarially trained baseline"
	wang := both(c100, "Wang2023", "WRN-70-16", 75.22, 42.67)
	wang.Values[1].Provenance = peng.Values[1].Provenance
	sparse := both(c10, "Amini2024 MeanSparse", "WRN-94-16", 93.60, 75.28)
	sparse.Values[1].Provenance = "RobustBench; 73.10 by an adaptive attack"
	rebuffi := both(c10, "rebuffi_2021", "WRN-28-10", 87.33, 60.73)
	rebuffi.Values[1].Provenance = "RobustBench; 60.75 by AutoAttack alone"
	gowal := both(c10, "gowal_2020", "WRN-28-10", 89.48, 62.76)
	gowal.Values[1].Provenance = "RobustBench; 62.80 by AutoAttack alone"
	return []Baseline{
		both(c10, "Bartoldson2024", "WRN-94-16", 93.68, 73.71),
		sparse,
		peng,
		both(c10, "Wang2023", "WRN-70-16", 93.25, 70.69),
		both(c10, "Bai2024 MixedNUTS", "RN-152 + WRN-70-16", 95.19, 69.71),
		both(c10, "Cui2023", "WRN-28-10", 92.16, 67.73),
		both(c10, "Wang2023", "WRN-28-10", 92.44, 67.31),
		rebuffi,
		gowal,
		{c10, "best purifier", "", []BaselineValue{
			{"autoattack", 78.12, "unverified; overestimated, per the paper's text"},
			{"pgd-eot", 66.41, "v4, second-hand (review), cited to Lee2024Robust"},
		}},
		wang,
		both(c100, "Bai2024 MixedNUTS", "RN-152 + WRN-70-16", 83.08, 41.80),
		both(c100, "Cui2023", "WRN-28-10", 73.85, 39.18),
		both(c100, "Wang2023", "WRN-28-10", 72.58, 38.83),
		both(c100, "rebuffi_2021", "WRN-28-10", 62.41, 32.06),
		{c100, "best purifier", "", []BaselineValue{{"autoattack", 46.09, "Lin2024Robust; v4, second-hand (review); overestimated, per the paper's text"}}},
	}
}

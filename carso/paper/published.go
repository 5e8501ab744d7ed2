package paper

import (
	"fmt"
	"slices"
	"strings"

	"carsokit/carso/record"
)

// Scenario is one of the settings that the authors' code evaluates: a data set, the classifier f that conditions the purifier and the classifier g of its
// reconstructions.
type Scenario struct {
	ID         string // "a", "a_bis"
	Data       string
	Dataset    string // as `carso data get` calls it
	Classifier string // f
	Final      string // g; empty: f
	Missing    string // why there are no records of it below the paper's scale; empty: the kit ships small weights for it
	// Unpublished says why the weights of the paper's scale cannot be had; empty: `carso checkpoint get ID` brings them.
	Unpublished string
}

// ScalePaper is the scale that needs the authors' weights.
const ScalePaper = "paper"

// ScaleMedium is the scale whose weights a GPU trains.
const ScaleMedium = "medium"

// Scenarios lists the paper's three settings.
func Scenarios() []Scenario {
	return []Scenario{
		{ID: "a", Data: "CIFAR-10", Dataset: "cifar10", Classifier: "cui_2023 WRN-28-10"},
		{ID: "b", Data: "CIFAR-100", Dataset: "cifar100", Classifier: "cui_2023 WRN-28-10"},
		{ID: "c", Data: "TinyImageNet-200", Dataset: "tinyimagenet", Classifier: "wang_2023 WRN-28-10"},
	}
}

// Variants lists the settings with other classifiers. bis: the plain one throughout; ter, sexies: other adversarially trained ones; quater: robust
// representations, and the plain classifier decides; quinquies: the reverse.
func Variants() []Scenario {
	const robust, plain = "cui_2023 WRN-28-10", "own_2025 WRN-28-10"
	var all []Scenario
	for _, s := range Scenarios() {
		for _, v := range []struct{ suffix, f, g, purifier string }{
			{"_bis", plain, "", "the plain classifier"},
			{"_ter", "rebuffi_2021 WRN-28-10", "", "another adversarially trained classifier"},
			{"_quater", robust, plain, ""},
			{"_quinquies", plain, robust, "the plain classifier"},
			{"_sexies", "gowal_2020 WRN-28-10", "", "another adversarially trained classifier"},
		} {
			if s.ID == "c" || s.ID == "b" && v.suffix == "_sexies" {
				continue // do not exist
			}
			id := s.ID + v.suffix
			n := Scenario{ID: id, Data: s.Data, Dataset: s.Dataset, Classifier: v.f, Final: v.g, Missing: s.Missing}
			if n.Missing == "" && v.purifier != "" {
				n.Missing = fmt.Sprintf("no weights: %s needs a small purifier trained around %s, which the kit does not ship: carso train purifier -scenario %s_bis makes it; at the paper's scale: %s", id, v.purifier, s.ID, gets(id))
			}
			if v.suffix == "_ter" || v.suffix == "_sexies" {
				n.Unpublished = fmt.Sprintf("no weights: nobody publishes the purifier of %s; carso checkpoint get %s brings its classifier, carso train purifier -scenario %s -scale paper -weights build/weights trains the purifier", id, id, id)
				if n.Missing != s.Missing {
					n.Missing = fmt.Sprintf("no weights: %s needs a small purifier trained around %s, which the kit does not ship", id, v.purifier)
				}
			}
			if id == "a_ter" {
				n.Missing = "no weights: carso train classifier -scenario a_ter and, around it, carso train purifier -scenario a_ter make them, the first in an hour on two cores; export them with -out and evaluate with -weights"
			}
			all = append(all, n)
		}
	}
	return all
}

// trainings are those of the purifier, beside the paper's, that package carso has recipes for.
var trainings = []struct{ suffix, what, takes string }{
	{"e2e", "trained against attacks on the whole defence", "an hour"},
	{"residual", "that corrects the image, trained against attacks on the whole defence", "an hour"},
	{"e2e_long", "trained against attacks on the whole defence, for longer", "minutes on a GPU and hours"},
	{"maps", "that sees maps, trained against attacks on the whole defence for longer", "minutes on a GPU and hours"},
	{"maps_end", "that sees maps, its learning rate brought to zero", "an hour after a_maps'"},
	{"bis_e2e", "around the plain net, trained against attacks on the whole defence", "an hour"},
	{"short", "trained as in the paper, in a third of the time", shortTakes},
	{"phi0", "the same without adversaries", shortTakes},
	{"phi25", "the same with a quarter of adversaries", shortTakes},
	{"phi100", "the same with adversaries only", shortTakes},
	{"group0", "the same with the representations of the first group", shortTakes},
	{"group1", "the same with the representations of the second group", shortTakes},
	{"group2", "the same with the representations of the third group", shortTakes},
	{"free", "the same with a quarter of a nat of each latent dimension for nothing", shortTakes},
	{"beta10", "the same with a tenth of the weight of KL", shortTakes},
	{"beta1", "the same with a hundredth of the weight of KL", shortTakes},
	{"cond16", "the same with a condition of 16 numbers", shortTakes},
	{"latent8", "the same with 8 latent dimensions", shortTakes},
	{"latent128", "the same with 128 latent dimensions", shortTakes},
}

const shortTakes = "under ten minutes"

// Own lists the settings that are this kit's and not the paper's: other trainings of the purifier around a classifier of the paper's settings.
func Own() []Scenario {
	var all []Scenario
	for _, o := range trainings {
		s := Scenarios()[0]
		s.ID += "_" + o.suffix
		s.Unpublished = fmt.Sprintf("no weights: %s is a training of this kit's own, which exists at small scale", s.ID)
		s.Missing = fmt.Sprintf("no weights: carso train purifier -scenario %s makes them, %s on two cores; export them with -out and evaluate with -weights", s.ID, o.takes)
		all = append(all, s)
	}
	return all
}

func gets(id string) string { return "carso checkpoint get " + id }

// FindScenario returns the scenario, the paper's or this kit's own, or the variant of that ID.
func FindScenario(id string) (Scenario, error) {
	var ids []string
	for _, s := range slices.Concat(Scenarios(), Variants(), Own()) {
		if s.ID == id {
			return s, nil
		}
		ids = append(ids, s.ID)
	}
	return Scenario{}, fmt.Errorf("paper: no scenario %q; there are %s", id, strings.Join(ids, ", "))
}

// Published is a number of the paper, or of a source that it rests on, for the cells of one evaluation.
type Published struct {
	Scenario, Row, Column string
	Eps                   float64 // 0: Bound
	Decides               string  // empty: the row's own
	Value                 float64 // percent, for a gain percentage points
	Known                 bool    // false: Provenance says what is known instead of a value
	Provenance            string
}

func known(scenario, row, column string, value float64, provenance string) Published {
	return Published{Scenario: scenario, Row: row, Column: column, Value: value, Known: true, Provenance: provenance}
}

func unknown(scenario, column, provenance string) Published {
	return Published{Scenario: scenario, Row: "carso-paper", Column: column, Provenance: provenance}
}

func (p Published) at(eps float64) Published    { p.Eps = eps; return p }
func (p Published) by(decides string) Published { p.Decides = decides; return p }

// publishedOf is what is known of a cell: nothing, unless samples, steps and draws are the defaults.
func publishedOf(q record.Query, column string) Published {
	for _, p := range PublishedValues() {
		if p.Scenario == q.Scenario && p.Row == q.Row && p.Column == column && record.SameEps(p.Eps, q.Eps) && q.Settings == (record.Settings{Decides: p.Decides}) {
			return p
		}
	}
	return Published{}
}

// The paper's body was not at hand. What stems from machine-written reviews of it is called second-hand (review); most likely they
// read version 4. "Unverified" is what no source confirms.
const (
	review       = "v4, second-hand (review)"
	overStandard = "over the classifier under AutoAttack standard; v4, second-hand (review), arithmetic agrees"
	laterOnly    = "not in v4 (review); unknown in later versions"
	dm           = "repository wzekai99/DM-Improves-AT"
	belowChance  = "below chance; v4, second-hand (review)"
	laterVariant = "not in v4 (review); of the kind that the journal version adds (unverified)"
	noPurifier   = "no purifier is known to compare with; v4, second-hand (review)"
	durations    = "2 to 3.5 h over all scenarios; v4, second-hand (review)"
	codeFraction = "the authors' code; second-hand (review)"
)

// PublishedValues lists what is known of the paper's own experiments, each quantity once: several tables may show it.
func PublishedValues() []Published {
	all := []Published{
		known("a", "classifier", "clean", 92.16, "RobustBench"),
		known("a", "classifier", "rand", 67.73, "under AutoAttack standard, not rand; RobustBench, second-hand (review); 67.75 in repository jiequancui/DKL"),
		known("a", "plain", "clean", 94.28, "unverified: file name of own_2025"),
		known("a", "carso-paper", "clean", 86.86, "unverified"),
		known("a", "carso-paper", "rand", 76.13, review),
		known("a", "carso-paper", "pgd-eot", 76.89, "v4, second-hand (review, one source)"),
		known("a", "carso-paper", "gain", 8.40, overStandard),
		known("b", "classifier", "clean", 73.85, "RobustBench"),
		known("b", "classifier", "rand", 39.18, "under AutoAttack standard, not rand; RobustBench, second-hand (review)"),
		known("b", "plain", "clean", 74.76, "unverified: file name of own_2025"),
		known("b", "carso-paper", "clean", 68.06, "unverified"),
		known("b", "carso-paper", "rand", 66.65, review),
		unknown("b", "pgd-eot", laterOnly),
		known("b", "carso-paper", "gain", 27.47, overStandard),
		known("c", "classifier", "clean", 65.19, dm),
		known("c", "classifier", "rand", 31.30, "under AutoAttack standard, not rand; "+dm+", second-hand (review)"),
		known("c", "carso-paper", "clean", 56.32, "unverified; agrees with a drop of 8.87 (review) from 65.19"),
		known("c", "carso-paper", "rand", 53.56, review),
		unknown("c", "pgd-eot", laterOnly),
		known("c", "carso-paper", "gain", 22.26, overStandard),
		known("a", "carso-paper", "gain-best-at", 5.03, "over Peng2023, as quoted; v4, second-hand (review); 5.06 by arithmetic"),
		known("b", "carso-paper", "gain-best-at", 23.98, "over Wang2023; v4, second-hand (review), arithmetic agrees"),
		known("c", "carso-paper", "gain-best-at", 22.26, "over the same classifier, which is the best known; v4, second-hand (review)"),
		known("a", "carso-paper", "gain-best-purifier", 9.72, "rand here against PGD+EoT there; v4, second-hand (review), arithmetic agrees"),
		known("b", "carso-paper", "gain-best-purifier", 20.25, "over Lin2024Robust, as quoted; v4, second-hand (review); 20.56 by arithmetic"),
		unknown("c", "gain-best-purifier", noPurifier),
		known("a", "carso-paper", "training-minutes", 159, review),
		unknown("b", "training-minutes", durations),
		unknown("c", "training-minutes", durations),
		known("a", "carso-paper", "adversarial-fraction", 0.5, codeFraction),
		known("b", "carso-paper", "adversarial-fraction", 0.15, codeFraction),
		known("c", "carso-paper", "adversarial-fraction", 0.01, codeFraction+"; as scripted it rounds to no image at all"),
	}
	for _, s := range Scenarios() {
		all = append(all, unknown(s.ID, "rand", belowChance).at(HighEps), unknown(s.ID, "rand", laterVariant).by(aggregationOf(s.ID)))
	}
	for _, s := range Variants() {
		all = append(all, unknown(s.ID, "rand", laterVariant))
	}
	return all
}

// Baseline is a published defence to compare with, l_inf 8/255.
type Baseline struct {
	Data, Model, Architecture string
	Values                    []BaselineValue
}

// BaselineValue is one number of a Baseline.
type BaselineValue struct {
	Column     string  // "clean", "autoattack", "pgd-eot"
	Value      float64 // percent; 0 where the paper has none
	Provenance string
}

// Baselines lists the context of the paper's claims: the best adversarially trained classifiers, the best purifiers, and the classifiers
// that variants of CARSO build on.
func Baselines() []Baseline {
	const c10, c100, tiny, rb = "CIFAR-10", "CIFAR-100", "TinyImageNet-200", "RobustBench"
	both := func(data, model, architecture string, clean, robust float64) Baseline {
		return Baseline{data, model, architecture, []BaselineValue{{"clean", clean, rb}, {"autoattack", robust, rb}}}
	}
	// The paper's own classifiers have their numbers above.
	ours := func(data, model, architecture, scenario string) Baseline {
		clean := publishedOf(record.Query{Scenario: scenario, Row: "classifier"}, "clean")
		robust := publishedOf(record.Query{Scenario: scenario, Row: "classifier"}, "rand")
		return both(data, model, architecture, clean.Value, robust.Value)
	}
	// What versions 1 and 2 of the paper built on, of whose own results no number was found.
	earlier := func(model string, clean, robust float64) Baseline {
		b := both(c10, model, "PreActRN-18", clean, robust)
		for k := range b.Values {
			b.Values[k].Provenance = "RobustBench; a classifier of the paper's versions 1 and 2"
		}
		return b
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
	best := struct{ clean, robust Published }{publishedOf(record.Query{Scenario: "c", Row: "classifier"}, "clean"), publishedOf(record.Query{Scenario: "c", Row: "classifier"}, "rand")}
	return []Baseline{
		both(c10, "Bartoldson2024", "WRN-94-16", 93.68, 73.71),
		sparse,
		peng,
		both(c10, "Wang2023", "WRN-70-16", 93.25, 70.69),
		both(c10, "Bai2024 MixedNUTS", "RN-152 + WRN-70-16", 95.19, 69.71),
		ours(c10, "Cui2023", "WRN-28-10", "a"),
		both(c10, "Wang2023", "WRN-28-10", 92.44, 67.31),
		rebuffi,
		gowal,
		earlier("Wong2020", 83.34, 43.21),
		earlier("Rebuffi2021", 83.53, 56.66),
		{c10, "best purifier", "", []BaselineValue{
			{"autoattack", 78.12, "unverified; overestimated, per the paper's text"},
			{"pgd-eot", 66.41, "v4, second-hand (review), cited to Lee2024Robust"},
		}},
		wang,
		both(c100, "Bai2024 MixedNUTS", "RN-152 + WRN-70-16", 83.08, 41.80),
		ours(c100, "Cui2023", "WRN-28-10", "b"),
		both(c100, "Wang2023", "WRN-28-10", 72.58, 38.83),
		both(c100, "rebuffi_2021", "WRN-28-10", 62.41, 32.06),
		{c100, "best purifier", "", []BaselineValue{{"autoattack", 46.09, "Lin2024Robust; v4, second-hand (review); overestimated, per the paper's text"}, {"pgd-eot", 0, "the paper has none; second-hand (review)"}}},
		{tiny, "Wang2023", "WRN-28-10", []BaselineValue{{"clean", best.clean.Value, best.clean.Provenance}, {"autoattack", best.robust.Value, strings.TrimPrefix(best.robust.Provenance, "under AutoAttack standard, not rand; ") + ": the paper's own classifier is the best"}}},
		{tiny, "best purifier", "", []BaselineValue{{"autoattack", 0, "none known to the authors; second-hand (review)"}, {"pgd-eot", 0, "the paper has none; second-hand (review)"}}},
	}
}

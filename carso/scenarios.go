package carso

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"carsokit/checkpoints"
	"carsokit/internal/optim"
	"carsokit/models"

	"github.com/gomlx/gomlx/ml/model"
)

// Scenario names the weight files of one of the paper's settings.
type Scenario struct {
	ID         string
	Dataset    string // as package data names it
	Classifier string // file of the adversarially trained classifier, whose representations condition the purifier
	Final      string // file of the classifier of the reconstructions; empty: Classifier
	Plain      string // file of the same kind of network without adversarial training, for the sanity row; empty: there is none
	Stem       string // of the purifier's files, see PartFile
	// Unpublished says that nobody offers the purifier's files: it has to be trained around the published classifier.
	Unpublished bool
	// Own names the training of the purifier where it is this kit's own and not the paper's, as e2e.
	Own string
	// Wide says that the small classifier is models.WRN.Widened.
	Wide bool
}

// ownTraining is a way to train the purifier that the paper does not have.
type ownTraining struct {
	name   string // the scenario's ID and the stem of its files end in _ and it
	goesOn string // starts at the purifier of the training of that name, or of fromPaper; "" is new weights
	plain  bool   // around the plain classifier
	change func(*Recipe)
}

// fromPaper stands for SmallRecipe itself, the paper's way to train.
const fromPaper = "paper"

// ownTrainings lists them. e2e: every image is attacked by one step through the whole defence, at the bound that is evaluated, and what is learnt is to be classified rightly
// beside being like the image. residual: the same from the beginning, with more weight on the decision, for a decoder that sees maps and corrects the image. e2e_long and
// maps are for a GPU: five times as long; the one as e2e, the other from the beginning, for a decoder that sees maps. maps_end goes on from a maps that was cut short, at half the
// rate, which it brings to zero. bis_e2e: around the plain classifier, for a decoder
// that sees maps: all robustness there is has to come from the purifier. The others are SmallRecipe in a third of its time, with one thing changed from short: the share of adversaries; the representations,
// which are those of one of the classifier's groups; or what might keep the posterior from collapsing, a quarter of a nat of each latent dimension for nothing, a tenth or a hundredth of the weight of KL, a condition of 16 numbers, fewer or more latent dimensions.
func ownTrainings() []ownTraining {
	endToEnd := func(r *Recipe, classLoss float64) {
		r.EndToEnd, r.EpsMultiplier, r.Fraction, r.ClassLoss, r.Crop, r.Flip = 1, 1, 1, classLoss, 4, true
	}
	seesMaps := func(r *Recipe) {
		endToEnd(r, 1000)
		r.Config.Spatial, r.Config.Taps, r.Config.Channels = true, lastConvolutions(r.Config), 128
	}
	onGPU := func(r *Recipe) { r.Epochs, r.Processes, r.ScheduleEvery = 32, 2, 32 }
	all := []ownTraining{
		{"e2e", fromPaper, false, func(r *Recipe) { endToEnd(r, 200) }},
		{"residual", "", false, func(r *Recipe) {
			seesMaps(r)
			r.Config.Residual = true
			r.Epochs, r.ScheduleEvery, r.Rate = 4, 8, 0.1
		}},
		{"e2e_long", fromPaper, false, func(r *Recipe) {
			endToEnd(r, 200)
			onGPU(r)
		}},
		{"maps", "", false, func(r *Recipe) {
			seesMaps(r)
			onGPU(r)
		}},
		{"maps_end", "maps", false, func(r *Recipe) {
			seesMaps(r)
			r.Epochs, r.Processes, r.ScheduleEvery, r.Rate = 4, 2, 8, 0.5
		}},
		{"bis_e2e", "", true, func(r *Recipe) {
			seesMaps(r)
			r.ScheduleEvery = 12
		}},
	}
	short := func(name string, change func(*Recipe)) {
		all = append(all, ownTraining{name, "", false, func(r *Recipe) {
			r.Epochs, r.ScheduleEvery = 2, max(optim.Reference.Unrectified(), r.ScheduleEvery/3)
			change(r)
		}})
	}
	short("short", func(*Recipe) {})
	for _, percent := range []int{0, 25, 100} {
		short(fmt.Sprint("phi", percent), func(r *Recipe) { r.Fraction = float64(percent) / 100 })
	}
	for group := range 3 {
		short(fmt.Sprint("group", group), func(r *Recipe) {
			r.Config.Taps = nil
			for _, t := range r.Config.taps() {
				if strings.HasPrefix(t.Name, fmt.Sprintf("layer.%d.", group)) {
					r.Config.Taps = append(r.Config.Taps, t.Name)
				}
			}
		})
	}
	short("free", func(r *Recipe) { r.FreeBits = 0.25 })
	for _, percent := range []int{10, 1} {
		short(fmt.Sprint("beta", percent), func(r *Recipe) { r.KLWeight = float64(percent) / 100 })
	}
	short("cond16", func(r *Recipe) { r.Config.Cond = 16 })
	for _, latent := range []int{8, 128} {
		short(fmt.Sprint("latent", latent), func(r *Recipe) { r.Config.Latent = latent })
	}
	return all
}

// ScalePaper is the scale whose weights are the authors'.
const ScalePaper = "paper"

// Scenarios lists those of the small scales, whose weights this kit trains: an Opener says which of them ship. bis and quinquies share a purifier trained around the plain
// classifier; in quater and quinquies the other classifier decides; ter has another adversarially trained one. The last ones are no settings of the paper: other purifiers for the classifier of a.
func Scenarios() []Scenario {
	var all []Scenario
	for _, d := range []struct {
		id, dataset, stem string
		variants          bool // of c the paper has none
	}{{"a", "cifar10", "cifar_10", true}, {"b", "cifar100", "cifar_100", true}, {"c", "tinyimagenet", "tinyimagenet_200", false}} {
		stem := "wrn_10_2_" + d.stem + "_small"
		s := Scenario{ID: d.id, Dataset: d.dataset, Classifier: stem + ".safetensors", Plain: "wrn_10_1_" + d.stem + "_plain.safetensors", Stem: stem}
		all = append(all, s)
		if d.variants {
			bis, quater := s, s
			bis.ID, bis.Classifier, bis.Stem = d.id+"_bis", s.Plain, strings.TrimSuffix(s.Plain, ".safetensors")
			quater.ID, quater.Final = d.id+"_quater", s.Plain
			quinquies := bis
			quinquies.ID, quinquies.Final = d.id+"_quinquies", s.Classifier
			all = append(all, bis, quater, quinquies)
		}
		if d.id == "a" {
			ter := s
			ter.ID, ter.Wide, ter.Stem = "a_ter", true, "wrn_10_4_"+d.stem+"_ter"
			ter.Classifier = ter.Stem + ".safetensors"
			all = append(all, ter)
			for _, o := range ownTrainings() {
				own := s
				own.ID, own.Stem, own.Own = d.id+"_"+o.name, stem+"_"+o.name, o.name
				if o.plain {
					own.Classifier, own.Stem = s.Plain, strings.TrimSuffix(s.Plain, ".safetensors")+"_"+o.name
				}
				all = append(all, own)
			}
		}
	}
	return all
}

// ScaleMedium is the scale that one GPU trains in minutes: the paper's depth at less than half its width.
const ScaleMedium = "medium"

// MediumScenarios lists those of ScaleMedium. e2e is trained by the method of the small scale's, for the epochs of this one.
func MediumScenarios() []Scenario {
	s := Scenario{ID: "a", Dataset: "cifar10", Classifier: "wrn_28_4_cifar_10_medium.safetensors", Plain: "wrn_10_1_cifar_10_plain.safetensors", Stem: "wrn_28_4_cifar_10_medium"}
	e2e := s
	e2e.ID, e2e.Stem, e2e.Own = "a_e2e", s.Stem+"_e2e", "e2e"
	return []Scenario{s, e2e}
}

// PaperScenarios lists all that the authors' code evaluates, with their file names (spec: experiments 2). A different attack, bound or aggregation on the same
// weights is no scenario of its own. bis: the plain classifier throughout; ter, sexies: other adversarially trained ones; quater: robust representations,
// the plain classifier decides; quinquies: the reverse.
func PaperScenarios() []Scenario {
	var all []Scenario
	for _, d := range []struct{ id, dataset, stem, plain string }{
		{"a", "cifar10", "cifar_10", "own_2025"}, {"b", "cifar100", "cifar_100", "own_2025"}, {"c", "tinyimagenet", "tinyimagenet_200", ""},
	} {
		files := map[string]string{} // by the authors' name of a classifier
		for _, r := range models.References() {
			if r.Dataset == d.dataset {
				files[r.Name] = r.File + ".safetensors"
			}
		}
		for _, v := range []struct {
			suffix, base, final string
			unpublished         bool
		}{
			{"", "cui_2023", "", false},
			{"", "wang_2023", "", false},
			{"_bis", "own_2025", "", false},
			{"_ter", "rebuffi_2021", "", true},
			{"_quater", "cui_2023", "own_2025", false},
			{"_quinquies", "own_2025", "cui_2023", false},
			{"_sexies", "gowal_2020", "", true},
		} {
			if files[v.base] == "" {
				continue
			}
			all = append(all, Scenario{ID: d.id + v.suffix, Dataset: d.dataset, Classifier: files[v.base], Final: files[v.final], Plain: files[d.plain],
				Stem: "wrn_28_10_" + d.stem + "_" + v.base, Unpublished: v.unpublished})
		}
	}
	return all
}

// FindScenario returns the scenario of that ID with the weights of a scale: the authors' at the paper's, this kit's own at all smaller ones.
func FindScenario(id, scale string) (Scenario, error) {
	all := Scenarios()
	switch scale {
	case ScaleMedium:
		all = MediumScenarios()
	case ScalePaper:
		all = PaperScenarios()
	}
	var ids []string
	for _, s := range all {
		if s.ID == id {
			return s, nil
		}
		ids = append(ids, s.ID)
	}
	return Scenario{}, fmt.Errorf("no weights for scenario %q at scale %s; there are those of %s", id, scale, strings.Join(ids, ", "))
}

// OpenClassifier reads a classifier from a weight file of that name into a scope of store, frozen. See models.ConfigOf.
func OpenClassifier(store *model.Store, scope string, f *checkpoints.File, name string) (*models.Classifier, error) {
	net, err := models.ConfigOf(f, name)
	if err != nil {
		return nil, err
	}
	if err := models.LoadParams(f, store.Scope(scope), net.Params(), true); err != nil {
		return nil, fmt.Errorf("loading the classifier %s: %w", name, err)
	}
	return models.NewClassifier(store, scope, net), nil
}

// Alone returns the representation classifier of a defence by itself, on the same weights.
func (d *Defence) Alone() *models.Classifier { return models.NewClassifier(d.store, baseScope, d.Base) }

// OpenDefence reads the classifiers and the purifier of a scenario. The representation classifier must be the one that the purifier was trained around, which
// files of this kit know by its digest. The authors' files know nothing of it and say their sizes only; there the scenario's names are the only tie.
func OpenDefence(s Scenario, open Opener, samples int, output Aggregation) (*Defence, error) {
	store := model.NewStore()
	cfg, around, err := purifierConfig(s.Stem, open)
	if err != nil {
		return nil, err
	}
	err = open.use(s.Classifier, func(f *checkpoints.File) (err error) {
		if around == "" {
			cfg.Base, err = models.ConfigOf(f, s.Classifier)
			cfg.Final = cfg.Base
		} else if sum, e := f.SHA256(); e != nil {
			err = e
		} else if sum != around {
			err = fmt.Errorf("its SHA-256 is %.12s…, the purifier %s was trained around a classifier with %.12s…: use files that belong together", sum, s.Stem, around)
		}
		if err != nil {
			return err
		}
		return LoadBase(store, cfg.Base, f)
	})
	if err == nil && s.Final != "" {
		err = open.use(s.Final, func(f *checkpoints.File) (err error) {
			if cfg.Final, err = models.ConfigOf(f, s.Final); err != nil {
				return err
			}
			return LoadFinal(store, cfg.Final, f)
		})
	}
	if err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Stem, err)
	}
	if err := LoadPurifier(store, cfg, s.Stem, open); err != nil {
		return nil, err
	}
	return NewDefence(store, cfg, samples, output)
}

// PurifierFiles names the files that the scenario's purifier consists of at inference: what its decoder says, or, where that is not there or says nothing, those of the
// reference's structure.
func (s Scenario) PurifierFiles(open Opener) (names []string) {
	net := models.CIFAR10WRN(28, 10) // the parts have these names around any network
	c := PaperConfig(net, net)
	if own, around, err := purifierConfig(s.Stem, open); err == nil && around != "" {
		c = own
	}
	for _, part := range c.Parts() {
		if !part.TrainOnly {
			names = append(names, PartFile(s.Stem, part.Name))
		}
	}
	return names
}

// purifierConfig returns what the decoder's file says of the purifier and the SHA-256 of the classifier that it was trained around; or, for the authors'
// files, the sizes that the tensors' shapes tell, and "".
func purifierConfig(stem string, open Opener) (c Config, around string, err error) {
	var joined int
	err = open.use(PartFile(stem, "decoder"), func(f *checkpoints.File) (err error) {
		if text, ours := f.Meta["training"]; ours {
			var trained trainState
			if err := json.Unmarshal([]byte(text), &trained); err != nil {
				return fmt.Errorf("its metadata \"training\": %w", err)
			}
			c, around = trained.Recipe.Config, trained.Classifier
			if around == "" {
				return errors.New("its metadata \"training\" names no classifier")
			}
			return nil
		}
		if joined, err = dimension(f, "0.1.weight", 1); err != nil {
			return err
		}
		c.Channels, err = dimension(f, "1.0.weight", 0)
		return err
	})
	if err != nil || around != "" {
		return c, around, err
	}
	err = open.use(PartFile(stem, "repr_fcn_compressor"), func(f *checkpoints.File) (err error) {
		c.Cond, err = dimension(f, "1.0.weight", 0)
		return err
	})
	c.Latent = joined - c.Cond
	return c, "", err
}

// dimension is one dimension of a tensor of a file.
func dimension(f *checkpoints.File, name string, axis int) (int, error) {
	for _, s := range f.Specs() {
		if s.Name == name && axis < len(s.Shape) {
			return s.Shape[axis], nil
		}
	}
	return 0, fmt.Errorf("it has no tensor %q with a dimension %d: it belongs to something else than a purifier", name, axis)
}

// SmallRecipe is how the purifier of a data set is trained around a small classifier: the reference's loss, optimiser, schedules (about 200 ticks), mix of
// adversaries and eps multiplier on a smaller purifier. Beside the sizes one thing differs: PGD takes few large steps instead of 40 of 0.01.
//
// small: about 20 minutes on two cores for CIFAR-10, whose purifier sees all representations; the others are cut to some 12 minutes and to what 2 MiB hold of
// classifier and purifier, and see the last convolution of each group only. medium: the paper's sizes for one GPU, likewise of the last convolutions. tiny: seconds on a few hundred images, for tests.
//
// The shares of adversaries are the reference's: with 0.01, each of the four gets none of a batch of TinyImageNet-200, there (see PaperRecipe) as here.
func SmallRecipe(dataset, scale string, base models.WRN) (Recipe, error) {
	r := Recipe{
		Config: Config{Base: base, Final: base, Cond: 128, Latent: 32, Channels: 96},
		Epochs: 6, Batch: 128, ScheduleEvery: 12, Fraction: 0.5, WeakEps: 4. / 255, StrongEps: 8. / 255,
		EpsMultiplier: 3 / 0.7522, PGDSteps: 5, PGDStep: 0.03, HeldOut: 1000, Seed: 20230602,
	}
	switch dataset {
	case "cifar10":
	case "cifar100":
		r.Config.Taps, r.Config.Cond, r.Config.Channels = lastConvolutions(r.Config), 96, 64
		r.Epochs, r.ScheduleEvery, r.Fraction, r.EpsMultiplier = 5, 10, 0.15, EpsMultiplier(base.Std)
	case "tinyimagenet":
		r.Config.Taps, r.Config.Cond, r.Config.Channels = lastConvolutions(r.Config), 96, 64
		r.Epochs, r.Batch, r.ScheduleEvery, r.Fraction, r.EpsMultiplier = 2, 64, 16, 0.01, EpsMultiplier(base.Std)
	default:
		return Recipe{}, fmt.Errorf("no purifier recipe for data set %q: there are those of cifar10, cifar100 and tinyimagenet", dataset)
	}
	switch scale {
	case "small":
	case ScaleMedium:
		// The paper's sizes, of the last convolution of each group. Batches of four processes, so that a GPU is busy and the learning rate is that of one.
		r.Config = PaperConfig(base, base)
		r.Config.Taps = lastConvolutions(r.Config)
		r.Epochs, r.Batch, r.Processes, r.ScheduleEvery = 12, 128, 4, 6
	case "tiny":
		r.Config.Cond, r.Config.Latent, r.Config.Channels = 16, 8, 16
		r.Epochs, r.Batch, r.ScheduleEvery, r.HeldOut, r.PGDSteps = 3, 16, 5, 100, 2
	default:
		return Recipe{}, fmt.Errorf("no purifier recipe at scale %q: there are tiny, small and medium", scale)
	}
	return r, nil
}

// ClassifierRecipe is how the scenario's classifier, or the plain one beside it, is trained at a scale below the paper's.
func (s Scenario) ClassifierRecipe(scale string, plain bool) (models.Recipe, error) {
	r, err := models.SmallRecipe(s.Dataset, scale, plain)
	if s.Wide && !plain {
		r.Net = r.Net.Widened()
	}
	return r, err
}

// SmallRecipe is how the scenario's purifier is trained at a scale below the paper's.
func (s Scenario) SmallRecipe(scale string, base models.WRN) (Recipe, error) {
	r, err := SmallRecipe(s.Dataset, scale, base)
	if s.Wide { // of whose smallest maps the compressors leave nothing
		r.Config.Taps = lastConvolutions(r.Config)
	}
	if err != nil || s.Own == "" {
		return r, err
	}
	for _, o := range ownTrainings() {
		if o.name == s.Own {
			o.change(&r)
			if o.goesOn != "" && scale != "tiny" { // which trains around no particular purifier
				r.Start = strings.TrimSuffix(s.Stem, "_"+o.name)
				if o.goesOn != fromPaper {
					r.Start += "_" + o.goesOn
				}
			}
			return r, nil
		}
	}
	return r, fmt.Errorf("scenario %s: no training of the purifier is called %q", s.ID, s.Own)
}

// lastConvolutions are the last representations of a network's groups, of those that the compressors, which take the borders off, leave something of.
func lastConvolutions(c Config) (names []string) {
	for _, t := range c.Base.Taps() {
		if !strings.HasSuffix(t.Name, ".conv_1") || t.H <= 2*c.compressorBlocks() {
			continue
		}
		group, _, _ := strings.Cut(t.Name, ".block.")
		if n := len(names); n > 0 && strings.HasPrefix(names[n-1], group+".") {
			names[n-1] = t.Name
			continue
		}
		names = append(names, t.Name)
	}
	return names
}

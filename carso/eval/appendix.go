package eval

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/internal/optim"
	"carsokit/models"
)

// setting is a scenario with what its purifier is made of and how it is trained.
type setting struct {
	id     string
	recipe carso.Recipe
	images int // of the training split
}

// settings are the paper's three, or of smaller scales the kit's own.
func settings(scale string) ([]setting, error) {
	if _, err := paper.FindScale(scale); err != nil {
		return nil, err
	}
	var all []setting
	for _, p := range scenariosAt(scale) {
		s, err := carso.FindScenario(p.ID, scale)
		if err != nil {
			return nil, err
		}
		r, err := recipe(s, scale)
		if err != nil {
			return nil, err
		}
		images := 50_000
		if s.Dataset == "tinyimagenet" {
			images = 100_000
		}
		all = append(all, setting{p.ID, r, images})
	}
	return all, nil
}

// recipe is that of a scenario's purifier at a scale.
func recipe(s carso.Scenario, scale string) (carso.Recipe, error) {
	if scale == carso.ScalePaper {
		return carso.PaperRecipe(s)
	}
	base, err := models.SmallRecipe(s.Dataset, trainedAt(scale), false)
	if err != nil {
		return carso.Recipe{}, err
	}
	return carso.SmallRecipe(s.Dataset, trainedAt(scale), base.Net)
}

// scenariosAt are those of the paper's three that exist at a scale.
func scenariosAt(scale string) []paper.Scenario {
	return slices.DeleteFunc(paper.Scenarios(), func(p paper.Scenario) bool {
		_, err := carso.FindScenario(p.ID, scale)
		return err != nil
	})
}

// trainedAt is the scale of the trainings whose weights an evaluation at a scale takes.
func trainedAt(scale string) string {
	if scale == carso.ScaleMedium {
		return scale
	}
	return "small"
}

// ticks is the number of ticks of the schedules.
func (s setting) ticks() int {
	r := s.recipe
	if r.ScheduleEvery == 0 {
		return r.Epochs
	}
	steps := r.Epochs * ((s.images - r.HeldOut) / (r.Batch * max(1, r.Processes)))
	return (steps + r.ScheduleEvery - 1) / r.ScheduleEvery
}

// module is one of a setting's networks, by its tensors.
type module struct {
	name, use string
	tensors   []tensor
}

// tensor is one tensor of a weight file.
type tensor struct {
	layer, name string
	shape       []int
	size        int
	buffer      bool // no gradient reaches it
}

func (s setting) modules() []module {
	add := func(m *module, name string, shape []int, size int, buffer bool) {
		layer, last := "", name
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			layer, last = name[:i], name[i+1:]
		}
		m.tensors = append(m.tensors, tensor{layer, last, shape, size, buffer})
	}
	f := module{name: "classifier " + s.recipe.Config.Base.String(), use: "inference, frozen"}
	for _, p := range s.recipe.Config.Base.Params() {
		add(&f, p.Name, p.Shape, p.Size(), p.Buffer())
	}
	all := []module{f}
	for _, part := range s.recipe.Config.Parts() {
		m := module{name: part.Name, use: "inference"}
		if part.TrainOnly {
			m.use = "training only"
		}
		for _, p := range part.Params {
			add(&m, p.Name, p.Shape, p.Size(), p.Buffer())
		}
		all = append(all, m)
	}
	return all
}

// Appendix returns the tables of a paper's appendix, from the code's own configurations: those of the authors at scale paper, the kit's own at all smaller ones.
//
// architecture has a row per layer, parameters one per network, hyperparameters one per setting, schedules one per tick, classifiers one per setting of the
// classifiers' trainings that the code knows.
func Appendix(scale string) ([]paper.Sheet, error) {
	all, err := settings(scale)
	if err != nil {
		return nil, err
	}
	training, err := classifierSheet(scale)
	if err != nil {
		return nil, err
	}
	return []paper.Sheet{architectureSheet(all), parameterSheet(all), recipeSheet(all), scheduleSheet(all), training}, nil
}

func architectureSheet(all []setting) paper.Sheet {
	sheet := paper.Sheet{ID: "architecture", Title: "Networks layer by layer", Header: []string{"scenario", "network", "layer", "kind", "tensors", "parameters"},
		Notes: []string{"Shapes are PyTorch's. A layer of batch normalisation has running statistics beside its parameters"}}
	for _, s := range all {
		for _, m := range s.modules() {
			for i := 0; i < len(m.tensors); {
				layer, parameters, shapes, kind := m.tensors[i].layer, 0, []string(nil), ""
				for ; i < len(m.tensors) && m.tensors[i].layer == layer; i++ {
					t := m.tensors[i]
					if !t.buffer {
						parameters += t.size
						shapes = append(shapes, t.name+" "+product(t.shape))
					}
					switch {
					case t.buffer && strings.HasPrefix(t.name, "running_"):
						kind = "batch normalisation"
					case kind == "" && len(t.shape) == 4 && m.name == "decoder":
						kind = "transposed convolution"
					case kind == "" && len(t.shape) == 4:
						kind = "convolution"
					case kind == "" && len(t.shape) == 2:
						kind = "linear"
					}
				}
				sheet.Rows = append(sheet.Rows, []string{s.id, m.name, layer, kind, strings.Join(shapes, ", "), strconv.Itoa(parameters)})
			}
		}
	}
	return sheet
}

func product(shape []int) string {
	var parts []string
	for _, n := range shape {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, "x")
}

func parameterSheet(all []setting) paper.Sheet {
	sheet := paper.Sheet{ID: "parameters", Title: "Sizes of the networks", Header: []string{"scenario", "network", "used in", "tensors", "parameters", "statistics", "MB in float32"},
		Notes: []string{"Parameters are trained, or were; statistics are batch normalisation's and its counters"}}
	for _, s := range all {
		var tensors, parameters, buffers int
		for k, m := range s.modules() { // the first is the classifier
			var p, b int
			for _, t := range m.tensors {
				if t.buffer {
					b += t.size
				} else {
					p += t.size
				}
			}
			sheet.Rows = append(sheet.Rows, []string{s.id, m.name, m.use, strconv.Itoa(len(m.tensors)), strconv.Itoa(p), strconv.Itoa(b), megabytes(p + b)})
			if k > 0 {
				tensors, parameters, buffers = tensors+len(m.tensors), parameters+p, buffers+b
			}
		}
		sheet.Rows = append(sheet.Rows, []string{s.id, "purifier in all", "", strconv.Itoa(tensors), strconv.Itoa(parameters), strconv.Itoa(buffers), megabytes(parameters + buffers)})
	}
	return sheet
}

// megabytes is the size of so many numbers.
func megabytes(numbers int) string { return fmt.Sprintf("%.1f", 4*float64(numbers)/1e6) }

// settingRows has a row per name, with a text of every column.
func settingRows(names []string, columns [][]string) [][]string {
	var rows [][]string
	for i, name := range names {
		row := []string{name}
		for _, c := range columns {
			row = append(row, c[i])
		}
		rows = append(rows, row)
	}
	return rows
}

// perPixel writes a bound in 1/255.
func perPixel(x float64) string { return fmt.Sprintf("%.4g/255", 255*x) }

func recipeSheet(all []setting) paper.Sheet {
	sheet := paper.Sheet{ID: "hyperparameters", Title: "How the purifiers are made and trained", Header: []string{"setting"},
		Notes: []string{"Of each of the four adversaries' images, the share is rounded down per process; the attacked bounds are the nominal ones times the multiplier"}}
	names := []string{"representation classifier", "image side", "classes", "representations (taps)", "condition K", "latent J", "decoder channels", "samples N at test",
		"optimiser", "Lookahead: every, weight", "epochs", "batch per process", "processes", "training images", "held out",
		"adversarial fraction", "images of each of four adversaries", "weak bound, nominal", "strong bound, nominal", "multiplier of the bounds", "strong bound, as attacked",
		"PGD steps", "PGD step", "ticks of the schedules", "learning rate: first, peak, last", "beta: 0 for, rising for", "seed of the kit"}
	var columns [][]string
	for _, s := range all {
		sheet.Header = append(sheet.Header, "scenario "+s.id)
		r, o := s.recipe, optim.Reference
		taps := len(r.Config.Taps)
		if taps == 0 {
			taps = len(r.Config.Base.Taps())
		}
		ticks := s.ticks()
		first, peak, last := r.LearningRate(0, ticks), 0., r.LearningRate(ticks-1, ticks)
		lag, ramp := 0, 0
		for t := range ticks {
			peak = max(peak, r.LearningRate(t, ticks))
			switch b := carso.Beta(t, ticks); {
			case b == 0:
				lag++
			case b < 1:
				ramp++
			}
		}
		columns = append(columns, []string{r.Config.Base.String(), strconv.Itoa(r.Config.Base.Size), strconv.Itoa(r.Config.Base.Classes), strconv.Itoa(taps),
			strconv.Itoa(r.Config.Cond), strconv.Itoa(r.Config.Latent), strconv.Itoa(r.Config.Channels), strconv.Itoa(paper.Samples),
			fmt.Sprintf("RAdam, betas %g and %g, eps %g", o.Beta1, o.Beta2, o.Eps), fmt.Sprintf("%d, %g", o.Every, o.Alpha),
			strconv.Itoa(r.Epochs), strconv.Itoa(r.Batch), strconv.Itoa(max(1, r.Processes)), strconv.Itoa(s.images), strconv.Itoa(r.HeldOut),
			fmt.Sprintf("%g", r.Fraction), strconv.Itoa(int(float64(r.Batch) * r.Fraction / 4)), perPixel(r.WeakEps), perPixel(r.StrongEps), fmt.Sprintf("%.4g", r.EpsMultiplier),
			perPixel(r.StrongEps * r.EpsMultiplier), strconv.Itoa(r.PGDSteps), fmt.Sprintf("%g", r.PGDStep), strconv.Itoa(ticks),
			fmt.Sprintf("%.3g, %.3g, %.3g", first, peak, last), fmt.Sprintf("%d ticks, %d ticks", lag, ramp), fmt.Sprint(r.Seed)})
	}
	sheet.Rows = settingRows(names, columns)
	return sheet
}

func scheduleSheet(all []setting) paper.Sheet {
	sheet := paper.Sheet{ID: "schedules", Title: "Learning rate, and weight of the KL term, over the ticks of a purifier's training", Header: []string{"tick"},
		Notes: []string{"A tick is an epoch at scale paper, and fewer steps below"}}
	longest := 0
	for _, s := range all {
		sheet.Header = append(sheet.Header, "learning rate "+s.id, "beta "+s.id)
		longest = max(longest, s.ticks())
	}
	for t := range longest {
		row := []string{strconv.Itoa(t)}
		for _, s := range all {
			n := s.ticks()
			if t >= n {
				row = append(row, "", "")
				continue
			}
			row = append(row, fmt.Sprintf("%.6g", s.recipe.LearningRate(t, n)), fmt.Sprintf("%.4g", s.recipe.Beta(t, n)))
		}
		sheet.Rows = append(sheet.Rows, row)
	}
	return sheet
}

// classifierSheet is about trainings of classifiers: the adversarially trained ones of scale paper are others', whose recipes this code does not know.
func classifierSheet(scale string) (paper.Sheet, error) {
	sheet := paper.Sheet{ID: "classifiers", Title: "How classifiers are trained", Header: []string{"setting"}}
	type trained struct {
		name string
		r    models.Recipe
	}
	var all []trained
	if scale == carso.ScalePaper {
		sheet.Notes = []string{"The adversarially trained classifiers of this scale are published weights of others (carso checkpoint list)"}
		all = []trained{{"plain, CIFAR-10", models.PaperPlainRecipe(models.CIFAR10WRN(28, 10), false)}, {"plain, CIFAR-100", models.PaperPlainRecipe(models.CIFAR100WRN(28, 10), false)}}
	} else {
		for _, p := range scenariosAt(scale) {
			for _, plain := range []bool{false, true} {
				r, err := models.SmallRecipe(p.Dataset, trainedAt(scale), plain)
				if err != nil {
					return sheet, err
				}
				name := "adversarially trained, " + p.Data
				if plain {
					name = "plain, " + p.Data
				}
				all = append(all, trained{name, r})
			}
		}
	}
	names := []string{"network", "epochs", "batch", "bound of the adversary", "steps of the adversary", "step of the adversary", "peak learning rate", "share of the run that warms up",
		"momentum", "weight decay", "moving average of weights", "crop, flip", "mixup", "label smoothing", "held out", "seed"}
	var columns [][]string
	for _, t := range all {
		sheet.Header = append(sheet.Header, t.name)
		r := t.r
		columns = append(columns, []string{r.Net.String(), strconv.Itoa(r.Epochs), strconv.Itoa(r.Batch), perPixel(r.Eps), strconv.Itoa(r.Steps), perPixel(r.StepSize),
			fmt.Sprintf("%g", r.PeakLR), fmt.Sprintf("%.4g", r.Warmup), fmt.Sprintf("%g", r.Momentum), fmt.Sprintf("%g", r.WeightDecay), fmt.Sprintf("%g", r.EMA),
			fmt.Sprintf("%d pixels, %v", r.Crop, r.Flip), fmt.Sprintf("%g", r.Mixup), fmt.Sprintf("%g", r.LabelSmoothing), strconv.Itoa(r.HeldOut), fmt.Sprint(r.Seed)})
	}
	sheet.Rows = settingRows(names, columns)
	return sheet, nil
}

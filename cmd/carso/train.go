package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carsokit/carso"
	"carsokit/carso/eval"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/training"
	"carsokit/internal/xlaenv"
	"carsokit/models"
)

type trainFlags struct {
	scenario, scale, out, data, weights string
	plain, frozenBN                     bool
	epsMultiplier                       float64
	devices                             int
	recipe, method, extra, ablation     string
}

func trainCommand(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "classifier" && args[0] != "purifier" {
		return errors.New("usage: carso train classifier|purifier -scenario a -scale small [-out folder]")
	}
	var f trainFlags
	fs := flag.NewFlagSet("carso train "+args[0], flag.ContinueOnError)
	fs.StringVar(&f.scenario, "scenario", "a", "scenario of the paper")
	fs.StringVar(&f.scale, "scale", "small", "tiny, small, medium, which is for a GPU, or paper: the reference's recipe at full size")
	fs.StringVar(&f.out, "out", "", "folder of the run's state and curve (default build/train/...)")
	fs.StringVar(&f.data, "data", "", "folder or archive of the data set (default $"+data.Env+", then build/data)")
	fs.StringVar(&f.recipe, "recipe", "", `what differs from the scale's recipe, in JSON, e.g. '{"epochs": 2, "config": {"cond": 64}}'; the run's recipe is in its state and weights`)
	if args[0] == "classifier" {
		fs.BoolVar(&f.plain, "plain", false, "train without an adversary, for the sanity row")
		fs.StringVar(&f.method, "method", "", "adversary, instead of the recipe's: "+strings.Join(models.Methods(), ", "))
		fs.StringVar(&f.ablation, "ablation", "", "a short training with one thing changed, of scenario a at scale small: "+strings.Join(models.AblationNames(), ", "))
		fs.IntVar(&f.devices, "devices", 1, "how many of the backend's devices share every batch; the result differs in roundings only")
		fs.StringVar(&f.extra, "extra", "", ".npz of further images and labels (arrays image and label), of which every batch takes the recipe's extra_share (default 0.5)")
		fs.BoolVar(&f.frozenBN, "frozen-bn", false, "with -plain -scale paper: repeat the reference's mistake of freezing BatchNorm's statistics after the first epoch")
	} else {
		fs.StringVar(&f.weights, "weights", "", "folder of the files of the classifier, and of the purifier that the recipe's \"start\" names (default: those that ship)")
		fs.Float64Var(&f.epsMultiplier, "eps-multiplier", -1, "factor of the adversaries' eps 4/255 and 8/255; 1 is what the paper states, the reference's code multiplies by about 4 (default: the code's)")
	}
	if err := parse(fs, args[1:]); err != nil {
		return err
	}
	s, err := carso.FindScenario(f.scenario, f.scale)
	if err != nil {
		return err
	}
	set, _, err := data.OpenTrain(s.Dataset, f.data, ".")
	if err != nil {
		return err
	}
	if f.out == "" {
		name := args[0] + "-" + f.scenario + "-" + f.scale
		if f.plain {
			name += "-plain"
		}
		for _, what := range []string{f.method, f.ablation} {
			if what != "" {
				name += "-" + what
			}
		}
		f.out = filepath.Join("build", "train", name)
	}
	if args[0] == "classifier" {
		return trainClassifier(ctx, f, s, set)
	}
	return trainPurifier(ctx, f, s, set)
}

func classifierRecipe(f trainFlags, s carso.Scenario) (models.Recipe, error) {
	if f.ablation != "" {
		if s.ID != "a" || f.scale != "small" || f.plain || f.method != "" {
			return models.Recipe{}, fmt.Errorf("-ablation %s names a whole recipe, of -scenario a at -scale small: it goes with neither another of these nor -plain or -method", f.ablation)
		}
		a, err := models.FindAblation(f.ablation)
		if err != nil {
			return models.Recipe{}, err
		}
		return a.Recipe()
	}
	if s.Classifier == s.Plain && !f.plain {
		return models.Recipe{}, fmt.Errorf("scenario %s: its classifier is the plain one, which -plain trains", s.ID)
	}
	if f.scale != carso.ScalePaper {
		return s.ClassifierRecipe(f.scale, f.plain)
	}
	if !f.plain || s.Plain == "" {
		return models.Recipe{}, fmt.Errorf("scenario %s at scale paper: its adversarially trained classifier is others' (carso checkpoint get), and recipes are known for -plain in a and b only", s.ID)
	}
	r, err := models.FindReference(s.Plain)
	return models.PaperPlainRecipe(r.Net, f.frozenBN), err
}

func purifierRecipe(f trainFlags, s carso.Scenario, net models.WRN) (r carso.Recipe, err error) {
	if f.scale == carso.ScalePaper {
		r, err = carso.PaperRecipe(s)
		r.Config = carso.PaperConfig(net, net)
	} else {
		r, err = s.SmallRecipe(f.scale, net)
	}
	if f.epsMultiplier >= 0 {
		r.EpsMultiplier = f.epsMultiplier
	}
	return r, err
}

// override changes those fields of a recipe that the JSON text names.
func override(recipe any, text string) error {
	if text == "" {
		return nil
	}
	before, err := json.Marshal(recipe)
	if err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(recipe); err != nil {
		return fmt.Errorf("-recipe %s: %w; a recipe is %s", text, err, before)
	}
	if d.More() {
		return fmt.Errorf("-recipe %s: there is more after the first value; give one JSON object", text)
	}
	return nil
}

func trainClassifier(ctx context.Context, f trainFlags, s carso.Scenario, set *data.Set) error {
	recipe, err := classifierRecipe(f, s)
	if err == nil && f.method != "" {
		recipe, err = recipe.WithMethod(f.method)
	}
	var extra *data.Set
	if err == nil && f.extra != "" {
		recipe.ExtraShare = 0.5
		var d data.Dataset
		if d, err = data.Lookup(s.Dataset); err == nil {
			extra, err = d.OpenNPZ(f.extra, "extra")
		}
	}
	if err == nil {
		err = override(&recipe, f.recipe)
	}
	if err != nil {
		return err
	}
	be, err := xlaenv.Backend()
	if err != nil {
		return err
	}
	t, err := models.NewTrainer(be, recipe, set, extra, f.out)
	if err == nil {
		err = t.UseDevices(f.devices)
	}
	if err != nil {
		return err
	}
	if w := t.AverageWarning(); w != "" {
		fmt.Fprintln(os.Stderr, "carso: warning:", w)
	}
	return finish(t.Run(ctx, options[models.Point](f.out, t.Step(), recipe.Batch, t.Warning)), f.out, "best averaged weights: "+filepath.Join(f.out, models.BestFile))
}

func trainPurifier(ctx context.Context, f trainFlags, s carso.Scenario, set *data.Set) error {
	open := carso.Opener(eval.Shipped)
	if f.weights != "" {
		open = carso.Folder(f.weights)
	}
	base, err := open.Open(s.Classifier)
	if err != nil {
		return err
	}
	defer base.Close()
	net, err := models.ConfigOf(base, s.Classifier)
	if err != nil {
		return err
	}
	recipe, err := purifierRecipe(f, s, net)
	if err == nil {
		err = override(&recipe, f.recipe)
	}
	if err != nil {
		return err
	}
	be, err := xlaenv.Backend()
	if err != nil {
		return err
	}
	t, err := carso.NewTrainer(be, recipe, set, base, open, f.out)
	if err != nil {
		return err
	}
	return finish(t.Run(ctx, options[carso.Point](f.out, t.Step(), recipe.Batch*max(1, recipe.Processes), t.Warning)), f.out, "carso export writes the weights")
}

func finish(err error, out, next string) error {
	if err == nil {
		fmt.Printf("done; curve: %s; %s\n", filepath.Join(out, training.Curve), next)
	}
	return err
}

// options prints a progress line at most every five seconds, and every point of the curve.
func options[P training.Point](dir string, first, batch int, warning string) training.Options[P] {
	if warning != "" {
		fmt.Fprintln(os.Stderr, "carso: warning:", warning)
	}
	if first > 0 {
		fmt.Printf("continuing from step %d\n", first)
	}
	start, last := time.Now(), time.Now()
	return training.Options[P]{Dir: dir, SaveEvery: 2 * time.Minute,
		Progress: func(step, total int, loss float64) {
			if time.Since(last) < 5*time.Second && step < total {
				return
			}
			last = time.Now()
			rate := float64(step-first) / time.Since(start).Seconds()
			fmt.Printf("step %d/%d  loss %.4g  %.0f images/s  ETA %s\n", step, total, loss, rate*float64(batch),
				time.Duration(float64(total-step)/rate*float64(time.Second)).Round(time.Second))
		},
		Point: func(p P) {
			line, err := json.Marshal(p)
			if err != nil {
				line = []byte(err.Error())
			}
			fmt.Println(string(line))
		}}
}

// export rounds a finished training's weights to float16 and writes them under the scenario's names.
func export(_ context.Context, args []string) error {
	fs := flag.NewFlagSet("carso export", flag.ContinueOnError)
	scenario := fs.String("scenario", "a", "scenario of the paper")
	scale := fs.String("scale", "small", "whose file names: the kit's, or at paper the authors'")
	classifier := fs.String("classifier", "", "folder of a finished classifier training")
	plain := fs.String("plain", "", "folder of a finished plain training")
	purifier := fs.String("purifier", "", "folder of a finished purifier training")
	out := fs.String("out", filepath.Join("build", "weights"), "folder to write to; -weights names it to other commands")
	full := fs.Bool("float32", false, "do not round to float16")
	if err := parse(fs, args); err != nil {
		return err
	}
	s, err := carso.FindScenario(*scenario, *scale)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o777); err != nil {
		return err
	}
	for _, c := range []struct{ from, to string }{{*classifier, s.Classifier}, {*plain, s.Plain}} {
		if c.from == "" {
			continue
		}
		if c.to == "" {
			return fmt.Errorf("-plain %s: scenario %s has no plain classifier", c.from, s.ID)
		}
		conversion := checkpoints.Conversion{DType: "F16"}
		if *full {
			conversion.DType = ""
		}
		if _, err := checkpoints.Convert(filepath.Join(c.from, models.BestFile), filepath.Join(*out, c.to), conversion); err != nil {
			return err
		}
		if err := checkpoints.CopyFile(filepath.Join(c.from, training.Curve), filepath.Join(*out, c.to+"."+training.Curve)); err != nil {
			return err
		}
	}
	if *purifier != "" {
		steps, warning, err := carso.ExportState(*purifier, *out, s.Stem, !*full)
		if err != nil {
			return err
		}
		if warning != "" {
			fmt.Fprintln(os.Stderr, "carso:", warning)
		}
		fmt.Printf("the purifier of %s after %d steps\n", *purifier, steps)
		return checkpoints.CopyFile(filepath.Join(*purifier, training.Curve), filepath.Join(*out, s.Stem+"."+training.Curve))
	}
	return nil
}

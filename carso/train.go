package carso

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"carsokit/attacks"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/nn"
	"carsokit/internal/optim"
	"carsokit/internal/rng"
	"carsokit/models"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"golang.org/x/sync/errgroup"
)

// Trainer trains a purifier around a frozen classifier. It can be stopped between any two steps and continued, bit for bit on the same backend.
type Trainer struct {
	Recipe Recipe
	Store  *model.Store
	// Warning is what was wrong with the newest saved state, when an older one had to be used.
	Warning string

	backend compute.Backend
	loader  *data.Loader
	held    *data.Set
	weights string   // SHA-256 of the classifier's file
	started []string // those of the files at which the run started
	oracle  *attacks.Oracle
	exec    *model.Exec
	step    int
	since   tally
}

type trainState struct {
	Recipe     Recipe   `json:"recipe"`
	Data       string   `json:"data_digest"`
	Classifier string   `json:"classifier_sha256"`
	Started    []string `json:"start_sha256,omitempty"`
	Since      *tally   `json:"since_point,omitempty"`
}

// tally adds up the steps since the last point of the curve; beta and rate are those of the last.
type tally struct {
	Losses
	Steps int `json:"steps"`
}

const stateName = "purifier"

// NewTrainer prepares a run on a training split around the classifier in base, continuing from the state in dir if there is one. Where the recipe has a Start,
// the files of that purifier come from start.
func NewTrainer(be compute.Backend, r Recipe, set *data.Set, base *checkpoints.File, start Opener, dir string) (*Trainer, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if r.Start != "" && start == nil {
		return nil, fmt.Errorf("training the purifier: the recipe starts at %s, and nothing says where its files are", r.Start)
	}
	if set.H != r.Config.Base.Size || set.W != r.Config.Base.Size {
		return nil, fmt.Errorf("training the purifier: images of %s are %dx%d, the classifier takes %d", set.Name, set.H, set.W, r.Config.Base.Size)
	}
	t := &Trainer{Recipe: r, Store: model.NewStore(), backend: be}
	var err error
	if t.weights, err = base.SHA256(); err != nil {
		return nil, err
	}
	if err := LoadBase(t.Store, r.Config.Base, base); err != nil {
		return nil, err
	}
	train, held, err := data.Split(set, r.HeldOut, r.Seed.Child("hold out"))
	if err != nil {
		return nil, fmt.Errorf("training the purifier: %w", err)
	}
	if t.held, err = set.Subset(held); err != nil {
		return nil, fmt.Errorf("training the purifier: %w", err)
	}
	t.loader = &data.Loader{Set: set, Index: train, Batch: r.total(), Seed: r.Seed.Child("data"), Crop: r.Crop, Flip: r.Flip}
	if t.loader.Batches() == 0 {
		return nil, fmt.Errorf("training the purifier: %d images do not fill one batch of %d", t.loader.Len(), r.total())
	}
	if err := t.create(); err != nil {
		return nil, err
	}
	if r.Start != "" {
		if err := t.start(start); err != nil {
			return nil, fmt.Errorf("training the purifier: starting at %s: %w", r.Start, err)
		}
	}
	if err := t.restore(dir); err != nil {
		return nil, err
	}
	if err := t.prepareAttack(); err != nil {
		return nil, err
	}
	if t.exec, err = model.NewExec(be, t.Store, t.stepGraph); err != nil {
		return nil, fmt.Errorf("training the purifier: building the step: %w", err)
	}
	return t, nil
}

// create makes the purifier's variables with PyTorch's initial values, and the optimiser's.
func (t *Trainer) create() error {
	for _, part := range t.Recipe.Config.Parts() {
		seed := t.Recipe.Seed.Child("part " + part.Name)
		if err := nn.Create(t.Store.RootScope().At("%s", part.Name), part.Params, seed, false); err != nil {
			return err
		}
		for _, p := range part.Params {
			if p.Buffer() {
				continue
			}
			zero, first := make([]float32, p.Size()), p.Init(seed)
			if t.Recipe.Config.Residual && part.Name == "decoder" && strings.HasPrefix(p.Name, "5.") {
				first = zero
				if err := nn.Set(t.Store.RootScope().At("%s", part.Name), p, first, false); err != nil {
					return err
				}
			}
			err := errors.Join(
				nn.Set(t.Store.Scope(momentScope+"/"+part.Name), p, zero, true),
				nn.Set(t.Store.Scope(secondScope+"/"+part.Name), p, zero, true),
				nn.Set(t.Store.Scope(slowScope+"/"+part.Name), p, first, true))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// start takes the weights of an earlier purifier of the same shape, and their digests into the run's description. The encoder, which no file has, stays new.
func (t *Trainer) start(open Opener) error {
	c, around, err := purifierConfig(t.Recipe.Start, open)
	if err != nil {
		return err
	}
	if around == "" && t.Recipe.Config.Residual {
		return errors.New("its files do not say how it was trained, so it draws images and corrects none: leave config.residual out")
	}
	if around != "" && around != t.weights {
		return fmt.Errorf("it was trained around a classifier with SHA-256 %.12s…, this run's has %.12s…: start at one that was trained around the same", around, t.weights)
	}
	c.Direct = t.Recipe.Config.Direct // the weights know nothing of it
	if have, want := describe(c), describe(t.Recipe.Config); around != "" && have != want {
		return fmt.Errorf("its shape is\n  %s\nthis recipe's\n  %s\ngive the recipe the same \"config\"", have, want)
	}
	for _, part := range t.Recipe.Config.Parts() {
		if part.TrainOnly {
			continue
		}
		err := open.use(PartFile(t.Recipe.Start, part.Name), func(f *checkpoints.File) error {
			sum, err := f.SHA256()
			if err != nil {
				return err
			}
			t.started = append(t.started, sum)
			if err := models.LoadParams(f, t.Store.RootScope().At("%s", part.Name), part.Params, false); err != nil {
				return err
			}
			for _, p := range part.Params {
				if p.Buffer() {
					continue
				}
				path := "/" + part.Name + "/" + p.Name
				v, err := t.Store.GetVariable(path).Value()
				if err == nil {
					v, err = v.Clone()
				}
				if err == nil {
					err = t.Store.GetVariable(slowScope + path).SetValue(v)
				}
				if err != nil {
					return fmt.Errorf("parameter %s: %w", p.Name, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Trainer) restore(dir string) error {
	if dir == "" {
		return nil
	}
	var meta trainState
	ts, step, warning, err := checkpoints.LoadState(dir, stateName, &meta)
	if errors.Is(err, checkpoints.ErrNoState) {
		return nil
	}
	if err != nil {
		return err
	}
	since := meta.Since
	meta.Since = nil
	if have, want := describe(meta), describe(t.state()); have != want {
		return fmt.Errorf("training state in %s is of another run:\n  %s\nthis run is\n  %s\nuse another folder or remove it", dir, have, want)
	}
	if err := models.SetVariables(t.Store, ts); err != nil {
		return fmt.Errorf("training state in %s: %w", dir, err)
	}
	t.step, t.Warning = int(step), warning
	if since != nil {
		t.since = *since
	}
	return nil
}

func (t *Trainer) state() trainState {
	return trainState{Recipe: t.Recipe, Data: t.loader.Set.Digest, Classifier: t.weights, Started: t.started}
}

func describe(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of numbers and strings
	}
	return string(b)
}

// Save writes the state, keeping the generation before.
func (t *Trainer) Save(dir string) error {
	ts, err := models.Variables(t.Store)
	if err != nil {
		return err
	}
	meta := t.state()
	meta.Since = &t.since
	return checkpoints.SaveState(dir, stateName, int64(t.step), meta, ts)
}

// Step is the number of steps done, Total that of the whole run.
func (t *Trainer) Step() int  { return t.step }
func (t *Trainer) Total() int { return t.Recipe.Epochs * t.loader.Batches() }

// tick is the schedules' time of a step, and how many ticks the run has.
func (t *Trainer) tick(step int) (tick, ticks int) {
	every := t.Recipe.ScheduleEvery
	if every == 0 {
		every = t.loader.Batches()
	}
	return step / every, ceilDiv(t.Total(), every)
}

// Losses are the terms of one step, per image of the batch.
type Losses struct {
	Total, BCE, KL, Beta, LR float64
	CE                       float64 `json:",omitempty"` // of the class loss
}

// Advance makes one step: the batch is attacked, then the purifier updated.
func (t *Trainer) Advance(ctx context.Context) (Losses, error) {
	if err := ctx.Err(); err != nil {
		return Losses{}, err
	}
	b, s, per := t.Recipe.total(), t.Recipe.Config.Base.Size, t.loader.Batches()
	x, y := make([]float32, b*s*s*3), make([]int32, b)
	if err := t.loader.Fill(t.step/per, t.step%per, x, y); err != nil {
		return Losses{}, err
	}
	attacked, err := t.attack(ctx, x, y)
	if err != nil {
		return Losses{}, fmt.Errorf("purifier training step %d: attacking the batch: %w", t.step, err)
	}
	noise := make([]float32, b*t.Recipe.Config.Latent)
	t.Recipe.Seed.Child("posterior", t.step).Normal(noise)
	tick, ticks := t.tick(t.step)
	l := Losses{Beta: t.Recipe.Beta(tick, ticks), LR: t.Recipe.LearningRate(tick, ticks)}
	if err := t.update(x, attacked, y, noise, &l); err != nil {
		return l, fmt.Errorf("purifier training step %d: %w", t.step, err)
	}
	t.step++
	return l, nil
}

// update makes the parameter step on images x [B,S,S,3], their attacked form, their labels, which only a class loss reads, and the posterior's noise, with
// l's beta and rate; it fills in the losses.
func (t *Trainer) update(x, attacked []float32, y []int32, noise []float32, l *Losses) error {
	s := t.Recipe.Config.Base.Size
	b := len(x) / (s * s * 3)
	h := append([]float32{float32(l.Beta)}, optim.Reference.Coefficients(t.step+1, l.LR)...)
	in := []any{
		tensors.FromFlatDataAndDimensions(attacked, b, s, s, 3),
		tensors.FromFlatDataAndDimensions(x, b, s, s, 3),
		tensors.FromFlatDataAndDimensions(noise, b, t.Recipe.Config.Latent),
		tensors.FromFlatDataAndDimensions(h, len(h)),
	}
	if t.Recipe.ClassLoss > 0 {
		prior := make([]float32, len(noise))
		t.Recipe.Seed.Child("prior", t.step).Normal(prior)
		in = append(in, tensors.FromFlatDataAndDimensions(y, b), tensors.FromFlatDataAndDimensions(prior, b, t.Recipe.Config.Latent))
	}
	out, err := t.exec.Call(in...)
	for _, v := range in {
		v.(*tensors.Tensor).MustFinalizeAll()
	}
	if err != nil {
		return err
	}
	for i, dst := range []*float64{&l.Total, &l.BCE, &l.KL, &l.CE} {
		*dst = float64(tensors.ToScalar[float32](out[i])) / float64(b)
		out[i].MustFinalizeAll()
		if math.IsNaN(*dst) || math.IsInf(*dst, 0) {
			return fmt.Errorf("the %s is %g at learning rate %g and beta %g, and %s", [...]string{"loss", "reconstruction term", "KL term", "class loss"}[i], *dst, l.LR, l.Beta, models.NotFinite(t.Store))
		}
	}
	return nil
}

// prepareAttack makes the oracle of what the adversaries attack: the bare classifier, or the defence as it stands.
func (t *Trainer) prepareAttack() (err error) {
	r := t.Recipe
	switch n := r.attacked(); {
	case n == 0:
	case r.EndToEnd > 0:
		// Halves of the attacked images run side by side, which fills two cores better than one call does.
		d := &Defence{Config: r.Config, Samples: 1, Output: LogSum, store: t.Store}
		t.oracle, err = attacks.NewOracle(t.backend, d, attacks.OracleOptions{Buckets: []int{(n + 1) / 2}})
	default:
		f := models.NewClassifier(t.Store, baseScope, r.Config.Base)
		t.oracle, err = attacks.NewOracle(t.backend, f, attacks.OracleOptions{Buckets: []int{r.atom()}})
	}
	return err
}

// slice is consecutive images of a batch that one adversary attacks.
type slice struct {
	lo, n  int
	attack attacks.Attack
	seed   rng.Seed
}

// slices deals a batch out to the adversaries. Of each process's images, which are consecutive, the first stay clean; then come, of the reference's mix of
// adversaries against the bare classifier (spec: training 5), equal parts for weak and strong PGD and weak and strong FGSM.
func (r Recipe) slices(seed rng.Seed) (all []slice) {
	weak, strong := r.WeakEps*r.EpsMultiplier, r.StrongEps*r.EpsMultiplier
	if r.EndToEnd > 0 {
		step := 1.25 * strong // Wong et al. 2020
		if r.EndToEnd > 1 {
			step = 2.5 * strong / float64(r.EndToEnd) // Madry et al. 2018
		}
		pgd := attacks.PGD{Eps: strong, Step: step, Steps: r.EndToEnd, EoT: 1, RandomStart: true}
		n := r.attacked()
		first, half := r.total()-n, (n+1)/2
		return []slice{{first, half, pgd, seed}, {first + half, n - half, pgd, seed}}
	}
	n := r.atom()
	adversaries := []attacks.Attack{
		attacks.PGD{Eps: weak, Step: r.PGDStep, Steps: r.PGDSteps, EoT: 1, RandomStart: true},
		attacks.PGD{Eps: strong, Step: r.PGDStep, Steps: r.PGDSteps, EoT: 1, RandomStart: true},
		attacks.FGSM{Eps: weak, EoT: 1},
		attacks.FGSM{Eps: strong, EoT: 1},
	}
	for process := range max(1, r.Processes) {
		first := (process+1)*r.Batch - len(adversaries)*n
		for k, a := range adversaries {
			all = append(all, slice{first + k*n, n, a, seed.Child("kind", k)})
		}
	}
	return all
}

// attack returns the batch as its adversaries leave it.
func (t *Trainer) attack(ctx context.Context, x []float32, y []int32) ([]float32, error) {
	if t.oracle == nil {
		return x, nil
	}
	s := t.Recipe.Config.Base.Size
	out := append([]float32(nil), x...)
	var g errgroup.Group // the slices are small: running them side by side fills the machine
	for _, part := range t.Recipe.slices(t.Recipe.Seed.Child("adversary", t.step)) {
		if part.n == 0 {
			continue
		}
		g.Go(func() error {
			lo, n := part.lo, part.n
			ids := make([]int, n)
			for i := range ids {
				ids[i] = lo + i
			}
			b := attacks.Batch{X: x[lo*s*s*3 : (lo+n)*s*s*3], Y: y[lo : lo+n], ID: ids, H: s, W: s, C: 3}
			res, err := part.attack.Run(ctx, t.oracle, b, part.seed)
			if err != nil {
				return err
			}
			copy(out[lo*s*s*3:], res.Adv)
			return nil
		})
	}
	return out, g.Wait()
}

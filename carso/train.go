package carso

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"carsokit/attacks"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/nn"
	"carsokit/internal/optim"
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
	weights string // SHA-256 of the classifier's file
	oracle  *attacks.Oracle
	exec    *model.Exec
	step    int
	since   tally
}

type trainState struct {
	Recipe     Recipe `json:"recipe"`
	Data       string `json:"data_digest"`
	Classifier string `json:"classifier_sha256"`
	Since      *tally `json:"since_point,omitempty"`
}

// tally adds up the steps since the last point of the curve; beta and rate are those of the last.
type tally struct {
	Losses
	Steps int `json:"steps"`
}

const stateName = "purifier"

// NewTrainer prepares a run on a training split around the classifier in base, continuing from the state in dir if there is one.
func NewTrainer(be compute.Backend, r Recipe, set *data.Set, base *checkpoints.File, dir string) (*Trainer, error) {
	if err := r.Validate(); err != nil {
		return nil, err
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
	t.loader = &data.Loader{Set: set, Index: train, Batch: r.total(), Seed: r.Seed.Child("data")} // no augmentation (spec: training 5)
	if t.loader.Batches() == 0 {
		return nil, fmt.Errorf("training the purifier: %d images do not fill one batch of %d", t.loader.Len(), r.total())
	}
	if err := t.create(); err != nil {
		return nil, err
	}
	if err := t.restore(dir); err != nil {
		return nil, err
	}
	if n := r.atom(); n > 0 {
		f := models.NewClassifier(t.Store, baseScope, r.Config.Base)
		if t.oracle, err = attacks.NewOracle(be, f, attacks.OracleOptions{Buckets: []int{n}}); err != nil {
			return nil, err
		}
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
			zero := make([]float32, p.Size())
			err := errors.Join(
				nn.Set(t.Store.Scope(momentScope+"/"+part.Name), p, zero, true),
				nn.Set(t.Store.Scope(secondScope+"/"+part.Name), p, zero, true),
				nn.Set(t.Store.Scope(slowScope+"/"+part.Name), p, p.Init(seed), true))
			if err != nil {
				return err
			}
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
	return trainState{Recipe: t.Recipe, Data: t.loader.Set.Digest, Classifier: t.weights}
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
type Losses struct{ Total, BCE, KL, Beta, LR float64 }

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
	l := Losses{Beta: Beta(tick, ticks), LR: LearningRate(tick, ticks, t.Recipe.Batch)}
	if err := t.update(x, attacked, noise, &l); err != nil {
		return l, fmt.Errorf("purifier training step %d: %w", t.step, err)
	}
	t.step++
	return l, nil
}

// update makes the parameter step on images x [B,S,S,3], their attacked form and the posterior's noise, with l's beta and rate; it fills in the losses.
func (t *Trainer) update(x, attacked, noise []float32, l *Losses) error {
	s := t.Recipe.Config.Base.Size
	b := len(x) / (s * s * 3)
	h := append([]float32{float32(l.Beta)}, optim.Reference.Coefficients(t.step+1, l.LR)...)
	in := []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(attacked, b, s, s, 3),
		tensors.FromFlatDataAndDimensions(x, b, s, s, 3),
		tensors.FromFlatDataAndDimensions(noise, b, t.Recipe.Config.Latent),
		tensors.FromFlatDataAndDimensions(h, len(h)),
	}
	out, err := t.exec.Call(in[0], in[1], in[2], in[3])
	for _, v := range in {
		v.MustFinalizeAll()
	}
	if err != nil {
		return err
	}
	for i, dst := range []*float64{&l.Total, &l.BCE, &l.KL} {
		*dst = float64(tensors.ToScalar[float32](out[i])) / float64(b)
		out[i].MustFinalizeAll()
		if math.IsNaN(*dst) || math.IsInf(*dst, 0) {
			return fmt.Errorf("the %s is %g at learning rate %g and beta %g", [...]string{"loss", "reconstruction term", "KL term"}[i], *dst, l.LR, l.Beta)
		}
	}
	return nil
}

// attack returns the batch with the reference's mix of adversaries against the bare classifier (spec: training 5). Of each process's images, which are
// consecutive, the first stay clean; then come equal slices for weak and strong PGD and weak and strong FGSM.
func (t *Trainer) attack(ctx context.Context, x []float32, y []int32) ([]float32, error) {
	n := t.Recipe.atom()
	if n == 0 {
		return x, nil
	}
	s, r := t.Recipe.Config.Base.Size, t.Recipe
	weak, strong := r.WeakEps*r.EpsMultiplier, r.StrongEps*r.EpsMultiplier
	adversaries := []attacks.Attack{
		attacks.PGD{Eps: weak, Step: r.PGDStep, Steps: r.PGDSteps, EoT: 1, RandomStart: true},
		attacks.PGD{Eps: strong, Step: r.PGDStep, Steps: r.PGDSteps, EoT: 1, RandomStart: true},
		attacks.FGSM{Eps: weak, EoT: 1},
		attacks.FGSM{Eps: strong, EoT: 1},
	}
	out := append([]float32(nil), x...)
	seed := r.Seed.Child("adversary", t.step)
	for process := range len(y) / r.Batch {
		first := (process+1)*r.Batch - len(adversaries)*n
		var g errgroup.Group // the slices are small: running them side by side fills the machine
		for k, a := range adversaries {
			g.Go(func() error {
				lo := first + k*n
				ids := make([]int, n)
				for i := range ids {
					ids[i] = lo + i
				}
				part := attacks.Batch{X: x[lo*s*s*3 : (lo+n)*s*s*3], Y: y[lo : lo+n], ID: ids, H: s, W: s, C: 3}
				res, err := a.Run(ctx, t.oracle, part, seed.Child("kind", k))
				if err != nil {
					return err
				}
				copy(out[lo*s*s*3:], res.Adv)
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

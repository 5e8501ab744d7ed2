package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/nn"
	"carsokit/internal/optim"
	"carsokit/internal/rng"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// Recipe is how a classifier is trained: plainly (Steps 0) or adversarially, by FGSM from a random start (Steps 1: "fast" adversarial
// training, Wong et al. 2020), PGD (Steps > 1; see WithMethod) or TRADES, with SGD, Nesterov momentum, a one-cycle learning rate and an exponential moving average of the
// weights, which is what is shipped. PaperPlainRecipe is the reference's for its plain classifiers, to which the later fields belong. The fields and the seed
// decide the result.
type Recipe struct {
	Net         WRN      `json:"net"`
	Epochs      int      `json:"epochs"`
	Batch       int      `json:"batch"`
	Eps         float64  `json:"eps"`          // l_inf bound in [0,1] units
	Steps       int      `json:"attack_steps"` // 0: no adversary
	StepSize    float64  `json:"attack_step"`  // in [0,1] units; 1.25·Eps for one step
	PeakLR      float64  `json:"peak_lr"`
	Warmup      float64  `json:"warmup"` // share of the run in which the rate rises to PeakLR; then it falls along a half cosine
	Momentum    float64  `json:"momentum"`
	WeightDecay float64  `json:"weight_decay"` // on kernels and the linear weight only
	EMA         float64  `json:"ema"`          // decay per step; 0: the weights themselves
	Crop        int      `json:"crop"`
	Flip        bool     `json:"flip"`
	HeldOut     int      `json:"held_out"` // training images kept apart, on which robustness is watched
	Seed        rng.Seed `json:"seed"`

	CosineWarmup   bool    `json:"cosine_warmup,omitempty"`   // the rate rises from FirstLR along a half cosine, not linearly from 0
	FirstLR        float64 `json:"first_lr,omitempty"`        // with CosineWarmup
	FinalLR        float64 `json:"final_lr,omitempty"`        // what the rate falls to
	DecayAll       bool    `json:"decay_all,omitempty"`       // weight decay on every parameter, BatchNorm's and biases too, as PyTorch's optimisers do
	Mixup          float64 `json:"mixup,omitempty"`           // alpha of Beta(alpha, alpha), in (0,1]; 0: no mixing. Plain training only
	LabelSmoothing float64 `json:"label_smoothing,omitempty"` // share of a label that is spread over all classes
	// FrozenBN copies a mistake of the reference's plain training: after the first epoch the network is never put back into training mode, so that
	// BatchNorm normalises by running statistics that no longer move.
	FrozenBN bool `json:"frozen_bn_after_epoch_0,omitempty"`

	// TRADES, if positive, is the weight beta of the divergence between the predictions on clean and attacked images, which the adversary maximises and which is
	// added to the loss on the clean images (Zhang et al. 2019). The start is Recipe's, anywhere in the ball, not theirs close to the image.
	TRADES float64 `json:"trades,omitempty"`
	Cutout int     `json:"cutout,omitempty"` // side of the square that is blanked in every image, see data.Loader
	// ExtraShare of every batch, rounded down, comes from further data, generated images for example. An epoch is still one of the training split. 0: there are none.
	ExtraShare float64 `json:"extra_share,omitempty"`
	// BF16 computes the convolutions of the steps, adversary and update, in bfloat16; weights and the rest stay float32. For GPUs: a CPU is slower with it.
	BF16 bool `json:"bf16,omitempty"`
}

// Methods are the names that WithMethod takes.
func Methods() []string { return []string{"plain", "fast", "pgd", "trades"} }

// WithMethod returns the recipe with the adversary of a method, at the same eps and for as many epochs. What a step costs is counted in passes with gradient.
//
// plain: none, one pass. fast: FGSM from a random start, two passes (Wong et al. 2020). pgd: ten steps of 2/255, eleven passes (Madry et al. 2018; the
// settings of Rice et al. 2020). trades: the same steps, and beta 6, twelve passes (Zhang et al. 2019). What they reach on the small networks is not measured.
func (r Recipe) WithMethod(name string) (Recipe, error) {
	switch name {
	case "plain":
		r.Steps, r.StepSize, r.TRADES = 0, 0, 0
	case "fast":
		r.Steps, r.StepSize, r.TRADES = 1, 1.25*r.Eps, 0
	case "pgd":
		r.Steps, r.StepSize, r.TRADES = 10, r.Eps/4, 0
	case "trades":
		r.Steps, r.StepSize, r.TRADES = 10, r.Eps/4, 6
	default:
		return r, fmt.Errorf("no training method %q; there are %s", name, strings.Join(Methods(), ", "))
	}
	return r, nil
}

// extra is how many images of a batch come from further data.
func (r Recipe) extra() int { return int(r.ExtraShare * float64(r.Batch)) }

// Validate reports the first setting that cannot be.
func (r Recipe) Validate() error {
	if err := r.Net.Validate(); err != nil {
		return err
	}
	for _, c := range []struct {
		bad  bool
		what string
	}{
		{r.Epochs < 1, "epochs must be at least 1"},
		{r.Batch < 2, "batch must be at least 2"},
		{r.Eps < 0 || r.Eps > 1, "eps must be in [0,1]"},
		{r.Steps < 0, "attack_steps must not be negative"},
		{r.Steps > 0 && r.StepSize <= 0, "attack_step must be positive"},
		{r.PeakLR <= 0, "peak_lr must be positive"},
		{r.Warmup < 0 || r.Warmup >= 1, "warmup must be in [0,1)"},
		{r.Momentum < 0 || r.Momentum >= 1, "momentum must be in [0,1)"},
		{r.EMA < 0 || r.EMA >= 1, "ema must be in [0,1)"},
		{r.HeldOut < 0, "held_out must not be negative"},
		{r.FirstLR < 0 || r.FinalLR < 0, "first_lr and final_lr must not be negative"},
		{r.Mixup < 0 || r.Mixup > 1, "mixup must be in [0,1]"},
		{r.Mixup > 0 && r.Steps > 0, "mixup is for plain training: attack_steps must be 0"},
		{r.LabelSmoothing < 0 || r.LabelSmoothing >= 1, "label_smoothing must be in [0,1)"},
		{r.TRADES < 0, "trades must not be negative"},
		{r.TRADES > 0 && r.Steps == 0, "trades needs an adversary: attack_steps must be positive"},
		{r.TRADES > 0 && r.FrozenBN, "trades and frozen_bn_after_epoch_0 exclude each other"},
		{r.Cutout < 0, "cutout must not be negative"},
		{r.ExtraShare < 0 || r.ExtraShare >= 1, "extra_share must be in [0,1)"},
	} {
		if c.bad {
			return fmt.Errorf("training recipe: %s", c.what)
		}
	}
	return nil
}

// LR is the learning rate of a step, counted from 0, of a run of total steps. With CosineWarmup it is the reference's for plain training: the warm-up has a
// whole number of steps, and the rates are those at the steps' beginnings; otherwise those at their middles.
func (r Recipe) LR(step, total int) float64 {
	cosine := func(from, to, t float64) float64 { return to + (from-to)*0.5*(1+math.Cos(math.Pi*t)) }
	if r.CosineWarmup {
		up := int(math.Round(r.Warmup * float64(total)))
		if step < up {
			return cosine(r.FirstLR, r.PeakLR, float64(step)/float64(up))
		}
		return cosine(r.PeakLR, r.FinalLR, float64(step-up)/float64(total-up))
	}
	t := (float64(step) + 0.5) / float64(total)
	if t < r.Warmup {
		return r.PeakLR * t / r.Warmup
	}
	return cosine(r.PeakLR, r.FinalLR, (t-r.Warmup)/(1-r.Warmup))
}

// optimiser is the rule of a parameter.
func (r Recipe) optimiser(p nn.Param) optim.SGD {
	o := optim.SGD{Momentum: r.Momentum, Nesterov: true}
	if r.DecayAll || p.Kind == nn.ConvKernel || p.Kind == nn.LinearWeight {
		o.WeightDecay = r.WeightDecay
	}
	return o
}

// Scopes of a training store.
const (
	liveScope     = "/live"     // the weights that take steps
	emaScope      = "/ema"      // their moving average, BatchNorm statistics included
	velocityScope = "/velocity" // the momentum of the optimiser
)

// Trainer trains one classifier. It can be stopped between any two steps and continued, bit for bit on the same backend.
type Trainer struct {
	Recipe Recipe
	Store  *model.Store
	// Warning is what was wrong with the newest saved state, when an older one had to be used.
	Warning string

	backend  compute.Backend
	loader   *data.Loader
	extra    *data.Loader // nil: there is no further data
	held     *data.Set
	step     int
	since    tally
	exec     *model.Exec
	frozen   *model.Exec // the step with frozen BatchNorm
	sharding *sharding   // nil: one device
	ahead    chan drawn  // the batch of the next step, made while the device is busy; nil: none is under way
	spare    *drawn      // memory of a batch that is done with
}

// drawn is what a step takes from the data and from randomness: a pure function of the step.
type drawn struct {
	step  int
	x     []float32 // [Batch,S,S,3]
	y     []int32
	start []float32 // the random start of the attack, in [-1,1]
	err   error
}

// trainState is what a checkpoint says of itself.
type trainState struct {
	Recipe Recipe `json:"recipe"`
	Data   string `json:"data_digest"`
	Extra  string `json:"extra_digest,omitempty"`
	Since  tally  `json:"since_point"`
}

// tally adds up the steps since the last point of the curve.
type tally struct {
	Loss    float64 `json:"loss"`
	Correct float64 `json:"correct"`
	Steps   int     `json:"steps"`
}

const stateName = "classifier"

// NewTrainer prepares a run on a training split, and on further data where the recipe has an ExtraShare (else nil), continuing from the state in dir if
// there is one.
func NewTrainer(be compute.Backend, r Recipe, set, extra *data.Set, dir string) (*Trainer, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if (extra != nil) != (r.extra() > 0) {
		return nil, fmt.Errorf("training %s: extra_share %g of a batch of %d is %d images, and there is further data: %v; give both or neither", r.Net, r.ExtraShare, r.Batch, r.extra(), extra != nil)
	}
	for _, s := range []*data.Set{set, extra} {
		if s != nil && (s.H != r.Net.Size || s.W != r.Net.Size || len(s.Classes) != r.Net.Classes) {
			return nil, fmt.Errorf("training %s: images of %s %s are %dx%d in %d classes, the network takes %dx%d and %d", r.Net, s.Name, s.Split, s.H, s.W, len(s.Classes),
				r.Net.Size, r.Net.Size, r.Net.Classes)
		}
	}
	train, held, err := data.Split(set, r.HeldOut, r.Seed.Child("hold out"))
	if err != nil {
		return nil, fmt.Errorf("training %s: %w", r.Net, err)
	}
	t := &Trainer{Recipe: r, Store: model.NewStore(), backend: be,
		loader: &data.Loader{Set: set, Index: train, Batch: r.Batch - r.extra(), Seed: r.Seed.Child("data"), Flip: r.Flip, Crop: r.Crop, Cutout: r.Cutout}}
	loaders := []*data.Loader{t.loader}
	if extra != nil {
		t.extra = &data.Loader{Set: extra, Batch: r.extra(), Seed: r.Seed.Child("extra"), Flip: r.Flip, Crop: r.Crop, Cutout: r.Cutout}
		loaders = append(loaders, t.extra)
	}
	for _, l := range loaders {
		if l.Batches() == 0 {
			return nil, fmt.Errorf("training %s: %d images do not fill one batch of %d", r.Net, l.Len(), l.Batch)
		}
	}
	if t.held, err = set.Subset(held); err != nil {
		return nil, fmt.Errorf("training %s: %w", r.Net, err)
	}
	if err := t.restore(dir); err != nil {
		return nil, err
	}
	for _, exec := range []struct { // compiled when first called
		at     **model.Exec
		frozen bool
	}{{&t.exec, false}, {&t.frozen, true}} {
		*exec.at, err = model.NewExec(be, t.Store, func(_ *model.Scope, x, targets, start, lr *node) (loss, correct *node) {
			return t.stepGraph(exec.frozen, x, targets, start, lr)
		})
		if err != nil {
			return nil, fmt.Errorf("training %s: building the step: %w", r.Net, err)
		}
	}
	return t, nil
}

// restore loads the newest state in dir, or makes fresh variables.
func (t *Trainer) restore(dir string) error {
	ps := t.Recipe.Net.Params()
	live, ema := t.Store.Scope(liveScope), t.Store.Scope(emaScope)
	velocity := t.Store.Scope(velocityScope)
	for _, p := range ps {
		init := p.Init(t.Recipe.Seed)
		err := errors.Join(nn.Set(live, p, init, false), nn.Set(ema, p, init, true))
		if !p.Buffer() {
			err = errors.Join(err, nn.Set(velocity, p, make([]float32, p.Size()), true))
		}
		if err != nil {
			return fmt.Errorf("training %s: %w", t.Recipe.Net, err)
		}
	}
	if dir == "" {
		return nil
	}
	var meta trainState
	state, step, warning, err := checkpoints.LoadState(dir, stateName, &meta)
	if errors.Is(err, checkpoints.ErrNoState) {
		return nil
	}
	if err != nil {
		return err
	}
	since := meta.Since
	meta.Since = tally{}
	if have, want := mustJSON(meta), mustJSON(t.state()); have != want {
		return fmt.Errorf("training state in %s is of another run:\n  %s\nthis run is\n  %s\nuse another folder or remove it", dir, have, want)
	}
	if err := SetVariables(t.Store, state); err != nil {
		return fmt.Errorf("training state in %s: %w", dir, err)
	}
	t.step, t.since, t.Warning = int(step), since, warning
	return nil
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of numbers
	}
	return string(b)
}

// Save writes the state, keeping the generation before.
func (t *Trainer) Save(dir string) error {
	ts, err := Variables(t.Store)
	if err != nil {
		return err
	}
	meta := t.state()
	meta.Since = t.since
	return checkpoints.SaveState(dir, stateName, int64(t.step), meta, ts)
}

// state is what identifies the run.
func (t *Trainer) state() trainState {
	s := trainState{Recipe: t.Recipe, Data: t.loader.Set.Digest}
	if t.extra != nil {
		s.Extra = t.extra.Set.Digest
	}
	return s
}

// Step is the number of steps done, Total that of the whole run, PerEpoch that of an epoch.
func (t *Trainer) Step() int     { return t.step }
func (t *Trainer) Total() int    { return t.Recipe.Epochs * t.loader.Batches() }
func (t *Trainer) PerEpoch() int { return t.loader.Batches() }

// AverageWarning says that the run is too short for its average: what is kept would still be, to a good part, the weights it began with. "" where it is not.
func (t *Trainer) AverageWarning() string {
	left := math.Pow(t.Recipe.EMA, float64(t.Total()))
	if left <= 0.05 {
		return ""
	}
	return fmt.Sprintf("ema %g over %d steps leaves %.0f %% of the initial weights in the average, which is what is kept: give a smaller ema, such as %.4g", t.Recipe.EMA, t.Total(), 100*left, max(0, 1-10/float64(t.Total())))
}

// HeldOut returns the images that are kept apart.
func (t *Trainer) HeldOut() *data.Set { return t.held }

// Advance makes one step and returns the mean loss on the adversarial batch and the share of it classified correctly.
func (t *Trainer) Advance(ctx context.Context) (loss, correct float64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	now := t.batch()
	if now.err != nil {
		return 0, 0, now.err
	}
	targets, mixed := t.Recipe.mix(t.step, now.x, now.y)
	s := t.Recipe.Net.Size
	b := t.Recipe.Batch
	in := []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(mixed, b, s, s, 3),
		tensors.FromFlatDataAndDimensions(targets, b, t.Recipe.Net.Classes),
		tensors.FromFlatDataAndDimensions(now.start, b, s, s, 3),
		tensors.FromScalar(float32(t.Recipe.LR(t.step, t.Total()))),
	}
	t.spare = &now // the tensors have copies
	if t.step+1 < t.Total() {
		t.drawAhead(t.step + 1)
	}
	exec := t.exec
	if t.Recipe.FrozenBN && t.step >= t.loader.Batches() {
		exec = t.frozen
	}
	out, err := t.call(exec, in)
	if err != nil {
		return 0, 0, fmt.Errorf("training step %d: %w", t.step, err)
	}
	loss, correct = float64(tensors.ToScalar[float32](out[0])), float64(tensors.ToScalar[float32](out[1]))
	for _, v := range out {
		v.MustFinalizeAll()
	}
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return loss, correct, fmt.Errorf("training step %d: the loss is %g, and %s; start again with a lower peak_lr than %g", t.step, loss, NotFinite(t.Store), t.Recipe.PeakLR)
	}
	t.step++
	return loss, correct, nil
}

// batch returns what the present step takes: what was made ahead, if it is of this step.
func (t *Trainer) batch() drawn {
	if t.ahead != nil {
		d := <-t.ahead
		t.ahead = nil
		if d.step == t.step && d.err == nil {
			return d
		}
	}
	return t.draw(t.step, t.Recipe.Batch, t.Recipe.Seed, drawn{})
}

// drawAhead makes the batch of a step while the caller does something else.
func (t *Trainer) drawAhead(step int) {
	ahead, memory := make(chan drawn, 1), drawn{}
	if t.spare != nil {
		memory, t.spare = *t.spare, nil
	}
	batch, seed := t.Recipe.Batch, t.Recipe.Seed
	go func() { ahead <- t.draw(step, batch, seed, memory) }()
	t.ahead = ahead
}

// draw makes the batch of a step, in the memory of an earlier one where there is any. It may run beside the caller, who may change the recipe: it reads nothing of it.
func (t *Trainer) draw(step, batch int, seed rng.Seed, d drawn) drawn {
	set := t.loader.Set
	pixels := set.H * set.W * 3
	if d.x == nil {
		d.x, d.start, d.y = make([]float32, batch*pixels), make([]float32, batch*pixels), make([]int32, batch)
	}
	d.step = step
	fill := func(l *data.Loader, x []float32, y []int32) error {
		n := l.Batches()
		return l.Fill(step/n, step%n, x, y)
	}
	own := t.loader.Batch
	d.err = fill(t.loader, d.x[:own*pixels], d.y[:own])
	if d.err == nil && t.extra != nil {
		d.err = fill(t.extra, d.x[own*pixels:], d.y[own:])
	}
	seed.Child("start", step).Symmetric(d.start)
	return d
}

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/checkpoints"
	"carsokit/data"
	"carsokit/internal/rng"
	"carsokit/models"

	"github.com/gomlx/compute"
)

// Kit is this side of the comparison: the kit's own trainers and attacks, through the same calls as an evaluation or a training makes, on random
// weights and real images.
type Kit struct {
	// Times multiplies the batches, as Options.Times does; 0 is 1.
	Times int
	// BF16 trains classifiers in bfloat16.
	BF16 bool

	be   compute.Backend
	dir  string
	set  *data.Set
	nets map[Net]*networks
}

// networks are what is benchmarked at one size.
type networks struct {
	classifier *models.Trainer
	plain      *models.Trainer
	purifier   *carso.Trainer
	attacked   *carso.Trainer          // a purifier that is trained with adversaries
	alone      map[int]*attacks.Oracle // by batch
	whole      map[int]*attacks.Oracle
	f          attacks.Classifier
	defence    *carso.Defence
	labels     map[string][]int32 // what the nets say, so that attacks start from images they call right
}

// NewKit prepares this side; dir is a folder for the weight files that it makes.
func NewKit(be compute.Backend, dir string) (*Kit, error) {
	set, err := data.Sample()
	if err != nil {
		return nil, err
	}
	return &Kit{be: be, dir: dir, set: set, nets: map[Net]*networks{}}, nil
}

func (k *Kit) at(net Net, batch int) (*networks, error) {
	if n := k.nets[net]; n != nil {
		return n, nil
	}
	dir := filepath.Join(k.dir, net.String())
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	recipe, err := models.SmallRecipe("cifar10", "small", false)
	if err != nil {
		return nil, err
	}
	recipe.Net, recipe.Batch, recipe.HeldOut, recipe.BF16 = models.CIFAR10WRN(net.Depth, net.Width), batch, 100, k.BF16
	n := &networks{alone: map[int]*attacks.Oracle{}, whole: map[int]*attacks.Oracle{}, labels: map[string][]int32{}}
	if n.classifier, err = models.NewTrainer(k.be, recipe, k.set, nil, dir); err != nil {
		return nil, err
	}
	plain := recipe
	plain.Steps, plain.StepSize = 0, 0
	if n.plain, err = models.NewTrainer(k.be, plain, k.set, nil, dir); err != nil {
		return nil, err
	}
	// The purifier and the attacks want the classifier as a file.
	var ts []checkpoints.Tensor
	for _, p := range recipe.Net.Params() {
		ts = append(ts, checkpoints.F32(p.Name, p.Shape, p.Torch(p.Init(rng.Seed(1)))))
	}
	file := filepath.Join(dir, "classifier.safetensors")
	if err := checkpoints.Write(file, ts, nil); err != nil {
		return nil, err
	}
	base, err := checkpoints.Open(file)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	pr, err := carso.SmallRecipe("cifar10", "small", recipe.Net)
	if err != nil {
		return nil, err
	}
	pr.Batch, pr.HeldOut = batch, 100
	if n.attacked, err = carso.NewTrainer(k.be, pr, k.set, base, nil, dir); err != nil {
		return nil, err
	}
	pr.Fraction = 0
	if n.purifier, err = carso.NewTrainer(k.be, pr, k.set, base, nil, dir); err != nil {
		return nil, err
	}
	if n.defence, err = carso.NewDefence(n.purifier.Store, pr.Config, 8, carso.LogSum); err != nil {
		return nil, err
	}
	n.f = n.defence.Alone()
	k.nets[net] = n
	return n, nil
}

// oracle returns the oracle of c for device batches of the given size.
func (k *Kit) oracle(known map[int]*attacks.Oracle, c attacks.Classifier, size int) (*attacks.Oracle, error) {
	if o := known[size]; o != nil {
		return o, nil
	}
	o, err := attacks.NewOracle(k.be, c, attacks.OracleOptions{Buckets: []int{size}})
	known[size] = o
	return o, err
}

// Run runs a case once. The first call of a case compiles.
func (k *Kit) Run(ctx context.Context, name string, net Net, batch int) error {
	// Trainers hold one batch size: that of the training cases.
	n, err := k.at(net, 64*max(1, k.Times))
	if err != nil {
		return err
	}
	switch name {
	case "purifier-step":
		_, err := n.purifier.Advance(ctx)
		return err
	case "purifier-attacked-step":
		_, err := n.attacked.Advance(ctx)
		return err
	case "plain-step":
		_, _, err := n.plain.Advance(ctx)
		return err
	case "adversarial-step":
		_, _, err := n.classifier.Advance(ctx)
		return err
	}
	o, err := k.oracle(n.alone, n.f, batch)
	if name == "carso-forward" || name == "carso-apgd" {
		// An evaluation runs draws of several images as one device batch.
		size := batch
		if name == "carso-apgd" {
			size = 16 * max(1, k.Times)
		}
		o, err = k.oracle(n.whole, n.defence, size)
	}
	if err != nil {
		return err
	}
	b, err := k.batch(ctx, n, o, name, batch)
	if err != nil {
		return err
	}
	const eps = 8. / 255
	switch name {
	case "forward", "carso-forward":
		_, err = o.Logits(ctx, b, 3, 1)
	case "pgd-step":
		_, err = attacks.PGD{Eps: eps, Step: 0.01, Steps: 1, EoT: 1}.Run(ctx, o, b, 3)
	case "apgd":
		a := attacks.StandardAPGD(attacks.CE, eps, 1)
		a.Steps = 10
		_, err = a.Run(ctx, o, b, 3)
	case "carso-apgd":
		a := attacks.StandardAPGD(attacks.CE, eps, 20)
		a.Steps = 1
		_, err = a.Run(ctx, o, b, 3)
	default:
		err = fmt.Errorf("no case %q", name)
	}
	return err
}

// batch is the first images, labelled as the attacked net classifies them.
func (k *Kit) batch(ctx context.Context, n *networks, o *attacks.Oracle, name string, size int) (attacks.Batch, error) {
	at := make([]int, size)
	for i := range at {
		at[i] = i
	}
	s := k.set
	b := attacks.Batch{X: make([]float32, size*s.H*s.W*3), Y: make([]int32, size), ID: at, H: s.H, W: s.W, C: 3}
	s.Floats(b.X, at...)
	if n.labels[name] == nil {
		logits, err := o.Logits(ctx, b, 3, 1)
		if err != nil {
			return b, err
		}
		for i := range size {
			n.labels[name] = append(n.labels[name], attacks.Predict(logits[i*o.Classes():(i+1)*o.Classes()]))
		}
	}
	b.Y = n.labels[name]
	return b, nil
}

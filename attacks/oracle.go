package attacks

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/internal/rng"
)

// Random makes every random number of an attack. The default derives them from the seed; tests inject recorded ones.
type Random interface {
	// Start fills dst with the direction of a random start of image id, uniform in [-1,1).
	Start(dst []float32, seed rng.Seed, id int)
	// Noise fills dst with the standard normal noise of one draw of image id.
	Noise(dst []float32, seed rng.Seed, id, draw int)
}

// Seeded is the default Random: a function of (seed, id, draw) only.
type Seeded struct{}

func (Seeded) Start(dst []float32, seed rng.Seed, id int) { seed.Child("image", id).Symmetric(dst) }

func (Seeded) Noise(dst []float32, seed rng.Seed, id, draw int) {
	seed.Child("image", id).Child("draw", draw).Normal(dst)
}

// OracleOptions are the settings of NewOracle; the zero value is good.
type OracleOptions struct {
	// Buckets are the batch sizes that are compiled; default 32 and 8. Every size costs one compilation and saves padding.
	Buckets []int
	// Random replaces the source of random numbers; nil is Seeded.
	Random Random
	// Members is how many members of an Ensemble are computed at once; default MembersAtOnce.
	Members int
	// Naive leads every draw of every image through the whole classifier, as the reference does: for comparison. It changes results by rounding only.
	Naive bool
}

// Oracle answers logits and input gradients of one classifier. It compiles each graph on first use, once per bucket, and frees every device
// buffer it makes. It is safe for concurrent use as far as the backend is. Weights are read from the classifier's store at every call.
type Oracle struct {
	*engine
	observe func(ids []int, g *Grad)
}

// engine is what Observed copies of an Oracle share.
type engine struct {
	be      compute.Backend
	c       Classifier
	staged  Staged // nil if c is not
	parts   *parts // of an ensemble larger than what is computed at once; else nil
	buckets []int  // descending
	random  Random
	noise   []int // NoiseDims; nil: deterministic
	naive   bool

	mu    sync.Mutex
	execs map[string]*model.Exec
}

// NewOracle prepares an Oracle; nothing is compiled yet.
func NewOracle(be compute.Backend, c Classifier, opt OracleOptions) (*Oracle, error) {
	if be == nil || c == nil || c.Store() == nil {
		return nil, errors.New("attacks: NewOracle needs a backend and a classifier with a store")
	}
	if c.Classes() < 2 {
		return nil, fmt.Errorf("attacks: classifier has %d classes; want at least 2", c.Classes())
	}
	buckets := slices.Clone(opt.Buckets)
	if len(buckets) == 0 {
		buckets = []int{32, 8}
	}
	slices.Sort(buckets)
	slices.Reverse(buckets)
	buckets = slices.Compact(buckets)
	// GoMLX keeps at most 32 compiled shapes of one graph.
	if buckets[len(buckets)-1] < 1 || len(buckets) > 16 {
		return nil, fmt.Errorf("attacks: buckets %v: want 1 to 16 positive batch sizes", opt.Buckets)
	}
	e := &engine{be: be, c: c, buckets: buckets, random: opt.Random, noise: c.NoiseDims(), naive: opt.Naive, execs: map[string]*model.Exec{}}
	if e.random == nil {
		e.random = Seeded{}
	}
	if s, ok := c.(Staged); ok && e.noise != nil && !e.naive {
		e.staged = s // a deterministic pass has nothing to share between draws
		p, err := partition(s, opt.Members)
		if err != nil {
			return nil, err
		}
		e.parts = p
	}
	return &Oracle{engine: e}, nil
}

// Observed returns an Oracle that shares o's compiled graphs and calls f after every gradient evaluation, with the IDs of its images: loss
// curves, step sizes, progress. f must not change or keep g. An attack without gradients reports its queries in the same way, with G nil and Loss the negative
// margin of the label.
func (o *Oracle) Observed(f func(ids []int, g *Grad)) *Oracle {
	if before := o.observe; before != nil {
		return &Oracle{engine: o.engine, observe: func(ids []int, g *Grad) { before(ids, g); f(ids, g) }}
	}
	return &Oracle{engine: o.engine, observe: f}
}

// Classes is the number of classes of the classifier.
func (o *Oracle) Classes() int { return o.c.Classes() }

// Stochastic says whether the classifier takes noise.
func (o *Oracle) Stochastic() bool { return o.noise != nil }

// Close frees the compiled graphs. The Oracle, and all Observed copies, must not be used afterwards.
func (o *Oracle) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.execs {
		e.Finalize()
	}
	o.execs = map[string]*model.Exec{}
}

// Logits classifies the images of b (Y is counted, not read) in draws passes with fresh noise: the result is [draws][n][Classes], flat. The passes of a
// deterministic classifier are computed once.
func (o *Oracle) Logits(ctx context.Context, b Batch, noise rng.Seed, draws int) ([]float32, error) {
	if draws < 1 {
		return nil, fmt.Errorf("attacks: classifying in %d draws; want at least 1", draws)
	}
	if err := b.lengths(); err != nil {
		return nil, err
	}
	n, classes := b.Len(), o.c.Classes()
	out := make([]float32, draws*n*classes)
	evaluated := draws
	if o.noise == nil {
		evaluated = 1
	}
	if o.parts != nil {
		return out, o.partLogits(ctx, b, noise, draws, out)
	}
	name, input := "logits", o.pixels(b)
	if o.staged != nil && evaluated > 1 {
		cond, k, err := o.condition(ctx, b)
		if err != nil {
			return nil, err
		}
		name, input = "given", floats([]int{k}, copyRows(cond, k))
	}
	inputs := append([]feed{input}, o.noiseInput(b, noise)...)
	err := o.run(ctx, name, "", inputs, rows(n, evaluated), nil, func(r row, share [][]float32) {
		copy(out[(r.draw*n+r.image)*classes:], share[0])
	})
	for k := evaluated; k < draws; k++ {
		copy(out[k*n*classes:], out[:n*classes])
	}
	return out, err
}

// Grad is one gradient evaluation of n images: the expectation over draws. Slices are indexed by image.
type Grad struct {
	G        []float32 // [n][H*W*C] gradient of the loss, mean over draws; NaN where one draw's is
	Loss     []float32 // of the LAST draw, as the reference implementations keep it
	MeanLoss []float32 // mean over the evaluated draws
	Logits   []float32 // [n][Classes] of the last draw
	Wrong    []int     // in how many of the draws the image was misclassified
	Draws    []int     // how many draws were really computed: fewer than asked for where the rest could not change the result
	Bad      []bool    // some entry of G is NaN or infinite
	Zero     []bool    // every entry of G is exactly 0
	Halvings []int     // what APGD adds for observers: how often it has halved the step size of the image so far; nil elsewhere
}

// Gradient differentiates the summed loss with respect to the pixels of b, averaged over draws passes with the noise of the given seed, which
// names the step. target is the target class of each image for targeted losses, else nil.
//
// Two savings are exact. A deterministic classifier is evaluated once. And the last draw, whose loss and prediction are kept, is evaluated
// first: where its gradient is NaN throughout, so is the mean whatever the others give, and the image leaves.
func (o *Oracle) Gradient(ctx context.Context, loss Loss, b Batch, noise rng.Seed, draws int, target []int32) (*Grad, error) {
	g, err := o.gradient(ctx, loss, b, noise, draws, target)
	if err != nil {
		return nil, err
	}
	o.notify(b, g)
	return g, nil
}

// gradient is Gradient without telling the observers, for attacks that add to what they see.
func (o *Oracle) gradient(ctx context.Context, loss Loss, b Batch, noise rng.Seed, draws int, target []int32) (*Grad, error) {
	if draws < 1 {
		return nil, fmt.Errorf("attacks: gradient over %d draws; want at least 1", draws)
	}
	if err := loss.check(o.c.Classes(), target); err != nil {
		return nil, err
	}
	if err := b.lengths(); err != nil {
		return nil, err
	}
	if target != nil && len(target) != b.Len() {
		return nil, fmt.Errorf("attacks: %d target classes for %d images", len(target), b.Len())
	}
	n, d, classes := b.Len(), b.Dim(), o.c.Classes()
	g := &Grad{G: make([]float32, n*d), Loss: make([]float32, n), MeanLoss: make([]float32, n), Logits: make([]float32, n*classes),
		Wrong: make([]int, n), Draws: make([]int, n), Bad: make([]bool, n), Zero: make([]bool, n)}
	evaluated := draws
	if o.noise == nil {
		evaluated = 1
	}
	last := draws - 1 // also the name of a deterministic classifier's only pass

	// Without sharing, the gradient of a draw is summed as it is. With it, sum holds dL/dcondition and is led back once at the end. One draw
	// has nothing to share and takes the direct way.
	name, sum, width, input := "gradient", g.G, d, o.pixels(b)
	shared := o.staged != nil && (evaluated > 1 || o.parts != nil)
	var cond []float32
	if shared {
		var err error
		if cond, width, err = o.condition(ctx, b); err != nil {
			return nil, err
		}
		name, sum, input = "draw", make([]float32, n*width), floats([]int{width}, copyRows(cond, width))
	}
	inputs := []feed{input, ints(b.Y)}
	if loss.targeted() {
		inputs = append(inputs, ints(target))
	}
	inputs = append(inputs, o.noiseInput(b, noise)...)
	order := rows(n, evaluated)
	for k := range order {
		order[k].draw = (order[k].draw + last) % draws // last, 0, 1, ...: the same order, and so the same sum, for every image
	}
	dead := make([]bool, n)
	skip := func(r row) bool { return dead[r.image] && !o.naive }
	take := func(r row, out [][]float32) {
		i := r.image
		gradient, value, logits := out[0], out[1][0], out[2]
		acc := sum[i*width : (i+1)*width]
		var anyBad, allNaN = false, true
		for k, v := range gradient {
			acc[k] += v
			bad := v-v != 0
			anyBad = anyBad || bad
			allNaN = allNaN && v != v
		}
		// Going back through the condition spreads a NaN or infinite entry over the whole image, as the full chain of the reference does.
		dead[i] = allNaN || shared && anyBad
		g.Draws[i]++
		g.MeanLoss[i] += value
		if Predict(logits) != b.Y[i] {
			g.Wrong[i]++
		}
		if r.draw == last {
			g.Loss[i] = value
			copy(g.Logits[i*classes:], logits)
		}
	}
	var err error
	if o.parts != nil {
		err = o.partGradients(ctx, loss, b, input, width, noise, target, order, skip, take)
	} else {
		err = o.run(ctx, name, loss, inputs, order, skip, take)
	}
	if err != nil {
		return nil, err
	}
	if shared {
		var back []row
		for i := range n {
			if !dead[i] {
				back = append(back, row{image: i})
			}
		}
		inputs := []feed{o.pixels(b), floats([]int{width}, copyRows(sum, width))}
		err := o.run(ctx, "back", "", inputs, back, nil, func(r row, out [][]float32) { copy(g.G[r.image*d:], out[0]) })
		if err != nil {
			return nil, err
		}
	}
	each(upTo(n), d, func(_, i int) {
		scale := float32(evaluated)
		all := g.G[i*d : (i+1)*d]
		for k, v := range all {
			if dead[i] {
				v = float32(math.NaN())
			}
			all[k] = v / scale
		}
		g.Bad[i], g.Zero[i] = judge(all)
		g.MeanLoss[i] /= float32(g.Draws[i])
		if o.noise == nil {
			g.Wrong[i] *= draws
		}
	})
	return g, nil
}

// notify tells the observers of an evaluation.
func (o *Oracle) notify(b Batch, g *Grad) {
	if o.observe != nil {
		o.observe(b.ID, g)
	}
}

// Condition is the deterministic part of a Staged classifier for the images of b (Y is counted, not read): [n][k], flat. Other classifiers
// are an error.
func (o *Oracle) Condition(ctx context.Context, b Batch) (cond []float32, k int, err error) {
	if o.staged == nil {
		return nil, 0, ErrNotStaged
	}
	if err := b.lengths(); err != nil {
		return nil, 0, err
	}
	return o.condition(ctx, b)
}

// distance differentiates half the squared l2 distance of each image's condition to from ([n][k], flat) with respect to its pixels. Logits,
// Wrong and Draws stay empty: no draw is made.
func (o *Oracle) distance(ctx context.Context, b Batch, from []float32, k int) (*Grad, error) {
	n, d := b.Len(), b.Dim()
	g := &Grad{G: make([]float32, n*d), Loss: make([]float32, n), Draws: make([]int, n), Bad: make([]bool, n), Zero: make([]bool, n)}
	inputs := []feed{o.pixels(b), floats([]int{k}, copyRows(from, k))}
	err := o.run(ctx, "distance", "", inputs, rows(n, 1), nil, func(r row, out [][]float32) {
		copy(g.G[r.image*d:], out[0])
		g.Loss[r.image] = out[1][0]
		g.Bad[r.image], g.Zero[r.image] = judge(out[0])
	})
	if err != nil {
		return nil, err
	}
	g.MeanLoss = g.Loss
	if o.observe != nil {
		o.observe(b.ID, g)
	}
	return g, nil
}

// judge says of a gradient whether some entry is not finite, and whether all are exactly 0.
func judge(gradient []float32) (bad, zero bool) {
	zero = true
	for _, v := range gradient {
		bad = bad || v-v != 0
		zero = zero && v == 0
	}
	return bad, zero
}

// condition computes the deterministic part of all images: [n][k], flat.
func (o *Oracle) condition(ctx context.Context, b Batch) (cond []float32, k int, err error) {
	err = o.run(ctx, "condition", "", []feed{o.pixels(b)}, rows(b.Len(), 1), nil, func(r row, out [][]float32) {
		if cond == nil {
			k = len(out[0])
			cond = make([]float32, b.Len()*k)
		}
		copy(cond[r.image*k:], out[0])
	})
	return cond, k, err
}

// row is one line of a device batch: one draw of one image, or one part of the members of that draw.
type row struct{ image, draw, part int }

// rows lists n images times draws, draw by draw.
func rows(n, draws int) []row {
	all := make([]row, 0, n*draws)
	for k := range draws {
		for i := range n {
			all = append(all, row{image: i, draw: k})
		}
	}
	return all
}

// feed makes one input tensor of a graph from the rows of a device batch.
type feed func(rows []row) *tensors.Tensor

func floats(dims []int, fill func(dst []float32, r row)) feed {
	size := 1
	for _, d := range dims {
		size *= d
	}
	return func(rows []row) *tensors.Tensor {
		flat := make([]float32, len(rows)*size)
		for k, r := range rows {
			fill(flat[k*size:(k+1)*size], r)
		}
		return tensors.FromFlatDataAndDimensions(flat, append([]int{len(rows)}, dims...)...)
	}
}

func copyRows(src []float32, width int) func(dst []float32, r row) {
	return func(dst []float32, r row) { copy(dst, src[r.image*width:]) }
}

func ints(of []int32) feed {
	return func(rows []row) *tensors.Tensor {
		flat := make([]int32, len(rows))
		for k, r := range rows {
			flat[k] = of[r.image]
		}
		return tensors.FromFlatDataAndDimensions(flat, len(rows))
	}
}

func (o *Oracle) pixels(b Batch) feed { return floats([]int{b.H, b.W, b.C}, copyRows(b.X, b.Dim())) }

// noiseInput is empty for a deterministic classifier.
func (o *Oracle) noiseInput(b Batch, seed rng.Seed) []feed {
	if o.noise == nil {
		return nil
	}
	return []feed{floats(o.noise, func(dst []float32, r row) { o.random.Noise(dst, seed, b.ID[r.image], r.draw) })}
}

// run evaluates a graph on the rows in order, in device batches of bucket size, and calls take with each row's share of the outputs, in order.
// Rows for which skip is true when their turn comes are left out, also those whose turn came in a batch that was already filled: so
// what take sees does not depend on the buckets.
func (o *Oracle) run(ctx context.Context, name string, loss Loss, inputs []feed, queue []row, skip func(row) bool, take func(r row, out [][]float32)) error {
	if len(queue) == 0 {
		return nil
	}
	ex, err := o.exec(name, loss)
	if err != nil {
		return err
	}
	for len(queue) > 0 {
		if skip != nil {
			queue = slices.DeleteFunc(queue, skip)
			if len(queue) == 0 {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		bucket := o.bucket(len(queue))
		live := queue[:min(bucket, len(queue))]
		queue = queue[len(live):]
		padded := slices.Clone(live)
		for len(padded) < bucket {
			padded = append(padded, live[0])
		}
		out, err := call(ex, inputs, padded)
		if err != nil {
			return fmt.Errorf("attacks: computing %s of %d images: %w", name, len(live), err)
		}
		share := make([][]float32, len(out))
		for k, r := range live {
			if skip != nil && skip(r) {
				continue
			}
			for j := range out {
				width := len(out[j]) / bucket
				share[j] = out[j][k*width : (k+1)*width]
			}
			take(r, share)
		}
	}
	return nil
}

// bucket chooses the batch size of the next call when n rows are left.
func (o *engine) bucket(n int) int {
	if n >= o.buckets[0] {
		return o.buckets[0]
	}
	first, _ := o.plan(n)
	return first
}

// plan splits n rows, fewer than the largest bucket, into buckets so that few rows are padding: either one bucket that holds them all, or the
// largest that they fill and a plan for the rest. It returns the first bucket and the sum of all.
func (o *engine) plan(n int) (first, total int) {
	total = math.MaxInt
	for _, b := range o.buckets {
		if b >= n {
			first, total = b, b // the smallest such bucket comes last
			continue
		}
		if _, rest := o.plan(n - b); b+rest < total {
			first, total = b, b+rest
		}
		break
	}
	return first, total
}

// call runs one device batch and copies the outputs to the host.
func call(ex *model.Exec, inputs []feed, rows []row) (out [][]float32, err error) {
	args := make([]any, len(inputs))
	for k, in := range inputs {
		t := in(rows)
		args[k] = t
		defer func() { err = errors.Join(err, t.FinalizeAll()) }()
	}
	results, err := ex.Call(args...)
	if err != nil {
		return nil, err
	}
	out = make([][]float32, len(results))
	for k, t := range results {
		flat, copyErr := tensors.CopyFlatData[float32](t)
		out[k] = flat
		err = errors.Join(err, copyErr, t.FinalizeAll())
	}
	return out, err
}

// exec returns the executor of a graph, making it on first use.
func (o *engine) exec(name string, loss Loss) (*model.Exec, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := name + "/" + string(loss)
	if ex := o.execs[key]; ex != nil {
		return ex, nil
	}
	ex, err := model.NewExec(o.be, o.c.Store(), o.graph(name, loss))
	if err != nil {
		return nil, fmt.Errorf("attacks: preparing %s: %w", name, err)
	}
	o.execs[key] = ex.WithName("attacks/" + key)
	return ex, nil
}

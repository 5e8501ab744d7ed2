package attacks_test

import (
	"context"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/internal/goldentest"
	"carsokit/internal/memory"
	"carsokit/internal/rng"
)

// blurry is a stochastic convolution classifier of 32x32 images, large enough that a batch shows in the memory of the process: 64 images make maps of 4 MB.
type blurry struct{ store *model.Store }

func newBlurry(t testing.TB) blurry {
	t.Helper()
	c := blurry{model.NewStore()}
	for name, dims := range map[string][]int{"kernel": {3, 3, 3, 16}, "w": {4, 16}} {
		size := 1
		for _, d := range dims {
			size *= d
		}
		v := make([]float32, size)
		rng.Seed(1).Child(name).Normal(v)
		if _, err := c.store.RootScope().CreateVariable(name, tensors.FromFlatDataAndDimensions(v, dims...)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c blurry) Store() *model.Store { return c.store }
func (blurry) Classes() int          { return 4 }
func (blurry) NoiseDims() []int      { return []int{32, 32, 3} }

func (c blurry) Logits(_ *model.Scope, x, noise *Node) *Node {
	weight := func(name string) *Node { return c.store.GetVariable("/" + name).NodeValue(x.Graph()) }
	h := Tanh(Convolve(Add(x, MulScalar(noise, 0.1)), weight("kernel")).PadSame().Done())
	return DotGeneral(ReduceMean(h, 1, 2), []int{1}, nil, weight("w"), []int{1}, nil)
}

// images makes n random ones.
func (blurry) images(n int) attacks.Batch {
	b := attacks.Batch{H: 32, W: 32, C: 3, X: make([]float32, n*32*32*3), Y: make([]int32, n), ID: upTo(n)}
	rng.Seed(2).Uniform(b.X)
	for i := range b.Y {
		b.Y[i] = int32(i % 4)
	}
	return b
}

// crowd is an ensemble of n blurry classifiers; its condition is the image.
type crowd struct {
	blurry
	n int
}

func (c crowd) NoiseDims() []int { return []int{c.n, 3} }

func (c crowd) Condition(_ *model.Scope, x *Node) *Node {
	return Reshape(x, x.Shape().Dimensions[0], -1)
}

func (c crowd) MemberLogits(s *model.Scope, cond, noise *Node) *Node {
	b, m := noise.Shape().Dimensions[0], noise.Shape().Dimensions[1]
	x := BroadcastToDims(Reshape(cond, b, 1, 32, 32, 3), b, m, 32, 32, 3)
	z := BroadcastToDims(Reshape(noise, b, m, 1, 1, 3), b, m, 32, 32, 3)
	return Reshape(c.blurry.Logits(s, Reshape(x, b*m, 32, 32, 3), Reshape(z, b*m, 32, 32, 3)), b, m, 4)
}

// Aggregate is the log of the summed exponentials, so that members weigh differently.
func (c crowd) Aggregate(members *Node) *Node { return Log(ReduceSum(Exp(members), 1)) }

func (c crowd) LogitsGiven(s *model.Scope, cond, noise *Node) *Node {
	return c.Aggregate(c.MemberLogits(s, cond, noise))
}

func (c crowd) Logits(s *model.Scope, x, noise *Node) *Node {
	return c.LogitsGiven(s, c.Condition(s, x), noise)
}

var _ attacks.Ensemble = crowd{}

// A large ensemble computed in parts has the logits and gradients of the whole, whatever the parts.
func TestEnsembleInParts(t *testing.T) {
	c := crowd{newBlurry(t), 7}
	b := c.images(5)
	target := []int32{3, 2, 1, 0, 3}
	whole := compiled(t, c, attacks.OracleOptions{Buckets: []int{4}})
	for _, members := range []int{1, 3} {
		parts := compiled(t, c, attacks.OracleOptions{Buckets: []int{4}, Members: members})
		one, err := whole.Logits(context.Background(), b, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		two, err := parts.Logits(context.Background(), b, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "logits", two, one, 1e-5, 1e-5)
		for _, loss := range []attacks.Loss{attacks.CE, attacks.MarginTargeted} {
			for _, draws := range []int{1, 3} {
				g, err := whole.Gradient(context.Background(), loss, b, 5, draws, target)
				if err != nil {
					t.Fatal(err)
				}
				h, err := parts.Gradient(context.Background(), loss, b, 5, draws, target)
				if err != nil {
					t.Fatal(err)
				}
				// float32 sums in another order.
				if d := relL2(h.G, g.G); !(d < 1e-5) {
					t.Errorf("%d at once, %s, %d draws: gradients %g apart", members, loss, draws, d)
				}
				near(t, "loss", h.Loss, g.Loss, 1e-5, 1e-5)
				near(t, "mean loss", h.MeanLoss, g.MeanLoss, 1e-5, 1e-5)
				near(t, "logits", h.Logits, g.Logits, 1e-5, 1e-5)
				if !slices.Equal(h.Wrong, g.Wrong) || !slices.Equal(h.Draws, g.Draws) || !slices.Equal(h.Bad, g.Bad) {
					t.Errorf("%d at once, %s, %d draws: %+v, want %+v", members, loss, draws, h, g)
				}
			}
		}
	}
	if _, err := attacks.NewOracle(compiling, c, attacks.OracleOptions{Members: -1}); err == nil {
		t.Error("-1 members at once were accepted")
	}
}

// resident is what this process holds of memory, or at most held, or skips where the system does not say.
func resident(t testing.TB, field string) int {
	t.Helper()
	n, ok := memory.Process(field)
	if !ok {
		t.Skip("resident memory is not readable here")
	}
	return n
}

// peak is by how much the resident memory exceeds, while f runs, what it is before.
func peak(t testing.TB, f func()) int {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil { // resets VmHWM
		t.Skip("the peak of resident memory cannot be reset here")
	}
	before := resident(t, memory.Resident)
	f()
	return resident(t, memory.Peak) - before
}

// TestMemoryIsStable: the memory of an attack does not grow with its steps, with the draws of a step, with the members of an ensemble beyond those
// computed at once, or with the images beyond one device batch but for their
// own state on the host.
func TestMemoryIsStable(t *testing.T) {
	goldentest.Slow(t)
	const batch, slack = 64, 40 << 20 // XLA's and Go's heaps breathe by tens of MB; the growth looked for is ten times that
	c := newBlurry(t)
	o := compiled(t, c, attacks.OracleOptions{Buckets: []int{batch}})
	ctx := context.Background()
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	pgd := func(images attacks.Batch, steps, eot int) func() {
		return func() {
			if _, err := (attacks.PGDEoT{Eps: 0.03, Step: 0.007, Steps: steps, EoT: eot}).Run(ctx, o, images, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := c.images(batch)
	pgd(b, 3, 2)() // compiles

	t.Run("steps", func(t *testing.T) {
		// Buffers that stay would be 64 x 12 kB in and out for image, noise and gradient: 2.4 MB a step, more than 1 GB in the second half.
		var early, late int
		step := 0
		a := attacks.StandardAPGD(attacks.CE, 0.03, 1)
		a.Steps = 1000
		if _, err := a.Run(ctx, o.Observed(func([]int, *attacks.Grad) {
			if step++; step <= 500 {
				early = max(early, resident(t, memory.Resident))
			} else {
				late = max(late, resident(t, memory.Resident))
			}
		}), b, 1); err != nil {
			t.Fatal(err)
		}
		if step != 1001 {
			t.Fatalf("%d evaluations", step)
		}
		t.Logf("resident: at most %d MB in the first 500 steps, %d MB afterwards", early>>20, late>>20)
		if late > early+slack {
			t.Errorf("resident memory grows from %d MB to %d MB over 1,000 steps", early>>20, late>>20)
		}
	})
	t.Run("draws", func(t *testing.T) {
		// 64 draws at once would be 64 x 64 maps of 64 kB and their gradients: half a GB.
		one, many := peak(t, pgd(b, 2, 1)), peak(t, pgd(b, 2, 64))
		t.Logf("peak: %d MB with 1 draw, %d MB with 64", one>>20, many>>20)
		if many > one+slack {
			t.Errorf("the peak grows from %d MB with 1 draw to %d MB with 64", one>>20, many>>20)
		}
	})
	t.Run("members", func(t *testing.T) {
		// 128 members at once would be 16 x 128 maps of 64 kB and their gradients: a quarter of a GB.
		used := func(n int) int {
			o := compiled(t, crowd{c, n}, attacks.OracleOptions{Buckets: []int{16}, Members: 8})
			b := c.images(16)
			run := func() {
				if _, err := o.Gradient(ctx, attacks.CE, b, 1, 2, nil); err != nil {
					t.Fatal(err)
				}
			}
			run() // compiles
			return peak(t, run)
		}
		few, many := used(16), used(128)
		t.Logf("peak: %d MB with 16 members, %d MB with 128", few>>20, many>>20)
		if many > few+slack {
			t.Errorf("the peak grows from %d MB with 16 members to %d MB with 128", few>>20, many>>20)
		}
	})
	t.Run("images", func(t *testing.T) {
		all := c.images(10 * batch)
		host := 8 * 4 * len(all.X) // iterate, gradient, copies for the device and Go's headroom
		one, many := peak(t, pgd(b, 2, 2)), peak(t, pgd(all, 2, 2))
		t.Logf("peak: %d MB with %d images, %d MB with %d; their state is at most %d MB", one>>20, batch, many>>20, all.Len(), host>>20)
		if many > one+host+slack {
			t.Errorf("the peak grows from %d MB with %d images to %d MB with %d", one>>20, batch, many>>20, all.Len())
		}
	})
}

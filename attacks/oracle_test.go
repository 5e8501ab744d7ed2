package attacks_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/internal/rng"
)

// custom is a classifier of 1x1x2 images given as a function.
type custom struct {
	store  *model.Store
	noise  []int
	logits func(x, noise *Node) *Node
}

func (c custom) Store() *model.Store                         { return c.store }
func (c custom) Classes() int                                { return 2 }
func (c custom) NoiseDims() []int                            { return c.noise }
func (c custom) Logits(_ *model.Scope, x, noise *Node) *Node { return c.logits(x, noise) }

// stages is the custom classifier with a condition that is the pixels themselves.
type stages struct{ custom }

func (c stages) Condition(_ *model.Scope, x *Node) *Node {
	return Reshape(x, x.Shape().Dimensions[0], 2)
}
func (c stages) LogitsGiven(_ *model.Scope, cond, noise *Node) *Node {
	return c.logits(Reshape(cond, cond.Shape().Dimensions[0], 1, 1, 2), noise)
}

func oracle(t testing.TB, c attacks.Classifier, opt attacks.OracleOptions) *attacks.Oracle {
	t.Helper()
	return oracleOn(t, backend, c, opt)
}

func compiled(t testing.TB, c attacks.Classifier, opt attacks.OracleOptions) *attacks.Oracle {
	t.Helper()
	return oracleOn(t, compiling, c, opt)
}

func oracleOn(t testing.TB, be compute.Backend, c attacks.Classifier, opt attacks.OracleOptions) *attacks.Oracle {
	t.Helper()
	o, err := attacks.NewOracle(be, c, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// bank is recorded noise: draw k of every image is values[k].
type bank struct {
	attacks.Seeded
	values [][]float32
}

func (b bank) Noise(dst []float32, _ rng.Seed, _, draw int) { copy(dst, b.values[draw]) }

func gradient(t testing.TB, o *attacks.Oracle, l attacks.Loss, b attacks.Batch, draws int) *attacks.Grad {
	t.Helper()
	g, err := o.Gradient(context.Background(), l, b, 9, draws, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The mean gradient over draws is the mean of the analytic gradients for the same noise; the loss is the last draw's.
func TestEoTAgainstAnalyticGradient(t *testing.T) {
	const classes, draws = 4, 5
	toy := attacktest.NewNoisy(classes, 2)
	images := attacktest.NewLinear(classes, 2).Images(5, 1)
	images.Y[0] = (images.Y[0] + 1) % classes
	var noise [][]float32
	for k := range draws {
		noise = append(noise, make([]float32, classes))
		rng.Seed(8).Child("bank", k).Normal(noise[k])
	}
	o := oracle(t, toy, attacks.OracleOptions{Buckets: []int{8, 3}, Random: bank{values: noise}})
	g := gradient(t, o, attacks.CE, images, draws)
	d := images.Dim()
	for i := range images.Len() {
		x, y := images.Image(i), int(images.Y[i])
		want, meanLoss, lastLoss, wrong := make([]float64, d), 0.0, 0.0, 0
		for _, n := range noise {
			w := func(c, k int) float64 {
				return float64(toy.Weights[c][k]) + float64(n[c])*float64(toy.Spread[c][k])
			}
			z, sum := make([]float64, classes), 0.0
			for c := range z {
				for k, v := range x {
					z[c] += float64(v) * w(c, k)
				}
			}
			for _, v := range z {
				sum += math.Exp(v - z[y])
			}
			lastLoss = math.Log(sum)
			meanLoss += lastLoss / draws
			if slices.Max(z) != z[y] {
				wrong++
			}
			for c := range z {
				p := math.Exp(z[c]-z[y]) / sum
				for k := range x {
					want[k] += (p*w(c, k) - map[bool]float64{true: w(c, k)}[c == y]) / draws
				}
			}
		}
		// Sums of about 100 products of size 1 in float32.
		for k, w := range want {
			if math.Abs(float64(g.G[i*d+k])-w) > 1e-5 {
				t.Fatalf("image %d, value %d: gradient %v, want %v", i, k, g.G[i*d+k], w)
			}
		}
		if math.Abs(float64(g.Loss[i])-lastLoss) > 2e-5 || math.Abs(float64(g.MeanLoss[i])-meanLoss) > 2e-5 {
			t.Errorf("image %d: losses %v and %v, want %v (last draw) and %v (mean)", i, g.Loss[i], g.MeanLoss[i], lastLoss, meanLoss)
		}
		if g.Wrong[i] != wrong || g.Draws[i] != draws || g.Bad[i] || g.Zero[i] {
			t.Errorf("image %d: wrong in %d of %d draws, bad %v, zero %v; want %d of %d", i, g.Wrong[i], g.Draws[i], g.Bad[i], g.Zero[i], wrong, draws)
		}
	}
}

// Sharing the condition between draws changes rounding only.
func TestStagedEqualsNaive(t *testing.T) {
	toy := attacktest.NewStaged(4, 2)
	images := attacktest.NewLinear(4, 2).Images(5, 1)
	shared := oracle(t, toy, attacks.OracleOptions{Buckets: []int{8, 3}})
	naive := oracle(t, toy, attacks.OracleOptions{Buckets: []int{4}, Naive: true})
	for _, l := range []attacks.Loss{attacks.CE, attacks.DLR, attacks.Margin} {
		for _, draws := range []int{1, 6} {
			a, b := gradient(t, shared, l, images, draws), gradient(t, naive, l, images, draws)
			if d := relL2(a.G, b.G); !(d < 1e-5) {
				t.Errorf("%s, %d draws: gradients are %.3g of their length apart", l, draws, d)
			}
			near(t, "loss", a.Loss, b.Loss, 1e-5, 1e-5)
			near(t, "mean loss", a.MeanLoss, b.MeanLoss, 1e-5, 1e-5)
			if !slices.Equal(a.Wrong, b.Wrong) || !slices.Equal(a.Draws, b.Draws) {
				t.Errorf("%s, %d draws: wrong %v and %v, draws %v and %v", l, draws, a.Wrong, b.Wrong, a.Draws, b.Draws)
			}
		}
	}
	one, err := shared.Logits(context.Background(), images, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	two, err := naive.Logits(context.Background(), images, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "logits", one, two, 1e-5, 1e-5)
}

// twoPixels are n copies of one image of two pixels.
func twoPixels(n int) attacks.Batch {
	b := attacks.Batch{H: 1, W: 1, C: 2, Y: make([]int32, n)}
	for i := range n {
		b.X, b.ID = append(b.X, 0.25, 0.5), append(b.ID, i)
	}
	return b
}

// perImage gives image id the draws values[id].
type perImage struct {
	attacks.Seeded
	values [][]float32
}

func (p perImage) Noise(dst []float32, _ rng.Seed, id, draw int) { dst[0] = p.values[id][draw] }

// rooted has the logits (x0 + x1, sqrt(noise * x0)): where noise is 0 the derivative by x0 is infinite times 0, and only that one.
func rooted(x, noise *Node) *Node {
	f := Reshape(x, x.Shape().Dimensions[0], 2)
	first := SliceAxis(f, 1, AxisRange(0, 1))
	return Concatenate([]*Node{ExpandAxes(ReduceSum(f, 1), 1), Sqrt(Mul(noise, first))}, 1)
}

// A NaN in one draw voids the mean of that pixel only, and an image leaves early only if nothing is left to average.
func TestNaNDraws(t *testing.T) {
	c := custom{model.NewStore(), []int{1}, rooted}
	noise := perImage{values: [][]float32{
		{1, 2, 3}, // finite
		{0, 1, 2}, // NaN in the first draw
		{1, 2, 0}, // NaN in the last draw
		{1, 0, 2}, // NaN in the middle
	}}
	b := twoPixels(4)
	check := func(name string, o *attacks.Oracle, draws []int, alsoSecond bool) {
		t.Helper()
		for range 2 {
			g := gradient(t, o, attacks.CE, b, 3)
			for i := range 4 {
				first, second := float64(g.G[2*i]), float64(g.G[2*i+1])
				if want := i > 0; g.Bad[i] != want || math.IsNaN(first) != want || math.IsNaN(second) != (want && alsoSecond) {
					t.Errorf("%s, image %d: gradient %v %v, bad %v", name, i, first, second, g.Bad[i])
				}
			}
			if !slices.Equal(g.Draws, draws) {
				t.Errorf("%s: %v draws, want %v", name, g.Draws, draws)
			}
		}
	}
	for _, buckets := range [][]int{{32}, {3}, {1}, {4, 2}} {
		check("whole chain", oracle(t, c, attacks.OracleOptions{Random: noise, Buckets: buckets}), []int{3, 3, 3, 3}, false)
		// Behind a condition a NaN would spread over the image; order of evaluation is last, first, middle, whatever the buckets.
		check("staged", oracle(t, stages{c}, attacks.OracleOptions{Random: noise, Buckets: buckets}), []int{3, 2, 1, 3}, true)
		check("naive", oracle(t, stages{c}, attacks.OracleOptions{Random: noise, Buckets: buckets, Naive: true}), []int{3, 3, 3, 3}, false)
	}
}

// The same noise reaches an image whatever the batch: (seed, id, draw) decide.
func TestNoiseDependsOnTheImageOnly(t *testing.T) {
	toy := attacktest.NewNoisy(4, 2)
	images := attacktest.NewLinear(4, 2).Images(5, 1)
	o := oracle(t, toy, attacks.OracleOptions{Buckets: []int{4}})
	all, err := o.Logits(context.Background(), images, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range images.Len() {
		one, err := o.Logits(context.Background(), images.Pick([]int{i}), 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		for k := range 2 {
			near(t, "logits", one[k*4:(k+1)*4], all[(k*5+i)*4:(k*5+i+1)*4], 1e-6, 1e-6)
		}
		if slices.Equal(one[:4], one[4:]) {
			t.Errorf("two draws of image %d are equal", i)
		}
	}
}

func TestBuckets(t *testing.T) {
	c := attacktest.NewLinear(2, 1)
	for _, k := range []struct {
		buckets []int
		n       int
		want    []int
	}{
		{nil, 100, []int{32, 32, 32, 8}},
		{nil, 12, []int{8, 8}},
		{nil, 25, []int{32}},
		{nil, 3, []int{8}},
		{[]int{8, 128, 32}, 100, []int{32, 32, 32, 8}},
		{[]int{1}, 2, []int{1, 1}},
		{[]int{50, 50}, 60, []int{50, 50}},
	} {
		if got := oracle(t, c, attacks.OracleOptions{Buckets: k.buckets}).Plan(k.n); !slices.Equal(got, k.want) {
			t.Errorf("%d rows in buckets %v: %v, want %v", k.n, k.buckets, got, k.want)
		}
	}
	for _, bad := range [][]int{{0}, {-1, 4}, make([]int, 20)} {
		if _, err := attacks.NewOracle(backend, c, attacks.OracleOptions{Buckets: bad}); err == nil {
			t.Errorf("buckets %v were accepted", bad)
		}
	}
}

// Mistakes of a classifier and of the caller come back as errors that say whose they are.
func TestOracleErrors(t *testing.T) {
	ctx, b := context.Background(), twoPixels(2)
	wide := oracle(t, custom{model.NewStore(), nil, func(x, _ *Node) *Node { return Reshape(x, 1, -1) }}, attacks.OracleOptions{})
	if _, err := wide.Logits(ctx, b, 0, 1); err == nil || !strings.Contains(err.Error(), "2 classes") {
		t.Errorf("logits of a wrong shape: %v", err)
	}
	sorted := oracle(t, custom{model.NewStore(), nil, func(x, _ *Node) *Node { return Sort(Reshape(x, -1, 2), -1, true) }}, attacks.OracleOptions{})
	if _, err := sorted.Gradient(ctx, attacks.CE, b, 0, 1, nil); err == nil || !strings.Contains(err.Error(), "gradient") {
		t.Errorf("an operation without gradient: %v", err)
	}
	good := oracle(t, custom{model.NewStore(), nil, func(x, _ *Node) *Node { return Reshape(x, -1, 2) }}, attacks.OracleOptions{})
	if _, err := good.Gradient(ctx, attacks.DLR, b, 0, 1, nil); !errors.Is(err, attacks.ErrClasses) {
		t.Errorf("DLR with two classes: %v", err)
	}
	if _, err := good.Gradient(ctx, "hinge", b, 0, 1, nil); err == nil || !strings.Contains(err.Error(), "margin") {
		t.Errorf("unknown loss: %v", err)
	}
	if _, err := good.Gradient(ctx, attacks.CE, b, 0, 0, nil); err == nil {
		t.Error("0 draws were accepted")
	}
	short := b
	short.X = short.X[1:]
	if _, err := good.Gradient(ctx, attacks.CE, short, 0, 1, nil); err == nil || !strings.Contains(err.Error(), "3 values") {
		t.Errorf("a missing pixel: %v", err)
	}
	if _, err := good.Logits(ctx, short, 0, 1); err == nil || !strings.Contains(err.Error(), "3 values") {
		t.Errorf("a missing pixel: %v", err)
	}
	if _, err := attacks.NewOracle(backend, nil, attacks.OracleOptions{}); err == nil {
		t.Error("a missing classifier was accepted")
	}
	four := oracle(t, attacktest.NewLinear(4, 1), attacks.OracleOptions{})
	if _, err := four.Gradient(ctx, attacks.DLRTargeted, attacktest.NewLinear(4, 1).Images(2, 1), 0, 1, nil); err == nil {
		t.Error("a targeted loss without targets was accepted")
	}
}

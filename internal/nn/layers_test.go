package nn

import (
	"fmt"
	"math"
	"testing"

	"carsokit/internal/rng"
	"carsokit/internal/xlaenv"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// backends are the one that the environment gives, XLA where its plugin is, and GoMLX's own in Go.
func backends(t *testing.T) map[string]compute.Backend {
	t.Helper()
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	inGo, err := compute.NewWithConfig(xlaenv.Go)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]compute.Backend{be.Name(): be, "go": inGo}
}

// store holds one variable of each kind that the layers below read.
func store(t *testing.T) *model.Scope {
	t.Helper()
	scope := model.NewStore().Scope("/t")
	ps := []Param{Conv("c3", 2, 3, 3), Conv("c1", 2, 3, 1), ConvT("t3", 2, 3, 3), ConvT("t2", 2, 3, 2)}
	ps = append(append(append(ps, BN("bn", 2)...), Linear("fc", 2, 3, true)...), BlurConv("blurred", 2, 3, 3)...)
	if err := Create(scope, ps, 7, false); err != nil {
		t.Fatal(err)
	}
	// Not the initial 0 and 1: a mistake in their use must show.
	for i, p := range BN("bn", 2) {
		if p.Kind != BNCount {
			if err := Set(scope, p, []float32{0.5 + 0.1*float32(i), 1.5 - 0.2*float32(i)}, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	return scope
}

// TestGradients compares the gradient of every layer and loss, with respect to its input and to its weights, with central differences along random
// directions, on both backends. float32 differences of a sum of about a hundred terms are good to about 1e-3 of it at a step of 1e-2.
func TestGradients(t *testing.T) {
	type layer struct {
		name  string
		dims  []int
		vars  []string
		build func(n Net, x *node) *node
	}
	conv := func(name string, stride, lo, hi int) func(Net, *node) *node {
		return func(n Net, x *node) *node { return n.Conv(x, name, stride, lo, hi) }
	}
	even := func(lo, hi int) func(Net, *node) *node {
		return func(n Net, x *node) *node { return Conv2x2(x, n.Var(x, "t2.weight"), lo, hi) }
	}
	image := []int{2, 6, 6, 2}
	layers := []layer{
		{"conv 3x3", image, []string{"c3.weight"}, conv("c3", 1, 1, 1)},
		{"conv 3x3 stride 2, padded right and bottom", image, []string{"c3.weight"}, conv("c3", 2, 0, 1)},
		{"conv 3x3 stride 2, padded around", image, []string{"c3.weight"}, conv("c3", 2, 1, 1)},
		{"conv 3x3 stride 2 of an odd image", []int{2, 7, 5, 2}, []string{"c3.weight"}, conv("c3", 2, 1, 1)},
		{"conv 3x3 stride 2 of a flat image", []int{2, 2, 6, 2}, []string{"c3.weight"}, conv("c3", 2, 0, 1)},
		{"conv 3x3 unpadded", image, []string{"c3.weight"}, conv("c3", 1, 0, 0)},
		{"conv 1x1", image, []string{"c1.weight"}, conv("c1", 1, 0, 0)},
		{"conv 1x1 stride 2", image, []string{"c1.weight"}, conv("c1", 2, 0, 0)},
		{"conv 3x3 stride 3, padded left and top", image, []string{"c3.weight"}, conv("c3", 3, 2, 0)},
		{"conv 2x2", image, []string{"t2.weight"}, even(0, 0)},
		{"conv 2x2, padded right and bottom", image, []string{"t2.weight"}, even(0, 1)},
		{"conv 2x2, padded left and top", image, []string{"t2.weight"}, even(1, 0)},
		{"conv 2x2, padded around", image, []string{"t2.weight"}, even(1, 1)},
		{"blur and conv 3x3 stride 2, padded right and bottom", image, []string{"blurred.conv.weight"}, func(n Net, x *node) *node { return n.BlurConv(x, "blurred", 2, 0, 1) }},
		{"blur and conv 3x3 stride 1", image, []string{"blurred.conv.weight"}, func(n Net, x *node) *node { return n.BlurConv(x, "blurred", 1, 1, 1) }},
		{"transposed 3x3 stride 2", image, []string{"t3.weight"}, func(n Net, x *node) *node { return n.ConvTranspose(x, "t3", 2, 0) }},
		{"transposed 3x3 stride 2, output padding", image, []string{"t3.weight"}, func(n Net, x *node) *node { return n.ConvTranspose(x, "t3", 2, 1) }},
		{"transposed 3x3 stride 1", image, []string{"t3.weight"}, func(n Net, x *node) *node { return n.ConvTranspose(x, "t3", 1, 0) }},
		{"transposed 2x2 stride 1", image, []string{"t2.weight"}, func(n Net, x *node) *node { return n.ConvTranspose(x, "t2", 1, 0) }},
		{"batch norm, evaluation", image, []string{"bn.weight", "bn.bias"}, func(n Net, x *node) *node { return n.BatchNorm(x, "bn", 0.1) }},
		{"batch norm, training", image, []string{"bn.weight", "bn.bias"}, func(n Net, x *node) *node { n.Train = true; return n.BatchNorm(x, "bn", 0.1) }},
		{"batch norm of features, training", []int{6, 2}, []string{"bn.weight"}, func(n Net, x *node) *node { n.Train = true; return n.BatchNorm(x, "bn", 0.1) }},
		{"linear", []int{4, 2}, []string{"fc.weight", "fc.bias"}, func(n Net, x *node) *node { return n.Linear(x, "fc", true) }},
		{"silu", image, nil, func(_ Net, x *node) *node { return SiLU(x) }},
		{"leaky relu", image, nil, leakyAwayFromZero},
		{"normalisation", []int{2, 4, 4, 3}, nil, func(_ Net, x *node) *node { return Normalize(x, [3]float32{0.4, 0.5, 0.6}, [3]float32{0.2, 0.3, 0.5}) }},
		{"flatten", image, nil, func(_ Net, x *node) *node { return FlattenCHW(x) }},
		{"cross-entropy", []int{4, 5}, nil, crossEntropyOfIota},
		{"cross-entropy of shares", []int{4, 5}, nil, softCrossEntropyOfIota},
		{"binary cross-entropy", image, nil, binaryCrossEntropyOfIota},
		{"divergence of the posterior", []int{2, 8}, nil, klOfHalves},
	}
	for name, be := range backends(t) {
		for _, l := range layers {
			t.Run(name+"/"+l.name, func(t *testing.T) {
				scope := store(t)
				e, err := model.NewExec(be, scope.Store(), func(_ *model.Scope, x, dx *node) []*node {
					return directional(Net{Scope: scope}, l.vars, x, dx, l.build)
				})
				if err != nil {
					t.Fatal(err)
				}
				size := 1
				for _, d := range l.dims {
					size *= d
				}
				x, dx := make([]float32, size), make([]float32, size)
				rng.Seed(1).Normal(x)
				rng.Seed(2).Normal(dx)
				out, err := e.Call(tensors.FromFlatDataAndDimensions(x, l.dims...), tensors.FromFlatDataAndDimensions(dx, l.dims...))
				if err != nil {
					t.Fatal(err)
				}
				for i := 0; i < len(out); i += 2 {
					got, want := float64(tensors.ToScalar[float32](out[i])), float64(tensors.ToScalar[float32](out[i+1]))
					if math.Abs(got-want) > 3e-3*(1+math.Abs(want)) {
						t.Errorf("gradient %d: %g, central difference %g", i/2, got, want)
					}
				}
			})
		}
	}
}

// TestConvTransposeAgainstDefinition compares with y[o] = sum over i of x[i]·w[o - stride·i + padding], written out.
func TestConvTransposeAgainstDefinition(t *testing.T) {
	for _, c := range []struct{ k, stride, outPad int }{{3, 2, 0}, {3, 2, 1}, {3, 1, 0}, {2, 1, 0}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			const in, out, h = 2, 3, 4
			p := ConvT("w", in, out, c.k)
			w := p.Init(3)
			x := make([]float32, h*h*in)
			rng.Seed(4).Normal(x)
			side := (h-1)*c.stride - 2 + c.k + c.outPad
			want := make([]float64, side*side*out)
			for y := range h {
				for z := range h {
					for ky := range c.k {
						for kx := range c.k {
							oy, ox := y*c.stride+ky-1, z*c.stride+kx-1
							if oy < 0 || ox < 0 || oy >= side || ox >= side {
								continue
							}
							for i := range in {
								for o := range out {
									want[(oy*side+ox)*out+o] += float64(x[(y*h+z)*in+i]) * float64(w[((i*out+o)*c.k+ky)*c.k+kx])
								}
							}
						}
					}
				}
			}
			isOnBackends(t, want, x, []int{1, h, h, in}, p, w, func(n Net, x *node) *node { return n.ConvTranspose(x, "w", c.stride, c.outPad) })
		})
	}
}

// TestConvAgainstDefinition compares every form of convolution, on every backend, with y[o] = sum over k of x[stride·o + k - lo]·w[k], written out.
func TestConvAgainstDefinition(t *testing.T) {
	for _, c := range []struct{ k, stride, lo, hi int }{{1, 1, 0, 0}, {3, 1, 0, 0}, {3, 1, 1, 1}, {1, 2, 0, 0}, {3, 2, 1, 1}, {3, 2, 0, 1}, {3, 2, 0, 0}, {2, 1, 0, 0}, {2, 1, 1, 0}, {2, 1, 0, 1}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			const in, out, h = 2, 3, 6
			p := Conv("w", in, out, c.k)
			w := p.Init(3)
			x := make([]float32, h*h*in)
			rng.Seed(4).Normal(x)
			side := (h+c.lo+c.hi-c.k)/c.stride + 1
			want := make([]float64, side*side*out)
			for y := range side {
				for z := range side {
					for ky := range c.k {
						for kx := range c.k {
							iy, ix := y*c.stride+ky-c.lo, z*c.stride+kx-c.lo
							if iy < 0 || ix < 0 || iy >= h || ix >= h {
								continue
							}
							for i := range in {
								for o := range out {
									want[(y*side+z)*out+o] += float64(x[(iy*h+ix)*in+i]) * float64(w[((o*in+i)*c.k+ky)*c.k+kx])
								}
							}
						}
					}
				}
			}
			isOnBackends(t, want, x, []int{1, h, h, in}, p, w, func(n Net, x *node) *node {
				if c.k%2 == 0 {
					return Conv2x2(x, n.Var(x, "w.weight"), c.lo, c.hi)
				}
				return n.Conv(x, "w", c.stride, c.lo, c.hi)
			})
		})
	}
}

// isOnBackends holds a layer's output, with the kernel w, against values of the order of 1 that are sums of a few dozen products.
func isOnBackends(t *testing.T, want []float64, x []float32, dims []int, p Param, w []float32, layer func(Net, *node) *node) {
	t.Helper()
	for name, be := range backends(t) {
		scope := model.NewStore().Scope("/t") // tensors belong to one backend
		if err := Set(scope, p, w, false); err != nil {
			t.Fatal(err)
		}
		e, err := model.NewExec(be, scope.Store(), func(_ *model.Scope, x *node) *node { return layer(Net{Scope: scope}, x) })
		if err != nil {
			t.Fatal(err)
		}
		res, err := e.Call1(tensors.FromFlatDataAndDimensions(x, dims...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tensors.CopyFlatData[float32](res)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
		}
		for i := range want {
			if math.Abs(float64(got[i])-want[i]) > 1e-5 { // float32 rounds each of the products by 6e-8
				t.Fatalf("%s: value %d is %g, want %g", name, i, got[i], want[i])
			}
		}
	}
}

// TestRunningStatistics checks PyTorch's convention: the new value is (1-momentum)·old + momentum·batch, the batch variance unbiased.
func TestRunningStatistics(t *testing.T) {
	be := backends(t)["go"]
	scope := model.NewStore().Scope("/t")
	if err := Create(scope, BN("bn", 1), 1, false); err != nil {
		t.Fatal(err)
	}
	e, err := model.NewExec(be, scope.Store(), func(_ *model.Scope, x *node) *node {
		return Net{Scope: scope, Train: true, Update: true}.BatchNorm(x, "bn", 0.1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Call1(tensors.FromFlatDataAndDimensions([]float32{1, 2, 3, 6}, 4, 1)); err != nil {
		t.Fatal(err)
	}
	ps := BN("bn", 1)
	for i, want := range map[int]float64{2: 0.1 * 3, 3: 0.9 + 0.1*14./3} { // mean 3, squared deviations 4+1+0+9 = 14 over n-1 = 3
		v, err := Get(scope, ps[i])
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(float64(v[0])-want) > 1e-6 {
			t.Errorf("%s is %g, want %g", ps[i].Name, v[0], want)
		}
	}
}

// TestLayouts: stored and PyTorch layouts convert into each other.
func TestLayouts(t *testing.T) {
	for _, p := range []Param{Conv("a", 2, 3, 3), ConvT("b", 2, 3, 2), Linear("c", 4, 5, true)[0]} {
		v := p.Init(9)
		s, dims := p.Stored(v)
		back := p.Torch(s)
		n := 1
		for _, d := range dims {
			n *= d
		}
		if n != len(v) {
			t.Errorf("%s: stored as %v, %d values", p.Name, dims, len(v))
		}
		for i := range v {
			if back[i] != v[i] {
				t.Fatalf("%s: value %d came back as %g, was %g", p.Name, i, back[i], v[i])
			}
		}
	}
}

// TestBadVariables: errors name the variable.
func TestBadVariables(t *testing.T) {
	scope := model.NewStore().Scope("/t")
	if err := Set(scope, Conv("w", 1, 1, 3), make([]float32, 4), false); err == nil {
		t.Error("four values for a 3x3 kernel were accepted")
	}
	if _, err := Get(scope, Conv("w", 1, 1, 3)); err == nil {
		t.Error("a variable that does not exist was read")
	}
}

// TestInit: values are uniform in ±1/sqrt(fan-in), where a transposed convolution's fan-in is that of its stored kernel's second dimension: bounds, mean and
// variance within five standard errors. BatchNorm starts as the identity. One seed gives one value; names tell streams apart.
func TestInit(t *testing.T) {
	for _, c := range []struct {
		p   Param
		fan int
	}{
		{Conv("a", 20, 40, 3), 20 * 9}, {ConvT("b", 20, 40, 3), 40 * 9}, {Linear("c", 50, 200, true)[0], 50}, {Linear("d", 50, 5000, true)[1], 50},
	} {
		v := c.p.Init(11)
		bound := 1 / math.Sqrt(float64(c.fan))
		var s, s2 float64
		for _, x := range v {
			u := float64(x) / bound
			if math.Abs(u) > 1+1e-6 {
				t.Fatalf("%s: %g outside ±%g", c.p.Name, x, bound)
			}
			s, s2 = s+u, s2+u*u
		}
		n := float64(len(v)) // a uniform number in [-1,1] has variance 1/3, its square 4/45
		if math.Abs(s/n) > 5*math.Sqrt(1/(3*n)) || math.Abs(s2/n-1./3) > 5*math.Sqrt(4/(45*n)) {
			t.Errorf("%s: mean %g and variance %g of the bound, want 0 and 1/3", c.p.Name, s/n, s2/n)
		}
		other := c.p
		other.Name += "x"
		if again := c.p.Init(11); again[0] != v[0] || other.Init(11)[0] == v[0] {
			t.Errorf("%s: the first value is %g, again %g, under another name the same", c.p.Name, v[0], again[0])
		}
	}
	for _, p := range BN("bn", 3) {
		want := float32(0)
		if p.Kind == BNWeight || p.Kind == BNVar {
			want = 1
		}
		if v := p.Init(1); p.Kind != BNCount && (v[0] != want || v[2] != want) {
			t.Errorf("%s starts as %v", p.Name, v)
		}
	}
}

// TestLossValues compares with the definitions in float64, far into both tails: -x·log(p) - (1-x)·log(1-p), and (mu² + exp(v) - v - 1)/2.
func TestLossValues(t *testing.T) {
	d := []float32{-80, -20, -1, 0, 0.5, 3, 20, 80}
	x := []float32{0.25, 1, 0, 0.5, 1, 0.1, 0, 0.75}
	mu := []float32{0, 1, -2, 0.5, 3, 0, 0, 10}
	v := []float32{0, 0, 0.5, -3, 1, 5, -10, 0}
	for name, be := range backends(t) {
		e, err := model.NewExec(be, model.NewStore(), func(_ *model.Scope, d, x, mu, v *node) []*node { return lossValues(d, x, mu, v) })
		if err != nil {
			t.Fatal(err)
		}
		vector := func(v []float32) *tensors.Tensor { return tensors.FromFlatDataAndDimensions(v, len(v)) }
		out, err := e.Call(vector(d), vector(x), vector(mu), vector(v))
		if err != nil {
			t.Fatal(err)
		}
		for i := range d {
			p, q := math.Log1p(math.Exp(-float64(d[i]))), math.Log1p(math.Exp(float64(d[i]))) // -log(p), -log(1-p)
			m, s := float64(mu[i]), float64(v[i])
			for k, want := range []float64{float64(x[i])*p + (1-float64(x[i]))*q, (m*m + math.Exp(s) - s - 1) / 2} {
				flat, err := tensors.CopyFlatData[float32](out[k])
				if err != nil {
					t.Fatal(err)
				}
				if math.Abs(float64(flat[i])-want) > 1e-6*(1+want) { // a few roundings of float32
					t.Errorf("%s: loss %d at %d is %g, want %g", name, k, i, flat[i], want)
				}
			}
		}
	}
}

// TestBlur: away from the border a blurred constant is itself, at the border it loses the share of the filter that lies outside, and the convolution sees
// the padded, blurred image.
func TestBlur(t *testing.T) {
	const side = 4
	x := make([]float32, side*side)
	for i := range x {
		x[i] = 16
	}
	edge := []float32{0.75, 1, 1, 1, 1} // with one zero after: 3/4 at the first, 3/4 and 1/4 at the last two
	edge[3], edge[4] = 0.75, 0.25
	for name, be := range backends(t) {
		scope := model.NewStore().Scope("/t")
		identity := BlurConv("b", 1, 1, 1)
		if err := Set(scope, identity[1], []float32{1}, false); err != nil {
			t.Fatal(err)
		}
		e, err := model.NewExec(be, scope.Store(), func(_ *model.Scope, x *node) *node { return Net{Scope: scope}.BlurConv(x, "b", 1, 0, 1) })
		if err != nil {
			t.Fatal(err)
		}
		out, err := e.Call1(tensors.FromFlatDataAndDimensions(x, 1, side, side, 1))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tensors.CopyFlatData[float32](out)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != (side+1)*(side+1) {
			t.Fatalf("%s: %d values", name, len(got))
		}
		for i, v := range got {
			if want := 16 * edge[i/(side+1)] * edge[i%(side+1)]; v != want {
				t.Errorf("%s: value %d is %g, want %g", name, i, v, want)
			}
		}
	}
	for i, v := range BlurConv("b", 2, 3, 3)[0].Init(1) {
		if want := [9]float32{1, 2, 1, 2, 4, 2, 1, 2, 1}[i%9] / 16; v != want {
			t.Errorf("filter value %d is %g, want %g", i, v, want)
		}
	}
}

package attacks_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/checkpoints"
	"carsokit/internal/goldentest"
	"carsokit/internal/rng"
)

// defended is golden/carso_e2e: the fixture, its description and its images.
type defended struct {
	*goldentest.Fixture
	Draws   int
	Eps     float64
	Results map[string]attackResult
	b       attacks.Batch
	store   *model.Store
	config  carso.Config
	samples int
	atOnce  int // samples computed at once; 0: all
	random  *recorded
}

// attackResult is the setting of an attack's run.
type attackResult struct {
	APGDSteps int     `json:"n_iter"`
	APGDEoT   int     `json:"eot_iter"`
	Steps     int     `json:"steps"`
	Step      float64 `json:"step_size"`
	EoT       int     `json:"eot"`
}

// stochastic loads the defence of golden/carso_e2e and its images; draw k of every image is the recorded draw k.
func stochastic(t testing.TB) *defended {
	t.Helper()
	d := &defended{Fixture: goldentest.Open(t, "carso_e2e"), store: model.NewStore()}
	var meta struct {
		Config     goldenNet
		Classifier string
		Files      map[string]string
		Samples    int `json:"ensemble_size"`
	}
	d.JSON("meta", &meta)
	d.JSON("meta", d)
	base := meta.Config.wrn()
	_, decoder := d.Floats(meta.Files["decoder"], "1.0.weight")
	d.config = carso.Config{Base: base, Final: base, Taps: meta.Config.Taps, Cond: meta.Config.Cond, Latent: meta.Config.Latent, Channels: decoder[0]}
	d.samples = meta.Samples
	if err := carso.LoadBase(d.store, base, d.File(meta.Classifier)); err != nil {
		t.Fatal(err)
	}
	// The parts lie in several folders: each is loaded under the name that meta.json gives it.
	const stem = "part"
	err := carso.LoadPurifier(d.store, d.config, stem, func(name string) (*checkpoints.File, error) {
		part := strings.TrimSuffix(strings.TrimPrefix(name, stem+"_"), ".safetensors")
		return carso.Folder(d.Dir)(meta.Files[part])
	})
	if err != nil {
		t.Fatal(err)
	}
	flat, shape := d.Floats("io", "z_bank") // [K,B,Latent,N]
	draws, n, latent := shape[0], shape[1], shape[2]*shape[3]
	flat = goldentest.LastTwo(flat, shape)
	starts, _ := noise(d.Fixture, "io")
	d.random = &recorded{startAt: starts, draws: draws}
	for k := range draws * n {
		d.random.noise = append(d.random.noise, flat[k*latent:(k+1)*latent])
	}
	x, shape := d.Images("io", "x")
	d.b = attacks.Batch{H: shape[2], W: shape[3], C: shape[1], X: x, Y: d.Labels("io", "y"), ID: upTo(n)}
	return d
}

// oracle compiles the defence with one aggregation.
func (d *defended) oracle(t testing.TB, output carso.Aggregation) *attacks.Oracle {
	t.Helper()
	c, err := carso.NewDefence(d.store, d.config, d.samples, output)
	if err != nil {
		t.Fatal(err)
	}
	return compiled(t, c, attacks.OracleOptions{Buckets: []int{d.b.Len()}, Random: d.random, Members: d.atOnce})
}

// recorded are start points and noise, [draw*images+image], of the reference's runs.
type recorded struct {
	startAt
	draws int
	noise [][]float32
}

func (r *recorded) Noise(dst []float32, _ rng.Seed, id, draw int) {
	copy(dst, r.noise[draw*len(r.noise)/r.draws+id])
}

var outputs = map[string]carso.Aggregation{"peel": carso.PeelReference, "logit": carso.MeanLogit, "prob": carso.Prob}

// TestGoldenDefence compares the gradient through the whole defence, and attacks that follow it, with the reference's. Its parts share the compiled graphs.
func TestGoldenDefence(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the whole defence")
	}
	d := stochastic(t)
	oracles := map[string]*attacks.Oracle{}
	for name, output := range outputs {
		oracles[name] = d.oracle(t, output)
	}
	t.Run("gradients", func(t *testing.T) { d.in(t).gradients(t, "peel", oracles["peel"]) })
	slow := func(name string, f func(t *testing.T, d *defended)) {
		t.Run(name, func(t *testing.T) {
			goldentest.Slow(t)
			f(t, d.in(t))
		})
	}
	slow("gradients of other aggregations", func(t *testing.T, d *defended) {
		for name, o := range oracles {
			if name != "peel" {
				d.gradients(t, name, o)
			}
		}
	})
	slow("sample by sample", func(t *testing.T, d *defended) {
		d.atOnce = 1
		d.gradients(t, "peel", d.oracle(t, outputs["peel"]))
	})
	slow("single draws", func(t *testing.T, d *defended) { d.singleDraws(t, oracles["peel"]) })
	slow("APGD", func(t *testing.T, d *defended) { d.apgd(t, oracles) })
	slow("PGD+EoT", func(t *testing.T, d *defended) { d.pgdEoT(t, oracles["peel"]) })
}

// in is the same for a subtest.
func (d *defended) in(t testing.TB) *defended {
	sub := *d
	sub.Fixture = d.In(t)
	return &sub
}

// gradients: averaged over draws, with the condition shared.
func (d *defended) gradients(t *testing.T, name string, o *attacks.Oracle) {
	logits, err := o.Logits(context.Background(), d.b, 0, d.Draws)
	if err != nil {
		t.Fatal(err)
	}
	compareFloats(d.Fixture, "io", name+".out_per_draw", logits, goldentest.Abs(1e-3))
	grad := gradient(t, o, attacks.CE, d.b, d.Draws)
	want, _ := d.Images("io", name+".grad_eot")
	d.Compare(name+".grad_eot", grad.G, want, goldentest.RelL2(1e-3))
	ce, _ := d.Floats("io", name+".ce_per_draw")
	d.Compare(name+".ce of the last draw", grad.Loss, ce[(d.Draws-1)*d.b.Len():], goldentest.Abs(1e-3))
	mean := make([]float32, d.b.Len())
	for k, v := range ce {
		mean[k%len(mean)] += v / float32(d.Draws)
	}
	d.Compare(name+".ce, mean", grad.MeanLoss, mean, goldentest.Abs(1e-3))
}

// singleDraws: each draw is asked for as if it were the only one, so the condition is not shared.
func (d *defended) singleDraws(t *testing.T, o *attacks.Oracle) {
	want, shape := d.Images("io", "peel.grad_per_draw") // [K, images, ...]
	all := *d.random
	defer func() { *d.random = all }()
	var got []float32
	for k := range shape[0] {
		n := len(all.noise) / all.draws
		*d.random = recorded{startAt: all.startAt, draws: 1, noise: all.noise[k*n : (k+1)*n]}
		got = append(got, gradient(t, o, attacks.CE, d.b.Pick(upTo(shape[1])), 1).G...)
	}
	d.Compare("peel.grad_per_draw", got, want, goldentest.RelL2(1e-3))
}

// nudged changes a fifth of the pixels by one unit in the last place, another fifth each time. 0 changes nothing.
func nudged(b attacks.Batch, trial int) attacks.Batch {
	b.X = slices.Clone(b.X)
	for k := range b.X {
		if trial > 0 && (k+trial)%5 == 0 {
			b.X[k] = math.Nextafter32(b.X[k], 0.5)
		}
	}
	return b
}

// follow runs an attack from the clean pixels, and again from nudged ones for the images on which it parted from the reference. The paths of some images
// pass so near a kink of a LeakyReLU that the last digit of a pixel decides on which side they go on; between two float32 programs, or two machines, it
// is chance. What no reference could tell apart may not fail here; a wrong step would part all images on every path. run tells which of its images part.
func (d *defended) follow(t *testing.T, name string, run func(b attacks.Batch) (parted []bool)) {
	const trials = 6
	apart := upTo(d.b.Len())
	for trial := range trials {
		if len(apart) == 0 {
			break
		}
		var still []int
		for k, parted := range run(nudged(d.b.Pick(apart), trial)) {
			if parted {
				still = append(still, apart[k])
			}
		}
		if trial == 0 {
			d.Count(name+": images parting at a kink", len(still), d.b.Len(), d.b.Len()/2)
		}
		apart = still
	}
	d.Count(name+": images that follow from no start", len(apart), d.b.Len(), 0)
}

func (d *defended) apgd(t *testing.T, oracles map[string]*attacks.Oracle) {
	for _, name := range members(d.Fixture, "io", ".x_best") {
		part := strings.Split(name, "_")
		if len(part) != 3 {
			t.Fatalf("%s: want apgd_<aggregation>_<loss>", name)
		}
		set := d.Results[name]
		a := attacks.APGD{Eps: d.Eps, Loss: attacks.Loss(part[2]), Steps: set.APGDSteps, EoT: set.APGDEoT, Restarts: 1, Rho: 0.75}
		losses, _ := d.Floats("io", name+".loss_best")
		stay, _ := d.Ints("io", name+".correct")
		got, flag := make([]float32, len(losses)), make([]bool, len(losses))
		d.follow(t, name, func(b attacks.Batch) []bool {
			r, err := a.Ascend(context.Background(), oracles[part[1]], b, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			parted := make([]bool, b.Len())
			for k, i := range b.ID {
				got[i], flag[i] = r.BestLoss[k], r.Correct[k]
				parted[k] = !(math.Abs(float64(got[i]-losses[i])) <= 1e-2) || flag[i] != (stay[i] == 1)
			}
			return parted
		})
		d.Compare(name+".loss_best", got, losses, goldentest.Abs(1e-2))
		d.Count(name+".correct", flags(flag, stay), len(stay), 0)
	}
}

// pgdEoT also shows, of an image that parts, where and why: two paths that start one unit in the last place apart have the same iterates and gradients to
// float32's precision up to the step at which their gradients differ by the jump of a kink.
func (d *defended) pgdEoT(t *testing.T, o *attacks.Oracle) {
	set, n := d.Results["pgdeot"], d.b.Dim()
	a := attacks.PGDEoT{Eps: d.Eps, Step: set.Step, Steps: set.Steps, EoT: set.EoT}
	want, _ := d.Images("io", "pgdeot.x_adv")
	ce, _ := d.Floats("io", "pgdeot.ce_per_draw")
	losses := ce[(d.Draws-1)*d.b.Len():]
	got, loss := make([]float32, len(want)), make([]float32, len(losses))
	paths := map[int][][][]float32{} // image -> path -> step -> gradient
	d.follow(t, "pgdeot", func(b attacks.Batch) []bool {
		var steps [][]float32
		r, err := a.Run(context.Background(), o.Observed(func(_ []int, g *attacks.Grad) { steps = append(steps, g.G) }), b, 0)
		if err != nil {
			t.Fatal(err)
		}
		end := gradient(t, o, attacks.CE, attacked(b, r.Adv), set.EoT)
		parted := make([]bool, b.Len())
		for k, i := range b.ID {
			copy(got[i*n:(i+1)*n], r.Adv[k*n:])
			loss[i] = end.Loss[k]
			// Half a percent of the pixels may take another sign once, as for PGD.
			parted[k] = differing(got[i*n:(i+1)*n], want[i*n:(i+1)*n]) > n/200
			var path [][]float32
			for _, g := range steps {
				path = append(path, g[k*n:(k+1)*n])
			}
			paths[i] = append(paths[i], path)
		}
		return parted
	})
	d.Count("pgdeot.x_adv, pixels", differing(got, want), len(want), len(want)/200)
	d.Compare("pgdeot.ce of the last draw", loss, losses, goldentest.Abs(1e-2))
	for i, path := range paths {
		if len(path) == 1 {
			continue
		}
		first, last := path[0], path[len(path)-1]
		line, explained, open := "", false, true
		for step := range first {
			apart, signs, largest, crossing := relL2(first[step], last[step]), 0, 0.0, 0.0
			for k, g := range first[step] {
				h := last[step][k]
				largest = max(largest, math.Abs(float64(g)))
				if (g > 0) != (h > 0) {
					signs++
					crossing = max(crossing, math.Abs(float64(g)), math.Abs(float64(h)))
				}
			}
			line += fmt.Sprintf("  %d: %.1e, %d", step, apart, signs)
			// Where no sign has differed before, the iterates are the same but for the nudge. The gradients of a smooth function would be so too: signs differ only where
			// an entry is 0 to float32's precision, or by the jump of a kink.
			if open && signs > 0 {
				open, explained = false, apart > 1e-4 || crossing < 1e-5*largest
			}
		}
		t.Logf("image %d, path that parts beside the one that follows; step: relative distance of the gradients, signs that differ:%s", i, line)
		d.Same(fmt.Sprintf("pgdeot, image %d parts by a jump of the gradient", i), explained, line)
	}
}

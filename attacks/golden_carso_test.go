package attacks_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/ml/model"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/checkpoints"
	"carsokit/internal/rng"
	"carsokit/models"
)

// stochastic loads the defence of golden/carso_e2e with an aggregation, and its images; draw k of every image is the recorded draw k.
func stochastic(t testing.TB, output carso.Aggregation, eot int) (golden, *attacks.Oracle, attacks.Batch) {
	g := goldenDir(t, "carso_e2e")
	open := func(path string) *checkpoints.File {
		f, err := checkpoints.Open(filepath.Join(g.dir, path))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	base := models.CIFAR10WRN(10, 1)
	c := carso.Config{Base: base, Final: base, Cond: 12, Latent: 8, Channels: 256}
	store := model.NewStore()
	if err := carso.LoadBase(store, base, open("../attacks/weights.safetensors")); err != nil {
		t.Fatal(err)
	}
	// The decoder is that of another folder.
	err := carso.LoadPurifier(store, c, "wrn_10_1_cifar_10_cui_2023", func(name string) (*checkpoints.File, error) {
		if strings.HasSuffix(name, "_decoder.safetensors") {
			name = "../purifier_cifar/wrn_28_1_cifar_10_cui_2023_decoder.safetensors"
		}
		return checkpoints.Open(filepath.Join(g.dir, name))
	})
	if err != nil {
		t.Fatal(err)
	}
	z := g.tensor("io", "z_bank") // [K,B,Latent,N]
	draws, n, latent, samples := z.Shape[0], z.Shape[1], z.Shape[2], z.Shape[3]
	if draws != eot {
		t.Fatalf("%d recorded draws, want %d", draws, eot)
	}
	d, err := carso.NewDefence(store, c, samples, output)
	if err != nil {
		t.Fatal(err)
	}
	flat := g.floats("io", "z_bank")
	r := recorded{startAt: startAt{directions: nhwc(g.ints("io", "noise_i8"), 32, 32, 3, func(v int64) float32 { return float32(v) / 127 })}}
	for k := range draws {
		var images [][]float32
		for i := range n {
			noise := make([]float32, samples*latent)
			for l := range latent {
				for s := range samples {
					noise[s*latent+l] = flat[((k*n+i)*latent+l)*samples+s]
				}
			}
			images = append(images, noise)
		}
		r.noise = append(r.noise, images)
	}
	b := attacks.Batch{H: 32, W: 32, C: 3, X: nhwc(g.floats("io", "x"), 32, 32, 3, same)}
	for i, y := range g.ints("io", "y") {
		b.Y, b.ID = append(b.Y, int32(y)), append(b.ID, i)
	}
	return g, oracle(t, d, attacks.OracleOptions{Buckets: []int{6}, Random: r}), b
}

// recorded are start points and noise [draw][image] of the reference's runs.
type recorded struct {
	startAt
	noise [][][]float32
}

func (r recorded) Noise(dst []float32, _ rng.Seed, id, draw int) { copy(dst, r.noise[draw][id]) }

var outputs = map[string]carso.Aggregation{"peel": carso.PeelReference, "logit": carso.MeanLogit, "prob": carso.Prob}

const eot = 4

// The gradient averaged over draws of the whole chain, with the condition shared, is the reference's.
func TestGoldenEoTGradient(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the whole defence")
	}
	for name, output := range outputs {
		g, o, b := stochastic(t, output, eot)
		ctx := context.Background()
		logits, err := o.Logits(ctx, b, 0, eot)
		if err != nil {
			t.Fatal(err)
		}
		near(t, name+" logits of each draw", logits, g.floats("io", name+".out_per_draw"), 1e-3, 0)
		grad := gradient(t, o, attacks.CE, b, eot)
		if d := relL2(grad.G, nhwc(g.floats("io", name+".grad_eot"), 32, 32, 3, same)); !(d <= 1e-3) {
			t.Errorf("%s: the gradient is %.3g of its length away", name, d)
		}
		ce := g.floats("io", name+".ce_per_draw")
		near(t, name+" loss of the last draw", grad.Loss, ce[(eot-1)*b.Len():], 1e-3, 0)
		mean := make([]float32, b.Len())
		for k, v := range ce {
			mean[k%b.Len()] += v / eot
		}
		near(t, name+" mean loss", grad.MeanLoss, mean, 1e-3, 0)
	}
}

func TestGoldenStochasticAPGD(t *testing.T) {
	if testing.Short() {
		t.Skip("three runs of 21 evaluations of 4 draws")
	}
	for _, c := range []struct {
		output string
		loss   attacks.Loss
	}{{"peel", attacks.CE}, {"peel", attacks.DLR}, {"logit", attacks.CE}} {
		name := fmt.Sprintf("apgd_%s_%s.", c.output, c.loss)
		g, o, b := stochastic(t, outputs[c.output], eot)
		r, err := attacks.APGD{Eps: 8.0 / 255, Loss: c.loss, Steps: 20, EoT: eot, Restarts: 1, Rho: 0.75}.Ascend(context.Background(), o, b, 0)
		if err != nil {
			t.Fatal(err)
		}
		near(t, name+"loss_best", r.BestLoss, g.floats("io", name+"loss_best"), 1e-2, 0)
		if n := flags(r.Correct, g.ints("io", name+"correct")); n != 0 {
			t.Errorf("%scorrect: %d flags differ", name, n)
		}
		t.Logf("%sx_best: %.2g of the pixels differ", name, differing(r.Best, nhwc(g.floats("io", name+"x_best"), 32, 32, 3, same)))
	}
}

// The paths of some images part at a kink of a LeakyReLU when a pixel changes in its last digit: between two float32 programs they agree or
// differ in up to a tenth of the pixels, by chance. So every image must follow the reference from its clean pixels, or else from
// pixels changed by one unit in the last place, which no reference could tell apart; a wrong step would part all images on every path.
func TestGoldenPGDEoT(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the whole defence")
	}
	g, o, b := stochastic(t, carso.PeelReference, eot)
	a := attacks.PaperPGDEoT(8.0 / 255)
	a.Steps, a.EoT = 10, eot
	want, d := nhwc(g.floats("io", "pgdeot.x_adv"), 32, 32, 3, same), b.Dim()
	losses := g.floats("io", "pgdeot.ce_per_draw")[(eot-1)*b.Len():]
	apart := upTo(b.Len())
	for trial := 0; trial < 6 && len(apart) > 0; trial++ {
		start := b.Pick(apart)
		for k := range start.X {
			if trial > 0 && (k+trial)%5 == 0 {
				start.X[k] = math.Nextafter32(start.X[k], 0.5)
			}
		}
		r, err := a.Run(context.Background(), o, start, 0)
		if err != nil {
			t.Fatal(err)
		}
		start.X = r.Adv
		grad := gradient(t, o, attacks.CE, start, eot)
		var still []int
		for k, i := range apart {
			// Half a percent of the pixels may take another sign once, as for PGD.
			share := differing(r.Adv[k*d:(k+1)*d], want[i*d:(i+1)*d])
			if share > 5e-3 {
				still = append(still, i)
				t.Logf("start %d, image %d: %.2g of the pixels differ", trial, i, share)
			} else {
				near(t, fmt.Sprintf("loss of the last draw of image %d", i), grad.Loss[k:k+1], losses[i:i+1], 1e-2, 0)
			}
		}
		if trial == 0 && 2*len(still) > b.Len() {
			t.Errorf("%d of %d images part from the reference at once", len(still), b.Len())
		}
		apart = still
	}
	if len(apart) > 0 {
		t.Errorf("images %v follow the reference from no start", apart)
	}
}

func upTo(n int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return at
}

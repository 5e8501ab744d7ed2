package carso

import (
	"math"
	"testing"

	"carsokit/data"
	"carsokit/internal/goldentest"
	"carsokit/internal/optim"
	"carsokit/internal/rng"
	"carsokit/models"

	"path/filepath"

	"carsokit/checkpoints"
)

// TestManifestTraining: the paper's recipes are those that the reference's scripts launch.
func TestManifestTraining(t *testing.T) {
	f := goldentest.Open(t, "manifests")
	for _, id := range []string{"a", "b", "c"} {
		var m struct {
			Training struct {
				Epochs    int
				Total     int     `json:"batchsize_in_launch_script_all_processes"`
				Processes int     `json:"processes_in_launch_script"`
				Fraction  float64 `json:"adversarial_fraction"`
				Lookahead int     `json:"lah_steps"`
				First     float64 `json:"init_lr"`
				Peak      float64 `json:"base_lr_per_batch_element"`
				Final     float64 `json:"final_lr_per_batch_element"`
			}
		}
		f.JSON("scenario_"+id, &m)
		s, err := FindScenario(id, ScalePaper)
		if err != nil {
			t.Fatal(err)
		}
		r, err := PaperRecipe(s)
		if err == nil {
			err = r.Validate()
		}
		if err != nil {
			t.Fatal(err)
		}
		w := m.Training
		f.Same("scenario_"+id+": recipe", r.Epochs == w.Epochs && r.total() == w.Total && r.Processes == w.Processes && r.Fraction == w.Fraction &&
			optim.Reference.Every == w.Lookahead, describe(r))
		b := float64(r.Batch)
		up := r.Epochs / 8
		goldentest.Compare(f, "scenario_"+id+": rates", []float64{LearningRate(0, r.Epochs, r.Batch), LearningRate(up, r.Epochs, r.Batch), LearningRate(r.Epochs, r.Epochs, r.Batch)},
			[]float64{w.First, w.Peak * b, w.Final * b}, goldentest.Rel(1e-9))
	}
}

// TestGoldenStrengths: the eps of the training adversaries with the multiplier of each data set are those that the reference really uses.
func TestGoldenStrengths(t *testing.T) {
	f := goldentest.Open(t, "attacks")
	var m struct {
		Adversaries struct {
			Steps     int                           `json:"pgd_steps"`
			Step      float64                       `json:"pgd_step_size"`
			Strengths map[string]map[string]float64 `json:"strengths"`
		} `json:"training_adversaries"`
	}
	f.JSON("meta", &m)
	for id, key := range map[string]string{"a": "cifarnorm10", "b": "cifarnorm100", "c": "tinyimagenetnorm"} {
		s, err := FindScenario(id, ScalePaper)
		if err != nil {
			t.Fatal(err)
		}
		r, err := PaperRecipe(s)
		if err != nil {
			t.Fatal(err)
		}
		want := m.Adversaries.Strengths[key]
		// Our standard deviations are float32, which the reference writes in double: 6e-8 of each.
		goldentest.Compare(f, "training eps, "+key, []float64{r.WeakEps * r.EpsMultiplier, r.StrongEps * r.EpsMultiplier}, []float64{want["w"], want["s"]}, goldentest.Rel(1e-6))
		f.Same("training PGD, "+key, r.PGDSteps == m.Adversaries.Steps && r.PGDStep == m.Adversaries.Step, "")
	}
}

// TestBatchComposition: of each process's share of a batch the first images stay clean and the last 4·floor(n·phi/4) are attacked, in the order weak and strong
// PGD, weak and strong FGSM, each at its own bound times the multiplier, with pixels in [0,1].
func TestBatchComposition(t *testing.T) {
	const n, processes, side = 10, 2, 32
	base := models.CIFAR10WRN(10, 1)
	set, file := noise(t, base, 40)
	r, err := SmallRecipe("cifar10", "tiny", base)
	if err != nil {
		t.Fatal(err)
	}
	r.Batch, r.Processes, r.Fraction, r.HeldOut = n, processes, 0.85, 0 // 10·0.85/4 is 2.1: two images each
	tr, err := NewTrainer(goldentest.Backend(t), r, set, file, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if tr.loader.Batch != n*processes || r.atom() != 2 {
		t.Fatalf("a batch of %d images with %d for each adversary", tr.loader.Batch, r.atom())
	}
	x, y := make([]float32, n*processes*side*side*3), make([]int32, n*processes)
	if err := tr.loader.Fill(0, 0, x, y); err != nil {
		t.Fatal(err)
	}
	got, err := tr.attack(t.Context(), x, y)
	if err != nil {
		t.Fatal(err)
	}
	weak, strong := r.WeakEps*r.EpsMultiplier, r.StrongEps*r.EpsMultiplier
	bounds := [n]float64{0, 0, weak, weak, strong, strong, weak, weak, strong, strong}
	size := side * side * 3
	for i := range n * processes {
		most, full, free := 0.0, 0, 0
		eps := bounds[i%n]
		for k := i * size; k < (i+1)*size; k++ {
			d := math.Abs(float64(got[k]) - float64(x[k]))
			most = max(most, d)
			if got[k] < 0 || got[k] > 1 {
				t.Fatalf("image %d has a pixel of %g", i, got[k])
			}
			if p := float64(x[k]); p > eps && p < 1-eps {
				free++
				if math.Abs(d-eps) < 1e-6 {
					full++
				}
			}
		}
		fgsm := i%n >= 6
		switch {
		case eps == 0 && most != 0:
			t.Errorf("clean image %d was moved by %g", i, most)
		case eps > 0 && math.Abs(most-eps) > 1e-6:
			t.Errorf("image %d was moved by %g, its bound is %g", i, most, eps)
		case fgsm && float64(full) < 0.99*float64(free): // a pixel may have a gradient of exactly zero
			t.Errorf("FGSM moved %d of %d free pixels of image %d by its eps", full, free, i)
		case eps > 0 && !fgsm && full == free:
			t.Errorf("PGD moved every pixel of image %d by its whole bound", i)
		}
	}
}

// noise returns n images of noise and the file of an untrained classifier.
func noise(t *testing.T, net models.WRN, n int) (*data.Set, *checkpoints.File) {
	t.Helper()
	set := &data.Set{Name: "noise", Split: "train", Classes: make([]string, net.Classes), H: net.Size, W: net.Size,
		Pixels: make([]byte, n*net.Size*net.Size*3), Labels: make([]int32, n), Digest: "none"}
	source := rng.Seed(8).Rand()
	for i := range set.Pixels {
		set.Pixels[i] = byte(source.IntN(256))
	}
	for i := range set.Labels {
		set.Labels[i] = int32(i % net.Classes)
	}
	var ts []checkpoints.Tensor
	for _, p := range net.Params() {
		ts = append(ts, checkpoints.F32(p.Name, p.Shape, p.Init(4)))
	}
	path := filepath.Join(t.TempDir(), "f.safetensors")
	if err := checkpoints.Write(path, ts, nil); err != nil {
		t.Fatal(err)
	}
	file, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return set, file
}

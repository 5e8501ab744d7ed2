package carso

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/checkpoints"
	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
	"carsokit/models"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

func shipped(name string) (*checkpoints.File, error) {
	return checkpoints.Shipped(strings.TrimSuffix(name, ".safetensors"))
}

// copyParts writes the purifier's files of a scenario into a folder, as they are or, like the authors', without metadata.
func copyParts(t *testing.T, s Scenario, dir string, bare bool) {
	t.Helper()
	for _, part := range []string{"repr_compressors", "repr_fcn_compressor", "decoder"} {
		f, err := shipped(PartFile(s.Stem, part))
		if err != nil {
			t.Fatal(err)
		}
		var ts []checkpoints.Tensor
		for x, err := range f.All() {
			if err != nil {
				t.Fatal(err)
			}
			ts = append(ts, x)
		}
		meta := f.Meta
		if bare {
			meta = nil
		}
		if err := errors.Join(checkpoints.Write(filepath.Join(dir, PartFile(s.Stem, part)), ts, meta), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpenDefenceFromShapes: purifier files without metadata, like the authors', open to the same configuration as those that carry it.
func TestOpenDefenceFromShapes(t *testing.T) {
	s, err := FindScenario("a", "small")
	if err != nil {
		t.Fatal(err)
	}
	want, err := OpenDefence(s, shipped, 2, LogSum)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	copyParts(t, s, dir, true)
	open := func(name string) (*checkpoints.File, error) {
		if name == s.Classifier {
			return shipped(name)
		}
		return Folder(dir)(name)
	}
	got, err := OpenDefence(s, open, 2, LogSum)
	if err != nil {
		t.Fatal(err)
	}
	if describe(got.Config) != describe(want.Config) {
		t.Errorf("from the shapes: %s, from the metadata %s", describe(got.Config), describe(want.Config))
	}
}

// TestFinalClassifier: with a final classifier of its own, a defence classifies its reconstructions by that one and still conditions on the other.
func TestFinalClassifier(t *testing.T) {
	s, err := FindScenario("a", "small")
	if err != nil {
		t.Fatal(err)
	}
	s.Final = s.Plain
	d, err := OpenDefence(s, shipped, 1, MeanLogit)
	if err != nil {
		t.Fatal(err)
	}
	if d.Final == d.Base {
		t.Fatalf("both classifiers are %v", d.Base)
	}
	f, err := shipped(s.Plain)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := OpenClassifier(d.Store(), "/plain", f, s.Plain)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	e, err := model.NewExec(goldentest.Backend(t), d.Store(), func(scope *model.Scope, x, z *node) []*node { return finalGraph(d, plain, scope, x, z) })
	if err != nil {
		t.Fatal(err)
	}
	x, z := make([]float32, 32*32*3), make([]float32, d.Latent)
	for i := range x {
		x[i] = float32(i%7) / 7
	}
	out, err := e.Call(tensors.FromFlatDataAndDimensions(x, 1, 32, 32, 3), tensors.FromFlatDataAndDimensions(z, 1, 1, d.Latent))
	if err != nil {
		t.Fatal(err)
	}
	got, want := goldentest.Copy(t, out[0]), goldentest.Copy(t, out[1])
	for i := range want { // one graph twice: only the order of sums may differ
		if math.Abs(float64(got[i]-want[i])) > 1e-4 {
			t.Errorf("logit %d is %g, the plain classifier's %g", i, got[i], want[i])
		}
	}
}

// TestMissingWeights: a missing file is named, with the command that brings it or with why there is none.
func TestMissingWeights(t *testing.T) {
	for id, say := range map[string][]string{
		"a":     {"wrn_28_10_cifar_10_cui_2023_decoder.safetensors", "carso checkpoint get wrn_28_10_cifar_10_cui_2023_decoder"},
		"c":     {"wrn_28_10_tinyimagenet_200_wang_2023_decoder.safetensors", "carso checkpoint get"},
		"b_ter": {"nobody publishes", "cifar100_linf_wrn28-10_cutmix_ddpm.safetensors"},
	} {
		s, err := FindScenario(id, ScalePaper)
		if err != nil {
			t.Fatal(err)
		}
		_, err = OpenDefence(s, Folder(t.TempDir()), 8, PeelReference)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v is no missing file", id, err)
		}
		for _, text := range say {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not say %q", id, err, text)
			}
		}
	}
	if _, err := Folder(t.TempDir()).Open("cifar10_a3_b10_t4_20m_w.safetensors"); err == nil || !strings.Contains(err.Error(), "carso checkpoint get cifar10_a3_b10_t4_20m_w`") {
		t.Errorf("a missing classifier: %v", err)
	}
	for file, say := range map[string]string{
		"wrn_10_2_cifar_100_small.safetensors":                             "carso train classifier -scenario b",
		"wrn_10_1_cifar_100_plain.safetensors":                             "carso train classifier -scenario b -plain",
		PartFile("wrn_10_2_tinyimagenet_200_small", "repr_fcn_compressor"): "carso train purifier -scenario c",
	} {
		if _, err := Folder(t.TempDir()).Open(file); err == nil || !strings.Contains(err.Error(), say+"`") {
			t.Errorf("missing small weights: %v does not say %q", err, say)
		}
	}
	if _, err := FindScenario("z", ScalePaper); err == nil || !strings.Contains(err.Error(), "a_quinquies") {
		t.Errorf("a scenario that does not exist: %v", err)
	}
}

// TestSmallScenarios: every data set has a recipe that fits its classifier, at each scale; those that ship were trained by it, and all files of the small scale
// together, in float16, stay within the 8 MiB that the program may carry.
func TestSmallScenarios(t *testing.T) {
	numbers := map[string]int{} // by file
	count := func(file string, ps []nn.Param) {
		numbers[file] = 0
		for _, p := range ps {
			numbers[file] += p.Size()
		}
	}
	for _, s := range Scenarios() {
		for _, scale := range []string{"tiny", "small"} {
			net, err := s.ClassifierRecipe(scale, s.Classifier == s.Plain)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.SmallRecipe(scale, net.Net)
			if err == nil {
				err = r.Validate()
			}
			if err != nil {
				t.Fatal(err)
			}
			if scale == "tiny" || s.Own != "" || s.Classifier == s.Plain || s.Wide { // of which no purifier ships
				continue
			}
			count(s.Classifier, net.Net.Params())
			for _, p := range r.Config.Parts() {
				if !p.TrainOnly {
					count(PartFile(s.Stem, p.Name), p.Params)
				}
			}
			if f, err := shipped(PartFile(s.Stem, "decoder")); err == nil {
				var trained trainState
				if err := json.Unmarshal([]byte(f.Meta["training"]), &trained); err != nil || describe(trained.Recipe) != describe(r) {
					t.Errorf("%s was trained by %s, the recipe is %s (%v)", s.Stem, describe(trained.Recipe), describe(r), err)
				}
				f.Close()
			}
		}
		plain, err := models.SmallRecipe(s.Dataset, "small", true)
		if err != nil {
			t.Fatal(err)
		}
		count(s.Plain, plain.Net.Params())
	}
	total := 0
	for file, n := range numbers {
		t.Logf("%-70s %7d numbers, %.2f MiB", file, n, float64(2*n)/(1<<20))
		total += 2 * n
	}
	if total > 8<<20*98/100 { // names, shapes and recipes take the rest
		t.Errorf("%d bytes of numbers", total)
	}
	if _, err := SmallRecipe("mnist", "small", models.CIFAR10WRN(10, 1)); err == nil || !strings.Contains(err.Error(), "mnist") {
		t.Error(err)
	}
	c := Config{Base: models.TinyImageNetWRN(10, 1), Cond: 8, Latent: 4, Channels: 8}
	c.Base.Stride = 2
	c.Final = c.Base
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "leave it out") {
		t.Errorf("a representation that is too small for its compressor: %v", err)
	}
}

// TestForeignClassifier: a purifier refuses a classifier that it was not trained around, and weights of another network by their shapes.
func TestForeignClassifier(t *testing.T) {
	s, err := FindScenario("a", "small")
	if err != nil {
		t.Fatal(err)
	}
	s.Classifier = s.Plain
	if _, err := OpenDefence(s, shipped, 1, LogSum); err == nil || !strings.Contains(err.Error(), "belong together") {
		t.Errorf("another classifier: %v", err)
	}
	paper, err := FindScenario("a", ScalePaper)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stem := s.Stem
	copyParts(t, s, dir, true)
	small, err := shipped("wrn_10_2_cifar_10_small.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) (*checkpoints.File, error) {
		if name == paper.Classifier {
			return small, nil
		}
		return Folder(dir)(strings.Replace(name, paper.Stem, stem, 1))
	}
	delete(small.Meta, "config") // so that the name decides: WRN-28-10
	if _, err := OpenDefence(paper, open, 1, LogSum); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a small net under a published name: %v", err)
	}
}

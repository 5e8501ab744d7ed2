package main

import (
	"math"
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/models"
)

// TestRecipes: the scale chooses between the kit's recipes and the reference's, and the named settings act on them.
func TestRecipes(t *testing.T) {
	find := func(id, scale string) carso.Scenario {
		s, err := carso.FindScenario(id, scale)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	net := models.CIFAR10WRN(10, 1)
	small, err := purifierRecipe(trainFlags{scale: "small", epsMultiplier: -1}, find("a", "small"), net)
	if err != nil || small.Processes != 0 || small.Config.Cond == 512 {
		t.Errorf("small: %+v, %v", small, err)
	}
	paper, err := purifierRecipe(trainFlags{scale: carso.ScalePaper, epsMultiplier: -1}, find("a", carso.ScalePaper), net)
	if err != nil || paper.Batch*paper.Processes != 5120 || paper.Config.Cond != 512 || paper.Config.Base != net || math.Abs(paper.EpsMultiplier-3/0.7522) > 1e-6 {
		t.Errorf("paper: %+v, %v", paper, err)
	}
	stated, err := purifierRecipe(trainFlags{scale: carso.ScalePaper, epsMultiplier: 1}, find("b", carso.ScalePaper), net)
	if err != nil || stated.EpsMultiplier != 1 || stated.Fraction != 0.15 {
		t.Errorf("paper, eps as stated: %+v, %v", stated, err)
	}
	plain, err := classifierRecipe(trainFlags{scale: carso.ScalePaper, plain: true, frozenBN: true}, find("b", carso.ScalePaper))
	if err != nil || !plain.FrozenBN || !plain.Net.BlurPool || plain.Net.Classes != 100 || plain.Validate() != nil {
		t.Errorf("plain: %+v, %v", plain, err)
	}
	for id, f := range map[string]trainFlags{"a": {scale: carso.ScalePaper}, "c": {scale: carso.ScalePaper, plain: true}} {
		if _, err := classifierRecipe(f, find(id, carso.ScalePaper)); err == nil || !strings.Contains(err.Error(), "carso checkpoint get") {
			t.Errorf("a recipe that nobody specifies, scenario %s: %v", id, err)
		}
	}
	pgd, err := classifierRecipe(trainFlags{scale: "small", ablation: "pgd"}, find("a", "small"))
	if err != nil || pgd.Steps != 5 || pgd.Epochs != 1 {
		t.Errorf("ablation pgd: %+v, %v", pgd, err)
	}
	for want, f := range map[string]trainFlags{
		"there are short": {scale: "small", ablation: "longer"},
		"a whole recipe":  {scale: "small", ablation: "pgd", method: "trades"},
		"-scale small":    {scale: carso.ScalePaper, ablation: "pgd"},
	} {
		if _, err := classifierRecipe(f, find("a", f.scale)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
}

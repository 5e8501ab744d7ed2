package main

import (
	"fmt"
	"slices"
	"strings"

	"carsokit/carso"
	"carsokit/checkpoints"
	"carsokit/models"
)

// weights says what a weight file must hold by its name: the network and the normalisation of a published classifier, or a part of a purifier. f, where it is
// not nil, decides whether there is BlurPool, which the name leaves open. ok is false for other names.
func weights(name string, f *checkpoints.File) (c checkpoints.Conversion, ok bool, err error) {
	if r, err := models.FindReference(name); err == nil {
		if f != nil {
			for _, s := range f.Specs() {
				r.Net.BlurPool = r.Net.BlurPool || strings.HasSuffix(s.Name, ".blur_filter")
			}
		}
		return checkpoints.Conversion{Want: models.Specs(r.Net.Params()),
			Constants: map[string][]float32{"mean": r.Net.Mean[:], "std": r.Net.Std[:]}}, true, nil
	}
	for _, s := range carso.PaperScenarios() {
		part, found := strings.CutPrefix(checkpoints.Stem(name), s.Stem+"_")
		if !found {
			continue
		}
		base, err := models.FindReference(s.Classifier)
		if err != nil {
			return c, false, err
		}
		// The reference has these sizes in all its scenarios (spec: architecture 1).
		cfg := carso.Config{Base: base.Net, Final: base.Net, Cond: 512, Latent: 128, Channels: 256}
		if base.Net.Size == 64 {
			cfg.Cond, cfg.Latent = 768, 192
		}
		i := slices.IndexFunc(cfg.Parts(), func(p carso.Part) bool { return p.Name == part && !p.TrainOnly })
		if i < 0 {
			continue
		}
		return checkpoints.Conversion{Want: models.Specs(cfg.Parts()[i].Params)}, true, nil
	}
	return c, false, nil
}

// uses lists the scenarios of the paper that a weight file belongs to.
func uses(name string) string {
	var ids []string
	for _, s := range carso.PaperScenarios() {
		if file := checkpoints.Stem(name) + ".safetensors"; file == s.Classifier || file == s.Final || strings.HasPrefix(file, s.Stem+"_") {
			ids = append(ids, s.ID)
		}
	}
	return strings.Join(ids, " ")
}

// megabytes prints a size; 0 is unknown.
func megabytes(n int64) string {
	if n == 0 {
		return "size unknown"
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

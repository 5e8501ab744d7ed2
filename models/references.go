package models

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"carsokit/checkpoints"
)

// Reference is a published classifier that the paper conditions a purifier on or classifies reconstructions with (spec: architecture 2).
type Reference struct {
	Name    string // the authors' identifier, "cui_2023"; one name may stand for a file per data set
	File    string // their weight file, without folder and ending
	Dataset string // as package data names it
	Net     WRN
}

// References lists the published classifiers. They differ in weights, data set and the momentum of BatchNorm, which evaluation does not use.
// own_2025 is trained with BlurPool by the authors' script and loaded without it by all their others; ConfigOf decides by what a file holds.
func References() []Reference {
	momentum := func(w WRN, m float64) WRN { w.BNMomentum = m; return w }
	c10, c100, tiny := CIFAR10WRN(28, 10), CIFAR100WRN(28, 10), TinyImageNetWRN(28, 10)
	return []Reference{
		{"cui_2023", "cifar10_a3_b10_t4_20m_w", "cifar10", momentum(c10, 0.01)},
		{"own_2025", "WRN_28_10_cifar10_09428", "cifar10", c10},
		{"rebuffi_2021", "cifar10_linf_wrn28-10_cutmix_ddpm_v2", "cifar10", c10},
		{"gowal_2020", "cifar10_linf_wrn28-10_with", "cifar10", c10},
		{"cui_2023", "cifar100_a5_b12_t4_50m_w", "cifar100", momentum(c100, 0.01)},
		{"own_2025", "WRN_28_10_cifar100_07476", "cifar100", c100},
		{"rebuffi_2021", "cifar100_linf_wrn28-10_cutmix_ddpm", "cifar100", c100},
		{"wang_2023", "tiny_linf_wrn28_10_w", "tinyimagenet", momentum(tiny, 0.01)},
	}
}

// FindReference returns the published classifier whose weights a file holds, by its name: with or without folders and an ending.
func FindReference(file string) (Reference, error) {
	stem := stemOf(file)
	var names []string
	for _, r := range References() {
		if r.File == stem {
			return r, nil
		}
		names = append(names, r.File)
	}
	return Reference{}, fmt.Errorf("%s is not the file of a published classifier; there are %s", file, strings.Join(names, ", "))
}

// stemOf removes folders and the ending of a weight file. Other dots belong to the name.
func stemOf(file string) string {
	name := path.Base(filepath.ToSlash(file))
	for _, ending := range []string{".safetensors", ".pth", ".pt"} {
		if stem, ok := strings.CutSuffix(name, ending); ok {
			return stem
		}
	}
	return name
}

// ConfigOf returns the network of a classifier's weight file: what the file says in its metadata, as files of this kit do, or, for the authors' files, which say
// nothing, what is published under the file's name. BlurPool is then decided by the tensors.
func ConfigOf(f *checkpoints.File, file string) (WRN, error) {
	text, ok := f.Meta["config"]
	if !ok {
		r, err := FindReference(file)
		if err != nil {
			return WRN{}, fmt.Errorf("%s has no \"config\" in its metadata, where files of this kit keep their network, and its name is not a published classifier's: "+
				"keep the authors' file name, or export it with carso", file)
		}
		for _, s := range f.Specs() {
			r.Net.BlurPool = r.Net.BlurPool || strings.HasSuffix(s.Name, ".blur_filter")
		}
		return r.Net, nil
	}
	var w WRN
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return WRN{}, fmt.Errorf("the metadata of %s, \"config\": %w", file, err)
	}
	if err := w.Validate(); err != nil {
		return WRN{}, fmt.Errorf("the metadata of %s: %w", file, err)
	}
	return w, nil
}

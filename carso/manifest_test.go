package carso

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
)

// TestManifestNames: the purifier's parts at full size have the reference's file names, parameter names, shapes, order and counts, in every scenario.
func TestManifestNames(t *testing.T) {
	f := goldentest.Open(t, "manifests")
	files, err := filepath.Glob(filepath.Join(f.Dir, "scenario_*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	for _, file := range files {
		type part struct {
			File   string
			State  [][3]any `json:"state_dict"`
			Counts struct{ Parameters, Bytes int }
		}
		var m struct {
			goldenConfig
			Classifier struct {
				Args goldenConfig
			}
			Files     map[string]part `json:"purifier_files"`
			TrainOnly map[string]part `json:"training_only_modules_not_saved"`
			Total     int             `json:"trainable_parameters_of_the_purifier"`
			Taps      [][3]any        `json:"tapped_layers"`
			Sizes     struct {
				Flattened int    `json:"concatenated_compressed_representation"`
				Cond      int    `json:"latent_c"`
				Image     [3]int `json:"input_compressor_output"`
				Joint     int    `json:"joint_compressor_input"`
			}
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		f.JSON(name, &m)
		net := m.Classifier.Args
		net.Input, net.Mean, net.Std, net.Cond, net.Latent = m.Input, m.Mean, m.Std, m.Cond, m.Latent
		first := m.Files["decoder"].State[2][1].([]any) // of the first transposed convolution
		c := net.config(int(first[0].(float64)))
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		id := strings.TrimPrefix(name, "scenario_")
		s, err := FindScenario(id, ScalePaper)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, p := range c.Parts() {
			want := m.Files[p.Name]
			if p.TrainOnly {
				want = m.TrainOnly[p.Name]
			} else {
				f.Same(name+": file of "+p.Name, want.File == PartFile(s.Stem, p.Name), PartFile(s.Stem, p.Name))
			}
			differing, trained, bytes := max(len(p.Params), len(want.State))-min(len(p.Params), len(want.State)), 0, 0
			for i := range min(len(p.Params), len(want.State)) {
				q, e := p.Params[i], want.State[i]
				dtype := "F32"
				if q.Kind == nn.BNCount {
					dtype = "I64"
					bytes += 4
				}
				bytes += 4 * q.Size()
				if !q.Buffer() {
					trained += q.Size()
				}
				if ours, theirs := fmt.Sprint(q.Name, q.Shape, dtype), fmt.Sprint(e[0], e[1], e[2]); ours != theirs {
					differing++
					t.Errorf("%s, %s: %s, the reference has %s", name, p.Name, ours, theirs)
				}
			}
			f.Count(name+": "+p.Name, differing, len(want.State), 0)
			f.Same(name+": counts of "+p.Name, trained == want.Counts.Parameters && bytes == want.Counts.Bytes, fmt.Sprintf("%d and %d for %+v", trained, bytes, want.Counts))
			total += trained
		}
		f.Same(name+": trained parameters", total == m.Total, fmt.Sprintf("%d for %d", total, m.Total))
		differing := max(len(c.taps()), len(m.Taps)) - min(len(c.taps()), len(m.Taps))
		for i, tap := range c.taps() {
			b := c.compressorBlocks()
			small := []int{compressed(tap.C, b), tap.H - 2*b, tap.W - 2*b}
			if i >= len(m.Taps) || fmt.Sprint(m.Taps[i][0], m.Taps[i][1], m.Taps[i][2]) != fmt.Sprint(tap.Name, []int{tap.C, tap.H, tap.W}, small) {
				differing++
			}
		}
		f.Count(name+": representations and their codes", differing, len(m.Taps), 0)
		z := m.Sizes
		f.Same(name+": sizes", c.flattened() == z.Flattened && c.Cond == z.Cond && c.imageCode() == z.Image[0]*z.Image[1]*z.Image[2] && c.imageCode()+c.Cond == z.Joint,
			fmt.Sprintf("%+v", z))
	}
}

// TestManifestScenarios: the paper's scenarios name the files that the manifests list, and no others; the mixed ones swap the final classifier.
func TestManifestScenarios(t *testing.T) {
	f := goldentest.Open(t, "manifests")
	var index struct {
		Scenarios map[string]struct {
			Models []struct {
				Reference string
				File      string   `json:"classifier_file"`
				Purifier  []string `json:"purifier_files"`
				Published bool     `json:"purifier_files_listed_for_download_by_the_authors"`
			} `json:"base_models"`
		}
		Mixed map[string]string `json:"mixed_evaluations"`
	}
	f.JSON("index", &index)
	mixed, own := 0, map[string]bool{}
	for _, s := range PaperScenarios() {
		trouble := "not listed"
		for _, b := range index.Scenarios[s.ID[:1]].Models {
			if b.File != s.Classifier {
				continue
			}
			trouble = ""
			own[b.File] = true
			for _, part := range []string{"repr_compressors", "repr_fcn_compressor", "decoder"} {
				if !strings.Contains(strings.Join(b.Purifier, " "), PartFile(s.Stem, part)) {
					trouble = PartFile(s.Stem, part)
				}
			}
			if b.Published == s.Unpublished {
				trouble = "published or not"
			}
		}
		if _, is := index.Mixed[s.ID]; is != (s.Final != "") || s.Final == s.Classifier {
			trouble = "final classifier " + s.Final
		} else if is {
			mixed++
		}
		f.Same("scenario "+s.ID, trouble == "", trouble)
	}
	f.Count("mixed scenarios", len(index.Mixed)-mixed, len(index.Mixed), 0)
	all := 0
	for _, s := range index.Scenarios {
		all += len(s.Models)
	}
	f.Count("classifiers with a scenario", all-len(own), all, 0)
}

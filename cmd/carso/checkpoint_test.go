package main

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/checkpoints"
	"carsokit/internal/goldentest"
	"carsokit/models"
)

// Index, networks and scenarios tell one story: every published file is known to all three, under one name.
func TestIndexFitsScenarios(t *testing.T) {
	known, err := checkpoints.Index()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range known {
		c, ok, err := weights(k.Name, nil)
		if err != nil || !ok || len(c.Want) == 0 {
			t.Errorf("%s: no network: %v", k.Name, err)
		}
		if uses(k.Name) == "" {
			t.Errorf("%s: no scenario uses it", k.Name)
		}
		if _, err := models.FindReference(k.Name); (err == nil) != (k.Role == "classifier") || (err == nil) != (c.Constants != nil) {
			t.Errorf("%s: role %s: %v", k.Name, k.Role, err)
		}
		if k.Role != "classifier" && !strings.HasSuffix(k.Name, "_"+k.Role) {
			t.Errorf("%s: role %s", k.Name, k.Role)
		}
	}
	for _, s := range carso.PaperScenarios() {
		files := []string{s.Classifier}
		for _, part := range []string{"repr_compressors", "repr_fcn_compressor", "decoder"} {
			if !s.Unpublished {
				files = append(files, carso.PartFile(s.Stem, part))
			}
		}
		for _, file := range files {
			if _, err := checkpoints.Lookup(known, file); err != nil {
				t.Errorf("scenario %s: %v", s.ID, err)
			}
		}
	}
	if _, ok, err := weights("wrn_28_10_cifar_10_cui_2023_neck", nil); ok || err != nil {
		t.Errorf("a part that nobody publishes: %v, %v", ok, err)
	}
}

// What a published file must hold is exactly what the reference's own modules hold, at full size, by the file's name.
func TestWeightsAreTheManifests(t *testing.T) {
	f := goldentest.Open(t, "manifests")
	type module struct {
		File  string   `json:"file"`
		State [][3]any `json:"state_dict"`
	}
	for _, s := range carso.PaperScenarios() {
		if len(s.ID) > 1 {
			continue
		}
		var m struct {
			Classifier module            `json:"classifier"`
			Parts      map[string]module `json:"purifier_files"`
		}
		f.JSON("scenario_"+s.ID, &m)
		files := map[string]module{s.Classifier: m.Classifier}
		for part, module := range m.Parts {
			files[carso.PartFile(s.Stem, part)] = module
		}
		if len(files) != 4 {
			t.Errorf("scenario %s: %d files", s.ID, len(files))
		}
		for file, module := range files {
			c, ok, err := weights(file, nil)
			if err != nil || !ok {
				t.Errorf("%s: %v", file, err)
				continue
			}
			var reference []checkpoints.Spec
			for _, e := range module.State {
				spec := checkpoints.Spec{Name: e[0].(string)}
				for _, d := range e[1].([]any) {
					spec.Shape = append(spec.Shape, int(d.(float64)))
				}
				reference = append(reference, spec)
			}
			if err := checkpoints.Match(reference, c.Want).Err(); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// The subcommands over a small file: converted, inspected, verified; wrong words are refused with the usage.
func TestCheckpointCommands(t *testing.T) {
	dir := t.TempDir()
	files, err := zip.OpenReader(filepath.Join("..", "..", "checkpoints", "testdata", "pytorch.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	pt := filepath.Join(dir, "training_zip.pt")
	out := filepath.Join(t.TempDir(), "out.safetensors")
	for _, args := range [][]string{
		{"convert", "-dtype", "f16", pt, out}, {"inspect", "-digests", pt, out}, {"verify", out}, {"inspect"}, {"list"},
		{"convert", "-key", "unaveraged_model_state_dict", pt, out},
	} {
		if err := checkpoint(t.Context(), args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "usage"},
		{[]string{"explode"}, "usage"},
		{[]string{"convert", pt}, "usage"},
		{[]string{"convert", "-as", "nobody", pt, out}, "not published weights"},
		{[]string{"convert", "-as", "tiny_linf_wrn28_10_w", pt, out}, "do not fit"},
		{[]string{"convert", "-dtype", "i8", pt, out}, "F32 and F16"},
		{[]string{"verify", pt}, "1 of 1 files are not good"},
		{[]string{"verify"}, "usage"},
		{[]string{"get"}, "usage"},
		{[]string{"get", "nobody"}, "no weights called"},
		{[]string{"get", "-sha256", "00", "a"}, "one file at one -url"},
		{[]string{"inspect", out + "x"}, "no such file"},
	} {
		if err := checkpoint(t.Context(), c.args); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}

func TestMirrors(t *testing.T) {
	k := checkpoints.Known{Name: "net", Sources: []checkpoints.Source{{URL: "https://a/net.pt"}}}
	var urls []string
	for _, s := range mirrors(k, "https://b/folder/,https://c/other.pth", "") {
		urls = append(urls, s.URL)
	}
	if got := strings.Join(urls, " "); got != "https://b/folder/net.safetensors https://c/other.pth https://a/net.pt" {
		t.Error(got)
	}
}

// Without the images of a classifier's data set its accuracy is not checked, and the file is not called bad for it; a data set that is damaged is an error.
func TestGateWithoutImages(t *testing.T) {
	k := checkpoints.Known{Clean: &checkpoints.Accuracy{Percent: 73.85, Images: 10000}}
	dir := t.TempDir()
	if err := checkAccuracy(t.Context(), k, "cifar100_a5_b12_t4_50m_w.safetensors", 10, dir); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "test.bin"), []byte("short"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := checkAccuracy(t.Context(), k, "cifar100_a5_b12_t4_50m_w.safetensors", 10, dir); err == nil || !strings.Contains(err.Error(), "carso data get cifar100") {
		t.Errorf("damaged images: %v", err)
	}
}

package main

import (
	"strings"
	"testing"

	"carsokit/carso"
	"carsokit/checkpoints"
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

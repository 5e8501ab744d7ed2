package carso

import (
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/models"
)

// TestManifestNames: the purifier's parts at full size have the reference's parameter names, shapes and order, for a, b and c.
func TestManifestNames(t *testing.T) {
	for _, s := range []struct {
		id            string
		classes, size int
		cond, latent  int
	}{{"a", 10, 32, 512, 128}, {"b", 100, 32, 512, 128}, {"c", 200, 64, 768, 192}} {
		type part struct {
			State [][3]any `json:"state_dict"`
		}
		var m struct {
			Files     map[string]part `json:"purifier_files"`
			TrainOnly map[string]part `json:"training_only_modules_not_saved"`
		}
		f := goldentest.Open(t, "manifests")
		f.JSON("scenario_"+s.id, &m)
		w := models.CIFAR10WRN(28, 10)
		w.Classes, w.Size = s.classes, s.size
		c := Config{Base: w, Final: w, Cond: s.cond, Latent: s.latent, Channels: 256}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Parts() {
			want := m.Files[p.Name].State
			if p.TrainOnly {
				want = m.TrainOnly[p.Name].State
			}
			if len(want) != len(p.Params) {
				t.Fatalf("scenario %s, %s: %d tensors, the reference has %d", s.id, p.Name, len(p.Params), len(want))
			}
			for i, e := range want {
				shape, ok := e[1].([]any)
				same := ok && e[0] == p.Params[i].Name && len(shape) == len(p.Params[i].Shape)
				for k := 0; same && k < len(shape); k++ {
					same = int(shape[k].(float64)) == p.Params[i].Shape[k]
				}
				if !same {
					t.Fatalf("scenario %s, %s: %s %v, the reference has %v", s.id, p.Name, p.Params[i].Name, p.Params[i].Shape, e)
				}
			}
			f.Count("scenario "+s.id+": "+p.Name, 0, len(want), 0)
		}
	}
}

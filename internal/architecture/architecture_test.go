// Package architecture holds the picture in docs/architecture.md: which package may import which.
package architecture

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "carsokit/"

// allowed lists the packages of this module that each may import; a package that is not listed fails the test.
var allowed = map[string][]string{
	"internal/architecture": {},
	"internal/atomicfile":   {},
	"internal/fetch":        {},
	"internal/memory":       {},
	"internal/docblock":     {},
	"internal/rng":          {},
	"internal/nn":           {"internal/rng"},
	"internal/optim":        {},
	"internal/training":     {"internal/atomicfile", "internal/fetch"},
	"internal/setup":        {},
	"internal/goldentest":   {"checkpoints", "internal/setup", "internal/xlaenv"},
	"internal/xlaenv":       {"internal/setup"},
	"data":                  {"internal/atomicfile", "internal/fetch", "internal/rng"},
	"checkpoints":           {"internal/atomicfile", "internal/fetch"},
	"attacks":               {"internal/rng"}, // the contract is its own: no model, no defence
	"attacks/attacktest":    {"attacks", "internal/rng", "internal/nn"},
	"attacks/check":         {"attacks", "internal/rng"},
	"models":                {"attacks", "checkpoints", "data", "internal/nn", "internal/optim", "internal/rng", "internal/training"},
	"carso":                 {"attacks", "checkpoints", "data", "internal/nn", "internal/optim", "internal/rng", "internal/training", "models"},
	"carso/record":          {"internal/atomicfile"},
	"carso/paper":           {"carso/record"},
	"carso/eval": {"attacks", "attacks/check", "carso", "carso/paper", "carso/record", "checkpoints", "data", "internal/atomicfile", "internal/optim", "internal/rng", "internal/setup", "internal/xlaenv",
		"models", "plots"},
	"internal/bench": {"attacks", "carso", "checkpoints", "data", "internal/rng", "internal/xlaenv", "models", "plots"},
	"plots":          {"internal/setup", "carso/record"},
	"plots/nbui":     {"internal/fetch", "plots"},
}

// withoutGoMLX may not reach GoMLX, directly or not.
var withoutGoMLX = []string{"data", "checkpoints", "carso/record", "carso/paper", "plots", "plots/nbui", "internal/training", "internal/rng", "internal/fetch"}

type listed struct {
	ImportPath, Dir string
	Imports, Deps   []string
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,Deps", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		// What go list reads, go test does not see: without this it would answer from its cache after a change of any other package.
		if _, err := os.ReadDir(p.Dir); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "cmd/") {
			continue // may import everything
		}
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the architecture: add it to the table here and to docs/architecture.md", name)
		}
		for _, i := range p.Imports {
			if own, ok := strings.CutPrefix(i, module); ok && !slices.Contains(may, own) {
				t.Errorf("%s imports %s, which the architecture does not allow", name, own)
			}
		}
		if slices.Contains(withoutGoMLX, name) {
			for _, d := range p.Deps {
				if strings.HasPrefix(d, "github.com/gomlx/gomlx") {
					t.Errorf("%s reaches GoMLX through %s", name, d)
				}
			}
		}
	}
}

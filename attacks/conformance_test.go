package attacks_test

import (
	"os"
	"slices"
	"testing"

	"github.com/gomlx/compute"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/internal/xlaenv"
)

// Toys run on the backend in pure Go, where their many small graphs are ready at once; networks on that of the environment, XLA where it is set up.
var backend, compiling compute.Backend

func TestMain(m *testing.M) {
	var err error
	if backend, err = compute.NewWithConfig(xlaenv.Go); err == nil {
		compiling, err = xlaenv.Backend()
	}
	if err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestCatalogConforms(t *testing.T) { attacktest.Conformance(t, backend, attacks.Catalog()...) }

func TestConformsCompiled(t *testing.T) {
	i := slices.IndexFunc(attacks.Catalog(), func(p attacks.Preset) bool { return p.Name == "autoattack-rand" })
	attacktest.Conformance(t, compiling, attacks.Catalog()[i])
}

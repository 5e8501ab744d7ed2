package attacks_test

import (
	"os"
	"testing"

	"github.com/gomlx/compute"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/internal/xlaenv"
)

var backend compute.Backend

func TestMain(m *testing.M) {
	be, err := xlaenv.Backend()
	if err != nil {
		panic(err)
	}
	backend = be
	os.Exit(m.Run())
}

func TestCatalogConforms(t *testing.T) { attacktest.Conformance(t, backend, attacks.Catalog()...) }

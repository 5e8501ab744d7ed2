package check_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"

	"carsokit/attacks/attacktest"
	"carsokit/attacks/check"
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

// zooOptions are small: the defects are not subtle.
var zooOptions = check.Options{Steps: 10, EoT: 4, Seed: 1}

// TestZoo: of every planted defect the expected finding fails, and no finding on a sound classifier does.
func TestZoo(t *testing.T) {
	images := attacktest.ZooImages(24, 1)
	for _, s := range attacktest.Zoo() {
		t.Run(s.Name, func(t *testing.T) {
			r, err := check.Run(context.Background(), backend, s.Classifier, images, zooOptions)
			if err != nil {
				t.Fatal(err)
			}
			failed := r.Named(check.Fail)
			t.Logf("%+v right %d broken %d FAIL %s WARN %s", r.Find("binarisation"), r.Right, r.Broken, strings.Join(failed, " "), strings.Join(r.Named(check.Warn), " "))
			if s.Sound() && len(failed) > 0 || !s.Sound() && !slices.Contains(failed, s.Caught) {
				var page strings.Builder
				if err := r.Render(&page, "text"); err != nil {
					t.Fatal(err)
				}
				t.Errorf("want %q among the failed findings\n%s", s.Caught, page.String())
			}
		})
	}
}

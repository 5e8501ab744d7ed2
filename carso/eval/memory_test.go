package eval

import (
	"context"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"

	"carsokit/attacks"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/internal/memory"
	"carsokit/internal/rng"
	"carsokit/internal/xlaenv"
)

// The memory of an evaluation does not grow with its chunks, but for what it knows of each image.
func TestMemoryIsFlatOverChunks(t *testing.T) {
	rss := func() int {
		n, ok := memory.Process(memory.Resident)
		if !ok {
			t.Skip("resident memory is not readable here")
		}
		return n
	}
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	be, err := xlaenv.Backend()
	if err != nil {
		t.Fatal(err)
	}
	store, err := record.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const n, chunk = 6000, 25
	// A record is about 1 kB an image. The heaps of XLA and Go breathe by some MB; device buffers that stayed, one image, noise and gradient a call, would be
	// 25 images x (2 x 432 + 16) bytes x 2 stages x 5 steps x 2 draws, 0.4 MB a chunk and 50 MB in the second half.
	const slack = 16 << 20
	job, _ := toyJob(t, n)
	var early, late, seen int
	_, err = Run(context.Background(), be, store, job, Options{Chunk: chunk, Buckets: []int{16}, Progress: func(p Progress) {
		if p.Fresh == seen { // no chunk was finished
			return
		}
		seen = p.Fresh
		switch {
		case p.Done > n/4 && p.Done <= n/2: // the first quarter warms up
			early = max(early, rss())
		case p.Done > n/2:
			late = max(late, rss())
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resident: at most %d MB in the second quarter of %d chunks, %d MB in the second half", early>>20, n/chunk, late>>20)
	if late > early+slack+n/2*1024 {
		t.Errorf("resident memory grows from %d MB to %d MB over %d chunks", early>>20, late>>20, n/chunk)
	}
}

// Whatever the number of images, samples and draws, a gradient of the shipped CARSO stays within a bound on memory, because it is computed in pieces; a piece of 16 images and 32
// samples, the largest, takes most of it. It runs in a process of its own, so that the peak is that of these gradients. CARSO_SETTINGS sets the number of random settings (make soak).
func TestMemoryAtAnySetting(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles an attack for each setting")
	}
	if os.Getenv("CARSO_TEST_ALONE") == "" { // malloc keeps what the trainings of other tests took
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=0")
		cmd.Env = append(os.Environ(), "CARSO_TEST_ALONE=1")
		out, err := cmd.CombinedOutput()
		t.Logf("in a process of its own:\n%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	settings := 3
	if text := os.Getenv("CARSO_SETTINGS"); text != "" {
		var err error
		if settings, err = strconv.Atoi(text); err != nil {
			t.Fatalf("CARSO_SETTINGS: %v", err)
		}
	}
	be := backend(t)
	set, err := data.Sample()
	if err != nil {
		t.Fatal(err)
	}
	const bound = 5 << 29 // 1.9 GB after 100 settings
	random := rng.Seed(11).Rand()
	upTo := func(most int) int { // small and large numbers alike
		return int(math.Exp(random.Float64() * math.Log(float64(most)+0.999)))
	}
	for k := range settings {
		// At most 1,200 reconstructions, a few seconds.
		samples := upTo(256)
		images := upTo(min(64, 1200/samples))
		draws := upTo(min(100, 1200/samples/images))
		_, c := shippedOutput(t, be, set, "carso-honest", "log-sum", samples)
		o, err := attacks.NewOracle(be, c, attacks.OracleOptions{Buckets: []int{16}})
		if err != nil {
			t.Fatal(err)
		}
		g, err := o.Gradient(context.Background(), attacks.CE, (&Lab{Set: set}).Batch(images), 1, draws, nil)
		o.Close()
		if err != nil {
			t.Fatalf("N %d, %d images, %d draws: %v", samples, images, draws, err)
		}
		if slices.Contains(g.Bad, true) || g.Draws[0] != draws {
			t.Errorf("N %d, %d images, %d draws: bad gradients %v, %v draws", samples, images, draws, g.Bad, g.Draws)
		}
		peak, ok := memory.Process(memory.Peak)
		if !ok {
			t.Skip("peak memory is not readable here")
		}
		t.Logf("setting %d: N %d, %d images, %d draws; at most %d MB so far", k, samples, images, draws, peak>>20)
		if peak > bound {
			t.Fatalf("N %d, %d images, %d draws: %d MB were resident, more than %d", samples, images, draws, peak>>20, bound>>20)
		}
	}
}

package eval

import (
	"context"
	"runtime/debug"
	"testing"

	"carsokit/carso/record"
	"carsokit/internal/memory"
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

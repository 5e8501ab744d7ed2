package data

import (
	"math"
	"slices"
	"sync"
	"testing"

	"carsokit/internal/rng"
)

func sampleLoader(t testing.TB) *Loader {
	t.Helper()
	set, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	return &Loader{Set: set, Batch: 64, Seed: 5, Flip: true, Crop: 4}
}

func mustFill(t testing.TB, l *Loader, epoch, b int) ([]float32, []int32) {
	t.Helper()
	x, y := make([]float32, l.Batch*l.Set.H*l.Set.W*3), make([]int32, l.Batch)
	for i := range x {
		x[i] = float32(math.NaN()) // what is not written shows
	}
	if err := l.Fill(epoch, b, x, y); err != nil {
		t.Fatal(err)
	}
	return x, y
}

func TestEpochIsAPermutation(t *testing.T) {
	l := sampleLoader(t)
	l.Batch = 50
	l.Index = make([]int, 500)
	for i := range l.Index {
		l.Index[i] = 2 * i
	}
	var orders [][]int
	for epoch := range 2 {
		var all []int
		for b := range l.Batches() {
			idx, err := l.Images(epoch, b)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, idx...)
		}
		orders = append(orders, slices.Clone(all))
		slices.Sort(all)
		if !slices.Equal(all, l.Index) {
			t.Errorf("epoch %d is not a permutation of Index", epoch)
		}
	}
	if slices.Equal(orders[0], orders[1]) || slices.Equal(orders[0], l.Index) {
		t.Error("epochs are not shuffled anew")
	}
	l.Index, l.Batch = nil, 300
	if l.Batches() != 3 {
		t.Errorf("%d whole batches of 300 in 1,000", l.Batches())
	}
}

// Without augmentation a batch is its images, in order.
func TestPlainBatch(t *testing.T) {
	l := sampleLoader(t)
	l.Flip, l.Crop = false, 0
	idx, err := l.Images(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	x, y := mustFill(t, l, 3, 2)
	want := make([]float32, len(x))
	l.Set.Floats(want, idx...)
	if !slices.Equal(x, want) {
		t.Error("pixels differ")
	}
	for k, i := range idx {
		if y[k] != l.Set.Labels[i] {
			t.Errorf("label %d", k)
		}
	}
}

// Every augmented image must be one of the 2*9*9 flips and shifts of its original, and over an epoch all of them must come up about equally.
func TestAugmentation(t *testing.T) {
	l := sampleLoader(t)
	l.Batch = 1000
	const size, pad = 32, 4
	n := size * size * 3
	shifted := func(img []byte, dy, dx int, flip bool) []float32 { // the definition: pad, cut, mirror
		out := make([]float32, n)
		for h := range size {
			for w := range size {
				col := w
				if flip {
					col = size - 1 - w
				}
				sy, sx := h+dy-pad, col+dx-pad
				if sy < 0 || sy >= size || sx < 0 || sx >= size {
					continue
				}
				for c := range 3 {
					out[(h*size+w)*3+c] = float32(img[(sy*size+sx)*3+c]) / 255
				}
			}
		}
		return out
	}
	x, _ := mustFill(t, l, 0, 0)
	idx, err := l.Images(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rows, columns [9]int
	flips := 0
	const checked = 200
next:
	for k, i := range idx[:checked] {
		got := x[k*n : (k+1)*n]
		for dy := range 9 {
			for dx := range 9 {
				for _, flip := range []bool{false, true} {
					if slices.Equal(got, shifted(l.Set.Image(i), dy, dx, flip)) {
						rows[dy]++
						columns[dx]++
						if flip {
							flips++
						}
						continue next
					}
				}
			}
		}
		t.Fatalf("image %d is none of its flips and shifts", i)
	}
	if flips < 65 || flips > 135 { // binomial(200, 1/2): 100 with a standard deviation of 7; five of them
		t.Errorf("%d of %d flipped", flips, checked)
	}
	for v := range 9 {
		if rows[v] < 1 || columns[v] < 1 || rows[v] > 45 || columns[v] > 45 { // binomial(200, 1/9): 22 with 4.4; five of them
			t.Errorf("shift %d came up %d and %d times", v-pad, rows[v], columns[v])
		}
	}
}

// A batch depends on (seed, epoch, batch) alone: not on what was asked before, nor on how many cores or callers there are; an image's
// augmentation depends on the epoch and the image, not on its batch.
func TestBatchesArePure(t *testing.T) {
	l := sampleLoader(t)
	x, y := mustFill(t, l, 1, 3)
	var wg sync.WaitGroup
	shared := sampleLoader(t)
	for k := range 12 {
		wg.Go(func() {
			x2, y2 := make([]float32, len(x)), make([]int32, len(y))
			for _, at := range [][2]int{{k % 3, k % 5}, {1, 3}} {
				if err := shared.Fill(at[0], at[1], x2, y2); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(x, x2) || !slices.Equal(y, y2) {
				t.Errorf("caller %d got another batch", k)
			}
		})
	}
	wg.Wait()
	for _, at := range [][2]int{{2, 3}, {1, 4}} {
		if other, _ := mustFill(t, l, at[0], at[1]); slices.Equal(x, other) {
			t.Errorf("batch %d of epoch %d equals another", at[1], at[0])
		}
	}
	other := sampleLoader(t)
	other.Seed++
	if x2, _ := mustFill(t, other, 1, 3); slices.Equal(x, x2) {
		t.Error("the seed changes nothing")
	}

	idx, err := l.Images(1, 3)
	if err != nil {
		t.Fatal(err)
	}
	alone := sampleLoader(t)
	alone.Index, alone.Batch = idx[7:8], 1
	n := len(x) / l.Batch
	if x1, _ := mustFill(t, alone, 1, 0); !slices.Equal(x1, x[7*n:8*n]) {
		t.Error("an image's augmentation depends on its batch")
	}
}

func TestLoaderErrors(t *testing.T) {
	l := sampleLoader(t)
	x, y := make([]float32, 64*3072), make([]int32, 64)
	mustSay(t, l.Fill(0, 15, x, y), nil, "batch 15 of epoch 0", "15 whole batches of 64")
	mustSay(t, l.Fill(0, -1, x, y), nil, "batch -1")
	mustSay(t, l.Fill(0, 0, x[1:], y), nil, "196607 pixels", "needs 196608")
	mustSay(t, l.Fill(0, 0, x, y[1:]), nil, "63 labels")
	l.Crop = -1
	mustSay(t, l.Fill(0, 0, x, y), nil, "crop of -1")
	l.Crop = 100 // beyond the image: all zeros are possible, a panic is not
	if err := l.Fill(0, 0, x, y); err != nil {
		t.Error(err)
	}
	l = sampleLoader(t)
	l.Batch = 0
	mustSay(t, l.Fill(0, 0, nil, nil), nil, "0 whole batches of 0")
	l.Batch, l.Index = 1, []int{1000}
	mustSay(t, l.Fill(0, 0, x[:3072], y[:1]), nil, "Index[0] is 1000", "1000 images")
}

func TestSplit(t *testing.T) {
	set, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	train, held, err := Split(set, 123, 9)
	if err != nil {
		t.Fatal(err)
	}
	if len(held) != 123 || len(train) != 877 || !slices.IsSorted(train) || !slices.IsSorted(held) {
		t.Errorf("%d held, %d for training", len(held), len(train))
	}
	all := slices.Concat(train, held)
	slices.Sort(all)
	for i, k := range all {
		if i != k {
			t.Fatalf("image %d is in neither part or both", i)
		}
	}
	counts := make([]int, 10)
	for _, i := range held {
		counts[set.Labels[i]]++
	}
	if !slices.Equal(counts, []int{13, 13, 13, 12, 12, 12, 12, 12, 12, 12}) {
		t.Errorf("held by class: %v", counts)
	}
	_, again, _ := Split(set, 123, 9)
	_, other, _ := Split(set, 123, 10)
	if !slices.Equal(held, again) || slices.Equal(held, other) {
		t.Error("not a function of the seed")
	}
	_, _, err = Split(set, 990, 9)
	mustSay(t, err, nil, "hold out 990 images of cifar10 test", "class ")
	_, _, err = Split(set, 1001, 9)
	mustSay(t, err, nil, "it has 1000")
	_, _, err = Split(set, -1, 9)
	mustSay(t, err, nil, "hold out -1")
}

func BenchmarkFill(b *testing.B) {
	l := sampleLoader(b)
	l.Batch, l.Seed = 128, rng.Seed(1)
	x, y := make([]float32, 128*3072), make([]int32, 128)
	for k := 0; b.Loop(); k++ {
		if err := l.Fill(0, k%l.Batches(), x, y); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(128*float64(b.N)/b.Elapsed().Seconds(), "images/s")
}

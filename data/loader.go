package data

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"carsokit/internal/rng"
)

// Loader makes augmented training batches. Batch b of epoch e is a pure function of (Seed, e, b): batches may be asked for in any order,
// again, or from several goroutines at once, and a run that resumes sees what an uninterrupted one would have seen. An epoch is a
// permutation of Index; the last Len mod Batch images of it are left out. The fields must not be changed while batches are being made.
type Loader struct {
	Set   *Set
	Index []int // images to use, as indices into Set; nil: all
	Batch int   // images in a batch
	Seed  rng.Seed
	Flip  bool // mirror an image left to right with probability 1/2
	Crop  int  // shift an image by up to Crop pixels each way, zeros coming in (4 is usual for CIFAR); 0: none
	// Cutout blanks a square of so many pixels a side to zero, its centre anywhere in the image, so that part of it may fall outside (DeVries and
	// Taylor 2017; 16 is theirs for CIFAR-10, 8 for CIFAR-100); 0: none.
	Cutout int

	order atomic.Pointer[epochOrder] // the last epoch asked for
}

type epochOrder struct {
	seed     rng.Seed
	epoch, n int
	perm     []int
}

// Len is the number of images an epoch draws from.
func (l *Loader) Len() int {
	if l.Index != nil {
		return len(l.Index)
	}
	return l.Set.Len()
}

// Batches is the number of whole batches in an epoch.
func (l *Loader) Batches() int {
	if l.Batch < 1 {
		return 0
	}
	return l.Len() / l.Batch
}

// Images returns the indices into Set of the images in batch b of an epoch.
func (l *Loader) Images(epoch, b int) ([]int, error) {
	if b < 0 || b >= l.Batches() {
		return nil, fmt.Errorf("batch %d of epoch %d: an epoch of %d images has %d whole batches of %d", b, epoch, l.Len(), l.Batches(), l.Batch)
	}
	idx := slices.Clone(l.permutation(epoch)[b*l.Batch : (b+1)*l.Batch])
	if l.Index == nil {
		return idx, nil
	}
	for k, i := range idx {
		idx[k] = l.Index[i]
		if idx[k] < 0 || idx[k] >= l.Set.Len() {
			return nil, fmt.Errorf("batch %d of epoch %d: Index[%d] is %d, outside the %d images of %s %s",
				b, epoch, i, idx[k], l.Set.Len(), l.Set.Name, l.Set.Split)
		}
	}
	return idx, nil
}

// permutation returns the order of an epoch. Goroutines that ask for the same new epoch at once may each compute it, with equal results.
func (l *Loader) permutation(epoch int) []int {
	o := l.order.Load()
	if o == nil || o.seed != l.Seed || o.epoch != epoch || o.n != l.Len() {
		o = &epochOrder{l.Seed, epoch, l.Len(), l.Seed.Child("shuffle", epoch).Perm(l.Len())}
		l.order.Store(o)
	}
	return o.perm
}

// Fill writes batch b of an epoch: x, of Batch*H*W*3 elements, becomes the images as [Batch,H,W,3] in [0,1], y, of Batch elements, their
// labels. An image's flip, crop and cutout are drawn from Seed.Child("augment", epoch, index in Set), so they do not depend on its batch.
func (l *Loader) Fill(epoch, b int, x []float32, y []int32) error {
	if l.Crop < 0 {
		return fmt.Errorf("batch %d of epoch %d: crop of %d pixels is negative", b, epoch, l.Crop)
	}
	if l.Cutout < 0 {
		return fmt.Errorf("batch %d of epoch %d: cutout of %d pixels is negative", b, epoch, l.Cutout)
	}
	idx, err := l.Images(epoch, b)
	if err != nil {
		return err
	}
	n := l.Set.H * l.Set.W * 3
	if len(x) != l.Batch*n || len(y) != l.Batch {
		return fmt.Errorf("batch %d of epoch %d: room for %d pixels and %d labels, needs %d and %d", b, epoch, len(x), len(y), l.Batch*n, l.Batch)
	}
	parallel(len(idx), func(k int) {
		i := idx[k]
		y[k] = l.Set.Labels[i]
		l.augment(x[k*n:(k+1)*n], epoch, i)
	})
	return nil
}

// augment writes image i of the set, shifted, mirrored and cut out, to dst [H,W,3].
func (l *Loader) augment(dst []float32, epoch, i int) {
	if !l.Flip && l.Crop == 0 && l.Cutout == 0 {
		l.Set.Floats(dst, i)
		return
	}
	// All three are drawn whatever is switched on, so that switching one off leaves the others as they were.
	r := l.Seed.Child("augment", epoch, i).Rand()
	mirrored := r.IntN(2) == 1 && l.Flip
	dy, dx := r.IntN(2*l.Crop+1)-l.Crop, r.IntN(2*l.Crop+1)-l.Crop
	src, height, width := l.Set.Image(i), l.Set.H, l.Set.W
	clear(dst)
	// Row h, column w of the crop is row h+dy, column w+dx of the image, where there is one.
	for h := max(0, -dy); h < min(height, height-dy); h++ {
		for w := max(0, -dx); w < min(width, width-dx); w++ {
			to := w
			if mirrored {
				to = width - 1 - w
			}
			s := src[((h+dy)*width+w+dx)*3:][:3]
			d := dst[(h*width+to)*3:][:3]
			d[0], d[1], d[2] = unit[s[0]], unit[s[1]], unit[s[2]]
		}
	}
	if l.Cutout > 0 {
		top, left := r.IntN(height)-l.Cutout/2, r.IntN(width)-l.Cutout/2
		for h := max(0, top); h < min(height, top+l.Cutout); h++ {
			clear(dst[(h*width+max(0, left))*3 : (h*width+min(width, left+l.Cutout))*3])
		}
	}
}

// parallel calls f(0), ..., f(n-1) on all cores.
func parallel(n int, f func(int)) {
	workers := min(runtime.GOMAXPROCS(0), n/16) // 16 images are some 50 microseconds of work, well above the cost of a goroutine
	if workers < 2 {
		for k := range n {
			f(k)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for k := w * n / workers; k < (w+1)*n/workers; k++ {
				f(k)
			}
		})
	}
	wg.Wait()
}

// Split sets held images aside, equally many of each class (where held is no multiple of the number of classes, the first classes give one
// more), drawn by seed. It returns the indices of the rest and of the held ones, both ascending: together every image of the set once.
func Split(set *Set, held int, seed rng.Seed) (train, heldOut []int, err error) {
	if held < 0 || held > set.Len() {
		return nil, nil, fmt.Errorf("hold out %d images of %s %s: it has %d", held, set.Name, set.Split, set.Len())
	}
	byClass := make([][]int, len(set.Classes))
	for i, y := range set.Labels {
		byClass[y] = append(byClass[y], i)
	}
	for c, members := range byClass {
		share := held / len(byClass)
		if c < held%len(byClass) {
			share++
		}
		if share > len(members) {
			return nil, nil, fmt.Errorf("hold out %d images of %s %s: class %s would give %d and has %d",
				held, set.Name, set.Split, set.Classes[c], share, len(members))
		}
		for k, p := range seed.Child("held out", c).Perm(len(members)) {
			if k < share {
				heldOut = append(heldOut, members[p])
			} else {
				train = append(train, members[p])
			}
		}
	}
	slices.Sort(train)
	slices.Sort(heldOut)
	return train, heldOut, nil
}

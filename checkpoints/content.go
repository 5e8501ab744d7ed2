package checkpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Content is what a weight file holds, whatever its form.
type Content struct {
	Tensors    []TensorInfo // in the file's order
	Statistics int          // numbers that are BatchNorm's running means and variances
	Counters   int          // numbers that are BatchNorm's counters of batches
	// SHA256 covers names, dtypes, shapes and values of all tensors by name: equal weights have equal digests in any container and order.
	SHA256 string
}

// TensorInfo describes one tensor.
type TensorInfo struct {
	Spec
	DType   string
	Numbers int
	SHA256  string // of its values in row-major order, little endian
}

// Content reads the whole file.
func (f *File) Content() (Content, error) {
	var c Content
	for _, e := range f.entries {
		t := TensorInfo{Spec: Spec{e.name, slices.Clone(e.shape)}, DType: e.dtype, Numbers: int((e.end - e.begin) / elementBytes[e.dtype])}
		h := sha256.New()
		if e.strides == nil {
			if err := f.chunks(e, func(_ int64, b []byte) { h.Write(b) }); err != nil {
				return c, err
			}
		} else {
			whole, err := f.Tensor(e.name)
			if err != nil {
				return c, err
			}
			h.Write(whole.Data)
		}
		t.SHA256 = hex.EncodeToString(h.Sum(nil))
		switch {
		case strings.HasSuffix(e.name, "running_mean"), strings.HasSuffix(e.name, "running_var"):
			c.Statistics += t.Numbers
		case strings.HasSuffix(e.name, "num_batches_tracked"):
			c.Counters += t.Numbers
		}
		c.Tensors = append(c.Tensors, t)
	}
	sorted := slices.Clone(c.Tensors)
	slices.SortFunc(sorted, func(a, b TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, t := range sorted {
		fmt.Fprintf(h, "%q %s %v %s\n", t.Name, t.DType, t.Shape, t.SHA256)
	}
	c.SHA256 = hex.EncodeToString(h.Sum(nil))
	return c, nil
}

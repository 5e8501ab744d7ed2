package checkpoints

import (
	"errors"
	"fmt"
	"io"
	"os"

	"carsokit/internal/atomicfile"
)

// Convert copies a weight file, with its metadata; with half set, floating-point tensors are rounded to float16.
func Convert(from, to string, half bool) (err error) {
	f, err := Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var ts []Tensor
	for t, err := range f.All() {
		if err != nil {
			return err
		}
		if half && t.DType == "F32" {
			v, err := t.Float32s()
			if err != nil {
				return err
			}
			if t, err = F16(t.Name, t.Shape, v); err != nil {
				return fmt.Errorf("%s: %w", from, err)
			}
		}
		ts = append(ts, t)
	}
	return Write(to, ts, f.Meta)
}

// CopyFile copies a small file atomically.
func CopyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	return atomicfile.Write(to, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

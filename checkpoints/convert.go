package checkpoints

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"carsokit/internal/atomicfile"
)

// Conversion says how [Convert] writes a file. The zero value copies it.
type Conversion struct {
	// Key is the state dict's in a PyTorch file, see [OpenAny].
	Key string
	// Want lists the tensors to write, in this order and under these names; the file must have them all and nothing else, see [MatchState]. Nil: those of
	// the file, without the prefixes of [Wrappers] that all its names share.
	Want []Spec
	// Constants are what normalisation constants ("mean", "std") must be where the file holds them. They are not written.
	Constants map[string][]float32
	// DType is what F32, F64, F16 and BF16 tensors become: "F32" or "F16", rounded to nearest. Empty: with Want F32, otherwise what they are.
	DType string
}

// Convert writes the weights of a file in any form that [OpenAny] reads as safetensors, one tensor at a time. Numbers that are not finite are an error.
// The metadata of a safetensors file is kept; that of a converted PyTorch file is its SHA-256. The report says how the names were found.
func Convert(from, to string, c Conversion) (r *Report, err error) {
	f, err := OpenAny(from, c.Key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Convert(to, c)
}

// Convert is the function Convert for an open file.
func (f *File) Convert(to string, c Conversion) (*Report, error) {
	want := c.Want
	if want == nil {
		want = f.Specs()
		for shared := f.sharedPrefix(); shared != ""; shared = "" {
			for i := range want {
				want[i].Name = want[i].Name[len(shared):]
			}
		}
	}
	r := MatchState(f.Specs(), want)
	if err := r.Err(); err != nil {
		return r, inFile(f.name, err)
	}
	if err := f.checkConstants(r, c.Constants); err != nil {
		return r, err
	}
	dtype := c.DType
	if dtype == "" && c.Want != nil {
		dtype = "F32"
	}
	var heads []Tensor
	for _, w := range want {
		h := Tensor{Name: w.Name, DType: "I64", Shape: w.Shape}
		if source, ok := r.Source[w.Name]; ok {
			h.DType = f.entries[f.index[source]].dtype
			if c.Want != nil && isFloat(h.DType) == isCounter(w) {
				return r, &FormatError{File: f.name, Tensor: source, Problem: "has dtype " + h.DType + ": weights are floating-point numbers and counters are whole ones",
					Remedy: "check how the file was made"}
			}
			if dtype != "" && isFloat(h.DType) {
				h.DType = dtype
			}
		}
		heads = append(heads, h)
	}
	meta := f.Meta
	if f.Form != Safetensors {
		sum, err := f.SHA256()
		if err != nil {
			return r, err
		}
		meta = map[string]string{"format": "pt", "converted_sha256": sum}
	}
	return r, writeEach(to, heads, meta, func(h Tensor) (Tensor, error) {
		source, ok := r.Source[h.Name]
		if !ok {
			return I64(h.Name, h.Shape, []int64{0}), nil
		}
		t, err := f.Tensor(source)
		if err == nil {
			err = t.CheckFinite()
		}
		if err == nil {
			t, err = t.as(h.DType)
		}
		t.Name = h.Name
		return t, f.blame(err)
	})
}

// sharedPrefix is the longest chain of Wrappers that all names begin with.
func (f *File) sharedPrefix() string {
	prefix := ""
	for {
		i := slices.IndexFunc(Wrappers[:2], func(w string) bool { // "0." may be a name's own
			return !slices.ContainsFunc(f.entries, func(e entry) bool { return !strings.HasPrefix(e.name, prefix+w) || e.name == prefix+w })
		})
		if i < 0 || len(f.entries) == 0 {
			return prefix
		}
		prefix += Wrappers[i]
	}
}

// checkConstants compares the normalisation constants of the file with those of the network.
func (f *File) checkConstants(r *Report, want map[string][]float32) error {
	for _, s := range r.Constants {
		name := s.Name[strings.LastIndexByte(s.Name, '.')+1:]
		v, _, err := f.Float32s(s.Name)
		if err != nil {
			return err
		}
		w, known := want[name]
		for i := range w {
			known = known && i < len(v) && math.Abs(float64(v[i]-w[i])) < 1e-4 // published constants have four decimals
		}
		if !known {
			return &FormatError{File: f.name, Tensor: s.Name, Problem: fmt.Sprintf("the network was trained with %s %v, and would be used with %v", name, v, w),
				Remedy: "check that the file belongs to this data set"}
		}
	}
	return nil
}

func isFloat(dtype string) bool { return slices.Contains([]string{"F64", "F32", "F16", "BF16"}, dtype) }

// as returns the tensor in another dtype; floats are rounded to nearest.
func (t Tensor) as(dtype string) (Tensor, error) {
	if t.DType == dtype {
		return t, nil
	}
	v, err := t.Float64s()
	if err != nil {
		return t, err
	}
	narrow := make([]float32, len(v))
	for i, x := range v {
		if narrow[i] = float32(x); math.IsInf(float64(narrow[i]), 0) {
			return t, &FormatError{Tensor: t.Name, Problem: fmt.Sprintf("value %d is %g, which %s cannot hold", i, x, dtype), Remedy: "keep it in " + t.DType}
		}
	}
	switch dtype {
	case "F32":
		return F32(t.Name, t.Shape, narrow), nil
	case "F16":
		return F16(t.Name, t.Shape, narrow)
	}
	return t, &FormatError{Tensor: t.Name, Problem: fmt.Sprintf("cannot become %.20q", dtype), Remedy: "F32 and F16 are possible"}
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

package checkpoints

import (
	"fmt"
	"slices"
	"strings"
)

// Spec is a tensor's name and shape.
type Spec struct {
	Name  string
	Shape []int
}

// Misshapen is a tensor that both sides have, in different shapes.
type Misshapen struct {
	Name       string // as the model calls it
	Have, Want []int
}

// Report compares what a file has with what a model wants.
type Report struct {
	Source     map[string]string // for every wanted name found, in whatever shape: the name in the file
	Missing    []Spec            // wanted, not in the file; in the model's order
	Unexpected []Spec            // in the file, not wanted; in the file's order
	Misshapen  []Misshapen       // in the model's order
	Stripped   []Strip           // the prefixes that had to be removed from names of the file
	Filled     []Spec            // counters of BatchNorm that the file lacks, see MatchState
	Constants  []Spec            // normalisation constants that the file has beside the weights, see MatchState; under the file's names
}

// Strip is a prefix and how many names of the file it was removed from.
type Strip struct {
	Prefix string
	Names  int
}

// Match compares the tensors of a file with those that a model wants, strictly: every name on either side must be on the other, in the same
// shape. The prefixes (usually "module." and "model.", left by PyTorch's wrappers) are removed from a name of the file, repeatedly, only
// where the name is not wanted as it is and the shorter one is; the report says so.
func Match(have, want []Spec, prefixes ...string) *Report {
	r := &Report{Source: map[string]string{}}
	wanted := map[string]bool{}
	for _, w := range want {
		wanted[w.Name] = true
	}
	shapes := map[string][]int{}
	for _, h := range have { // exact names first: a stripped one never displaces them
		if wanted[h.Name] {
			r.Source[h.Name], shapes[h.Name] = h.Name, h.Shape
		}
	}
	for _, h := range have {
		if wanted[h.Name] {
			continue
		}
		name := strip(h.Name, wanted, prefixes)
		if _, taken := r.Source[name]; taken || !wanted[name] {
			r.Unexpected = append(r.Unexpected, h)
			continue
		}
		r.Source[name], shapes[name] = h.Name, h.Shape
		prefix := strings.TrimSuffix(h.Name, name)
		i := slices.IndexFunc(r.Stripped, func(s Strip) bool { return s.Prefix == prefix })
		if i < 0 {
			i = len(r.Stripped)
			r.Stripped = append(r.Stripped, Strip{Prefix: prefix})
		}
		r.Stripped[i].Names++
	}
	for _, w := range want {
		shape, found := shapes[w.Name]
		switch {
		case !found:
			r.Missing = append(r.Missing, w)
		case !slices.Equal(shape, w.Shape):
			r.Misshapen = append(r.Misshapen, Misshapen{Name: w.Name, Have: shape, Want: w.Shape})
		}
	}
	return r
}

// Wrappers are the prefixes that PyTorch's wrappers leave on the names of a network: DataParallel, a network as a member, and Sequential.
var Wrappers = []string{"module.", "model.", "0."}

// MatchState is [Match] for a state dict of other people's code, such as RobustBench's, DeepMind's or DM-Improves-AT's, whose names are the reference's but for
// three things. The prefixes of [Wrappers] are removed. Counters of BatchNorm (num_batches_tracked), which PyTorch before 0.4.1 did not have, may be
// missing if all are: Filled. And the constants of the normalisation, "mean" and "std", which a network may hold as buffers, are not unexpected:
// Constants; whoever loads the file should compare them with the network's.
func MatchState(have, want []Spec) *Report {
	r := Match(have, want, Wrappers...)
	counters := slices.DeleteFunc(slices.Clone(want), func(s Spec) bool { return !isCounter(s) })
	missing := slices.DeleteFunc(slices.Clone(r.Missing), func(s Spec) bool { return !isCounter(s) })
	if len(missing) == len(counters) {
		r.Filled = missing
		r.Missing = slices.DeleteFunc(r.Missing, isCounter)
	}
	constant := func(s Spec) bool {
		name := strip(s.Name, map[string]bool{"mean": true, "std": true}, Wrappers)
		return (name == "mean" || name == "std") && slices.Equal(s.Shape, []int{3, 1, 1})
	}
	for _, s := range r.Unexpected {
		if constant(s) {
			r.Constants = append(r.Constants, s)
		}
	}
	r.Unexpected = slices.DeleteFunc(r.Unexpected, constant)
	return r
}

// isCounter reports whether a tensor is BatchNorm's counter of batches.
func isCounter(s Spec) bool {
	return strings.HasSuffix(s.Name, "num_batches_tracked") && len(s.Shape) == 0
}

// strip removes prefixes from name until it is wanted or none is left.
func strip(name string, wanted map[string]bool, prefixes []string) string {
	for !wanted[name] {
		i := slices.IndexFunc(prefixes, func(p string) bool { return p != "" && strings.HasPrefix(name, p) })
		if i < 0 {
			break
		}
		name = name[len(prefixes[i]):]
	}
	return name
}

// OK reports whether the file fits the model exactly.
func (r *Report) OK() bool {
	return len(r.Missing)+len(r.Unexpected)+len(r.Misshapen) == 0
}

// FitError says that weights are not those of a model.
type FitError struct {
	File   string // path or name; empty where the caller knows it
	Report *Report
}

func (e *FitError) Error() string {
	r, remedy := e.Report, "check that file and model belong together"
	switch {
	case len(r.Missing)+len(r.Unexpected) == 0:
		remedy = "the names agree and shapes do not: the weights belong to the same architecture for another data set, width or latent size"
	case len(r.Source) == 0:
		remedy = "no name agrees: the weights belong to another architecture, or carry a prefix to be stripped"
	}
	file := ""
	if e.File != "" {
		file = e.File + ": "
	}
	return "checkpoints: " + file + "the weights do not fit the model: " + r.String() + "\n" + remedy
}

// Err returns nil if the file fits the model, or a *[FitError] with the text of [Report.String] and a remedy.
func (r *Report) Err() error {
	if r.OK() {
		return nil
	}
	return &FitError{Report: r}
}

// String lists all differences, up to ten of each kind.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d tensors fit, %d missing, %d unexpected, %d misshapen",
		len(r.Source)-len(r.Misshapen), len(r.Missing), len(r.Unexpected), len(r.Misshapen))
	for _, s := range r.Stripped {
		fmt.Fprintf(&b, "\n  prefix     %q removed from %d names", s.Prefix, s.Names)
	}
	if len(r.Filled) > 0 {
		fmt.Fprintf(&b, "\n  filled     %d counters of BatchNorm, which the file lacks, with 0", len(r.Filled))
	}
	list(&b, "constant", r.Constants, Spec.String)
	list(&b, "missing", r.Missing, Spec.String)
	list(&b, "unexpected", r.Unexpected, Spec.String)
	list(&b, "misshapen", r.Misshapen, func(m Misshapen) string {
		return fmt.Sprintf("%s: file has %s, model wants %s", quoted(m.Name), shapeText(m.Have), shapeText(m.Want))
	})
	return b.String()
}

// String returns the name and the shape.
func (s Spec) String() string { return quoted(s.Name) + " " + shapeText(s.Shape) }

func list[T any](b *strings.Builder, kind string, items []T, text func(T) string) {
	const most = 10
	for i, item := range items {
		if i == most {
			fmt.Fprintf(b, "\n  %-10s and %d more", kind, len(items)-most)
			return
		}
		fmt.Fprintf(b, "\n  %-10s %s", kind, text(item))
	}
}

package checkpoints

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// Known is a published weight file. What nobody has said or measured is absent: a zero stands for unknown.
type Known struct {
	Name    string    `json:"name"`            // the reference's file name without its ending
	Role    string    `json:"role"`            // "classifier", or the part of a purifier
	Sources []Source  `json:"sources"`         // where it is offered, in the order to try; PyTorch files are converted
	Origin  string    `json:"origin"`          // where its authors say so
	Clean   *Accuracy `json:"clean,omitempty"` // of a classifier
}

// Source is an address that offers a weight file.
type Source struct {
	URL    string `json:"url"`
	Bytes  int64  `json:"bytes,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // lower-case hex
}

// Accuracy is a published clean accuracy.
type Accuracy struct {
	Percent float64 `json:"percent"`
	Images  int     `json:"images"` // of the test set
	Source  string  `json:"source"` // who says so
}

//go:embed index.json
var knownFiles []byte

const (
	indexFormat = "carsokit-index-1"
	maxIndex    = 1 << 20 // bytes
)

// weightName keeps names from leaving a folder.
var weightName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$`)

// Index lists the published weights of the paper.
func Index() ([]Known, error) { return ParseIndex("the built-in index", knownFiles) }

// ParseIndex reads an index of weights, JSON in the form of the built-in one, and checks every entry: names are plain and occur once, addresses are http or https
// and end in .safetensors, .pt or .pth, digests and sizes can be such. The name is for errors.
func ParseIndex(name string, b []byte) ([]Known, error) {
	if len(b) > maxIndex {
		return nil, &FormatError{File: name, Problem: fmt.Sprintf("an index of %d bytes", len(b)), Remedy: fmt.Sprintf("one has at most %d", maxIndex)}
	}
	var index struct {
		Format  string  `json:"format"`
		Weights []Known `json:"weights"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(&index)
	if err == nil {
		if _, trailing := dec.Token(); trailing != io.EOF {
			err = errors.New("something follows the JSON object")
		}
	}
	if err == nil && index.Format != indexFormat {
		err = fmt.Errorf("its format is %.40q, not %q", index.Format, indexFormat)
	}
	const form = "write it in the form of checkpoints/index.json"
	if err != nil {
		if start := otherFormat(b[:min(len(b), 512)]); start != nil {
			err = errors.New(start.Problem)
		}
		return nil, &FormatError{File: name, Problem: "is no index of weights: " + err.Error(), Remedy: form}
	}
	seen := map[string]bool{}
	for _, k := range index.Weights {
		if problem := k.check(); problem != "" {
			return nil, &FormatError{File: name, Problem: fmt.Sprintf("weights %s: %s", quoted(k.Name), problem), Remedy: form}
		}
		if seen[k.Name] {
			return nil, &FormatError{File: name, Problem: fmt.Sprintf("weights %s are listed twice", quoted(k.Name)), Remedy: "list them once"}
		}
		seen[k.Name] = true
	}
	return index.Weights, nil
}

// check says what is wrong with an entry.
func (k Known) check() string {
	switch {
	case !weightName.MatchString(k.Name) || ending(k.Name) != "":
		return "the name may hold letters, digits, '.', '_' and '-' only, and no ending"
	case !weightName.MatchString(k.Role):
		return "lack a role"
	case len(k.Sources) == 0:
		return "have no source"
	case k.Clean != nil && (!(k.Clean.Percent > 0 && k.Clean.Percent <= 100) || k.Clean.Images <= 0 || k.Clean.Source == ""):
		return "have a clean accuracy that is no percentage, or lacks images or source"
	}
	for _, s := range k.Sources {
		u, err := url.Parse(s.URL)
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
			return fmt.Sprintf("the address %.100q is no http or https one", s.URL)
		case ending(u.Path) == "":
			return fmt.Sprintf("the address %.100q does not end in .safetensors, .pt or .pth", s.URL)
		case s.Bytes < 0:
			return "have a negative size"
		case s.SHA256 != "" && !isSHA256(s.SHA256):
			return fmt.Sprintf("%.80q is no SHA-256 in lower-case hex", s.SHA256)
		}
	}
	return ""
}

// isSHA256 reports whether s is a digest in lower-case hex.
func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && s == strings.ToLower(s)
}

// endings of weight files, the preferred first.
var endings = []string{".safetensors", ".pt", ".pth"}

// ending returns the ending of a weight file's name; empty: it has none.
func ending(file string) string {
	for _, e := range endings {
		if strings.HasSuffix(file, e) {
			return e
		}
	}
	return ""
}

// Stem returns the name of a weight file without folders and ending. Other dots belong to it.
func Stem(file string) string {
	name := path.Base(strings.ReplaceAll(file, "\\", "/"))
	return strings.TrimSuffix(name, ending(name))
}

// Lookup finds weights by their name or the name of their file.
func Lookup(index []Known, name string) (Known, error) {
	for _, k := range index {
		if k.Name == Stem(name) {
			return k, nil
		}
	}
	var near []string
	for _, k := range index {
		if strings.Contains(k.Name, Stem(name)) && len(near) < 5 {
			near = append(near, k.Name)
		}
	}
	text := "`carso checkpoint list` shows all"
	if len(near) > 0 {
		text = "do you mean " + strings.Join(near, ", ") + "?"
	}
	return Known{}, fmt.Errorf("checkpoints: no weights called %s are known: %s", quoted(name), text)
}

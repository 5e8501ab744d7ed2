// Package record keeps what an evaluation observed, image by image, and computes accuracies from it.
//
// A [Spec] says everything that can change a number; its [Spec.Key] names the file. A [Store] is a folder with one append-only file of
// JSON lines per key: every line is one chunk of images and carries the whole Spec. A [Writer] appends and syncs one line at a time, so
// a kill costs at most the chunk under way, and an interrupted evaluation ends with the same bytes as an uninterrupted one. For that
// reason a line holds no clock and no duration.
//
//	store, err := record.Open("records")
//	w, err := store.Writer(spec)            // locked; a torn last line is cut off
//	for _, chunk := range chunksWithout(w.Done()) {
//		err = w.Append(observe(chunk))
//	}
//	err = w.Close()
//
//	runs, err := record.Load("records")     // any machine, no lock
//	fmt.Println(runs[0].Estimate(record.Worst))
//
// What an accuracy means is a [Score]: those of [Definitions], and [PartRobust], [Share] and the like.
// [Run.Estimate] turns one into a percentage with a 95 % interval, [Run.Bootstrap] does it by resampling, [Compare] pairs two runs image by image, [Curve] collects a sweep
// over eps.
package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Schema is the version of [Line] that this package writes, and the only one it reads.
const Schema = 1

// Spec is everything that can change a number of an evaluation. Two evaluations with the same Key produce the same records.
type Spec struct {
	Schema   int               `json:"schema"`
	Scenario string            `json:"scenario"` // "a", "b", "c"
	Row      string            `json:"row"`      // "classifier", "plain", "carso-paper", "carso-honest"
	Column   string            `json:"column"`   // "clean", "apgd-ce", "rand", "pgd-eot", "strict"
	Scale    string            `json:"scale"`    // of paper.Scales, such as "small"
	Data     Data              `json:"data"`
	Weights  []Weight          `json:"weights,omitempty"`
	Defence  json.RawMessage   `json:"defence"` // ensemble size, deciding aggregation, architecture
	Attack   json.RawMessage   `json:"attack"`  // the attacks and the outputs they attack; null for clean
	Eps      float64           `json:"eps"`     // l_inf bound, pixels in [0,1]
	Draws    int               `json:"draws"`   // fresh scoring passes per image, at least 1
	Seed     uint64            `json:"seed"`
	Versions map[string]string `json:"versions,omitempty"` // of this kit, GoMLX, the backend
	// Index pins the images, ascending positions in the split; nil: the first ones, as many as there are records of.
	Index []int `json:"index,omitempty"`
}

// Data names a data set and its decoded content.
type Data struct {
	Name   string `json:"name"`
	Split  string `json:"split"`
	Digest string `json:"digest"` // of the decoded labels and pixels, hex
}

// Weight is one weights file: what it is for, its base name and its content.
type Weight struct {
	Role   string `json:"role"`
	File   string `json:"file"` // base name: a record must read the same on every machine
	SHA256 string `json:"sha256"`
}

// Image is what was observed on one image. Predictions are class indices.
type Image struct {
	Index     int     `json:"index"` // in the split
	Label     int     `json:"label"`
	Clean     []int   `json:"clean,omitempty"`     // predictions of fresh passes on the clean image
	Initial   bool    `json:"initial"`             // correct in the attack's initial pass, hence attacked
	Broken    string  `json:"broken,omitempty"`    // "attack/output" confirmed to break it; empty: none
	FirstHit  string  `json:"first_hit,omitempty"` // "attack/output" that first saw an iterate misclassified in its own draw, or HitInitially, NoHit; empty: not kept
	Fresh     []int   `json:"fresh,omitempty"`     // predictions of fresh passes on the image that the attack returned
	Strongest []int   `json:"strongest,omitempty"` // predictions of fresh passes on the point of highest loss
	Linf      float64 `json:"linf"`                // of the returned perturbation
	Parts     []Part  `json:"parts,omitempty"`
}

// Values of Image.FirstHit beside the names of attacks.
const (
	HitInitially = "initial" // wrong in the initial pass, hence not attacked
	NoHit        = "none"    // all attacks looked at their iterates, and none was misclassified
)

// Part is the course of one attack on one output of the defence, on one image.
type Part struct {
	Attack        string `json:"attack"`                    // "apgd-ce"
	Output        string `json:"output"`                    // the attacked output: "peel", "log-sum"
	Broken        bool   `json:"broken,omitempty"`          // the result was confirmed to break the image
	NaNStart      bool   `json:"nan_start,omitempty"`       // the first gradient held a NaN
	NaNEver       bool   `json:"nan_ever,omitempty"`        // any gradient did
	ZeroStart     bool   `json:"zero_start,omitempty"`      // the first gradient was exactly zero
	ZeroEver      bool   `json:"zero_ever,omitempty"`       // any gradient was
	LossZeroStart bool   `json:"loss_zero_start,omitempty"` // the first loss was exactly zero
	Moved         bool   `json:"moved,omitempty"`           // the point of highest loss differs from the start
	Steps         int    `json:"steps"`                     // steps taken
	Hit           int    `json:"hit"`                       // first misclassified step, 0 being the start; -1: never, or not kept, as by sequences of attacks
}

// Line is one line of a record file: one chunk of images.
type Line struct {
	Key    string  `json:"key"`
	Spec   *Spec   `json:"spec"`
	Images []Image `json:"images"`
}

// ErrSchema is wrapped by the errors about records of another schema.
var ErrSchema = errors.New("unknown schema")

// name is what scenario, row, column and scale must look like, as they become part of a file's name.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// Validate says what is wrong with the Spec.
func (s Spec) Validate() error {
	if s.Schema != Schema {
		return fmt.Errorf("record: spec has schema %d, this version reads and writes %d: %w", s.Schema, Schema, ErrSchema)
	}
	for _, f := range []struct{ field, value string }{
		{"scenario", s.Scenario}, {"row", s.Row}, {"column", s.Column}, {"scale", s.Scale},
	} {
		if !name.MatchString(f.value) {
			return fmt.Errorf("record: spec.%s is %q: want lower-case letters, digits, '.', '_' and '-'", f.field, f.value)
		}
	}
	if s.Data.Name == "" || s.Data.Split == "" || s.Data.Digest == "" {
		return fmt.Errorf("record: spec.data %+v needs name, split and digest", s.Data)
	}
	for i, w := range s.Weights {
		if w.Role == "" || w.File == "" || w.SHA256 == "" || strings.ContainsAny(w.File, `/\`) {
			return fmt.Errorf("record: spec.weights[%d] %+v needs role, sha256 and a file without folders", i, w)
		}
	}
	if math.IsNaN(s.Eps) || math.IsInf(s.Eps, 0) || s.Eps < 0 {
		return fmt.Errorf("record: spec.eps is %v: want a finite bound of at least 0", s.Eps)
	}
	if s.Draws < 1 {
		return fmt.Errorf("record: spec.draws is %d: want at least 1", s.Draws)
	}
	for k, i := range s.Index {
		if i < 0 || k > 0 && i <= s.Index[k-1] {
			return fmt.Errorf("record: spec.index[%d] is %d: want ascending positions of at least 0, each once", k, i)
		}
	}
	for _, f := range []struct {
		field string
		value json.RawMessage
	}{{"defence", s.Defence}, {"attack", s.Attack}} {
		if _, err := canonical(f.value); err != nil {
			return fmt.Errorf("record: spec.%s is not JSON: %w", f.field, err)
		}
	}
	return nil
}

// Key identifies the Spec: the first 16 bytes of the SHA-256 of its canonical JSON (object keys sorted, no spaces), in hex. It is empty
// for a Spec that Validate refuses.
func (s Spec) Key() string {
	if s.Validate() != nil {
		return ""
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	if raw, err = canonical(raw); err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

// Wanted lists the first n images of the evaluation; of pinned ones, all if there are fewer.
func (s Spec) Wanted(n int) []int {
	if s.Index != nil {
		return s.Index[:min(n, len(s.Index))]
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// Place is the position of an image of the split among those of the evaluation, by which chunks are counted.
func (s Spec) Place(index int) int {
	if s.Index == nil {
		return index
	}
	place, _ := slices.BinarySearch(s.Index, index)
	return place
}

// FileName is the name of the file that holds the Spec's records, like "a-carso-paper-rand-small-0123456789ab.jsonl".
func (s Spec) FileName() string {
	key := s.Key()
	return fmt.Sprintf("%s-%s-%s-%s-%s.jsonl", s.Scenario, s.Row, s.Column, s.Scale, key[:min(12, len(key))])
}

// canonical rewrites JSON with sorted keys and no spaces; numbers keep their spelling. Nothing at all is null.
func canonical(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return json.RawMessage("null"), nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := decodeAll(d, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// decodeAll decodes one value and refuses anything but white space after it.
func decodeAll(d *json.Decoder, v any) error {
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// ParseLine reads one line and checks it: known schema, known fields, a key that is the Spec's own, sound images. Errors wrap
// [ErrSchema] where the schema is unknown.
func ParseLine(raw []byte) (*Line, error) {
	// The schema comes first: of another one, unknown fields are no news.
	var peek struct {
		Spec *struct {
			Schema *int `json:"schema"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(raw, &peek); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	if peek.Spec == nil || peek.Spec.Schema == nil {
		return nil, errors.New("not a record: no spec.schema")
	}
	if *peek.Spec.Schema != Schema {
		return nil, fmt.Errorf("spec has schema %d, this version reads %d: %w", *peek.Spec.Schema, Schema, ErrSchema)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var l Line
	if err := decodeAll(d, &l); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	if l.Spec == nil {
		return nil, errors.New("not a record: no spec")
	}
	if err := l.Spec.Validate(); err != nil {
		return nil, err
	}
	if key := l.Spec.Key(); l.Key != key {
		return nil, fmt.Errorf("key %q is not the key of its spec, %q: the line was edited", l.Key, key)
	}
	return &l, checkImages(l.Images)
}

// checkImages says what no observation can be.
func checkImages(images []Image) error {
	if len(images) == 0 {
		return errors.New("no images")
	}
	seen := map[int]bool{}
	for _, im := range images {
		switch {
		case im.Index < 0 || im.Label < 0:
			return fmt.Errorf("image %d has label %d: neither may be negative", im.Index, im.Label)
		case seen[im.Index]:
			return fmt.Errorf("image %d is there twice", im.Index)
		case math.IsNaN(im.Linf) || math.IsInf(im.Linf, 0) || im.Linf < 0:
			return fmt.Errorf("image %d: linf is %v", im.Index, im.Linf)
		}
		seen[im.Index] = true
		for _, p := range im.Parts {
			if p.Attack == "" || p.Output == "" || p.Steps < 0 || p.Hit < -1 {
				return fmt.Errorf("image %d: part %+v needs attack, output, steps of at least 0 and a hit of at least -1", im.Index, p)
			}
		}
	}
	return nil
}

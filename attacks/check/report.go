package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Verdict is what a check comes to.
type Verdict string

// The verdicts, from good to bad. NotApplicable says that the check means nothing for this classifier or these options.
const (
	Pass          Verdict = "pass"
	Warn          Verdict = "warn"
	Fail          Verdict = "fail"
	NotApplicable Verdict = "not-applicable"
)

// Finding is the result of one check.
type Finding struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Figure is 0 where nothing is wrong. It passes up to Warn, warns up to Fail, and fails beyond.
	Figure float64 `json:"figure"`
	Warn   float64 `json:"warn"`
	Fail   float64 `json:"fail"`
	N      int     `json:"n"`      // the cases that Figure is a share or a mean of
	What   string  `json:"what"`   // what Figure is
	Says   string  `json:"says"`   // what was found and what follows from it, in plain words
	Source string  `json:"source"` // where the check is from
}

// Cost counts passes of one image: one draw of a stochastic classifier is one pass.
type Cost struct {
	Forward  int `json:"forward"`  // without gradient
	Gradient int `json:"gradient"` // with gradient
}

// Report is what Run found.
type Report struct {
	Subject    string    `json:"subject,omitempty"`
	Images     int       `json:"images"`
	Right      int       `json:"right"` // of Images, classified correctly before any attack
	Broken     int       `json:"broken"`
	Classes    int       `json:"classes"`
	Stochastic bool      `json:"stochastic"`
	Eps        float64   `json:"eps"`
	Steps      int       `json:"steps"`
	EoT        int       `json:"eot"`
	Confirm    int       `json:"confirm"`
	Queries    int       `json:"queries"`
	Seed       uint64    `json:"seed"`
	Cost       Cost      `json:"cost"`
	Findings   []Finding `json:"findings"`
}

// Find returns the finding of that name; its verdict is empty if there is none.
func (r *Report) Find(name string) Finding {
	for _, f := range r.Findings {
		if f.Name == name {
			return f
		}
	}
	return Finding{}
}

// Named lists the names of the findings with a verdict.
func (r *Report) Named(v Verdict) []string {
	var names []string
	for _, f := range r.Findings {
		if f.Verdict == v {
			names = append(names, f.Name)
		}
	}
	return names
}

// Formats lists what Render knows.
func Formats() []string { return []string{"text", "markdown", "json"} }

// Render writes the report as one page.
func (r *Report) Render(w io.Writer, format string) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case "text":
		return r.text(w)
	case "markdown":
		return r.markdown(w)
	}
	return fmt.Errorf("check: no format %q: there are %s", format, strings.Join(Formats(), ", "))
}

// Read reads a report that Render wrote as JSON.
func Read(from io.Reader) (*Report, error) {
	var r Report
	d := json.NewDecoder(from)
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("check: reading a report: %w", err)
	}
	return &r, nil
}

// head is the report in three sentences.
func (r *Report) head() string {
	kind := "deterministic"
	if r.Stochastic {
		kind = fmt.Sprintf("stochastic, %d draws a gradient, %d passes decide", r.EoT, r.Confirm)
	}
	return fmt.Sprintf("%d of %d images are right (%d classes; %s). At %.3g/255 the white-box attacks of %d steps break %d of them. %s failed, %s warned, %s passed, %s not applicable. "+
		"Cost: %d passes with gradient, %d without. Seed %d.", r.Right, r.Images, r.Classes, kind, r.Eps*255, r.Steps, r.Broken,
		count(r, Fail), count(r, Warn), count(r, Pass), count(r, NotApplicable), r.Cost.Gradient, r.Cost.Forward, r.Seed)
}

func count(r *Report, v Verdict) string { return fmt.Sprint(len(r.Named(v))) }

// figure writes a figure; limit the limits that it is held to.
func (f Finding) figure() string {
	if f.Verdict == NotApplicable {
		return "–"
	}
	return fmt.Sprintf("%.3g", f.Figure)
}

func (f Finding) limit() string {
	switch {
	case f.Verdict == NotApplicable:
		return "–"
	case f.Warn == f.Fail:
		return fmt.Sprintf("%.3g", f.Fail)
	}
	return fmt.Sprintf("%.3g / %.3g", f.Warn, f.Fail)
}

func (r *Report) markdown(w io.Writer) error {
	var out strings.Builder
	if r.Subject != "" {
		fmt.Fprintf(&out, "**%s.** ", r.Subject)
	}
	fmt.Fprintf(&out, "%s\n\n| check | verdict | figure | limits (warn / fail) | n | what it says |\n| --- | --- | --- | --- | --- | --- |\n", r.head())
	for _, f := range r.Findings {
		verdict := string(f.Verdict)
		if f.Verdict == Fail {
			verdict = "**FAIL**"
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %d | %s |\n", f.Name, verdict, f.figure(), f.limit(), f.N, strings.ReplaceAll(f.Says, "|", "\\|"))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (r *Report) text(w io.Writer) error {
	var out strings.Builder
	if r.Subject != "" {
		fmt.Fprintf(&out, "%s\n", r.Subject)
	}
	const width = 110
	wrap(&out, "", r.head(), width)
	fmt.Fprintf(&out, "\n%-22s %-14s %8s  %-15s %4s\n", "check", "verdict", "figure", "warn / fail", "n")
	for _, f := range r.Findings {
		verdict := string(f.Verdict)
		if f.Verdict == Fail {
			verdict = "FAIL"
		}
		fmt.Fprintf(&out, "%-22s %-14s %s%s  %s%s %4d\n", f.Name, verdict, pad(f.figure(), 8), f.figure(), f.limit(), pad(f.limit(), 15), f.N)
		wrap(&out, "    ", f.Says, width)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// pad is the blanks that s lacks to the width.
func pad(s string, width int) string {
	return strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}

// wrap writes s in lines of at most width characters.
func wrap(out *strings.Builder, indent, s string, width int) {
	line := indent
	for word := range strings.FieldsSeq(s) {
		if len(line) > len(indent) && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			fmt.Fprintln(out, line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(out, line)
}

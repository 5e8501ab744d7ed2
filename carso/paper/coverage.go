package paper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"carsokit/carso/record"
)

// Count says how many cells are declared, and how many hold a number of ours.
type Count struct {
	Declared int            `json:"declared"`
	Filled   int            `json:"filled"`
	Empty    int            `json:"empty"`
	Reasons  map[string]int `json:"reasons"` // of empty cells, by the beginning of their reason, up to a colon or semicolon, without what belongs to one run
}

// TableCount is the Count of one table.
type TableCount struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Count
	Missing []record.Query `json:"-"` // evaluations that would fill empty cells and can be run
	Blocked []record.Query `json:"-"` // those that lack weights
}

// EvaluationCount is the Count of the cells of one evaluation of the authors' code, over all tables.
type EvaluationCount struct {
	ID        string `json:"id"`        // "a_hieps"
	Published bool   `json:"published"` // the authors offer its weights
	Cells     int    `json:"cells"`
	Filled    int    `json:"filled"`
}

// Coverage says what of the catalogue the records fill at a scale.
type Coverage struct {
	Scale string `json:"scale"`
	Count
	Tables      []TableCount      `json:"tables"`
	Evaluations []EvaluationCount `json:"evaluations"`
	// Left is the cost of what is missing and can be run, every evaluation once; Blocked that of what lacks weights.
	Left    Cost `json:"left"`
	Blocked Cost `json:"blocked"`
}

// Evaluation is one of the authors' evaluations, in their own name for it.
type Evaluation struct {
	ID        string
	Query     record.Query // of the paper's protocol; without scale
	Published bool         // its weights are offered
}

// Evaluations lists every evaluation that the authors' code defines.
func Evaluations() []Evaluation {
	var all []Evaluation
	for _, s := range Scenarios() {
		q := record.Query{Scenario: s.ID, Row: "carso-paper", Column: "rand"}
		pgd, high, other := q, q, q
		pgd.Column, high.Eps, other.Decides = "pgd-eot", HighEps, aggregationOf(s.ID)
		all = append(all, Evaluation{s.ID, q, true}, Evaluation{s.ID + "_pgdeot", pgd, true}, Evaluation{s.ID + "_hieps", high, true}, Evaluation{s.ID + "_agg", other, true})
		for _, v := range Variants() {
			if strings.HasPrefix(v.ID, s.ID+"_") {
				all = append(all, Evaluation{v.ID, record.Query{Scenario: v.ID, Row: "carso-paper", Column: "rand"}, v.Unpublished == ""})
			}
		}
	}
	for _, p := range []struct{ id, scenario string }{{"plain_c10", "a"}, {"plain_c100", "b"}} {
		all = append(all, Evaluation{p.id, record.Query{Scenario: p.scenario, Row: "plain", Column: "clean"}, true})
	}
	return all
}

// Cover builds all tables at a scale and counts their cells.
func Cover(scale string, runs []record.Run) (Coverage, error) {
	c := Coverage{Scale: scale, Count: Count{Reasons: map[string]int{}}}
	for _, e := range Evaluations() {
		c.Evaluations = append(c.Evaluations, EvaluationCount{ID: e.ID, Published: e.Published})
	}
	var missing, blocked []record.Query
	for _, e := range Tables() {
		t, err := Build(e.ID, scale, runs)
		if err != nil {
			return c, err
		}
		n := TableCount{ID: t.ID, Title: t.Title, Count: Count{Reasons: map[string]int{}}, Missing: t.Missing, Blocked: t.Blocked}
		for _, row := range t.Cells {
			for _, cell := range row {
				n.count(cell)
				c.count(cell)
				for k, e := range Evaluations() {
					e.Query.Scale = scale
					if cell.Evaluation == e.Query {
						c.Evaluations[k].Cells++
						if cell.Reason == "" {
							c.Evaluations[k].Filled++
						}
					}
				}
			}
		}
		c.Tables = append(c.Tables, n)
		missing, blocked = append(missing, t.Missing...), append(blocked, t.Blocked...)
	}
	var err error
	if c.Left, err = TotalCost(distinct(missing)); err == nil {
		c.Blocked, err = TotalCost(distinct(blocked))
	}
	return c, err
}

func distinct(qs []record.Query) []record.Query {
	var out []record.Query
	for _, q := range qs {
		if !slices.Contains(out, q) {
			out = append(out, q)
		}
	}
	return out
}

// What in a reason belongs to one run alone.
var (
	counts = regexp.MustCompile(`\d+ of \d+`)
	files  = regexp.MustCompile(` \(\S+\.jsonl\)`)
)

func (n *Count) count(c Cell) {
	n.Declared++
	if c.Reason == "" {
		n.Filled++
		return
	}
	n.Empty++
	kind := c.Reason
	if i := strings.IndexAny(kind, ":;"); i > 0 {
		kind = kind[:i]
	}
	n.Reasons[counts.ReplaceAllString(files.ReplaceAllString(kind, ""), "some")]++
}

// Write writes the counts as text or json.
func (c Coverage) Write(w io.Writer, format string) error {
	var out bytes.Buffer
	switch format {
	case "json":
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(c); err != nil {
			return fmt.Errorf("paper: writing the coverage: %w", err)
		}
	case "text":
		c.text(&out)
	default:
		return fmt.Errorf("paper: coverage has no format %q; there are text, json", format)
	}
	_, err := w.Write(out.Bytes())
	return err
}

func (c Coverage) text(out *bytes.Buffer) {
	fmt.Fprintf(out, "%-18s %8s %8s %8s  scale %s\n", "table", "declared", "filled", "empty", c.Scale)
	for _, t := range c.Tables {
		fmt.Fprintf(out, "%-18s %8d %8d %8d  %s\n", t.ID, t.Declared, t.Filled, t.Empty, t.Title)
	}
	fmt.Fprintf(out, "%-18s %8d %8d %8d\n\nempty because\n", "in all", c.Declared, c.Filled, c.Empty)
	var reasons []string
	for r := range c.Reasons {
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b string) int {
		if d := c.Reasons[b] - c.Reasons[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, r := range reasons {
		fmt.Fprintf(out, "%8d  %s\n", c.Reasons[r], r)
	}
	fmt.Fprintf(out, "\nthe authors' evaluations\n")
	for _, e := range c.Evaluations {
		note := ""
		if !e.Published {
			note = "  (nobody publishes its purifier)"
		}
		fmt.Fprintf(out, "  %-14s %d of %d cells%s\n", e.ID, e.Filled, e.Cells, note)
	}
	fmt.Fprintf(out, "\nto run what is missing: %s; what lacks weights: %s\n", c.Left, c.Blocked)
}

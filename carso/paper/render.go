package paper

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"carsokit/carso/record"
)

// format writes a table.
type format struct {
	name  string
	write func(*bytes.Buffer, Table) error
}

func formats() []format {
	return []format{{"text", text}, {"markdown", markdown}, {"latex", latex}, {"csv", asCSV}, {"json", asJSON}}
}

// Formats lists the formats of [Render].
func Formats() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// Render writes the table in a format of [Formats]. The bytes depend on the table alone. JSON and CSV have one object or line per cell,
// with the fields table, row, column, scale, value, n, lo, hi, published, provenance, record and reason: numbers are percentages,
// percentage points (column gain) or, in columns of survivors, images among n; null or nothing where there is none, and then reason says
// why value is missing.
func Render(w io.Writer, t Table, name string) error {
	for _, f := range formats() {
		if f.name != name {
			continue
		}
		var out bytes.Buffer
		if err := f.write(&out, t); err != nil {
			return fmt.Errorf("paper: rendering table %s as %s: %w", t.ID, name, err)
		}
		if _, err := w.Write(out.Bytes()); err != nil {
			return fmt.Errorf("paper: writing table %s as %s: %w", t.ID, name, err)
		}
		return nil
	}
	return fmt.Errorf("paper: no format %q; there are %s", name, strings.Join(Formats(), ", "))
}

// flat is a cell in JSON and CSV.
type flat struct {
	Table      string   `json:"table"`
	Row        string   `json:"row"`
	Column     string   `json:"column"`
	Scale      string   `json:"scale"`
	Value      *float64 `json:"value"`
	N          int      `json:"n"`
	Lo         *float64 `json:"lo"`
	Hi         *float64 `json:"hi"`
	Published  *float64 `json:"published"`
	Provenance string   `json:"provenance"`
	Record     string   `json:"record"`
	Reason     string   `json:"reason"`
}

func flatten(t Table) []flat {
	rounded := func(x float64, there bool) *float64 {
		if !there {
			return nil
		}
		x = math.Round(x*100)/100 + 0 // + 0: no negative zero
		return &x
	}
	var out []flat
	for i, row := range t.Rows {
		for j, column := range t.Columns {
			c := t.Cells[i][j]
			full := c.Reason == ""
			out = append(out, flat{t.ID, row.ID, column.ID, t.Scale,
				rounded(c.Value, full), c.N, rounded(c.Lo, full && c.Unit != Images), rounded(c.Hi, full && c.Unit != Images),
				rounded(c.Published.Value, c.Published.Known), c.Published.Provenance, c.Record, c.Reason})
		}
	}
	return out
}

func asJSON(out *bytes.Buffer, t Table) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	separator := "[\n"
	for _, f := range flatten(t) {
		out.WriteString(separator)
		if err := e.Encode(f); err != nil {
			return err
		}
		out.Truncate(out.Len() - 1) // Encode's line end: the comma comes first
		separator = ",\n"
	}
	out.WriteString("\n]\n")
	return nil
}

func asCSV(out *bytes.Buffer, t Table) error {
	w := csv.NewWriter(out)
	w.Write([]string{"table", "row", "column", "scale", "value", "n", "lo", "hi", "published", "provenance", "record", "reason"})
	number := func(x *float64) string {
		if x == nil {
			return ""
		}
		return strconv.FormatFloat(*x, 'f', -1, 64)
	}
	for _, f := range flatten(t) {
		w.Write([]string{f.Table, f.Row, f.Column, f.Scale, number(f.Value), strconv.Itoa(f.N), number(f.Lo), number(f.Hi),
			number(f.Published), f.Provenance, f.Record, f.Reason})
	}
	w.Flush()
	return w.Error()
}

// ours is the value of a full cell and its interval, "63.00" and "[58.68, 67.13]".
func (c Cell) ours() (value, interval string) {
	switch c.Unit {
	case Images:
		return fmt.Sprintf("%.0f of %d", c.Value, c.N), ""
	case Points:
		return fmt.Sprintf("%+.2f", c.Value), fmt.Sprintf("[%+.2f, %+.2f]", c.Lo, c.Hi)
	default:
		return fmt.Sprintf("%.2f", c.Value), fmt.Sprintf("[%.2f, %.2f]", c.Lo, c.Hi)
	}
}

// theirs is the published value: "76.13", or "unknown" where only that is known; empty where nothing is.
func (c Cell) theirs() string {
	switch {
	case c.Published.Known && c.Unit == Points:
		return fmt.Sprintf("%+.2f", c.Published.Value)
	case c.Published.Known && c.Unit == Plain:
		return fmt.Sprintf("%g", c.Published.Value)
	case c.Published.Known:
		return fmt.Sprintf("%.2f", c.Published.Value)
	case c.Published.Provenance != "":
		return "unknown"
	}
	return ""
}

// legend explains the table: the scale, the columns, the definitions that its cells use, and what the records lack.
func (t Table) legend() []string {
	lines := []string{"Percentages with 95 % intervals over n images. Published numbers are of full size and not comparable with a smaller scale."}
	if s, err := FindScale(t.Scale); err == nil {
		lines = append(lines, "Scale "+s.String()+".")
	}
	for _, c := range t.Columns {
		lines = append(lines, c.ID+": "+c.Title+".")
	}
	for _, d := range record.Definitions() {
		if slices.ContainsFunc(t.Cells, func(row []Cell) bool {
			return slices.ContainsFunc(row, func(c Cell) bool {
				return slices.Contains(strings.FieldsFunc(c.Definition, func(r rune) bool { return r == ' ' || r == ',' }), d.Name)
			})
		}) {
			lines = append(lines, "Counted as "+d.Name+": "+d.Says+".")
		}
	}
	for _, n := range t.Notes {
		lines = append(lines, "Note: "+n+".")
	}
	return lines
}

// text writes a block per row and a line per column: it fits a terminal and hides nothing. Columns that are empty for one reason share a
// line.
func text(out *bytes.Buffer, t Table) error {
	width := 0
	for _, c := range t.Columns {
		width = max(width, len(c.ID))
	}
	fmt.Fprintf(out, "%s: %s\n", t.ID, t.Title)
	for i, row := range t.Rows {
		fmt.Fprintf(out, "\n%s  %s\n", row.ID, row.Title)
		var reasons []string
		empty := map[string][]string{} // by reason, the columns
		for j, column := range t.Columns {
			c := t.Cells[i][j]
			theirs := c.theirs()
			if theirs != "" {
				theirs = fmt.Sprintf("published: %s (%s)", theirs, c.Published.Provenance)
			}
			ours, interval := c.ours()
			if interval != "" {
				ours += fmt.Sprintf(" %s n=%d", interval, c.N)
			}
			ours += " (" + c.Definition + ")"
			if c.Reason != "" {
				if empty[c.Reason] == nil {
					reasons = append(reasons, c.Reason)
				}
				empty[c.Reason] = append(empty[c.Reason], column.ID)
				if theirs == "" {
					continue
				}
				ours = "-"
			}
			fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-*s  %s  %s", width, column.ID, ours, theirs), " "))
		}
		for _, reason := range reasons {
			fmt.Fprintf(out, "  no %s: %s\n", strings.Join(empty[reason], ", "), reason)
		}
	}
	fmt.Fprintln(out)
	for _, l := range t.legend() {
		fmt.Fprintln(out, l)
	}
	return nil
}

// footnotes numbers texts, equal ones alike.
type footnotes []string

func (f *footnotes) number(text string) int {
	i := slices.Index(*f, text)
	if i < 0 {
		i = len(*f)
		*f = append(*f, text)
	}
	return i + 1
}

// lines is a cell as short lines with footnotes, for the formats that are grids. mark writes a footnote's number.
func (c Cell) lines(notes *footnotes, mark func(int) string) []string {
	var lines []string
	if c.Reason != "" {
		lines = append(lines, "- "+mark(notes.number(c.Reason)))
	} else if value, interval := c.ours(); interval == "" {
		lines = append(lines, value, c.Definition)
	} else {
		lines = append(lines, value, interval, fmt.Sprintf("n=%d, %s", c.N, c.Definition))
	}
	if p := c.theirs(); p != "" {
		lines = append(lines, "published "+p+" "+mark(notes.number(c.Published.Provenance)))
	}
	return lines
}

func markdown(out *bytes.Buffer, t Table) error {
	escape := strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "_", `\_`, "*", `\*`).Replace
	mark := func(n int) string { return fmt.Sprintf("(%d)", n) }
	fmt.Fprintf(out, "**%s: %s**\n\n| |", t.ID, escape(t.Title))
	for _, c := range t.Columns {
		fmt.Fprintf(out, " %s |", c.ID)
	}
	fmt.Fprintf(out, "\n|---|%s\n", strings.Repeat("---|", len(t.Columns)))
	var notes footnotes
	for i, row := range t.Rows {
		fmt.Fprintf(out, "| %s<br>%s |", row.ID, escape(row.Title))
		for _, c := range t.Cells[i] {
			lines := c.lines(&notes, mark)
			for k := range lines {
				lines[k] = escape(lines[k])
			}
			fmt.Fprintf(out, " %s |", strings.Join(lines, "<br>"))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
	for i, n := range notes {
		fmt.Fprintf(out, "%d. %s\n", i+1, escape(n))
	}
	fmt.Fprintln(out)
	for _, l := range t.legend() {
		fmt.Fprintf(out, "- %s\n", escape(l))
	}
	return nil
}

var escapeLaTeX = strings.NewReplacer(`\`, `\textbackslash{}`, "{", `\{`, "}", `\}`, "_", `\_`, "%", `\%`, "&", `\&`, "#", `\#`, "$", `\$`,
	"~", `\textasciitilde{}`, "^", `\textasciicircum{}`, "<", `$<$`, ">", `$>$`).Replace

// latex writes a tabular that needs no package, and its notes as an enumeration.
func latex(out *bytes.Buffer, t Table) error {
	escape := escapeLaTeX
	mark := func(n int) string { return fmt.Sprintf("(%d)", n) }
	// A line break may be followed by "[", which LaTeX would take for a length: hence the empty group.
	stack := func(lines []string) string {
		for i := range lines {
			lines[i] = escape(lines[i])
		}
		return `\shortstack{` + strings.Join(lines, `\\{}`) + "}"
	}
	fmt.Fprintf(out, "%% %s: %s\n\\begin{tabular}{l%s}\n\\hline\n", t.ID, t.Title, strings.Repeat("c", len(t.Columns)))
	for _, c := range t.Columns {
		fmt.Fprintf(out, "& %s ", escape(c.ID))
	}
	fmt.Fprint(out, "\\\\\n\\hline\n")
	var notes footnotes
	for i, row := range t.Rows {
		fmt.Fprintln(out, escape(row.Title))
		for _, c := range t.Cells[i] {
			fmt.Fprintf(out, "& %s\n", stack(c.lines(&notes, mark)))
		}
		fmt.Fprintln(out, `\\`)
	}
	fmt.Fprint(out, "\\hline\n\\end{tabular}\n")
	list := func(kind string, items []string) {
		if len(items) == 0 {
			return
		}
		fmt.Fprintf(out, "\\begin{%s}\n", kind)
		for _, item := range items {
			fmt.Fprintf(out, "\\item %s\n", escape(item))
		}
		fmt.Fprintf(out, "\\end{%s}\n", kind)
	}
	list("enumerate", notes)
	list("itemize", t.legend())
	return nil
}

// Plain returns the rows whose ID begins with prefix and the columns of the given IDs (none: all) as texts for a notebook: a value with its interval
// and, below a row of ours, the published values where there are any, with a number. The notes explain the numbers. An empty cell is a dash.
func (t Table) Plain(prefix string, columns ...string) (header []string, body [][]string, notes []string) {
	header = []string{"scale " + t.Scale}
	var at []int
	for i, c := range t.Columns {
		if len(columns) == 0 || slices.Contains(columns, c.ID) {
			at = append(at, i)
			header = append(header, c.ID)
		}
	}
	var known footnotes
	for r, row := range t.Rows {
		if !strings.HasPrefix(row.ID, prefix) {
			continue
		}
		ours, theirs, published := []string{row.Title}, []string{"the paper, full scale"}, false
		for _, i := range at {
			c := t.Cells[r][i]
			text, paper := "–", ""
			if c.Reason == "" {
				value, interval := c.ours()
				text = strings.TrimSpace(value + " " + interval)
			}
			if c.Published.Known {
				published = true
				paper = fmt.Sprintf("%s (%d)", c.theirs(), known.number(c.Published.Provenance))
			}
			ours, theirs = append(ours, text), append(theirs, paper)
		}
		body = append(body, ours)
		if published {
			body = append(body, theirs)
		}
	}
	for i, n := range known {
		notes = append(notes, fmt.Sprintf("(%d) %s", i+1, n))
	}
	return header, body, notes
}

package paper

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Sheet is a table of texts: of what is configured, where a [Table] is of what was measured. Every row has as many texts as the header.
type Sheet struct {
	ID, Title string
	Header    []string
	Rows      [][]string
	Notes     []string
}

// RenderSheet writes a sheet in a format of [Formats]. JSON is a list with an object per row.
func RenderSheet(w io.Writer, s Sheet, format string) error {
	var out bytes.Buffer
	switch format {
	case "text":
		s.text(&out)
	case "markdown":
		s.markdown(&out)
	case "latex":
		s.latex(&out)
	case "csv":
		c := csv.NewWriter(&out)
		c.WriteAll(append([][]string{s.Header}, s.Rows...))
		if err := c.Error(); err != nil {
			return fmt.Errorf("paper: rendering sheet %s as csv: %w", s.ID, err)
		}
	case "json":
		if err := s.json(&out); err != nil {
			return fmt.Errorf("paper: rendering sheet %s as json: %w", s.ID, err)
		}
	default:
		return fmt.Errorf("paper: no format %q; there are %s", format, strings.Join(Formats(), ", "))
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("paper: writing sheet %s as %s: %w", s.ID, format, err)
	}
	return nil
}

func (s Sheet) text(out *bytes.Buffer) {
	width := make([]int, len(s.Header))
	all := append([][]string{s.Header}, s.Rows...)
	for _, row := range all {
		for k, cell := range row {
			width[k] = max(width[k], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintf(out, "%s: %s\n\n", s.ID, s.Title)
	for _, row := range all {
		line := ""
		for k, cell := range row {
			line += cell + strings.Repeat(" ", width[k]-utf8.RuneCountInString(cell)+2)
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
	for k, n := range s.Notes {
		if k == 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "%s.\n", n)
	}
}

func (s Sheet) markdown(out *bytes.Buffer) {
	escape := strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "_", `\_`, "*", `\*`).Replace
	fmt.Fprintf(out, "**%s: %s**\n\n", s.ID, escape(s.Title))
	for k, row := range append([][]string{s.Header}, s.Rows...) {
		for _, cell := range row {
			fmt.Fprintf(out, "| %s ", escape(cell))
		}
		fmt.Fprintln(out, "|")
		if k == 0 {
			fmt.Fprintf(out, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
	for k, n := range s.Notes {
		if k == 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "- %s.\n", escape(n))
	}
}

func (s Sheet) latex(out *bytes.Buffer) {
	fmt.Fprintf(out, "%% %s: %s\n\\begin{tabular}{%s}\n\\hline\n", s.ID, s.Title, strings.Repeat("l", len(s.Header)))
	for k, row := range append([][]string{s.Header}, s.Rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(out, " & ")
			}
			fmt.Fprint(out, escapeLaTeX(cell))
		}
		fmt.Fprintln(out, ` \\`)
		if k == 0 {
			fmt.Fprintln(out, `\hline`)
		}
	}
	fmt.Fprint(out, "\\hline\n\\end{tabular}\n")
	for _, n := range s.Notes {
		fmt.Fprintf(out, "\n%s.\n", escapeLaTeX(n))
	}
}

// json keeps the order of the columns.
func (s Sheet) json(out *bytes.Buffer) error {
	out.WriteString("[")
	for k, row := range s.Rows {
		if k > 0 {
			out.WriteString(",")
		}
		out.WriteString("\n{")
		for i, cell := range row {
			if i > 0 {
				out.WriteString(",")
			}
			for j, text := range []string{s.Header[i], cell} {
				quoted, err := json.Marshal(text)
				if err != nil {
					return err
				}
				if j > 0 {
					out.WriteString(":")
				}
				out.Write(quoted)
			}
		}
		out.WriteString("}")
	}
	out.WriteString("\n]\n")
	return nil
}

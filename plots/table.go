package plots

import (
	"html"
	"strings"
	"unicode/utf8"
)

// table is a header and rows of equal length.
type table struct {
	rows  [][]string // the header first
	right []bool     // by column: align to the right
}

func newTable(header []string, rows [][]string) table {
	columns := len(header)
	for _, r := range rows {
		columns = max(columns, len(r))
	}
	t := table{right: make([]bool, columns)}
	for i, r := range append([][]string{header}, rows...) {
		row := make([]string, columns)
		copy(row, r)
		t.rows = append(t.rows, row)
		for k, cell := range row {
			if i == 0 {
				t.right[k] = len(rows) > 0
			} else if cell != "" && !numeric(cell) {
				t.right[k] = false
			}
		}
	}
	return t
}

// numeric tells whether a cell reads as a number: it begins with a digit, a sign, or is a dash for a missing value.
func numeric(cell string) bool {
	cell = strings.TrimLeft(cell, "+-−–—±≈<>≤≥. ")
	return cell == "" || cell[0] >= '0' && cell[0] <= '9'
}

func (t table) html() string {
	var b strings.Builder
	b.WriteString("<table>\n")
	for i, row := range t.rows {
		tag := "td"
		switch i {
		case 0:
			tag = "th"
			b.WriteString("<thead>\n")
		case 1:
			b.WriteString("<tbody>\n")
		}
		b.WriteString("<tr>")
		for k, cell := range row {
			align := "left"
			if t.right[k] {
				align = "right"
			}
			b.WriteString("<" + tag + ` style="text-align: ` + align + `">` + html.EscapeString(cell) + "</" + tag + ">")
		}
		b.WriteString("</tr>\n")
		if i == 0 {
			b.WriteString("</thead>\n")
		}
	}
	if len(t.rows) > 1 {
		b.WriteString("</tbody>\n")
	}
	b.WriteString("</table>")
	return b.String()
}

func (t table) markdown() string {
	escape := strings.NewReplacer("|", `\|`, "\n", "<br>")
	var b strings.Builder
	for i, row := range t.rows {
		for _, cell := range row {
			b.WriteString("| " + escape.Replace(cell) + " ")
		}
		b.WriteString("|\n")
		if i == 0 {
			for _, right := range t.right {
				if right {
					b.WriteString("|---:")
				} else {
					b.WriteString("|---")
				}
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

func (t table) text() string {
	widths := make([]int, len(t.right))
	for _, row := range t.rows {
		for k, cell := range row {
			widths[k] = max(widths[k], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for i, row := range t.rows {
		var line strings.Builder
		for k, cell := range row {
			pad := strings.Repeat(" ", widths[k]-utf8.RuneCountInString(cell))
			if k > 0 {
				line.WriteString("  ")
			}
			if t.right[k] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
	}
	return b.String()
}

// Package docblock writes those parts of a document that a program knows better than its author: blocks between <!-- name arguments --> and <!-- /name -->.
package docblock

import (
	"fmt"
	"strings"
)

// Rewrite returns text with the inside of every block of that name replaced by what fill makes of the block's arguments. A line end follows the opening comment,
// as it does in text.
func Rewrite(text, name string, fill func(arguments string) (string, error)) (string, error) {
	var out strings.Builder
	open, end := "<!-- "+name+" ", "<!-- /"+name+" -->"
	for rest := text; ; {
		before, after, found := strings.Cut(rest, open)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		arguments, after, opened := strings.Cut(after, " -->\n")
		_, tail, closed := strings.Cut(after, end)
		if !opened || !closed {
			return "", fmt.Errorf("block %d of the name %s is not closed", strings.Count(out.String(), end)+1, name)
		}
		inside, err := fill(arguments)
		if err != nil {
			return "", fmt.Errorf("block %s %s: %w", name, arguments, err)
		}
		fmt.Fprintf(&out, "%s%s -->\n%s%s", open, arguments, inside, end)
		rest = tail
	}
}

// Table is a table in Markdown.
func Table(header []string, rows [][]string) string {
	var out strings.Builder
	line := func(cells []string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
	line(header)
	rule := make([]string, len(header))
	for i := range rule {
		rule[i] = "---"
	}
	line(rule)
	for _, r := range rows {
		line(r)
	}
	return out.String()
}

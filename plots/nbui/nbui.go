// Package nbui helps notebook cells: parameters from the environment, a progress line, the stop button.
//
//	var images = nbui.Int("CARSO_IMAGES", 500, 16) // 500; 16 with CARSO_SCALE=tiny; 40 with CARSO_IMAGES=40
//
// It is for cells and mains: a parameter that cannot be read ends the program with one line.
package nbui

import (
	"context"
	"fmt"
	"html"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/janpfeifer/gonb/gonbui"
)

// ScaleVar names the variable that chooses the size of every notebook: "tiny" for a check that all cells run, anything
// else or nothing for the notebook as it is published.
const ScaleVar = "CARSO_SCALE"

// Tiny tells whether the notebook runs at its smallest scale.
func Tiny() bool { return os.Getenv(ScaleVar) == "tiny" }

// Int returns a whole-number parameter: the environment variable name where it is set, else tiny at the smallest scale,
// else normal.
func Int(name string, normal, tiny int) int { return parameter(name, normal, tiny, strconv.Atoi) }

// Float is Int for a number.
func Float(name string, normal, tiny float64) float64 {
	return parameter(name, normal, tiny, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
}

// String is Int for a text.
func String(name, normal, tiny string) string {
	return parameter(name, normal, tiny, func(s string) (string, error) { return s, nil })
}

func parameter[T any](name string, normal, tiny T, parse func(string) (T, error)) T {
	v, err := lookup(name, normal, tiny, parse)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return v
}

func lookup[T any](name string, normal, tiny T, parse func(string) (T, error)) (T, error) {
	text := os.Getenv(name)
	switch {
	case text != "":
		v, err := parse(text)
		if err != nil {
			return v, fmt.Errorf("environment variable %s=%q: want a value like %v", name, text, normal)
		}
		return v, nil
	case Tiny():
		return tiny, nil
	}
	return normal, nil
}

// Context is done when the notebook's stop button is pressed (or Ctrl+C): the cell then has five seconds to save its work.
// Call stop when the work is over.
func Context() (ctx context.Context, stop context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt)
}

// Progress is a bar that is rewritten in place in a notebook, and lines elsewhere, at most four a second.
type Progress struct {
	total       int
	start, last time.Time
	now         func() time.Time
	show        func(done int, line string)
}

// NewProgress starts a progress display of total steps.
func NewProgress(total int) *Progress {
	if !gonbui.IsNotebook {
		return newProgress(total, time.Now, func(_ int, line string) { writeLine(os.Stderr, line) })
	}
	id := "progress_" + gonbui.UniqueId()
	return newProgress(total, time.Now, func(done int, line string) {
		gonbui.UpdateHTML(id, fmt.Sprintf(`<progress value="%d" max="%d"></progress> <code>%s</code>`, done, total, html.EscapeString(line)))
		if done >= total {
			gonbui.Sync() // or the cell may end before its last output arrives
		}
	})
}

func newProgress(total int, now func() time.Time, show func(int, string)) *Progress {
	return &Progress{total: total, start: now(), now: now, show: show}
}

func writeLine(w io.Writer, line string) { fmt.Fprintln(w, line) }

// Update says that done steps are over, with a few words on the latest. The last step is always shown.
func (p *Progress) Update(done int, words string) {
	now := p.now()
	if done < p.total && now.Sub(p.last) < 250*time.Millisecond {
		return
	}
	p.last = now
	spent := now.Sub(p.start)
	line := fmt.Sprintf("%d/%d", done, p.total)
	if words != "" {
		line += " " + words
	}
	line += fmt.Sprintf(" (%s", spent.Round(time.Second))
	if done > 0 && done < p.total {
		line += fmt.Sprintf(", about %s to go", (spent * time.Duration(p.total-done) / time.Duration(done)).Round(time.Second))
	}
	p.show(done, line+")")
}

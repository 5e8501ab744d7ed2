package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carsokit/carso/eval"
	"carsokit/carso/record"
	"carsokit/internal/atomicfile"
)

// ratesFile, in a folder of records, remembers how fast evaluations went there. It is a help for plans and no part of the records: those hold no clock.
const ratesFile = "rates.json"

// rates are images per second by evaluation, as rateName calls it.
type rates map[string]float64

func rateName(s record.Spec) string {
	q := s.Settings()
	return strings.Join([]string{s.Scenario, s.Row, s.Column, s.Scale, s.Versions["backend"],
		fmt.Sprintf("N %d, %d steps of %d draws, screened %v, by %s", q.Samples, q.Steps, q.EoT, q.Screened, q.Decides)}, "/")
}

func loadRates(dir string) (rates, error) {
	r := rates{}
	raw, err := os.ReadFile(filepath.Join(dir, ratesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return r, fmt.Errorf("reading measured rates: %w; the file %s may be removed", err, filepath.Join(dir, ratesFile))
	}
	return r, nil
}

// remember adds a rate to those of the folder. Of two processes that do so at once one may lose its figure.
func remember(dir string, s record.Spec, rate float64) error {
	r, err := loadRates(dir)
	if err != nil {
		return err
	}
	r[rateName(s)] = rate
	return atomicfile.Write(filepath.Join(dir, ratesFile), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	})
}

// reporter tells of an evaluation's progress.
type reporter struct {
	w              io.Writer
	form           string // "text", "json", "none"
	chunk, workers int
	now            func() time.Time
	last           time.Time
	lastFresh      int
	latest         eval.Progress
}

func newReporter(w io.Writer, form string, chunk, workers int) (*reporter, error) {
	switch form {
	case "text", "json", "none":
		return &reporter{w: w, form: form, chunk: chunk, workers: workers, now: time.Now}, nil
	}
	return nil, fmt.Errorf("-progress %q: want text, json or none", form)
}

// rate is in images a second; 0 while it is unknown.
func rate(p eval.Progress) float64 {
	if p.Fresh == 0 || p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Fresh) / p.Elapsed.Seconds()
}

func eta(p eval.Progress) time.Duration {
	return time.Duration(float64(p.Total-p.Done) / rate(p) * float64(time.Second)).Round(time.Second)
}

// cost is what the first chunk says about the whole: the workers' first chunks ran side by side.
func (r *reporter) cost(p eval.Progress) time.Duration {
	chunks := (p.Total - p.Done + p.Fresh + r.chunk - 1) / r.chunk
	rounds := (chunks + r.workers - 1) / r.workers
	return (time.Duration(rounds) * p.Elapsed).Round(time.Second)
}

// tell is the Progress of eval.Options: JSON gets a line a chunk; text rewrites one line, at most twice a second.
func (r *reporter) tell(p eval.Progress) {
	first, appended := r.lastFresh == 0 && p.Fresh > 0, p.Fresh > r.lastFresh
	r.latest, r.lastFresh = p, p.Fresh
	switch r.form {
	case "json":
		if appended {
			r.json(p)
		}
	case "text":
		if first {
			fmt.Fprintf(r.w, "\r\x1b[K  cost: about %s in all for %d images, measured on the first chunk (compilation included)\n", r.cost(p), p.Total-p.Done+p.Fresh)
		}
		if !first && r.now().Sub(r.last) < 500*time.Millisecond && p.Done < p.Total {
			return
		}
		r.last = r.now()
		line := fmt.Sprintf("%d/%d images", p.Done, p.Total)
		if p.Fresh > 0 {
			line += fmt.Sprintf("  %.3g images/s  ETA %s", rate(p), eta(p))
		}
		if e := p.Estimate; e.N > 0 {
			line += fmt.Sprintf("  %s %.1f %% [%.1f, %.1f]", p.Measure, e.Value, e.Lo, e.Hi)
		}
		fmt.Fprintf(r.w, "\r\x1b[K%.150s", line+"  "+p.Note)
	}
}

func (r *reporter) json(p eval.Progress) {
	e := p.Estimate
	line, err := json.Marshal(struct {
		Done    int     `json:"done"`
		Total   int     `json:"total"`
		Elapsed float64 `json:"elapsed_s"`
		Rate    float64 `json:"images_per_s"`
		ETA     float64 `json:"eta_s"`
		Cost    float64 `json:"cost_s"` // of what this process computes in all, by its rate so far
		Measure string  `json:"measure"`
		Value   float64 `json:"value"`
		Lo      float64 `json:"lo"`
		Hi      float64 `json:"hi"`
		N       int     `json:"n"`
	}{p.Done, p.Total, p.Elapsed.Seconds(), rate(p), eta(p).Seconds(), (p.Elapsed + eta(p)).Seconds(), p.Measure, e.Value, e.Lo, e.Hi, e.N})
	if err == nil {
		fmt.Fprintf(r.w, "%s\n", line)
	}
}

// end leaves the line that tell rewrote.
func (r *reporter) end() {
	if r.form == "text" && r.latest.Total > 0 {
		fmt.Fprintln(r.w)
	}
}

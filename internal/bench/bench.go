// Package bench times this kit's operations beside the same operations in PyTorch, in pairs: one run here, one run there, again and again, on the
// same machine and number of threads, so that what the machine does meanwhile hits both. Only ratios are worth keeping.
package bench

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"carsokit/plots"
)

// Case is one operation, run the same way on both sides.
type Case struct {
	Name  string
	Doc   string
	Batch int
}

// Cases lists the operations; pytorch.py has a method for each.
func Cases() []Case {
	return []Case{
		{"forward", "logits of the classifier", 64},
		{"pgd-step", "one step of PGD on the classifier", 64},
		{"apgd", "10 steps of APGD-CE on the classifier", 64},
		{"carso-forward", "one pass of CARSO, N = 8", 8},
		{"carso-apgd", "one step of APGD-CE on CARSO, N = 8, 20 draws, and its start", 4},
		{"purifier-step", "one training step of the purifier, without adversaries", 64},
		{"adversarial-step", "one step of fast adversarial training of the classifier", 64},
	}
}

// Spread is the middle and the ends of several figures.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spread(v []float64) Spread {
	v = slices.Sorted(slices.Values(v))
	return Spread{(v[(len(v)-1)/2] + v[len(v)/2]) / 2, v[0], v[len(v)-1]}
}

// Result is one case at one width.
type Result struct {
	Case   string `json:"case"`
	Width  int    `json:"width"` // of the WRN-10
	Batch  int    `json:"batch"`
	Rounds int    `json:"rounds"`
	Kit    Spread `json:"kit_seconds"`
	Torch  Spread `json:"torch_seconds"`
	// Ratio is torch over kit, pair by pair: above 1 the kit is faster.
	Ratio Spread `json:"ratio"`
}

// Report is a whole comparison.
type Report struct {
	Backend string   `json:"backend"`
	Torch   string   `json:"torch"`
	Mode    string   `json:"mode"` // of PyTorch: eager or compiled
	Threads int      `json:"threads"`
	Results []Result `json:"results"`
}

// Options are the settings of Compare.
type Options struct {
	Python   string   // the interpreter that has torch
	Widths   []int    // of the WRN-10; default 1 and 2
	Cases    []string // by name; default all
	Rounds   int      // pairs of runs after a warm-up; default 7
	Compiled bool     // PyTorch through torch.compile
	Progress func(line string)
}

// worker is a running pytorch.py.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	remove func()
}

//go:embed pytorch.py
var script []byte

func startWorker(ctx context.Context, python string) (*worker, error) {
	dir, err := os.MkdirTemp("", "carso-bench-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "pytorch.py")
	if err := os.WriteFile(file, script, 0o600); err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.CommandContext(ctx, python, file), remove: func() { os.RemoveAll(dir) }}
	w.cmd.Stderr = os.Stderr
	var stdout io.ReadCloser
	if w.in, err = w.cmd.StdinPipe(); err == nil {
		if stdout, err = w.cmd.StdoutPipe(); err == nil {
			err = w.cmd.Start()
		}
	}
	if err != nil {
		w.remove()
		return nil, fmt.Errorf("starting PyTorch with %s: %w; `make bench` installs it", python, err)
	}
	w.out = bufio.NewScanner(stdout)
	return w, nil
}

// request is what pytorch.py reads.
type request struct {
	Case    string `json:"case"`
	Width   int    `json:"width"`
	Batch   int    `json:"batch"`
	Threads int    `json:"threads"`
	Compile bool   `json:"compile"`
}

func (w *worker) run(r request) (seconds float64, version string, err error) {
	if err := json.NewEncoder(w.in).Encode(r); err != nil {
		return 0, "", fmt.Errorf("asking PyTorch for %s: %w", r.Case, err)
	}
	if !w.out.Scan() {
		return 0, "", fmt.Errorf("PyTorch ended without an answer to %s: %w", r.Case, errors.Join(w.out.Err(), w.cmd.Wait()))
	}
	var a struct {
		Seconds float64 `json:"seconds"`
		Torch   string  `json:"torch"`
		Error   string  `json:"error"`
	}
	if err := json.Unmarshal(w.out.Bytes(), &a); err != nil {
		return 0, "", fmt.Errorf("PyTorch's answer to %s: %w", r.Case, err)
	}
	if a.Error != "" {
		return 0, "", fmt.Errorf("PyTorch, %s at width %d: %s", r.Case, r.Width, a.Error)
	}
	return a.Seconds, a.Torch, nil
}

func (w *worker) close() {
	w.in.Close()
	_ = w.cmd.Wait() // its exit status says nothing that its answers did not
	w.remove()
}

// Runner runs a case once on this side.
type Runner func(ctx context.Context, name string, width, batch int) error

// Compare runs the cases in pairs. backend names what run computes on.
func Compare(ctx context.Context, backend string, run Runner, o Options) (Report, error) {
	if len(o.Widths) == 0 {
		o.Widths = []int{1, 2}
	}
	if o.Rounds < 1 {
		o.Rounds = 7
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	cases, err := choose(o.Cases)
	if err != nil {
		return Report{}, err
	}
	w, err := startWorker(ctx, o.Python)
	if err != nil {
		return Report{}, err
	}
	defer w.close()
	rep := Report{Backend: backend, Mode: "eager", Threads: runtime.NumCPU()}
	if o.Compiled {
		rep.Mode = "compiled"
	}
	for _, width := range o.Widths {
		for _, c := range cases {
			r := Result{Case: c.Name, Width: width, Batch: c.Batch, Rounds: o.Rounds}
			var kit, torch, ratio []float64
			for round := range o.Rounds + 1 {
				start := time.Now()
				if err := run(ctx, c.Name, width, c.Batch); err != nil {
					return rep, fmt.Errorf("%s at width %d: %w", c.Name, width, err)
				}
				mine := time.Since(start).Seconds()
				theirs, version, err := w.run(request{c.Name, width, c.Batch, rep.Threads, o.Compiled})
				if err != nil {
					return rep, err
				}
				rep.Torch = version
				if round == 0 {
					continue // compilation and first touches
				}
				kit, torch, ratio = append(kit, mine), append(torch, theirs), append(ratio, theirs/mine)
			}
			r.Kit, r.Torch, r.Ratio = spread(kit), spread(torch), spread(ratio)
			rep.Results = append(rep.Results, r)
			o.Progress(r.String())
		}
	}
	return rep, nil
}

func choose(names []string) ([]Case, error) {
	all := Cases()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []Case
	for _, name := range names {
		i := slices.IndexFunc(all, func(c Case) bool { return c.Name == name })
		if i < 0 {
			var known []string
			for _, c := range all {
				known = append(known, c.Name)
			}
			return nil, fmt.Errorf("no benchmark %q; there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func (r Result) String() string {
	return fmt.Sprintf("%-16s width %-2d  kit %8.1f ms  torch %8.1f ms  ratio %.2f [%.2f, %.2f] of %d pairs",
		r.Case, r.Width, 1e3*r.Kit.Median, 1e3*r.Torch.Median, r.Ratio.Median, r.Ratio.Min, r.Ratio.Max, r.Rounds)
}

// Table is the report as header and rows, ratios only.
func (r Report) Table() (header []string, rows [][]string) {
	header = []string{"operation", "width", "times PyTorch " + r.Mode, "spread", "pairs"}
	for _, c := range r.Results {
		i := slices.IndexFunc(Cases(), func(k Case) bool { return k.Name == c.Case })
		rows = append(rows, []string{Cases()[i].Doc, fmt.Sprint(c.Width), two(c.Ratio.Median), two(c.Ratio.Min) + " to " + two(c.Ratio.Max), fmt.Sprint(c.Rounds)})
	}
	return header, rows
}

func two(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}

// Chart draws the ratios with their spread, a bar for each operation and width.
func (r Report) Chart() plots.Chart {
	var names []string
	var series []plots.Series
	for _, c := range r.Results {
		if !slices.Contains(names, c.Case) {
			names = append(names, c.Case)
		}
		label := fmt.Sprintf("WRN-10-%d", c.Width)
		at := slices.IndexFunc(series, func(s plots.Series) bool { return s.Name == label })
		if at < 0 {
			series, at = append(series, plots.Series{Name: label}), len(series)
		}
		series[at].Points = append(series[at].Points, plots.Point{Y: c.Ratio.Median, Lo: c.Ratio.Min, Hi: c.Ratio.Max})
	}
	return plots.Bars("Speed in paired runs: PyTorch's time over the kit's", "", "times PyTorch "+r.Mode, names, series)
}

// Read reads a report that carso bench wrote.
func Read(path string) (Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Report{}, err
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("benchmark report %s: %w", path, err)
	}
	return r, nil
}

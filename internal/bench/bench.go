// Package bench times this kit's operations beside the same operations in PyTorch, in pairs: one run here, one run there, again and again, on the
// same machine and number of threads, so that what the machine does meanwhile hits both. Only ratios are worth keeping.
package bench

import (
	"bufio"
	"cmp"
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

	"carsokit/models"
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
		{"purifier-attacked-step", "the same, half of its images attacked by one or five steps on the classifier", 64},
		{"plain-step", "one step of plain training of the classifier", 64},
		{"adversarial-step", "one step of fast adversarial training of the classifier", 64},
	}
}

// docOf says what a case is.
func docOf(name string) string {
	return Cases()[slices.IndexFunc(Cases(), func(c Case) bool { return c.Name == name })].Doc
}

// Net is the size of a wide residual network.
type Net struct{ Depth, Width int }

func (n Net) String() string { return fmt.Sprintf("WRN-%d-%d", n.Depth, n.Width) }

// flops are the operations of a case on CIFAR-10 images, see models.Work; 0 where the table does not say. A pass back to the input costs
// what a pass forwards costs, one to input and kernels two.
func (n Net) flops(name string, batch int) float64 {
	passes := map[string]float64{"forward": 1, "pgd-step": 2, "plain-step": 3, "adversarial-step": 5}[name]
	return passes * float64(models.CIFAR10WRN(n.Depth, n.Width).Work().FLOPs) * float64(batch)
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
	Depth  int    `json:"depth,omitempty"` // of the network; 0 is 10
	Width  int    `json:"width"`
	Batch  int    `json:"batch"`
	Rounds int    `json:"rounds"`
	Kit    Spread `json:"kit_seconds"`
	Torch  Spread `json:"torch_seconds"`
	// Ratio is torch over kit, pair by pair: above 1 the kit is faster.
	Ratio Spread `json:"ratio"`
	// KitFirst and TorchFirst are the seconds of the first run, which compiles what no case before it has.
	KitFirst   float64 `json:"kit_first_seconds,omitempty"`
	TorchFirst float64 `json:"torch_first_seconds,omitempty"`
	// Share and TorchShare are what the medians reach of Report.Ceiling, where the case's operations are known.
	Share      float64 `json:"kit_share_of_ceiling,omitempty"`
	TorchShare float64 `json:"torch_share_of_ceiling,omitempty"`
}

// Net is the network's size.
func (r Result) Net() Net { return Net{cmp.Or(r.Depth, 10), r.Width} }

// Report is a whole comparison.
type Report struct {
	Backend string `json:"backend"`
	Torch   string `json:"torch"`
	Mode    string `json:"mode"`             // of PyTorch: eager, compiled or bf16, which is eager under autocast
	Device  string `json:"device,omitempty"` // of PyTorch; empty: the CPU
	TF32    bool   `json:"tf32,omitempty"`   // PyTorch may round the inputs of float32 products to TF32
	Threads int    `json:"threads"`
	// Ceiling is the rate of PyTorch's product of two 8192x8192 matrices in the same precision, in FLOP/s; 0 on a CPU.
	Ceiling float64 `json:"ceiling_flops,omitempty"`
	// Peak is the most memory that PyTorch held on its device, in bytes.
	Peak    int64    `json:"torch_peak_bytes,omitempty"`
	Results []Result `json:"results"`
}

// Options are the settings of Compare.
type Options struct {
	Python   string   // the interpreter that has torch
	Nets     []Net    // default WRN-10-1 and WRN-10-2
	Cases    []string // by name; default all
	Rounds   int      // pairs of runs after a warm-up; default 7
	Mode     string   // of PyTorch, see Report; default eager
	Device   string   // of PyTorch: cpu, the default, or cuda
	TF32     bool     // see Report
	Times    int      // multiplies the cases' batches, for devices that a small batch does not fill; default 1
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

// startWorker starts pytorch.py, whose libraries may round to TF32 or not.
func startWorker(ctx context.Context, python string, tf32 bool) (*worker, error) {
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
	if tf32 {
		// This process may have it at 0, which overrules PyTorch.
		w.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "NVIDIA_TF32_OVERRIDE=") })
	}
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
	Depth   int    `json:"depth"`
	Width   int    `json:"width"`
	Batch   int    `json:"batch"`
	Threads int    `json:"threads"`
	Mode    string `json:"mode"`
	Device  string `json:"device"`
	TF32    bool   `json:"tf32"`
}

// answer is what it says.
type answer struct {
	Seconds float64 `json:"seconds"`
	Torch   string  `json:"torch"`
	Peak    int64   `json:"peak"`
	Error   string  `json:"error"`
}

func (w *worker) run(r request) (a answer, err error) {
	if err := json.NewEncoder(w.in).Encode(r); err != nil {
		return a, fmt.Errorf("asking PyTorch for %s: %w", r.Case, err)
	}
	if !w.out.Scan() {
		return a, fmt.Errorf("PyTorch ended without an answer to %s: %w", r.Case, errors.Join(w.out.Err(), w.cmd.Wait()))
	}
	if err := json.Unmarshal(w.out.Bytes(), &a); err != nil {
		return a, fmt.Errorf("PyTorch's answer to %s: %w", r.Case, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("PyTorch, %s of %s: %s", r.Case, Net{r.Depth, r.Width}, a.Error)
	}
	return a, nil
}

func (w *worker) close() {
	w.in.Close()
	_ = w.cmd.Wait() // its exit status says nothing that its answers did not
	w.remove()
}

// Runner runs a case once on this side.
type Runner func(ctx context.Context, name string, net Net, batch int) error

// Compare runs the cases in pairs. backend names what run computes on.
func Compare(ctx context.Context, backend string, run Runner, o Options) (Report, error) {
	if len(o.Nets) == 0 {
		o.Nets = []Net{{10, 1}, {10, 2}}
	}
	if o.Rounds < 1 {
		o.Rounds = 7
	}
	o.Times, o.Mode, o.Device = max(1, o.Times), cmp.Or(o.Mode, "eager"), cmp.Or(o.Device, "cpu")
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	cases, err := choose(o.Cases)
	if err != nil {
		return Report{}, err
	}
	w, err := startWorker(ctx, o.Python, o.TF32)
	if err != nil {
		return Report{}, err
	}
	defer w.close()
	rep := Report{Backend: backend, Mode: o.Mode, TF32: o.TF32, Threads: runtime.NumCPU()}
	ask := request{Threads: rep.Threads, Mode: o.Mode, Device: o.Device, TF32: o.TF32}
	if o.Device != "cpu" {
		rep.Device, ask.Case = o.Device, "ceiling"
		a, err := w.run(ask)
		if err != nil {
			return rep, err
		}
		rep.Ceiling = 2 * 8192 * 8192 * 8192 / a.Seconds
	}
	for _, net := range o.Nets {
		for _, c := range cases {
			r := Result{Case: c.Name, Depth: net.Depth, Width: net.Width, Batch: c.Batch * o.Times, Rounds: o.Rounds}
			ask.Case, ask.Depth, ask.Width, ask.Batch = c.Name, net.Depth, net.Width, r.Batch
			var kit, torch, ratio []float64
			for round := range o.Rounds + 1 {
				start := time.Now()
				if err := run(ctx, c.Name, net, r.Batch); err != nil {
					return rep, fmt.Errorf("%s of %s: %w", c.Name, net, err)
				}
				mine := time.Since(start).Seconds()
				a, err := w.run(ask)
				if err != nil {
					return rep, err
				}
				rep.Torch, rep.Peak = a.Torch, max(rep.Peak, a.Peak)
				if round == 0 {
					r.KitFirst, r.TorchFirst = mine, a.Seconds
					o.Progress(fmt.Sprintf("%s of %s: first run, with compiling: kit %.1f s, torch %.1f s", c.Name, net, mine, a.Seconds))
					continue // compilation and first touches
				}
				kit, torch, ratio = append(kit, mine), append(torch, a.Seconds), append(ratio, a.Seconds/mine)
			}
			r.Kit, r.Torch, r.Ratio = spread(kit), spread(torch), spread(ratio)
			if rep.Ceiling > 0 {
				most := net.flops(c.Name, r.Batch) / rep.Ceiling
				r.Share, r.TorchShare = most/r.Kit.Median, most/r.Torch.Median
			}
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
	return fmt.Sprintf("%-16s %s  batch %d  kit %8.1f ms  torch %8.1f ms  ratio %.2f [%.2f, %.2f] of %d pairs",
		r.Case, r.Net(), r.Batch, 1e3*r.Kit.Median, 1e3*r.Torch.Median, r.Ratio.Median, r.Ratio.Min, r.Ratio.Max, r.Rounds)
}

// Table is the report as header and rows, ratios only, and where there is a ceiling shares of it.
func (r Report) Table() (header []string, rows [][]string) {
	header = []string{"operation", "network", "times PyTorch " + r.Mode, "spread", "pairs"}
	if r.Ceiling > 0 {
		header = append(header, "share of the ceiling", "PyTorch's share")
	}
	// When PyTorch's first run has to compile, too, and in reports that know it.
	compiled := r.Mode == "compiled" && slices.ContainsFunc(r.Results, func(c Result) bool { return c.TorchFirst > 0 })
	if compiled {
		header = append(header, "first run, kit", "PyTorch")
	}
	for _, c := range r.Results {
		row := []string{docOf(c.Case), c.Net().String(), two(c.Ratio.Median), two(c.Ratio.Min) + " to " + two(c.Ratio.Max), fmt.Sprint(c.Rounds)}
		if r.Ceiling > 0 {
			for _, v := range []float64{c.Share, c.TorchShare} {
				if v == 0 {
					v = math.NaN()
				}
				row = append(row, two(v))
			}
		}
		if compiled {
			row = append(row, fmt.Sprintf("%.1f s", c.KitFirst), fmt.Sprintf("%.1f s", c.TorchFirst))
		}
		rows = append(rows, row)
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
		label := c.Net().String()
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

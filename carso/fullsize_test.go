package carso

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"carsokit/checkpoints"
	"carsokit/internal/goldentest"
	"carsokit/internal/memory"
	"carsokit/internal/nn"
	"carsokit/internal/rng"
	"carsokit/models"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// Environment variables of TestFullSize: whether it runs, and the Python whose package safetensors reads the files back (default python3).
const (
	fullSize       = "CARSO_FULL_SIZE"
	fullSizePython = "CARSO_PYTHON"
)

// TestFullSize makes the weights of scenario a at full size, random ones, in the authors' files: the WRN-28-10 and its purifier. They are read back by the kit and
// by Python, then make one forward pass and one end-to-end gradient, which must agree with a central difference. The log is the table of docs/full-size.md.
func TestFullSize(t *testing.T) {
	if os.Getenv(fullSize) == "" {
		t.Skipf("takes minutes and several GB of memory; set %s=1", fullSize)
	}
	s, err := FindScenario("a", ScalePaper)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := models.FindReference(s.Classifier)
	if err != nil {
		t.Fatal(err)
	}
	cfg := PaperConfig(reference.Net, reference.Net)
	dir := t.TempDir()
	clock := &stopwatch{t: t}
	clock.start()

	written := map[string]string{} // file, tensor -> dtype, shape and digest
	write := func(file string, ps []nn.Param) {
		var ts []checkpoints.Tensor
		for _, p := range ps {
			x := checkpoints.F32(p.Name, p.Shape, fullSizeValues(p))
			if p.Kind == nn.BNCount {
				x = checkpoints.I64(p.Name, p.Shape, []int64{7})
			}
			sum := sha256.Sum256(x.Data)
			written[file+" "+p.Name] = fmt.Sprint(x.DType, x.Shape, hex.EncodeToString(sum[:]))
			ts = append(ts, x)
		}
		if err := checkpoints.Write(filepath.Join(dir, file), ts, nil); err != nil {
			t.Fatal(err)
		}
	}
	write(s.Classifier, reference.Net.Params())
	for _, p := range cfg.Parts() {
		if !p.TrainOnly {
			write(PartFile(s.Stem, p.Name), p.Params)
		}
	}
	clock.lap("writing the four files")

	t.Run("python", func(t *testing.T) { readByPython(t, dir, written) })
	clock.start()

	const samples = 8
	d, err := OpenDefence(s, Folder(dir), samples, LogSum)
	if err != nil {
		t.Fatal(err)
	}
	clock.lap("reading them")
	if describe(d.Config) != describe(cfg) {
		t.Errorf("read as %s, written as %s", describe(d.Config), describe(cfg))
	}
	fcn := d.Parts()[1]
	largest := fcn.Params[0]
	v, err := nn.Get(d.store.RootScope().At("%s", fcn.Name), largest)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(v, fullSizeValues(largest)) {
		t.Errorf("%s of %s is not as written", largest.Name, fcn.Name)
	}

	be := goldentest.Backend(t)
	side := cfg.Base.Size
	x, z := make([]float32, side*side*3), make([]float32, samples*cfg.Latent)
	rng.Seed(1).Uniform(x)
	rng.Seed(2).Normal(z)
	var g []float32
	image := func(step float32) *tensors.Tensor { // the image moved by so much in the direction of the gradient's signs
		v := slices.Clone(x)
		for i := range g {
			if g[i] > 0 {
				v[i] += step
			} else if g[i] < 0 {
				v[i] -= step
			}
		}
		return tensors.FromFlatDataAndDimensions(v, 1, side, side, 3)
	}
	noise := tensors.FromFlatDataAndDimensions(z, 1, samples, cfg.Latent)
	y := tensors.FromFlatDataAndDimensions([]int32{3}, 1)

	forward, err := model.NewExec(be, d.store, func(scope *model.Scope, x, z *node) *node { return d.Logits(scope, x, z) })
	logits := goldentest.Copy(t, call(t, forward, err, image(0), noise)[0])
	clock.lap("forward pass, compiling included")
	again := goldentest.Copy(t, call(t, forward, nil, image(0), noise)[0])
	clock.lap("forward pass")
	if len(logits) != cfg.Final.Classes || !slices.Equal(logits, again) || hasNaN(logits) {
		t.Errorf("logits %v, again %v", logits, again)
	}

	gradient, err := model.NewExec(be, d.store, func(scope *model.Scope, in []*node) *node { return endToEndGraph(d, scope, in[0], in[1], in[2:]) })
	g = goldentest.Copy(t, call(t, gradient, err, image(0), y, noise)[0])
	clock.lap("gradient, compiling included")
	call(t, gradient, nil, image(0), y, noise)
	clock.lap("gradient")
	loss := func(step float32) float64 {
		l := goldentest.Copy(t, call(t, forward, nil, image(step), noise)[0])
		sum := 0.0
		for _, v := range l {
			sum += math.Exp(float64(v))
		}
		return math.Log(sum) - float64(l[3])
	}
	slope := 0.0
	for i := range g {
		slope += math.Abs(float64(g[i]))
	}
	const h = 1e-4
	want := (loss(h) - loss(-h)) / (2 * h)
	t.Logf("the gradient's slope is %.4g, a central difference's %.4g", slope, want)
	// The loss is about 2, of which float32 keeps 2e-7: the quotient is good to a few 1e-3. A wider step would meet the kinks of thousands of LeakyReLUs:
	// at 0.002 they already take 2 % off the slope.
	if math.Abs(slope-want) > 5e-3+0.01*math.Abs(want) || slope == 0 {
		t.Errorf("the gradient's slope is %g, the central difference's %g", slope, want)
	}
	if held, ok := memory.Process(memory.Peak); ok {
		t.Logf("peak resident memory: %.1f GB", float64(held)/1e9)
	}
}

// fullSizeValues are initial values, with BatchNorm statistics that are not trivial and gains that keep the signal through the depth.
func fullSizeValues(p nn.Param) []float32 {
	v := p.Init(17)
	switch p.Kind {
	case nn.BNMean, nn.BNBias:
		rng.Seed(18).Child(p.Name).Symmetric(v)
		for i := range v {
			v[i] *= 0.1
		}
	case nn.BNVar:
		for i := range v {
			v[i] = 0.2 // about what a convolution of unit variance with initial values gives
		}
	}
	return v
}

// readByPython compares names, dtypes, shapes and bytes that Python's safetensors finds with those written.
func readByPython(t *testing.T, dir string, written map[string]string) {
	python := os.Getenv(fullSizePython)
	if python == "" {
		python = "python3"
	}
	const script = `
import hashlib, json, os, sys
import safetensors
for file in sorted(os.listdir(sys.argv[1])):
    with open(os.path.join(sys.argv[1], file), "rb") as f:
        for name, x in safetensors.deserialize(f.read()):
            print(json.dumps([file, name, x["dtype"], list(x["shape"]), hashlib.sha256(x["data"]).hexdigest()]))
`
	if out, err := exec.Command(python, "-c", "import safetensors").CombinedOutput(); err != nil {
		t.Skipf("%s has no package safetensors (name another with %s): %v %s", python, fullSizePython, err, out)
	}
	out, err := exec.Command(python, "-c", script, dir).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	read := 0
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); read++ {
		var row [5]any
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(row[0], " ", row[1])
		if got := fmt.Sprint(row[2], row[3], row[4]); got != written[key] {
			t.Errorf("%s: Python reads %s, written was %s", key, got, written[key])
		}
	}
	if read != len(written) {
		t.Errorf("Python reads %d tensors, %d were written", read, len(written))
	}
	t.Logf("Python reads %d tensors as written", read)
}

// stopwatch logs how long each part took, on the wall and in processor time, which other work on the machine moves less.
type stopwatch struct {
	t    *testing.T
	last time.Time
	cpu  float64
}

func (s *stopwatch) start() { s.last, s.cpu = time.Now(), cpuSeconds(s.t) }

func (s *stopwatch) lap(what string) {
	s.t.Logf("%s: %.1f s, processor %.1f s", what, time.Since(s.last).Seconds(), cpuSeconds(s.t)-s.cpu)
	s.start()
}

// cpuSeconds is the processor time of this process so far, where /proc tells; else 0. The kernel counts it in hundredths of a second.
func cpuSeconds(t *testing.T) float64 {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Log(err)
		return 0
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks float64
	for _, i := range []int{11, 12} { // user and system, the 14th and 15th of all
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			t.Log(err)
		}
		ticks += v
	}
	return ticks / 100
}

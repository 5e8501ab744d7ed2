package bench

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"carsokit/carso"
	"carsokit/internal/docblock"
	"carsokit/models"
)

// benchmarked is the name in a line of Go's benchmarks, without what comes first and without the number of processors.
func benchmarked(field string) string {
	return field[strings.Index(field, "/")+1 : strings.LastIndex(field, "-")]
}

// rates are the lines of Go's benchmarks Ceiling and Convolution of internal/nn, by name, in GFLOP/s and GB/s, and the names of the convolutions in their order.
func rates(text string) (of map[string]float64, convolutions []string, err error) {
	of = map[string]float64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 6 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := benchmarked(f[0])
		if of[name], err = strconv.ParseFloat(f[4], 64); err != nil {
			return nil, nil, err
		}
		if c, is := strings.CutSuffix(name, "/forward"); is {
			convolutions = append(convolutions, c)
		}
	}
	for _, need := range []string{"product", "copy", "pass", "small"} {
		if of[need] == 0 {
			return nil, nil, fmt.Errorf("no benchmark Ceiling/%s in it", need)
		}
	}
	return of, convolutions, nil
}

// layers makes a table of those rates, and as shares of the ceiling.
func layers(text string) (string, error) {
	of, convolutions, err := rates(text)
	if err != nil {
		return "", err
	}
	ceiling := of["product"]
	var rows [][]string
	for _, l := range convolutions {
		shape, at, _ := strings.Cut(l, "/")
		kernel, rest, _ := strings.Cut(shape, ",")
		channels, side, _ := strings.Cut(rest, ",")
		row := []string{kernel, strings.Replace(channels, "-", " to ", 1), side + "x" + side, at}
		for _, what := range []string{"forward", "input", "kernel"} {
			row = append(row, fmt.Sprintf("%.0f (%.2f)", of[l+"/"+what], of[l+"/"+what]/ceiling))
		}
		rows = append(rows, row)
	}
	return docblock.Table([]string{"kernel", "channels", "maps", "stride", "forwards", "input gradient", "kernel gradient"}, rows) +
		fmt.Sprintf("\nGFLOP/s, and as a share of what a product of two 1024x1024 matrices reaches (%.0f GFLOP/s). One pass of normalisation and activation reads and writes %.0f GB/s on maps of 8 MiB, which stay in the cache, and %.0f GB/s on maps of 128 MiB, for whose result the system hands out pages; copying 128 MiB reads and writes %.0f GB/s.\n",
			ceiling, of["small"], of["pass"], of["copy"]), nil
}

// conv is a convolution of a network, from maps of a side to those of another.
type conv struct{ k, in, out, side, stride, to int }

func (c conv) name() string {
	return fmt.Sprintf("%dx%d,%d-%d,%d/%d", c.k, c.k, c.in, c.out, c.side, c.stride)
}

// at is the milliseconds an image of one direction at a rate in GFLOP/s.
func (c conv) at(rate float64) float64 {
	return 2 * float64(c.k*c.k*c.in*c.out*c.to*c.to) / rate / 1e6
}

// passes are the milliseconds an image of a list of convolutions: forwards, towards the input, the same without the first layer, and towards the kernels.
type passes struct{ forward, input, inner, kernel float64 }

func (p passes) plus(o passes) passes {
	return passes{p.forward + o.forward, p.input + o.input, p.inner + o.inner, p.kernel + o.kernel}
}

func timed(of map[string]float64, list []conv) (p passes, err error) {
	for k, c := range list {
		f, i, w := of[c.name()+"/forward"], of[c.name()+"/input"], of[c.name()+"/kernel"]
		if f == 0 || i == 0 || w == 0 {
			return p, fmt.Errorf("no benchmark Convolution/%s", c.name())
		}
		one := passes{c.at(f), c.at(i), c.at(i), c.at(w)}
		if k == 0 {
			one.inner = 0
		}
		p = p.plus(one)
	}
	return p, nil
}

// classifierConvolutions are those of WRN-10-width, compressorConvolutions those of the purifier on each of its representations, decoderConvolutions on a sample.
func classifierConvolutions(width int) []conv {
	all, in, side := []conv{{3, 3, 16, 32, 1, 32}}, 16, 32
	for g := range 3 {
		out, stride := 16*width<<g, min(g+1, 2)
		to := side / stride
		all = append(all, conv{3, in, out, side, stride, to}, conv{3, out, out, to, 1, to})
		if in != out {
			all = append(all, conv{1, in, out, side, stride, to})
		}
		in, side = out, to
	}
	return all
}

func compressorConvolutions(width int) (all [][]conv) {
	for g := range 3 {
		one, ch, side := []conv(nil), 16*width<<g, 32>>g
		for range 3 {
			one = append(one, conv{3, ch, ch / 2, side, 1, side - 2})
			ch, side = ch/2, side-2
		}
		for range min(g, 1) + 2 { // conv_0, conv_1 and, behind a stride, the shortcut
			all = append(all, one)
		}
	}
	return all
}

func decoderConvolutions() []conv {
	return []conv{{2, 96, 384, 3, 1, 3}, {2, 96, 192, 5, 1, 5}, {2, 48, 96, 9, 1, 9}, {2, 24, 48, 17, 1, 17}, {2, 12, 3, 33, 1, 32}}
}

// breakdown sets the operations of a report of the small networks against the rates of the machine: what they multiply and move, and how much of their time
// their convolutions would take by themselves.
func breakdown(r Report, text string) (string, error) {
	of, _, err := rates(text)
	if err != nil {
		return "", err
	}
	var rows [][]string
	for _, c := range r.Results {
		if c.Depth != 10 || c.Width > 2 { // of whose convolutions there are no rates
			continue
		}
		net := models.CIFAR10WRN(c.Depth, c.Width)
		recipe, err := carso.SmallRecipe("cifar10", "small", net)
		if err != nil {
			return "", err
		}
		f, err := timed(of, classifierConvolutions(c.Width))
		if err != nil {
			return "", err
		}
		var compress passes
		for _, list := range compressorConvolutions(c.Width) {
			one, err := timed(of, list)
			if err != nil {
				return "", err
			}
			compress = compress.plus(one)
		}
		decode, err := timed(of, decoderConvolutions())
		if err != nil {
			return "", err
		}
		// Work counts an image; maps are written once forwards, their gradients once backwards.
		F := net.Work()
		condition, sample := recipe.Config.Work()
		taps := net.Taps()
		seen := net.WorkTo(taps[len(taps)-1].Name)
		var work models.Work
		var ms, kernels float64
		trained := func() (w models.Work, ms float64) { // a step of the purifier
			own := models.Work{FLOPs: condition.FLOPs - seen.FLOPs + sample.FLOPs - F.FLOPs, Values: condition.Values - seen.Values + sample.Values - F.Values}
			return models.Work{FLOPs: seen.FLOPs + 3*own.FLOPs, Values: seen.Values + 2*own.Values},
				f.forward + compress.forward + compress.inner + compress.kernel + decode.forward + decode.input + decode.kernel
		}
		const n, draws, points = 8, 20, 2
		switch c.Case {
		case "forward":
			work, ms = F, f.forward
		case "pgd-step":
			work, ms = F.Times(2), f.forward+f.input
		case "apgd":
			work, ms = F.Times(22), 11*(f.forward+f.input)
		case "carso-forward":
			work, ms = condition.Add(sample.Times(n)), f.forward+compress.forward+n*(decode.forward+f.forward)
		case "carso-apgd": // all draws of a point share its condition
			work = condition.Add(sample.Times(n * draws)).Times(2 * points)
			ms = points * (f.forward + f.input + compress.forward + compress.input + n*draws*(decode.forward+decode.input+f.forward+f.input))
		case "purifier-step":
			work, ms = trained()
			kernels = compress.kernel + decode.kernel
		case "purifier-attacked-step": // a quarter of the images by one step, a quarter by five
			work, ms = trained()
			work, ms = work.Add(F.Times(3)), ms+1.5*(f.forward+f.input)
			kernels = compress.kernel + decode.kernel
		case "plain-step":
			work, ms, kernels = models.Work{FLOPs: 3 * F.FLOPs, Values: 2 * F.Values}, f.forward+f.inner+f.kernel, f.kernel
		case "adversarial-step":
			work, ms, kernels = models.Work{FLOPs: 5 * F.FLOPs, Values: 4 * F.Values}, 2*f.forward+f.input+f.inner+f.kernel, f.kernel
		default:
			continue
		}
		kit, torch := 1e3*c.Kit.Median/float64(c.Batch), 1e3*c.Torch.Median/float64(c.Batch) // ms an image
		share := func(ms float64) string { return fmt.Sprintf("%.2f", ms/kit) }
		least := float64(work.FLOPs) / of["product"] / 1e6
		moved := 8 * float64(work.Values) // bytes: 4 written, and read once
		row := []string{docOf(c.Case), c.Net().String(), fmt.Sprintf("%.3g", float64(work.FLOPs)/1e9), fmt.Sprintf("%.2f", least/kit), fmt.Sprintf("%.2f", least/torch), share(ms), share(kernels),
			fmt.Sprintf("%.3g", moved/1e6), share(moved / of["copy"] / 1e6)}
		if kernels == 0 {
			row[6] = ""
		}
		rows = append(rows, row)
	}
	return docblock.Table([]string{"operation", "network", "GFLOP an image", "of the ceiling", "PyTorch", "convolutions, share of the time", "of which kernels", "maps, MB an image", "copied, share of the time"}, rows), nil
}

// procedures makes a table of the output of the benchmark Rand of carso/eval, lines like "BenchmarkRand/log-sum/kit-2  1  94000000000 ns/op  20.00 left".
func procedures(text string) (string, error) {
	type run struct{ seconds, left float64 }
	of := map[string]run{}
	var outputs []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 6 || !strings.HasPrefix(f[0], "BenchmarkRand/") {
			continue
		}
		name := benchmarked(f[0])
		ns, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return "", err
		}
		left, err := strconv.ParseFloat(f[4], 64)
		if err != nil {
			return "", err
		}
		of[name] = run{ns / 1e9, left}
		if output, is := strings.CutSuffix(name, "/kit"); is {
			outputs = append(outputs, output)
		}
	}
	slices.Sort(outputs)
	var rows [][]string
	for _, o := range outputs {
		kit, reference := of[o+"/kit"], of[o+"/reference"]
		if reference.seconds == 0 || kit.left != reference.left {
			return "", fmt.Errorf("%s: the procedures leave %g and %g images", o, kit.left, reference.left)
		}
		rows = append(rows, []string{"`" + o + "`", two(reference.seconds / kit.seconds), fmt.Sprintf("%.0f", kit.left)})
	}
	if len(rows) == 0 {
		return "", errors.New("no benchmark Rand in it")
	}
	return docblock.Table([]string{"attacked output", "times as fast as the reference's procedure", "images left of 100, by both"}, rows), nil
}

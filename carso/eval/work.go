package eval

import (
	"cmp"
	"fmt"

	"carsokit/attacks"
	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/models"
)

// Work is what one pass of one image through an output takes.
type Work struct {
	Output    string      `json:"output"`
	Condition models.Work `json:"condition"` // of a classifier alone all of it; else representation and condition, which all draws of a step share
	Sample    models.Work `json:"sample"`    // to decode and classify one sample
	Samples   int         `json:"samples"`
}

// gradientFactor is how many forward passes one with gradient takes. Only pixels have a gradient, weights are frozen: led backwards, a layer's products are as many as forwards.
// (Products with zeros, which the phases of a strided one hold, are not counted.)
const gradientFactor = 2

// drawn is how many of so many passes through an output are computed: one of those without noise.
func drawn(output string, draws int) int {
	if output == Classifier || output == DrawFree {
		return 1
	}
	return draws
}

// computed is how many samples of one draw are computed, some of them idle (see attacks.OracleOptions), and whether that is in parts.
func (w Work) computed() (samples int, parts bool) {
	const most = attacks.MembersAtOnce
	if w.Samples <= most {
		return w.Samples, false
	}
	return (w.Samples + most - 1) / most * most, true
}

// workOf says what a pass through each output of a defence takes.
func workOf(c carso.Config, samples int) func(output string) Work {
	condition, sample := c.Work()
	return func(output string) Work {
		switch output {
		case Classifier:
			return Work{Condition: c.Base.Work()}
		case DrawFree:
			return Work{Condition: condition, Sample: sample, Samples: 1}
		}
		return Work{Condition: condition, Sample: sample, Samples: samples}
	}
}

// Operations is how many floating-point operations an evaluation takes for one image at most, of a defence of that shape, whose weights need not be there: for
// reckoning what full size costs.
func Operations(q Question, c carso.Config) (float64, error) {
	p, scale, err := q.protocol()
	if err != nil {
		return 0, err
	}
	plan, err := Job{Spec: record.Spec{Draws: scale.Draws}, Protocol: p, System: System{Work: workOf(c, cmp.Or(q.Samples, paper.Samples))}}.passes()
	return plan.FLOPs, err
}

// Forward is the number of operations of classifying in so many draws.
func (w Work) Forward(draws int) float64 {
	samples, _ := w.computed()
	return float64(w.Condition.FLOPs) + float64(draws*samples)*float64(w.Sample.FLOPs)
}

// Gradient is that of one gradient, averaged over so many draws. As attacks.Oracle computes it: the gradient of one draw goes straight through. Of several, the condition is
// computed once, each draw leads back to it, and their sum is led back through it once more. Samples that are too many for one part are computed a second time on the way back.
func (w Work) Gradient(draws int) float64 {
	samples, parts := w.computed()
	condition, members := gradientFactor, gradientFactor
	if parts {
		members++
	}
	if w.Samples > 0 && (parts || draws > 1) {
		condition++
	}
	return float64(condition)*float64(w.Condition.FLOPs) + float64(members*draws*samples)*float64(w.Sample.FLOPs)
}

// String is "log-sum: 95.2 MFLOP to the condition, 101 MFLOP for each of 8 samples; 1.80 GFLOP with gradient".
func (w Work) String() string {
	own := flops(float64(w.Condition.FLOPs))
	switch w.Samples {
	case 0:
	case 1:
		own += " to the condition, " + flops(float64(w.Sample.FLOPs)) + " for the one sample"
	default:
		own += fmt.Sprintf(" to the condition, %s for each of %d samples", flops(float64(w.Sample.FLOPs)), w.Samples)
	}
	return fmt.Sprintf("%s: %s; %s with gradient", w.Output, own, flops(w.Gradient(1)))
}

// flops writes a number of operations, three digits of it.
func flops(n float64) string {
	const units = "kMGTPEZ"
	unit := -1
	for n >= 999.5 && unit < len(units)-1 {
		n /= 1000
		unit++
	}
	if unit < 0 {
		return fmt.Sprintf("%.0f FLOP", n)
	}
	return fmt.Sprintf("%.3g %cFLOP", n, units[unit])
}

// memoryFactor is how much more than the layers' outputs a gradient takes. Measured as the growth of the peak over the batch, with XLA on a CPU: 1.9 times for CARSO with 8 samples
// (batches of 4, 32, 64) and 2.4 times for its classifier alone (4, 256), which are normalised values, activations and what is led back. The rest is reserve.
const memoryFactor = 3

// bytes is the memory that one row of a compiled batch is reckoned at: one draw of one image with all samples that are computed at once, and its gradient.
func (w Work) bytes() int {
	samples := min(w.Samples, attacks.MembersAtOnce)
	return memoryFactor * 4 * (w.Condition.Values + samples*w.Sample.Values)
}

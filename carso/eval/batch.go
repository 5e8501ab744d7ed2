package eval

import (
	"encoding/json"
	"fmt"

	"carsokit/attacks"
)

// Limits of AutoBatch.
const (
	leastBatch = 4
	mostBatch  = 256
)

// AutoBatch is the largest compiled batch, a power of two from 4 to 256, of which an evaluation with these options takes about half of the available bytes at most, and what it
// takes. It is no larger than what a chunk's draws fill. The batch changes results by the rounding of sums, so it is nothing to choose where records shall be the same bytes on
// every machine.
func (j Job) AutoBatch(o Options, available int) (batch, bytes int, err error) {
	if j.System.Work == nil {
		return 0, 0, fmt.Errorf("choosing a batch for row %s: the sizes of what is evaluated are not known: give a number", j.Spec.Row)
	}
	o = o.withDefaults()
	row, rows := j.System.Work(j.Protocol.Decides).bytes(), o.Chunk
	for _, s := range j.Protocol.all() {
		row = max(row, j.System.Work(s.Output).bytes())
		draws, err := eot(s)
		if err != nil {
			return 0, 0, err
		}
		rows = max(rows, o.Chunk*draws)
	}
	need := func(batch int) int { return batch * row * o.Workers }
	if need(leastBatch) > available/2 {
		return 0, 0, fmt.Errorf("choosing a batch for %s/%s: %d images at once, of %d workers, take about %d MB, and half of the %d MB that are available is less: give a smaller number, or fewer workers",
			j.Spec.Row, j.Spec.Column, leastBatch, o.Workers, need(leastBatch)>>20, available>>20)
	}
	for batch = leastBatch; 2*batch <= min(rows, mostBatch) && need(2*batch) <= available/2; batch *= 2 {
	}
	return batch, need(batch), nil
}

// eot is how many draws each gradient of a stage computes.
func eot(s Stage) (int, error) {
	text, err := attacks.Describe(s.Attack)
	if err != nil {
		return 0, err
	}
	config := struct {
		EoT int `json:"eot"`
	}{1}
	if err := json.Unmarshal(text, &config); err != nil {
		return 0, fmt.Errorf("planning %s: %w", stageName(s), err)
	}
	return drawn(s.Output, max(config.EoT, 1)), nil
}

package attacks

import (
	"context"
	"fmt"

	"carsokit/internal/rng"
)

// parts says how the members of a large ensemble are divided.
type parts struct {
	ensemble Ensemble
	members  int   // N
	size     int   // members in one part; the last one is filled up with idle ones
	count    int   // of parts
	noise    []int // dimensions of one member's noise
	width    int   // values of it
}

// MembersAtOnce is how many members of an Ensemble an Oracle computes at once unless its options say otherwise.
const MembersAtOnce = 32

// partition divides c if it is an ensemble of more members than are computed at once.
func partition(c Staged, atOnce int) (*parts, error) {
	if atOnce < 0 {
		return nil, fmt.Errorf("attacks: computing %d members at once; want a positive number, or 0 for 32", atOnce)
	}
	if atOnce == 0 {
		atOnce = MembersAtOnce
	}
	dims := c.NoiseDims()
	e, ok := c.(Ensemble)
	if !ok || len(dims) == 0 || dims[0] <= atOnce {
		return nil, nil
	}
	p := &parts{ensemble: e, members: dims[0], size: atOnce, noise: dims[1:], width: 1}
	p.count = (p.members + p.size - 1) / p.size
	for _, d := range p.noise {
		p.width *= d
	}
	return p, nil
}

// rows lists every part of the rows.
func (p *parts) rows(of []row) []row {
	all := make([]row, 0, len(of)*p.count)
	for part := range p.count {
		for _, r := range of {
			all = append(all, row{r.image, r.draw, part})
		}
	}
	return all
}

// slice is the share of a part in values of all members, width of each; fewer in the last part.
func (p *parts) slice(all []float32, part, width int) []float32 {
	return all[part*p.size*width : min((part+1)*p.size, p.members)*width]
}

// partNoise feeds the noise of a part's members; idle members have none.
func (o *Oracle) partNoise(b Batch, seed rng.Seed) feed {
	p := o.parts
	return floats(append([]int{p.size}, p.noise...), func(dst []float32, r row) {
		all := make([]float32, p.members*p.width)
		o.random.Noise(all, seed, b.ID[r.image], r.draw)
		copy(dst, p.slice(all, r.part, p.width))
	})
}

// memberLogits computes the logits of all members, [N][Classes] of each image, in one draw.
func (o *Oracle) memberLogits(ctx context.Context, b Batch, cond feed, noise rng.Seed, draw []row) (map[int][]float32, error) {
	p, classes := o.parts, o.c.Classes()
	all := make(map[int][]float32, len(draw))
	for _, r := range draw {
		all[r.image] = make([]float32, p.members*classes)
	}
	err := o.run(ctx, "members", "", []feed{cond, o.partNoise(b, noise)}, p.rows(draw), nil, func(r row, out [][]float32) {
		copy(p.slice(all[r.image], r.part, classes), out[0])
	})
	return all, err
}

// partLogits is Logits for a divided ensemble.
func (o *Oracle) partLogits(ctx context.Context, b Batch, noise rng.Seed, draws int, into []float32) error {
	n, classes := b.Len(), o.c.Classes()
	values, k, err := o.condition(ctx, b)
	if err != nil {
		return err
	}
	cond := floats([]int{k}, copyRows(values, k))
	for draw := range draws {
		now := rows(n, 1)
		for i := range now {
			now[i].draw = draw
		}
		members, err := o.memberLogits(ctx, b, cond, noise, now)
		if err != nil {
			return err
		}
		err = o.run(ctx, "aggregate", "", []feed{o.ofMembers(members)}, now, nil, func(r row, out [][]float32) {
			copy(into[(draw*n+r.image)*classes:], out[0])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ofMembers feeds values [N][Classes] of each image.
func (o *Oracle) ofMembers(values map[int][]float32) feed {
	return floats([]int{o.parts.members, o.c.Classes()}, func(dst []float32, r row) { copy(dst, values[r.image]) })
}

// partGradients is the draws' part of Gradient for a divided ensemble: the chain rule in two steps. The logits of all members give the loss and its gradient with respect to them; then
// every part is computed again and its share of that gradient led back to the condition. order lists the draws one after the other; take gets what graph "draw" gives.
func (o *Oracle) partGradients(ctx context.Context, loss Loss, b Batch, cond feed, k int, noise rng.Seed, target []int32, order []row, skip func(row) bool, take func(row, [][]float32)) error {
	p, classes := o.parts, o.c.Classes()
	for from := 0; from < len(order); from += b.Len() {
		var draw []row
		for _, r := range order[from : from+b.Len()] {
			if !skip(r) {
				draw = append(draw, r)
			}
		}
		if len(draw) == 0 {
			continue
		}
		members, err := o.memberLogits(ctx, b, cond, noise, draw)
		if err != nil {
			return err
		}
		inputs := []feed{o.ofMembers(members), ints(b.Y)}
		if loss.targeted() {
			inputs = append(inputs, ints(target))
		}
		back := make(map[int][]float32, len(draw)) // with respect to the logits of the members
		rest := make(map[int][][]float32, len(draw))
		err = o.run(ctx, "aggregate gradient", loss, inputs, draw, nil, func(r row, out [][]float32) { back[r.image], rest[r.image] = out[0], [][]float32{out[1], out[2]} })
		if err != nil {
			return err
		}
		share := floats([]int{p.size, classes}, func(dst []float32, r row) { copy(dst, p.slice(back[r.image], r.part, classes)) })
		sum := make(map[int][]float32, len(draw))
		for _, r := range draw {
			sum[r.image] = make([]float32, k)
		}
		err = o.run(ctx, "pull", "", []feed{cond, o.partNoise(b, noise), share}, p.rows(draw), nil, func(r row, out [][]float32) {
			for j, v := range out[0] {
				sum[r.image][j] += v
			}
		})
		if err != nil {
			return err
		}
		for _, r := range draw {
			take(r, [][]float32{sum[r.image], rest[r.image][0], rest[r.image][1]})
		}
	}
	return nil
}

package models

// Work is what one forward pass of one image takes.
type Work struct {
	FLOPs  int // two for each multiply-add of a convolution or linear layer; normalisations, activations and blurs are next to nothing, and not counted
	Values int // numbers that these layers put out, which a gradient has to keep
}

// Add is the work of both.
func (w Work) Add(o Work) Work { return Work{w.FLOPs + o.FLOPs, w.Values + o.Values} }

// Times is the work of n passes whose values are all kept.
func (w Work) Times(n int) Work { return Work{n * w.FLOPs, n * w.Values} }

// ConvWork is that of a convolution with a k x k kernel that puts out maps of the given side. Products with padding count: they are computed.
func ConvWork(in, out, k, side int) Work {
	return Work{2 * in * out * k * k * side * side, out * side * side}
}

// LinearWork is that of a linear layer.
func LinearWork(in, out int) Work { return ConvWork(in, out, 1, 1) }

// Work is that of a pass to the logits.
func (w WRN) Work() Work { return w.WorkTo("").Add(LinearWork(64*w.Width, w.Classes)) }

// WorkTo is that of a pass which ends with one of the representations of Taps, the last one that is used; with the last of all where there is none of that name.
func (w WRN) WorkTo(tap string) Work {
	sum := ConvWork(3, 16, 3, w.Size/w.stride())
	for _, b := range w.blocks() {
		if sum = sum.Add(ConvWork(b.in, b.out, 3, b.side)); tap == b.name+"conv_0" {
			break
		}
		if sum = sum.Add(ConvWork(b.out, b.out, 3, b.side)); tap == b.name+"conv_1" {
			break
		}
		if b.shortcut {
			sum = sum.Add(ConvWork(b.in, b.out, 1, b.side))
		}
		if tap == b.name+"shortcut" {
			break
		}
	}
	return sum
}

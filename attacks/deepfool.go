package attacks

import (
	"context"
	"slices"

	"carsokit/internal/rng"
)

// DeepFool is the attack of Moosavi-Dezfooli et al. (2016), l-infinity, as the paper's older scenarios use it (advertorch's LinfDeepFoolAttack): steps just over the
// nearest linearised boundary, all of them counted from the class predicted at the clean image. The sum of the steps keeps to the budget.
//
// The reference multiplies the sum by 1 + Overshoot after limiting it to the budget, and so leaves it; here the product is limited.
type DeepFool struct {
	Eps       float64 `json:"eps"`
	Steps     int     `json:"steps"`
	EoT       int     `json:"eot"`
	Overshoot float64 `json:"overshoot"`
}

// PaperDeepFool is the setting of the paper's older scenarios: 50 steps that overshoot by 0.02.
func PaperDeepFool(eps float64) DeepFool {
	return DeepFool{Eps: eps, Steps: 50, EoT: 1, Overshoot: 0.02}
}

func (a DeepFool) Name() string    { return "deepfool" }
func (a DeepFool) Budget() float64 { return a.Eps }

// Evaluations counts the gradients towards all classes at one point as one.
func (a DeepFool) Evaluations() int { return a.Steps }

func (a DeepFool) Validate() error {
	return firstBroken(a.Name(), epsRule(a.Eps), countRule("Steps", a.Steps), countRule("EoT", a.EoT), shareRule("Overshoot", a.Overshoot))
}

func (a DeepFool) MarshalJSON() ([]byte, error) {
	type fields DeepFool
	return withKind(a.Name(), fields(a))
}

// Run attacks the images that one fresh pass classifies correctly, until they lose their label; the others return as they are, broken without a step. Adv and
// Best are the last iterate.
func (a DeepFool) Run(ctx context.Context, o *Oracle, b Batch, seed rng.Seed) (*Result, error) {
	if err := ready(a, o, b); err != nil {
		return nil, err
	}
	r, err := unattacked(ctx, o, b, seed)
	if err != nil {
		return nil, err
	}
	r.BestLoss = nil
	d, eps := b.Dim(), float32(a.Eps)
	sum := make([]float64, len(b.X))
	active := drop(upTo(b.Len()), func(i int) bool { return r.Broken[i] })
	for step := range a.Steps {
		if len(active) == 0 {
			break
		}
		now := b.with(r.Adv, active)
		g, err := o.nearest(ctx, now, seed.Child("step", step), a.EoT, 1e-8)
		if err != nil {
			return nil, err
		}
		o.notify(now, g)
		each(active, d, func(k, i int) {
			r.Diag[i].note(g, k)
			gradient := g.G[k*d : (k+1)*d]
			size := 1e-8
			for _, v := range gradient {
				size += float64(max(v, -v))
			}
			far := float64(g.MeanLoss[k])
			length := max(far, -far)/size + 1e-4
			if length-length != 0 { // the gradient is not finite
				return
			}
			for j, v := range gradient {
				total := min(max(sum[i*d+j]+length*float64(sign(v)), -a.Eps), a.Eps)
				sum[i*d+j] = total
				clean := b.X[i*d+j]
				r.Adv[i*d+j] = clip(clip(float32(float64(clean)+(1+a.Overshoot)*total), clean-eps, clean+eps), 0, 1)
			}
			r.Diag[i].Moved = r.Diag[i].Moved || moved(r.Adv[i*d:(i+1)*d], b.Image(i))
		})
		seen, err := o.look(ctx, b.with(r.Adv, active), seed.Child("look", step), a.EoT)
		if err != nil {
			return nil, err
		}
		for k, i := range active {
			if seen.wrong[k] {
				r.Broken[i], r.Hit[i] = true, step
			}
		}
		active = slices.DeleteFunc(active, func(i int) bool { return r.Broken[i] })
	}
	r.Best = r.Adv
	return r, nil
}

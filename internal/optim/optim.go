// Package optim holds the update rules of the trainings: RAdam inside Lookahead and SGD with momentum, in PyTorch's conventions.
//
// A rule keeps no state. Update builds the graph of one step of one parameter from its values and state; what changes from step to step comes in as a small
// vector of coefficients, computed on the host, so that one graph serves all steps.
package optim

import "math"

// RAdam is the optimiser of Liu et al. (2020) inside Lookahead (Zhang et al. 2019), as the reference's library composes them (spec: training 3).
type RAdam struct {
	Beta1, Beta2, Eps float64
	WeightDecay       float64 // decoupled: the parameter shrinks by the learning rate times this
	// Momentum takes plain momentum steps while the variance of the second moment cannot be rectified, the first five steps for Beta2 = 0.999;
	// without it the parameters wait.
	Momentum bool
	Every    int     // Lookahead acts after so many inner steps
	Alpha    float64 // Lookahead's weight of the fast parameters
}

// Reference is the setting of the purifier's training.
var Reference = RAdam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Momentum: true, Every: 6, Alpha: 0.8}

// Size returns what RAdam multiplies by at inner step t, counted from 1, with learning rate 1: size·m/(sqrt(v)+eps) where rectified, else size·m. The
// correction of v's bias is inside size, so eps is added to the uncorrected root.
func (o RAdam) Size(t int) (size float64, rectified bool) {
	limit := 2/(1-o.Beta2) - 1
	b1, b2 := math.Pow(o.Beta1, float64(t)), math.Pow(o.Beta2, float64(t))
	length := limit - 2*float64(t)*b2/(1-b2)
	switch {
	case length >= 5:
		return math.Sqrt((1-b2)*(length-4)/(limit-4)*(length-2)/length*limit/(limit-2)) / (1 - b1), true
	case o.Momentum:
		return 1 / (1 - b1), false
	}
	return 0, false
}

// Unrectified is the number of first steps that are not rectified.
func (o RAdam) Unrectified() int {
	t := 0
	for {
		if _, rectified := o.Size(t + 1); rectified {
			return t
		}
		t++
	}
}

// Coefficients are what Update takes for inner step t, counted from 1, at a learning rate.
func (o RAdam) Coefficients(t int, lr float64) []float32 {
	c := make([]float32, 4) // shrinkage, factor of m, factor of m/(sqrt(v)+eps), whether Lookahead acts
	size, rectified := o.Size(t)
	if size > 0 {
		c[0] = float32(lr * o.WeightDecay)
	}
	if rectified {
		c[2] = float32(lr * size)
	} else {
		c[1] = float32(lr * size)
	}
	if t%o.Every == 0 {
		c[3] = 1
	}
	return c
}

// SGD is stochastic gradient descent with PyTorch's momentum, whose buffer does not contain the learning rate.
type SGD struct {
	Momentum    float64
	Nesterov    bool
	WeightDecay float64 // coupled: added to the gradient
}

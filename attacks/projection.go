package attacks

import "math"

// toPlane writes to move the smallest change, in the l-infinity norm, that takes the point t of [0,1]^n onto the hyperplane <w,u> = b and keeps it in [0,1]^n; where the
// box does not reach the plane, the change that comes nearest to it. It returns the norm of the change. This is the projection of FAB (Croce and Hein 2020).
//
// Seen from the side of the plane on which t lies, value i can move towards it by at most its room: t_i where that is downwards, 1-t_i upwards. All values move by the same
// lambda, or by their room if that is smaller, and lambda solves sum |w_i| min(lambda, room_i) = |<w,t> - b|. The left side is concave and piecewise linear,
// so Newton's steps from 0 never overshoot and end after as many steps as lambda passes rooms that matter.
func toPlane(t, w []float32, b float64, move []float64) float64 {
	gap := -b
	for i, v := range w {
		gap += float64(v) * float64(t[i])
	}
	side := float32(1)
	if !(gap >= 0) {
		side, gap = -1, -gap
	}
	room := func(i int) float64 {
		if side*w[i] < 0 {
			return 1 - float64(t[i])
		}
		return float64(t[i])
	}
	lambda := 0.0
	for {
		spent, slope := 0.0, 0.0
		for i, v := range w {
			if r := room(i); r <= lambda {
				spent += math.Abs(float64(v)) * r
			} else {
				slope += math.Abs(float64(v))
			}
		}
		next := math.Inf(1) // no room is left
		if slope > 0 {
			next = max((gap-spent)/slope, 0)
		}
		if !(next > lambda) {
			break
		}
		lambda = next
		if math.IsInf(lambda, 1) {
			break
		}
	}
	norm := 0.0
	for i, v := range w {
		move[i] = 0
		if v != 0 {
			move[i] = min(lambda, room(i))
			norm = max(norm, move[i])
			if side*v > 0 {
				move[i] = -move[i]
			}
		}
	}
	return norm
}

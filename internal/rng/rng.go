// Package rng gives named, counter-based random streams.
//
// A Seed is a node in a tree: Child hashes a name and indices into a new Seed, so adding a consumer never moves another one's numbers, and
// a draw depends only on its path (seed, image, step, draw), never on what was drawn before, on batch composition or on the backend.
// Numbers are made on the host because XLA and GoMLX's Go backend give different numbers for one device seed.
package rng

import "math/rand/v2"

// Seed identifies one stream. The zero value is a valid root.
type Seed uint64

// Child returns the stream called name, further told apart by indices.
func (s Seed) Child(name string, index ...int) Seed {
	h := mix(uint64(s) ^ 0x9e3779b97f4a7c15)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3 // FNV-1a step
	}
	h = mix(h)
	for _, i := range index {
		h = mix(h ^ mix(uint64(i)+0xd1b54a32d192ed03))
	}
	return Seed(h)
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// Rand returns a generator at the start of the stream.
func (s Seed) Rand() *rand.Rand {
	return rand.New(rand.NewPCG(uint64(s), mix(uint64(s))))
}

// Uniform fills dst with numbers in [0,1).
func (s Seed) Uniform(dst []float32) {
	r := s.Rand()
	for i := range dst {
		dst[i] = r.Float32()
	}
}

// Symmetric fills dst with uniform numbers in [-1,1).
func (s Seed) Symmetric(dst []float32) {
	r := s.Rand()
	for i := range dst {
		dst[i] = 2*r.Float32() - 1
	}
}

// Normal fills dst with standard normal numbers.
func (s Seed) Normal(dst []float32) {
	r := s.Rand()
	for i := range dst {
		dst[i] = float32(r.NormFloat64())
	}
}

// Perm returns a permutation of 0..n-1.
func (s Seed) Perm(n int) []int { return s.Rand().Perm(n) }

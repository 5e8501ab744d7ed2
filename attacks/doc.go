// Package attacks measures how far small changes of an image fool a classifier: white-box attacks in the l-infinity ball over images in
// [0,1], for any GoMLX model that satisfies [Classifier], deterministic or stochastic.
//
// An [Oracle] compiles the gradient of a [Loss] through the classifier once and answers for batches of any size; an [Attack] is a plain value
// whose exported fields are its whole specification ([FGSM], [PGD], [PGDEoT], [APGD]); a [Sequence] runs attacks one after the other on
// the images that are still classified correctly and lets fresh forward passes decide, as AutoAttack does. The example shows a complete use.
//
// # Where things run
//
// The only expensive thing, the gradient, is one compiled call per batch. Everything an attack decides per image (step sizes,
// restarts, who is still attacked) is plain float32 arithmetic on the host. So an image's result depends on its pixels, its
// ID and the seed, not on the batch it travels in, beyond the rounding of differently tiled sums on the device.
//
// # Stochastic classifiers
//
// The classifier takes its noise as an input. The noise of draw k for image id is
// seed.Child("image", id).Child("draw", k).Normal, where the attack passes a different seed for every step. Expectation over transformation
// (EoT) averages gradients over draws; the loss and the prediction that an attack looks at are those of the last draw, as in
// the reference implementations. A [Staged] classifier computes its deterministic part once a step for all draws.
//
// # Gradients that are not numbers
//
// sign(NaN) is 0 and comparisons with NaN are false, as in PyTorch: an image whose gradient is NaN does not move. This says nothing about
// its robustness, so every [Result] carries per-image diagnostics ([Diag]) that tell NaN and zero gradients apart from failed attacks.
package attacks

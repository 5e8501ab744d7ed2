// Package attacks measures how far small changes of an image fool a classifier: attacks in the l-infinity ball over images in
// [0,1], for any GoMLX model that satisfies [Classifier], deterministic or stochastic.
//
// A complete evaluation of a model whose weights are in store and whose graph is net:
//
//	c := attacks.Deterministic(store, 10, func(s *model.Scope, x *Node) *Node { return net(s, x) }) // x is [batch,32,32,3]
//	o, err := attacks.NewOracle(compute.MustNew(), c, attacks.OracleOptions{})
//	if err != nil {
//		return err
//	}
//	defer o.Close()
//	images := attacks.Batch{X: pixels, Y: labels, ID: ids, H: 32, W: 32, C: 3}
//	out, err := attacks.AutoAttackStandard(8.0/255).On(o, "").Run(ctx, images, 42)
//	if err != nil {
//		return err
//	}
//	fmt.Println("right:", out.Remaining[0], "after each attack:", out.Remaining[1:])
//
// An [Oracle] compiles the gradient of a [Loss] through the classifier once and answers for batches of any size; an [Attack] is a plain value
// whose exported fields are its whole specification; a [Sequence] runs attacks one after the other on the images that are still classified correctly and lets
// fresh forward passes decide, as AutoAttack does. [Catalog] lists what there is:
//
//   - one gradient step: [FGSM]; many: [PGD], [PGDEoT], [APGD], and towards each class [APGDTargeted], [MultiTargeted];
//   - the nearest adversarial image: [FAB], [DeepFool];
//   - no gradient: [SquareAttack], the baseline [UniformNoise];
//   - another classifier's gradient: [Transfer], or any [Stage] on another Oracle; a defence's representation: [Representation];
//   - all together: [AutoAttackStandard], [AutoAttackPlus], [AutoAttackRand], [AutoAttackRandPlus], [AutoAttackCustom].
//
// The threat model is the l-infinity ball. There is no l_2 ball: start, step, projection and search differ in each attack, so it would be a second copy of
// each, and the evaluations that this module reproduces do not use it.
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
//
// # Looking on
//
// [Oracle.Observed] reports every evaluation: the loss of each image, how many draws it fooled, and under APGD how often its step size was halved. Loss curves and
// progress bars are made of that.
package attacks

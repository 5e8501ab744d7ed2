// Package check says whether an evaluation of a classifier by gradient attacks can be believed. A defence whose gradients are broken looks robust, and so
// does one whose wrapper is wrong; neither the attack nor the accuracy tells. [Run] takes any classifier that package attacks takes, looks for the
// known ways in which attacks fail without notice, and returns a [Report]: one [Finding] a check, each with a figure, the limits that it was held
// to, the number of cases and a sentence in plain words.
//
// Every figure is oriented so that 0 is good: shares of images for which something is wrong. A check passes up to the limit Warn, warns up to the limit
// Fail, and fails beyond. A failed check does not say that a defence is not robust. It says that the number measured by these attacks is no evidence that it is.
//
// # The checks
//
// The contract: are the logits finite, no probabilities, the same for the same image and noise in whatever company; does declared noise do anything; do the
// two stages of a staged classifier compute its pass; is it better than chance; does it reject. The gradient: is it a number, not zero, and the
// slope that finite differences measure. The attacks: nothing weaker than a white-box attack breaks what that does not (single steps, fewer draws,
// noise, transfer, black box, smaller bounds); without a bound everything breaks; the loss moves. And the binarisation test: in a two-class problem that is
// built so that an adversarial example is known to exist, the attack finds one.
//
// Sources: the flags of AutoAttack (Croce and Hein 2020), the evaluation checklist of Carlini et al. (2019, arXiv 1902.06705), the indicators of attack
// failure of Pintor et al. (2022, arXiv 2106.09947) and the decision-boundary binarisation test of Zimmermann et al. (2022, arXiv 2206.13991).
//
// # Cost and reproducibility
//
// A report is a function of classifier, images, options and backend, to the byte. It states the passes it took; with the default options that is
// some hundred passes with gradient and some hundred without an image, of which a stochastic classifier takes EoT times as many.
package check

package attacks

import (
	"errors"
	"fmt"
)

// Loss names what a gradient attack maximises. Each is a function of the logits of one image and its label.
type Loss string

const (
	// CE is the cross-entropy.
	CE Loss = "ce"
	// DLR is the difference of logits ratio of Croce and Hein (2020): the margin over the spread of the three largest logits. Needs 3 classes.
	DLR Loss = "dlr"
	// DLRTargeted is its targeted form. Needs a target class per image, and 4 classes.
	DLRTargeted Loss = "dlr-targeted"
	// Margin is the largest wrong logit minus the right one. Unlike CE it does not saturate: its gradient does not vanish for confident images.
	Margin Loss = "margin"
	// MarginTargeted is the logit of a target class minus the right one: the loss of MultiTargeted (Gowal et al. 2019), and the distance that FAB and
	// DeepFool linearise. Needs a target class per image.
	MarginTargeted Loss = "margin-targeted"
)

// ErrClasses is wrapped by errors that say that a loss needs more classes than the classifier has.
var ErrClasses = errors.New("too few classes for the loss")

// Validate reports an unknown loss.
func (l Loss) Validate() error {
	if l.minClasses() == 0 {
		return fmt.Errorf("attacks: unknown loss %q; known are %q, %q, %q, %q and %q", string(l), CE, DLR, DLRTargeted, Margin, MarginTargeted)
	}
	return nil
}

// minClasses is 0 for an unknown loss.
func (l Loss) minClasses() int {
	switch l {
	case CE, Margin, MarginTargeted:
		return 2
	case DLR:
		return 3
	case DLRTargeted:
		return 4
	}
	return 0
}

// targeted says whether l needs a target class per image.
func (l Loss) targeted() bool { return l == DLRTargeted || l == MarginTargeted }

// check reports whether l can be computed for a classifier with the given number of classes.
func (l Loss) check(classes int, target []int32) error {
	if err := l.Validate(); err != nil {
		return err
	}
	if classes < l.minClasses() {
		return fmt.Errorf("attacks: loss %q needs %d classes, the classifier has %d: %w", string(l), l.minClasses(), classes, ErrClasses)
	}
	if l.targeted() && target == nil {
		return fmt.Errorf("attacks: loss %q needs a target class for every image", string(l))
	}
	return nil
}

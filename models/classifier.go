package models

import (
	"github.com/gomlx/gomlx/ml/model"
)

// Classifier is a network with its weights, in the form that package attacks takes.
type Classifier struct {
	Net   WRN
	store *model.Store
	scope string
}

// NewClassifier wraps the weights of net under a scope of store.
func NewClassifier(store *model.Store, scope string, net WRN) *Classifier {
	return &Classifier{net, store, scope}
}

// Store holds the weights.
func (c *Classifier) Store() *model.Store { return c.store }

// Classes is the number of classes.
func (c *Classifier) Classes() int { return c.Net.Classes }

// NoiseDims is nil: the classifier is deterministic.
func (c *Classifier) NoiseDims() []int { return nil }

package data

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Env is the environment variable that says where data sets are.
const Env = "CARSO_DATA"

// DefaultDir is the folder, relative to the project's root, where data sets are kept unless something else is said.
var DefaultDir = filepath.Join("build", "data")

// Find says where the data set called name is, as Open and Verify take it: in explicit if that is not empty, else in the folder or archive
// that the environment variable CARSO_DATA names, else in build/data under root. Only the first of these that is given is looked at, so that
// a wrong path is an error and not quietly other data. The error wraps ErrNotFound and says how to get the data.
func Find(name, explicit, root string) (string, error) {
	d, err := Lookup(name)
	if err != nil {
		return "", err
	}
	return d.find(explicit, root)
}

func (d Dataset) find(explicit, root string) (string, error) {
	if explicit != "" {
		return d.in(explicit)
	}
	if env := os.Getenv(Env); env != "" {
		path, err := d.in(env)
		if err != nil {
			return "", fmt.Errorf("environment variable %s: %w", Env, err)
		}
		return path, nil
	}
	return d.in(filepath.Join(root, DefaultDir))
}

// TestSet is OpenTest of CIFAR-10 where it is kept.
func TestSet(root string) (set *Set, note string, err error) { return OpenTest("cifar10", "", root) }

// OpenTest returns the split of the data set called name that results are reported on (the test split; TinyImageNet-200's labelled one is called
// val), from where Find finds it. Of CIFAR-10, which is found nowhere although nothing says where it should be, it is the built-in first 1,000
// images. The note says, for people, which images these are and where from. Data that is found and is damaged is an error, and so is an explicit or
// a CARSO_DATA that holds none.
func OpenTest(name, explicit, root string) (set *Set, note string, err error) {
	d, err := Lookup(name)
	if err != nil {
		return nil, "", err
	}
	path, err := d.find(explicit, root)
	if name == sampleOf && errors.Is(err, ErrNotFound) && explicit == "" && os.Getenv(Env) == "" {
		set, err := Sample()
		if err != nil {
			return nil, "", err
		}
		return set, fmt.Sprintf("built-in sample: the first %d images of the CIFAR-10 test split (all 10000: `carso data get cifar10`)", set.Len()), nil
	}
	if err != nil {
		return nil, "", err
	}
	return d.open(path, root, d.Evaluation)
}

// OpenTrain is like OpenTest, for the training split. None is built in.
func OpenTrain(name, explicit, root string) (set *Set, note string, err error) {
	d, err := Lookup(name)
	if err != nil {
		return nil, "", err
	}
	path, err := d.find(explicit, root)
	if err != nil {
		return nil, "", err
	}
	return d.open(path, root, "train")
}

// open opens a split, and says in a note which it is and where it lies: below root where it is there, so that what is printed does not name folders of one machine.
func (d Dataset) open(path, root, split string) (*Set, string, error) {
	set, err := d.Open(path, split)
	if err != nil {
		return nil, "", err
	}
	if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
		path = rel
	}
	return set, fmt.Sprintf("full %s %s split, %d images, from %s", d.Title, split, set.Len(), path), nil
}

// Official says whether the set is a complete split of its data set, bit for bit as published.
func (s *Set) Official() bool {
	d, err := Lookup(s.Name)
	return err == nil && s.Digest != "" && d.Digests[s.Split] == s.Digest
}

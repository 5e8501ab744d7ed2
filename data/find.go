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

// TestSet returns CIFAR-10's test split: the full 10,000 images where Find finds them, else the built-in first 1,000. The note says, for
// people, which of the two it is and where from. Data that is found and is damaged is an error, and so is a CARSO_DATA that holds none.
func TestSet(root string) (set *Set, note string, err error) {
	path, err := Find("cifar10", "", root)
	if errors.Is(err, ErrNotFound) && os.Getenv(Env) == "" {
		set, err := Sample()
		if err != nil {
			return nil, "", err
		}
		return set, fmt.Sprintf("built-in sample: the first %d images of the CIFAR-10 test split (all 10000: `carso data get cifar10`)", set.Len()), nil
	}
	if err != nil {
		return nil, "", err
	}
	set, err = OpenCIFAR10(path, "test")
	if err != nil {
		return nil, "", err
	}
	return set, fmt.Sprintf("full CIFAR-10 test split, %d images, from %s", set.Len(), path), nil
}

// Official says whether the set is a complete split of its data set, bit for bit as published.
func (s *Set) Official() bool {
	d, err := Lookup(s.Name)
	return err == nil && s.Digest != "" && d.Digests[s.Split] == s.Digest
}

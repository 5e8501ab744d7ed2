package checkpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Every shipped file opens, is finite and has the digest that SHA256SUMS lists, and SHA256SUMS lists nothing else.
func TestShipped(t *testing.T) {
	list, err := shippedFiles.ReadFile("shipped/SHA256SUMS")
	names := ShippedNames()
	if err != nil && len(names) > 0 {
		t.Fatalf("%v: see shipped/README.md", err)
	}
	listed := map[string]string{}
	for line := range strings.Lines(string(list)) {
		sum, file, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Errorf("line %q is not 'digest  file'", line)
		}
		listed[strings.TrimSuffix(file, ".safetensors")] = sum
	}
	for _, name := range names {
		f, err := Shipped(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := f.CheckFinite(); err != nil {
			t.Error(err)
		}
		if sum, err := f.SHA256(); err != nil || sum != listed[name] {
			t.Errorf("%s: digest %s (%v), SHA256SUMS has %q", name, sum, err, listed[name])
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("SHA256SUMS lists %s, which is not here", name)
	}
}

func TestShippedUnknown(t *testing.T) {
	for _, name := range []string{"absent", "", "../state", "/etc/passwd"} {
		if _, err := Shipped(name); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "there are") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

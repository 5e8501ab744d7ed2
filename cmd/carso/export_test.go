package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExportMakesItsFolder: hours of training do not end at a folder that is not there, and what is missing is named.
func TestExportMakesItsFolder(t *testing.T) {
	out := filepath.Join(t.TempDir(), "new", "folder")
	err := export(t.Context(), []string{"-classifier", filepath.Join(t.TempDir(), "nothing"), "-out", out})
	if err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a training that is not there: %v", err)
	}
	if _, err := os.Stat(out); err != nil {
		t.Error(err)
	}
}

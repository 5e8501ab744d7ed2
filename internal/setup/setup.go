// Package setup finds what setup.sh put into the checkout's .venv: the XLA plugin and ECharts. It installs nothing.
package setup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Module is the module path by which Root recognises the checkout.
const Module = "carsokit"

// Names of the variables that override what is found in the checkout.
const (
	RootVar    = "CARSO_ROOT"    // the checkout's folder
	EChartsVar = "CARSO_ECHARTS" // the file echarts.min.js
)

// Remedy is what a message about a missing part should tell the reader to run.
const Remedy = "run `internal/setup/setup.sh base` in the checkout"

// Root returns the checkout's folder: CARSO_ROOT when it is set, else the nearest folder from the working directory
// upwards that holds this module's go.mod. The error is fs.ErrNotExist when there is none.
func Root() (string, error) {
	if dir := os.Getenv(RootVar); dir != "" {
		return filepath.Abs(dir)
	}
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the checkout: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if moduleOf(filepath.Join(dir, "go.mod")) == Module {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no checkout of module %s at or above %s (set %s): %w", Module, start, RootVar, fs.ErrNotExist)
		}
	}
}

// moduleOf returns the module path of a go.mod, "" when the file cannot be read or names none.
func moduleOf(gomod string) string {
	f, err := os.Open(gomod)
	if err != nil {
		return ""
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if name, ok := strings.CutPrefix(strings.TrimSpace(sc.Text()), "module "); ok {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return ""
}

// ECharts returns the path of the ECharts library: CARSO_ECHARTS when it is set, else the checkout's copy.
func ECharts() (string, error) {
	path := os.Getenv(EChartsVar)
	if path == "" {
		root, err := Root()
		if err != nil {
			return "", fmt.Errorf("finding ECharts: %w", err)
		}
		path = filepath.Join(root, ".venv", "share", "carso", "echarts.min.js")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("finding ECharts: %w; %s, or set %s", err, Remedy, EChartsVar)
	}
	return path, nil
}

// Plugin returns the path of the PJRT plugin in the checkout's .venv: the one that setup.sh chose for this machine, else
// the one for the CPU.
func Plugin() (string, error) {
	root, err := Root()
	if err != nil {
		return "", fmt.Errorf("finding the XLA plugin: %w", err)
	}
	venv := filepath.Join(root, ".venv")
	// The choice is stored relative to .venv, so that it survives a move of the checkout.
	choice, err := os.ReadFile(filepath.Join(venv, "share", "carso", "plugin"))
	switch {
	case err == nil:
		path := filepath.Join(venv, strings.TrimSpace(string(choice)))
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("finding the XLA plugin: %w", err)
	}
	found, err := filepath.Glob(filepath.Join(venv, "lib", "python3*", "site-packages", "xla_plugins", "xla_cpu_pjrt", "xla_cpu_pjrt.so"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("finding the XLA plugin in %s: %w; %s", venv, fs.ErrNotExist, Remedy)
	}
	return found[len(found)-1], nil
}

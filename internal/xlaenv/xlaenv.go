// Package xlaenv chooses GoMLX's backend before GoMLX does: the XLA plugin of the checkout's .venv where there is one,
// else the backend in pure Go. Left to itself GoMLX would look for plugins in the home folder and download them.
package xlaenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/gomlx/backends/default" // registers "xla" and "go"

	"carsokit/internal/setup"
)

const (
	noInstallVar = "GOMLX_NO_AUTO_INSTALL"
	// tf32Var, at 0, keeps NVIDIA's libraries from rounding the inputs of float32 products to TF32. The backend's own option notf32 reaches products of matrices only, not
	// convolutions (go-xla v0.4.1).
	tf32Var = "NVIDIA_TF32_OVERRIDE"
	// checksVar, at 0, keeps go-xla from warning that the libraries are not beside the plugin, which finds them by itself two folders up.
	checksVar = "GOPJRT_CUDA_CHECKS"
)

type variable struct{ name, value string }

// libraries are the variables that go with a choice, for the libraries under the backend.
func (c Choice) libraries() (all []variable) {
	if c.OwnMemory() {
		all = append(all, variable{checksVar, "0"})
		if isExact(c.Config) {
			all = append(all, variable{tf32Var, "0"})
		}
	}
	return all
}

// Go is the configuration of GoMLX's backend in pure Go with one operation at a time. Left to run several at once (compute v0.1.3), convolutions that each hold a
// worker wait for one another's for ever.
const Go = "go:ops_sequential"

// exact is the backend's option for full float32 products on a GPU: results stay comparable with a CPU's.
const exact = ",notf32"

// Choice says which backend was chosen and why.
type Choice struct {
	Config string // GoMLX's configuration, the value of GOMLX_BACKEND: "xla:/path/plugin.so", "go"
	Source string // where it comes from: "GOMLX_BACKEND", "checkout", "fallback"
	Notice string // one line for the reader; empty when there is nothing to tell
}

// OwnMemory says that the backend computes in the memory of a device of its own, and not in the machine's.
func (c Choice) OwnMemory() bool { return onCUDA(c.Config) }

// onCUDA says whether a configuration is of a plugin for NVIDIA's GPUs, which the last two parts of its path tell: xla_cuda13/xla_cuda_plugin.so, xla_cuda13_pjrt/xla_gpu_pjrt.so.
func onCUDA(config string) bool {
	plugin, _, _ := strings.Cut(config, ",")
	return strings.HasPrefix(plugin, "xla") && strings.Contains(filepath.Base(filepath.Dir(plugin))+"/"+filepath.Base(plugin), "cuda")
}

// isExact says whether a configuration asks for full float32.
func isExact(config string) bool {
	_, options, _ := strings.Cut(config, ",")
	for o := range strings.SplitSeq(options, ",") {
		if o == "notf32" || o == "tf32=false" {
			return true
		}
	}
	return false
}

// Prepare sets GOMLX_BACKEND and GOMLX_NO_AUTO_INSTALL for this process and says what it chose. A value that is already set
// stays. Call it first in main and in TestMain: GoMLX reads the variables when a backend is opened. A second call
// changes nothing.
func Prepare() (Choice, error) {
	c := choose()
	if err := noteCompiles(); err != nil {
		return c, err
	}
	if os.Getenv(noInstallVar) == "" {
		if err := os.Setenv(noInstallVar, "1"); err != nil {
			return c, fmt.Errorf("preparing the backend: %w", err)
		}
	}
	for _, v := range c.libraries() {
		if _, set := os.LookupEnv(v.name); set {
			continue
		}
		if err := os.Setenv(v.name, v.value); err != nil {
			return c, fmt.Errorf("preparing the backend: %w", err)
		}
	}
	if err := os.Setenv(compute.ConfigEnvVar, c.Config); err != nil {
		return c, fmt.Errorf("preparing the backend %q: %w", c.Config, err)
	}
	return c, nil
}

func choose() Choice {
	if config := os.Getenv(compute.ConfigEnvVar); config != "" {
		if config == "go" {
			config = Go
		}
		return Choice{Config: config, Source: compute.ConfigEnvVar}
	}
	plugin, err := setup.Plugin()
	if err != nil {
		return Choice{Config: Go, Source: "fallback",
			Notice: "no XLA plugin: using the backend in pure Go, right for small tests and some twenty times slower (" + err.Error() + ")"}
	}
	config := "xla:" + plugin
	if onCUDA(config) {
		config += exact
	}
	return Choice{Config: config, Source: "checkout"}
}

// Backend prepares the environment and opens the chosen backend.
func Backend() (b compute.Backend, err error) {
	c, err := Prepare()
	if err != nil {
		return nil, err
	}
	// Some constructors panic instead of returning an error.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		if err != nil {
			b, err = nil, fmt.Errorf("opening backend %q (from %s): %w; %s, or set %s=go", c.Config, c.Source, err, setup.Remedy, compute.ConfigEnvVar)
		}
	}()
	return compute.NewWithConfig(c.Config)
}

// Describe is what records call an open backend: "xla", "go"; on an NVIDIA GPU "xla:cuda", and "xla:cuda,tf32" where float32 products are rounded to TF32. Results of another
// kind of device may differ by rounding, so they are other records. It goes by the configuration that [Prepare] left.
func Describe(b compute.Backend) string {
	config := os.Getenv(compute.ConfigEnvVar)
	switch {
	case b.Name() != "xla" || !onCUDA(config):
		return b.Name()
	case isExact(config) && os.Getenv(tf32Var) == "0":
		return b.Name() + ":cuda"
	}
	return b.Name() + ":cuda,tf32"
}

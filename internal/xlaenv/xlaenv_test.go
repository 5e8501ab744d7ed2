package xlaenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"

	"carsokit/internal/setup"
)

// fresh puts the test into an empty checkout with none of the variables set.
func fresh(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"GOMLX_BACKEND", noInstallVar, tf32Var, checksVar} {
		t.Setenv(name, "") // restores the caller's value at the end
	}
	t.Setenv(setup.RootVar, dir)
	return dir
}

func TestPrepare(t *testing.T) {
	dir := fresh(t)
	c, err := Prepare()
	if err != nil || c.Config != Go || c.Source != "fallback" || !strings.Contains(c.Notice, "setup.sh") || strings.Contains(c.Notice, "\n") {
		t.Errorf("without a plugin: %+v, %v", c, err)
	}
	if os.Getenv("GOMLX_BACKEND") != Go || os.Getenv(noInstallVar) != "1" {
		t.Error("the environment is not set")
	}
	again, err := Prepare()
	if err != nil || again.Config != Go || again.Source != "GOMLX_BACKEND" {
		t.Errorf("second call: %+v, %v", again, err)
	}

	site := filepath.Join(dir, ".venv/lib/python3.12/site-packages")
	for _, plugin := range []string{"xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so", "jax_plugins/xla_cuda13/xla_cuda_plugin.so"} {
		path := filepath.Join(site, plugin)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOMLX_BACKEND", "")
	if c, err := Prepare(); err != nil || c.Config != "xla:"+site+"/xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so" || c.Notice != "" || c.OwnMemory() {
		t.Errorf("with the CPU plugin: %+v, %v", c, err)
	}

	share := filepath.Join(dir, ".venv/share/carso")
	if err := os.MkdirAll(share, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(share, "plugin"), []byte("lib/python3.12/site-packages/jax_plugins/xla_cuda13/xla_cuda_plugin.so"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOMLX_BACKEND", "")
	if c, err := Prepare(); err != nil || c.Config != "xla:"+site+"/jax_plugins/xla_cuda13/xla_cuda_plugin.so,notf32" || !c.OwnMemory() {
		t.Errorf("with the CUDA plugin: %+v, %v", c, err)
	}

	// Full float32 goes down to NVIDIA's libraries, unless somebody has said otherwise.
	for config, want := range map[string]string{"xla:/cuda/plugin.so,notf32": "0", "xla:/cuda/plugin.so": "", "xla:/cpu/plugin.so,notf32": ""} {
		t.Setenv("GOMLX_BACKEND", config)
		os.Unsetenv(tf32Var)
		os.Unsetenv(checksVar)
		_, err := Prepare()
		if quiet := os.Getenv(checksVar) == "0"; quiet != strings.Contains(config, "cuda") {
			t.Errorf("%s: %s is %q", config, checksVar, os.Getenv(checksVar))
		}
		if err != nil || os.Getenv(tf32Var) != want {
			t.Errorf("%s: %s is %q, %v", config, tf32Var, os.Getenv(tf32Var), err)
		}
	}
	t.Setenv("GOMLX_BACKEND", "xla:/cuda/plugin.so,notf32")
	t.Setenv(tf32Var, "1")
	if _, err := Prepare(); err != nil || os.Getenv(tf32Var) != "1" {
		t.Errorf("%s was replaced: %q, %v", tf32Var, os.Getenv(tf32Var), err)
	}
}

// named is a backend of which nothing is asked but its name.
type named struct {
	compute.Backend
	name string
}

func (b named) Name() string { return b.name }

func TestDescribe(t *testing.T) {
	fresh(t)
	for _, c := range []struct{ backend, config, tf32, want string }{
		{"xla", "xla:/x/xla_cpu_pjrt/xla_cpu_pjrt.so", "0", "xla"},
		{"xla", "xla:/home/cuda/xla_cpu_pjrt/xla_cpu_pjrt.so", "0", "xla"}, // a folder's name says nothing
		{"xla", "xla:/x/xla_cuda13/xla_cuda_plugin.so,notf32", "0", "xla:cuda"},
		{"xla", "xla:/x/xla_cuda13_pjrt/xla_gpu_pjrt.so,preallocate=true,tf32=false", "0", "xla:cuda"},
		{"xla", "xla:/x/xla_cuda13/xla_cuda_plugin.so", "0", "xla:cuda,tf32"},
		{"xla", "xla:/x/xla_cuda13/xla_cuda_plugin.so,notf32", "1", "xla:cuda,tf32"}, // somebody let the libraries round
		{"go", Go, "0", "go"},
	} {
		t.Setenv("GOMLX_BACKEND", c.config)
		t.Setenv(tf32Var, c.tf32)
		if got := Describe(named{name: c.backend}); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestBackendErrors(t *testing.T) {
	fresh(t)
	for _, config := range []string{"nonsense", "xla:/nowhere/plugin.so"} {
		t.Setenv("GOMLX_BACKEND", config)
		if b, err := Backend(); err == nil || b != nil || !strings.Contains(err.Error(), config) || !strings.Contains(err.Error(), "GOMLX_BACKEND=go") {
			t.Errorf("%s: %v, %v", config, b, err)
		}
	}
}

func TestBackendRuns(t *testing.T) {
	fresh(t)
	b, err := Backend()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Finalize()
	sum, err := graph.CallOnce(b, graph.ReduceAllSum, []float32{1, 2, 4})
	if err != nil {
		t.Fatal(err)
	}
	if got := sum.Value(); got != float32(7) {
		t.Errorf("1+2+4 = %v", got)
	}
}

package setup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkout makes a folder that looks like a checkout and returns it with symbolic links resolved.
func checkout(t *testing.T) string {
	t.Helper()
	t.Setenv(RootVar, "")
	t.Setenv(EChartsVar, "")
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.mod"), "// comment\nmodule "+Module+"\n")
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRootIsThisModule(t *testing.T) {
	t.Setenv(RootVar, "")
	root, err := Root() // the module's real go.mod: guards the constant
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "internal", "setup", "setup.sh")); err != nil {
		t.Error(err)
	}
}

func TestRoot(t *testing.T) {
	dir := checkout(t)
	deep := filepath.Join(dir, "a", "b")
	// Another module in between does not hide the checkout.
	write(t, filepath.Join(dir, "a", "go.mod"), "module other")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(deep)
	if got, err := Root(); err != nil || got != dir {
		t.Errorf("from a subfolder: got %q, %v, want %q", got, err, dir)
	}
	t.Setenv(RootVar, "/elsewhere")
	if got, err := Root(); err != nil || got != "/elsewhere" {
		t.Errorf("%s: got %q, %v", RootVar, got, err)
	}
	t.Setenv(RootVar, "")
	t.Chdir("/")
	if _, err := Root(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), RootVar) {
		t.Errorf("outside of a checkout: %v", err)
	}
}

func TestParts(t *testing.T) {
	dir := checkout(t)
	t.Chdir(dir)
	if _, err := Plugin(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "setup.sh") {
		t.Errorf("no plugin: %v", err)
	}
	if _, err := ECharts(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "setup.sh") {
		t.Errorf("no ECharts: %v", err)
	}

	site := "lib/python3.11/site-packages/xla_plugins/"
	cpu := filepath.Join(dir, ".venv", site+"xla_cpu_pjrt/xla_cpu_pjrt.so")
	gpu := filepath.Join(dir, ".venv", "lib/python3.11/site-packages/jax_plugins/xla_cuda13/xla_cuda_plugin.so")
	js := filepath.Join(dir, ".venv", "share/carso/echarts.min.js")
	write(t, cpu, "")
	write(t, js, "")
	if got, err := Plugin(); err != nil || got != cpu {
		t.Errorf("without a choice: %q, %v", got, err)
	}
	write(t, filepath.Join(dir, ".venv/share/carso/plugin"), "lib/python3.11/site-packages/jax_plugins/xla_cuda13/xla_cuda_plugin.so\n")
	if got, err := Plugin(); err != nil || got != cpu {
		t.Errorf("the choice is not there: %q, %v", got, err)
	}
	write(t, gpu, "")
	if got, err := Plugin(); err != nil || got != gpu {
		t.Errorf("the choice is there: %q, %v", got, err)
	}
	if got, err := ECharts(); err != nil || got != js {
		t.Errorf("ECharts: %q, %v", got, err)
	}
	t.Setenv(EChartsVar, gpu)
	if got, err := ECharts(); err != nil || got != gpu {
		t.Errorf("%s: %q, %v", EChartsVar, got, err)
	}
}

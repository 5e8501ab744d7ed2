package setup

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python runs one of this folder's scripts and returns whether it succeeded.
func python(t *testing.T, args ...string) (ok bool, output string) {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3: set-up cannot run here at all")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return err == nil, string(out)
}

func TestRelocate(t *testing.T) {
	venv := filepath.Join(t.TempDir(), "with space", ".venv")
	files := map[string][2]string{ // before, after; HERE stands for venv
		"bin/jupyter":      {"#!/old/.venv/bin/python3.11\nimport x\n", "#!HERE/bin/python3.11\nimport x\n"},
		"bin/long":         {"#!/bin/sh\n'''exec' \"/old place/.venv/bin/python\" \"$0\" \"$@\"\n' '''\n", "#!/bin/sh\n'''exec' \"HERE/bin/python\" \"$0\" \"$@\"\n' '''\n"},
		"bin/activate":     {"VIRTUAL_ENV=\"/old/.venv\"\nPATH=\"$VIRTUAL_ENV/bin\"\n", "VIRTUAL_ENV=\"HERE\"\nPATH=\"$VIRTUAL_ENV/bin\"\n"},
		"bin/activate.csh": {"setenv VIRTUAL_ENV \"/old/.venv\"\n", "setenv VIRTUAL_ENV \"HERE\"\n"},
		"bin/other":        {"#!/usr/bin/env python\n# /old/.venv/bin/python\n", "#!/usr/bin/env python\n# /old/.venv/bin/python\n"},
		"bin/program":      {"\x7fELF /old/.venv/bin/python", "\x7fELF /old/.venv/bin/python"},
	}
	for name, text := range files {
		write(t, filepath.Join(venv, name), text[0])
	}
	for range 2 { // the second time there is nothing to do
		if ok, output := python(t, "relocate.py", venv); !ok {
			t.Fatal(output)
		}
		for name, text := range files {
			got, err := os.ReadFile(filepath.Join(venv, name))
			if want := strings.ReplaceAll(text[1], "HERE", venv); err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
			}
		}
	}
}

func TestEChartsScript(t *testing.T) {
	dir := t.TempDir()
	var wheel bytes.Buffer
	z := zip.NewWriter(&wheel)
	w, err := z.Create("a/echarts.min.js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("js")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "x.whl"), wheel.String())
	sum := sha256.Sum256([]byte("js"))
	digest, file := hex.EncodeToString(sum[:]), filepath.Join(dir, "echarts.min.js")

	if ok, _ := python(t, "echarts.py", "check", file, digest); ok {
		t.Error("a file that is not there passes the check")
	}
	if ok, output := python(t, "echarts.py", "extract", dir, "a/echarts.min.js", strings.Repeat("0", 64), file); ok || !strings.Contains(output, digest) {
		t.Errorf("a wrong digest is accepted: %s", output)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file with a wrong digest is written")
	}
	if ok, output := python(t, "echarts.py", "extract", dir, "a/echarts.min.js", digest, file); !ok {
		t.Error(output)
	}
	if ok, _ := python(t, "echarts.py", "check", file, digest); !ok {
		t.Error("the extracted file fails the check")
	}
	write(t, file, "JS")
	if ok, _ := python(t, "echarts.py", "check", file, digest); ok {
		t.Error("a changed file passes the check")
	}
}

func TestScriptsParse(t *testing.T) {
	if out, err := exec.Command("bash", "-n", "setup.sh").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.Command("bash", "setup.sh", "everything").CombinedOutput(); err == nil || !strings.Contains(string(out), "setup.sh base") {
		t.Errorf("an unknown part is accepted: %v: %s", err, out)
	}
}

// notebookPython is the interpreter that set-up of the notebooks installed.
func notebookPython(t *testing.T) string {
	t.Helper()
	path := filepath.Join("..", "..", ".venv", "bin", "python")
	if err := exec.Command(path, "-c", "import mistune, nbformat, pygments").Run(); err != nil {
		t.Skip("set-up of the notebooks has not run: ", err)
	}
	return path
}

// The book holds every notebook, and no page of it loads anything from elsewhere: book.py checks that, and so does this.
func TestBookIsClosed(t *testing.T) {
	python, out := notebookPython(t), t.TempDir()
	if text, err := exec.Command(python, "book.py", out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	notebooks, err := filepath.Glob(filepath.Join("..", "..", "notebooks", "*.ipynb"))
	if err != nil || len(notebooks) == 0 {
		t.Fatal("no notebooks", err)
	}
	index, err := os.ReadFile(filepath.Join(out, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range notebooks {
		name := strings.TrimSuffix(filepath.Base(path), ".ipynb") + ".html"
		text, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(index, []byte(`href="`+name+`"`)) {
			t.Errorf("the book does not lead to %s", name)
		}
		for _, bad := range []string{`src="http`, `src="//`, "<link", "url(http", "@import"} {
			if bytes.Contains(text, []byte(bad)) {
				t.Errorf("%s holds %s", name, bad)
			}
		}
	}
}

func TestPagesFindWhatIsOutside(t *testing.T) {
	python := notebookPython(t)
	for text, want := range map[string]string{
		`<img src="data:image/png;base64,AA"><a href="https://example.org">x</a>`: "[]",
		`<img alt="a" src="https://example.org/a.png">`:                           "['https://example.org/a.png']",
		`<script src=//example.org/a.js></script>`:                                "['//example.org/a.js']",
		`<link rel="stylesheet" href="a.css">`:                                    "['a.css']",
		`<style>a { background: url('https://example.org/b') }</style>`:           "['https://example.org/b']",
		`<script type="application/json">{"a": "url(https://x)"}</script>`:        "[]",
	} {
		got, err := exec.Command(python, "-c", "import sys, pages; print(pages.loaded(sys.argv[1]))", text).CombinedOutput()
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
}

// Every committed notebook has fragments that its outputs say in order, so that a run which computes nothing fails; no cell is a wall of code.
func TestCommittedNotebooks(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "..", "notebooks", "*.ipynb"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no notebooks", err)
	}
	text, err := os.ReadFile("fragments.json")
	if err != nil {
		t.Fatal(err)
	}
	var fragments map[string][]string
	if err := json.Unmarshal(text, &fragments); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".ipynb")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var nb struct {
			Cells []struct {
				Kind    string   `json:"cell_type"`
				Source  []string `json:"source"`
				Outputs []struct {
					Text []string                   `json:"text"`
					Data map[string]json.RawMessage `json:"data"`
				} `json:"outputs"`
			} `json:"cells"`
		}
		if err := json.Unmarshal(raw, &nb); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var said strings.Builder
		charts := 0
		for i, c := range nb.Cells {
			if c.Kind == "code" && len(c.Source) >= 15 {
				t.Errorf("%s, cell %d: %d lines of code; 14 is the most", name, i, len(c.Source))
			}
			for _, o := range c.Outputs {
				if _, ok := o.Data["application/vnd.echarts.v5+json"]; ok {
					charts++
					if _, ok := o.Data["image/png"]; !ok {
						t.Errorf("%s, cell %d: a chart without a picture", name, i)
					}
				}
				var plain []string
				if text, ok := o.Data["text/plain"]; ok {
					if err := json.Unmarshal(text, &plain); err != nil {
						t.Fatalf("%s, cell %d: %v", name, i, err)
					}
				}
				said.WriteString(strings.Join(append(o.Text, plain...), "") + "\n")
			}
		}
		if charts == 0 {
			t.Errorf("%s: no chart", name)
		}
		if len(fragments[name]) == 0 {
			t.Errorf("%s: fragments.json expects nothing of it", name)
		}
		rest := said.String()
		for _, f := range fragments[name] {
			_, after, found := strings.Cut(rest, f)
			if !found {
				t.Errorf("%s: no output says %q behind the fragments before it", name, f)
				break
			}
			rest = after
		}
	}
}

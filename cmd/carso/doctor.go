package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"carsokit/carso"
	"carsokit/carso/eval"
	"carsokit/carso/paper"
	"carsokit/data"
	"carsokit/internal/setup"
	"carsokit/internal/xlaenv"
)

// finding is one line of the doctor's report.
type finding struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"` // one line, where OK is false
}

// doctor says what is installed and found. It fails only where the kit cannot compute at all.
func doctor(_ context.Context, args []string) error {
	set := flag.NewFlagSet("carso doctor", flag.ContinueOnError)
	asJSON := set.Bool("json", false, "print JSON")
	if err := parse(set, args); err != nil {
		return err
	}
	findings := []finding{backendFinding()}
	findings = append(findings, finding{What: "go", OK: true, Found: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH})
	const remedy = "make lab (or make quickstart) sets it up inside the checkout"
	root, err := setup.Root()
	if err != nil {
		findings = append(findings, finding{"checkout", false, "the working directory is not inside a checkout", "run carso from the checkout, or set CARSO_ROOT"})
		root = "."
	}
	venv := filepath.Join(root, ".venv")
	plugin, err := setup.Plugin()
	findings = append(findings, check("xla plugin", plugin, err, "make test (or make quickstart) installs it; without it the Go backend computes, tens of times slower"))
	echarts, err := setup.ECharts()
	findings = append(findings, check("echarts", echarts, err, remedy))
	for _, p := range []struct{ what, path string }{
		{"jupyter", filepath.Join(venv, "bin", "jupyter-lab")},
		{"gonb", filepath.Join(venv, "bin", "gonb")},
		{"kernel", filepath.Join(venv, "share", "jupyter", "kernels", "gonb", "kernel.json")},
	} {
		_, err := os.Stat(p.path)
		findings = append(findings, check(p.what, p.path, err, remedy))
	}
	python, err := exec.LookPath("python3")
	findings = append(findings, check("python3", python, err, "install Python 3 with venv: notebooks and the XLA plugin need it"))
	findings = append(findings, dataFindings(root)...)
	findings = append(findings, weightFindings()...)
	runs, err := paper.Committed()
	findings = append(findings, check("records", fmt.Sprintf("%d runs", len(runs)), err, "build from a clean checkout"))

	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(findings); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			mark := "ok     "
			if !f.OK {
				mark = "missing"
			}
			fmt.Printf("%s  %-12s %s\n", mark, f.What, f.Found)
			if f.Remedy != "" {
				fmt.Printf("         %-12s → %s\n", "", f.Remedy)
			}
		}
	}
	if !findings[0].OK {
		return errors.New("no backend works")
	}
	return nil
}

func check(what, found string, err error, remedy string) finding {
	switch {
	case err == nil:
		return finding{What: what, OK: true, Found: found}
	case errors.Is(err, fs.ErrNotExist):
		return finding{what, false, "not found", remedy}
	}
	return finding{what, false, err.Error(), remedy}
}

// dataFindings says where each data set is.
func dataFindings(root string) (all []finding) {
	for _, d := range data.Catalog {
		remedy := "carso data get " + d.Name
		if d.Name == "cifar10" {
			remedy += "; until then the built-in first 1,000 test images serve"
		}
		where, err := data.Find(d.Name, "", root)
		if errors.Is(err, data.ErrNotFound) {
			all = append(all, finding{d.Name, false, err.Error(), remedy})
			continue
		}
		all = append(all, check(d.Name, where, err, remedy))
	}
	return all
}

// weightFindings says of which scenarios the weights are part of the program, and that they belong together.
func weightFindings() (all []finding) {
	for _, s := range carso.Scenarios() {
		if said, err := paper.FindScenario(s.ID); err == nil && said.Missing != "" {
			continue // purifiers of ablations and swaps, which do not ship
		}
		_, err := carso.OpenDefence(s, eval.Shipped, 8, carso.LogSum)
		remedy := "build from a clean checkout: the weights are part of the program"
		switch {
		case !errors.Is(err, fs.ErrNotExist):
		case s.Dataset != "cifar10":
			remedy = "train them: carso train classifier -scenario " + s.ID[:1] + ", then carso train purifier, each followed by carso export"
		}
		all = append(all, check("weights "+s.ID, s.Stem, err, remedy))
	}
	return all
}

// backendFinding opens the backend that computations would use.
func backendFinding() finding {
	choice, err := xlaenv.Prepare()
	if err != nil {
		return finding{"backend", false, err.Error(), "unset GOMLX_BACKEND, or set it to a plugin that exists"}
	}
	be, err := xlaenv.Backend()
	if err != nil {
		return finding{"backend", false, choice.Config + ": " + err.Error(), "unset GOMLX_BACKEND, or set it to go"}
	}
	defer be.Finalize()
	return finding{What: "backend", OK: true, Remedy: choice.Notice,
		Found: fmt.Sprintf("%s (from %s), %d device(s): %s", choice.Config, choice.Source, be.NumDevices(), be.DeviceDescription(0))}
}

package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"carsokit/carso/eval"
)

// The scripts of deploy/ speak the language of this program: their flags exist, and the numbers that must agree do.
func TestDeploy(t *testing.T) {
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	job := read("eval-job.yaml")
	number := func(pattern string) string {
		found := regexp.MustCompile(pattern).FindStringSubmatch(job)
		if found == nil {
			t.Fatalf("eval-job.yaml has no %s", pattern)
		}
		return found[1]
	}
	completions, told := number(`(?m)^  completions: (\d+)`), number(`name: JOB_COMPLETIONS\n\s+value: "(\d+)"`)
	if completions != told {
		t.Errorf("the job has %s completions and tells its pods of %s", completions, told)
	}
	shard, err := eval.ParseShard("auto", func(name string) string {
		return map[string]string{"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": told}[name]
	})
	if err != nil || shard.Index != 0 {
		t.Errorf("%v, %v", shard, err)
	}
	list := func(key string) []string {
		return strings.Split(number(`(?m)^\s+`+key+`: \[(.*)\]$`), ", ")
	}
	// With -h behind them all flags are parsed and nothing is run.
	args := append(append(list("command")[2:], list("args")...), "-h")
	if err := evalCommand(context.Background(), args); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("carso eval %v: %v", args, err)
	}
	for _, name := range []string{"eval.sbatch", "slurm-test.sh"} {
		if out, err := exec.Command("bash", "-n", filepath.Join("..", "..", "deploy", name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestBatchScript runs the sbatch script as Slurm does, with a program that prints what it is called with.
func TestBatchScript(t *testing.T) {
	program := filepath.Join(t.TempDir(), "carso")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("bash", filepath.Join("..", "..", "deploy", "eval.sbatch"), "-row", "plain", "-column", "rand")
	c.Env = append(os.Environ(), "CARSO="+program, "CARSO_RECORDS=r", "SLURM_ARRAY_TASK_ID=2", "SLURM_ARRAY_JOB_ID=7")
	out, err := c.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\neval -shard auto -records r -row plain -column rand\n") || !strings.Contains(string(out), "task 2 of job 7") {
		t.Errorf("%s (%v)", out, err)
	}
}

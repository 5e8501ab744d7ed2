package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"carsokit/carso/record"
	"carsokit/internal/memory"
)

// carsoEval runs the command and returns what it prints.
func carsoEval(t *testing.T, args ...string) (string, error) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = file
	defer func() { os.Stdout = stdout }()
	runErr := evalCommand(context.Background(), append([]string{"-progress", "none"}, args...))
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), runErr
}

// What cannot be is an error that says what and why, and leaves no record.
func TestEvalRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	broken := filepath.Dir(file("broken/manifest.json", "{"))
	foreign := filepath.Dir(file("foreign/manifest.json", `{"key":"k","spec":{"scenario":"z"}}`))
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"-batch 0", "-batch \"0\": want a positive number"},
		{"-batch -3", "want a positive number"},
		{"-batch 1.5", "want a positive number"},
		{"-batch most", "or auto"},
		{"-batch=", "want a positive number"},
		{"-chunk 0", "want positive numbers"},
		{"-workers -1", "want positive numbers"},
		{"-images -1", "on -1 images"},
		{"-eps x", "-eps \"x\" is not a number"},
		{"-eps 8x", "is not a number"},
		{"-eps -1", "bound of -1/255"},
		{"-eps NaN", "bound of NaN/255"},
		{"-eps 300", "bound of 300/255"},
		{"-steps -1", "none may be negative"},
		{"-shard 2/2", "counted from 0"},
		{"-index " + filepath.Join(dir, "nowhere"), "reading the index of images"},
		{"-index " + dir, "reading the index of images"},
		{"-index [1,", "JSON list"},
		{"-index [2,1,2]", "image 2 is there twice"},
		{"-index [-1]", "negative"},
		{"-index []", "no positions"},
		{"-index " + file("words", "1\ntwo\n"), "line 2"},
		{"-index [3,123456]", "pinned images up to 123456"},
		{"-rescore " + filepath.Join(dir, "nowhere"), "no saved images"},
		{"-rescore " + empty, "no saved images"},
		{"-rescore " + broken, "reading saved images: " + filepath.Join(broken, "manifest.json")},
		{"-rescore " + foreign, "reading the defence of"},
		{"-rescore " + empty + " -save-images " + dir, "leave out -save-images"},
		{"-save-images " + file("file", ""), "not a directory"},
		{"-screen -column nothing", "no column"},
		{"-screen -row nobody", "no row"},
	} {
		records := filepath.Join(t.TempDir(), "records")
		args := append([]string{"-row", "plain", "-column", "apgd-ce", "-scale", "tiny", "-records", records}, strings.Fields(c.args)...)
		_, err := carsoEval(t, args...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.args, err, c.want)
		}
		if runs, err := record.Load(records); err == nil && len(runs) > 0 {
			t.Errorf("%s: left a record", c.args)
		}
	}
}

// One evaluation with all of -index, -batch, -save-images and -screen, on the weights that ship; its images are judged again by another row.
func TestEvalFlags(t *testing.T) {
	records, images := t.TempDir(), t.TempDir()
	common := []string{"-row", "plain", "-scale", "tiny", "-again", "-records", records, "-column"}
	say := func(args ...string) string {
		t.Helper()
		text, err := carsoEval(t, append(common, args...)...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return text
	}
	expect := func(text string, patterns ...string) {
		t.Helper()
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(text) {
				t.Errorf("no %q in:\n%s", p, text)
			}
		}
	}
	expect(say("apgd-ce", "-index", "[11,2,7]", "-batch", "2", "-save-images", images), "3 images", `apgd-ce/classifier +3 steps of 1 draw`, "one pass of classifier: [0-9.]+ MFLOP",
		`saved float32 .* n 3, one fresh pass of plain, seed 0`, `saved 8-bit`, "verdicts: .*scores-plain-")
	runs, err := record.Load(records)
	if err != nil || len(runs) != 1 || len(runs[0].Images) != 3 || runs[0].Images[2].Index != 11 || len(runs[0].Spec.Index) != 3 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	folders, err := filepath.Glob(filepath.Join(images, "*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("folders %v, %v", folders, err)
	}
	folder := folders[0]

	text, err := carsoEval(t, "-rescore", folder, "-seed", "5", "-records", records)
	if err != nil {
		t.Fatal(err)
	}
	expect(text, "saved float32 .* n 3, one fresh pass of plain, seed 5")
	if scores, err := filepath.Glob(filepath.Join(folder, "scores-*.json")); err != nil || len(scores) != 2 {
		t.Errorf("verdicts of two seeds: %v, %v", scores, err)
	}
	saved, err := filepath.Glob(filepath.Join(folder, "*.safetensors"))
	if err != nil || len(saved) != 1 {
		t.Fatalf("saved %v, %v", saved, err)
	}
	if err := os.Truncate(saved[0], 100); err != nil {
		t.Fatal(err)
	}
	if _, err := carsoEval(t, "-rescore", folder, "-records", records); err == nil || !strings.Contains(err.Error(), saved[0]) {
		t.Errorf("a truncated file: %v", err)
	}

	// A screen is another evaluation; what attacks nothing has nothing to screen or save.
	expect(say("apgd-ce", "-images", "2", "-screen"), `screen-apgd-ce/classifier +11 steps of 1 draw`, "record: ")
	expect(say("clean", "-images", "2", "-save-images", images), "column clean attacks nothing: there are no images to save")
	if runs, err = record.Load(records); err != nil || len(runs) != 3 {
		t.Errorf("%d runs, %v", len(runs), err)
	}

	expect(say("apgd-ce", "-index", "[11,2,7]", "-images", "9", "-plan"), "3 images", "3 of them recorded")

	// Shards leave the verdict to the last of them.
	expect(say("apgd-ce", "-images", "4", "-chunk", "2", "-shard", "1/2", "-save-images", images), "when all shards are done, carso eval -rescore "+regexp.QuoteMeta(images))
	err = filepath.WalkDir(images, func(path string, e fs.DirEntry, err error) error {
		if strings.HasPrefix(e.Name(), "scores-") && !strings.HasPrefix(path, folder) {
			t.Errorf("a shard judged: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	// auto is chosen by this machine, and said.
	text, err = carsoEval(t, append(common, "apgd-ce", "-plan", "-batch", "auto")...)
	if _, known := memory.Available(); !known {
		if err == nil || !strings.Contains(err.Error(), "give a number") {
			t.Errorf("-batch auto on %s: %v", runtime.GOOS, err)
		}
	} else if err != nil {
		t.Error(err)
	} else {
		expect(text, `batch: (4|8|16), which is reckoned to take \d+ MB of the \d+ MB available`)
	}
}

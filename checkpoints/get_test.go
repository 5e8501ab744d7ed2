package checkpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"carsokit/internal/fetch"
)

// mirror serves files by name the way a good server does and counts requests.
type mirror struct {
	*httptest.Server
	files map[string][]byte
	asked []string // paths and ranges
}

func newMirror(t *testing.T, files map[string][]byte) *mirror {
	t.Helper()
	m := &mirror{files: files}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.asked = append(m.asked, strings.TrimSpace(r.URL.Path[1:]+" "+r.Header.Get("Range")))
		b, ok := m.files[r.URL.Path[1:]]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"`+sha(b)[:8]+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) sources(names ...string) (all []Source) {
	for _, n := range names {
		all = append(all, Source{URL: m.URL + "/" + n})
	}
	return all
}

// net is what the files of these tests must hold, and a file that does.
func net(t *testing.T) ([]Spec, []byte) {
	t.Helper()
	f, err := ParseAny(pytorch("state_dict_legacy.pth"), "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "net.safetensors")
	if _, err := f.Convert(path, Conversion{Want: f.Specs()}); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f.Specs(), good
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustFolder(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if err != nil || !slices.Equal(have, want) {
		t.Errorf("the folder holds %v (%v), want %v", have, err, want)
	}
}

func TestGetWeights(t *testing.T) {
	specs, good := net(t)
	pt := pytorch("training_zip.pt")
	page := []byte("<!DOCTYPE html><title>404</title>")
	small := mustEncode(t, F32("logits.weight", []int{1}, []float32{1}))
	m := newMirror(t, map[string][]byte{"net.safetensors": good, "net.pt": pt, "page/net.safetensors": page, "small/net.safetensors": small, "lfs/net.safetensors": hostileFile("git-LFS pointer")})
	k := Known{Name: "net", Role: "classifier"}
	for _, c := range []struct {
		name    string
		sources []Source
		want    []byte // nil: converted
		says    string // in the log
	}{
		{"straight", m.sources("net.safetensors"), good, "SHA-256"},
		{"second mirror", m.sources("absent/net.safetensors", "page/net.safetensors", "lfs/net.safetensors", "small/net.safetensors", "net.safetensors"), good, "HTML page"},
		{"PyTorch file", m.sources("net.pt"), nil, "SHA-256"},
		{"digest", []Source{{URL: m.URL + "/net.safetensors", SHA256: sha(good), Bytes: int64(len(good))}}, good, ""},
		{"wrong digest, next mirror", []Source{{URL: m.URL + "/net.safetensors", SHA256: sha(pt)}, {URL: m.URL + "/net.safetensors"}}, good, "its SHA-256 is"},
		{"wrong size, next mirror", []Source{{URL: m.URL + "/net.safetensors", Bytes: 7}, {URL: m.URL + "/net.safetensors"}}, good, "offers"},
	} {
		dir := filepath.Join(t.TempDir(), "new", "folder")
		var log strings.Builder
		opt := GetOptions{Sources: c.sources, Conversion: Conversion{Want: specs}, Log: func(s string) { log.WriteString(s + "\n") }}
		path, err := k.Get(context.Background(), dir, opt)
		if err != nil || !strings.Contains(log.String(), c.says) {
			t.Errorf("%s: %v\n%s", c.name, err, log.String())
			continue
		}
		got := read(t, path)
		if c.want != nil && !bytes.Equal(got, c.want) {
			t.Errorf("%s: other bytes", c.name)
		}
		mustFolder(t, dir, SumsFile, "net.safetensors")
		if sums := read(t, filepath.Join(dir, SumsFile)); string(sums) != sha(got)+"  net.safetensors\n" {
			t.Errorf("%s: %s holds %q", c.name, SumsFile, sums)
		}
		// Once more: nothing is asked for. Damaged: it is put right.
		asked := len(m.asked)
		if _, err := k.Get(context.Background(), dir, opt); err != nil || len(m.asked) != asked {
			t.Errorf("%s: got again: %v, %v", c.name, m.asked[asked:], err)
		}
		damaged := slices.Clone(got)
		damaged[len(damaged)-1] ^= 1
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Verify(path, opt.Conversion); err == nil || !strings.Contains(err.Error(), "changed or damaged") {
			t.Errorf("%s: damaged: %v", c.name, err)
		}
		if _, err := k.Get(context.Background(), dir, opt); err != nil || !bytes.Equal(read(t, path), got) {
			t.Errorf("%s: not put right: %v", c.name, err)
		}
	}
}

func TestGetWeightsFails(t *testing.T) {
	specs, good := net(t)
	nan := slices.Clone(good)
	copy(nan[len(nan)-4:], []byte{0, 0, 0xc0, 0x7f})
	m := newMirror(t, map[string][]byte{"net.safetensors": good, "nan/net.safetensors": nan, "evil/net.pt": pytorch("evil_zip.pt")})
	k := Known{Name: "net", Role: "classifier", Origin: "https://example.org/net"}
	other := slices.Clone(specs)
	other[0].Shape = []int{9}
	for _, c := range []struct {
		name    string
		sources []Source
		want    []Spec
		says    []string
	}{
		{"not there", m.sources("a/net.pt", "b/net.safetensors"), specs, []string{"404", "example.org", "-from FOLDER net"}},
		{"numbers that are none", m.sources("nan/net.safetensors"), specs, []string{"not finite", "logits.bias", "earlier checkpoint"}},
		{"foreign class", m.sources("evil/net.pt"), specs, []string{"posix.system", "state_dict"}},
		{"another network", m.sources("net.safetensors"), other, []string{"init_conv.weight", "model wants [9]"}},
		{"wrong digest", []Source{{URL: m.URL + "/net.safetensors", SHA256: sha(nan)}}, specs, []string{"its SHA-256 is", sha(nan)}},
	} {
		dir := t.TempDir()
		_, err := k.Get(context.Background(), dir, GetOptions{Sources: c.sources, Conversion: Conversion{Want: c.want}})
		for _, s := range c.says {
			if err == nil || !strings.Contains(err.Error(), s) {
				t.Errorf("%s: error does not say %q: %v", c.name, s, err)
			}
		}
		mustFolder(t, dir)
	}
	if _, err := (Known{Name: "../net"}).Get(context.Background(), t.TempDir(), GetOptions{}); err == nil {
		t.Error("a name that leaves the folder")
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := k.Get(canceled, t.TempDir(), GetOptions{Sources: m.sources("net.safetensors")}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// A download that broke off is resumed by the next call; unless the file on the server became another one meanwhile, or the part came from elsewhere.
func TestGetWeightsResumes(t *testing.T) {
	specs, good := net(t)
	m := newMirror(t, map[string][]byte{"net.safetensors": good})
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+sha(good)[:8]+`"`)
		if r.Header.Get("Range") != "" {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Length", "100000")
		w.Write(good[:len(good)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer broken.Close()
	k := Known{Name: "net", Role: "classifier"}
	conversion := Conversion{Want: specs}
	for _, c := range []struct {
		name   string
		change func(part, tag string)
	}{
		{"the same", func(part, tag string) {}},
		{"another version", func(part, tag string) { mustWrite(t, tag, m.URL+"/net.safetensors\n\"old\"") }},
		{"from elsewhere", func(part, tag string) { mustWrite(t, tag, "https://example.org/net.safetensors\n") }},
		{"killed before it knew the version", func(part, tag string) { mustWrite(t, tag, m.URL+"/net.safetensors\n") }},
		{"longer than the file", func(part, tag string) { mustWrite(t, part, string(good)+"rest") }},
	} {
		dir := t.TempDir()
		part := filepath.Join(dir, "net.safetensors.part")
		_, err := k.Get(context.Background(), dir, GetOptions{Sources: []Source{{URL: broken.URL + "/net.safetensors"}}, Conversion: conversion})
		if err == nil || !strings.Contains(err.Error(), "broke off") && !strings.Contains(err.Error(), "503") {
			t.Errorf("%s: %v", c.name, err)
		}
		if !bytes.Equal(read(t, part), good[:len(good)/2]) {
			t.Fatalf("%s: the part holds something else", c.name)
		}
		mustWrite(t, part+".tag", strings.Replace(string(read(t, part+".tag")), broken.URL, m.URL, 1))
		c.change(part, part+".tag")
		m.asked = nil
		path, err := k.Get(context.Background(), dir, GetOptions{Sources: m.sources("net.safetensors", "net.safetensors"), Conversion: conversion, Log: func(s string) { t.Log(s) }})
		if err != nil || !bytes.Equal(read(t, path), good) {
			t.Errorf("%s: %v", c.name, err)
		}
		mustFolder(t, dir, SumsFile, "net.safetensors")
		if c.name == "the same" && !slices.Equal(m.asked, []string{fmt.Sprintf("net.safetensors bytes=%d-", len(good)/2)}) {
			t.Errorf("%s: asked %v", c.name, m.asked)
		}
	}
}

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Without a network: from a folder or a file, in either form, and with what the index knows of the file checked.
func TestGetWeightsFrom(t *testing.T) {
	specs, good := net(t)
	here := t.TempDir()
	mustWrite(t, filepath.Join(here, "net.safetensors"), string(good))
	pt := filepath.Join(t.TempDir(), "net.pt")
	mustWrite(t, pt, string(pytorch("training_zip.pt")))
	k := Known{Name: "net", Role: "classifier", Sources: []Source{{URL: "https://example.org/net.safetensors", SHA256: sha(good)}}}
	opt := GetOptions{Conversion: Conversion{Want: specs}}
	for _, from := range []string{here, filepath.Join(here, "net.safetensors"), filepath.Dir(pt), pt} {
		dir := t.TempDir()
		opt.From = from
		if _, err := k.Get(context.Background(), dir, opt); err != nil {
			t.Error(err)
		}
		mustFolder(t, dir, SumsFile, "net.safetensors")
	}
	opt.From = t.TempDir()
	if _, err := k.Get(context.Background(), t.TempDir(), opt); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "net.pth") {
		t.Errorf("an empty folder: %v", err)
	}
	k.Sources[0].SHA256 = sha(nil)
	opt.From = here
	if _, err := k.Get(context.Background(), t.TempDir(), opt); err == nil || !strings.Contains(err.Error(), "its SHA-256 is") {
		t.Errorf("another digest: %v", err)
	}
	unlock, err := fetch.LockDir(here, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := k.Get(context.Background(), here, opt); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("two at once: %v", err)
	}
}

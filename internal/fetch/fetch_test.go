package fetch

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
	"testing"
	"time"
)

func TestPrintProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	show := Print(&out, func() time.Time { return now })
	step := func(ms int, what string, done int64) {
		now = now.Add(time.Duration(ms) * time.Millisecond)
		show(Progress{what, done, 100e6})
	}
	step(0, "download", 20e6) // resumed there
	step(1, "download", 21e6) // too soon to show
	step(1999, "download", 40e6)
	step(2000, "download", 100e6)
	step(500, "unpack", 100e6)
	var lines []string
	for _, line := range strings.Split(strings.TrimPrefix(out.String(), "\r"), "\r") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	got := strings.ReplaceAll(strings.Join(lines, "|"), " \n", "\n")
	want := "download 20.0 of 100.0 MB|download 40.0 of 100.0 MB, 10.0 MB/s, 6s left|download 100.0 of 100.0 MB, 20.0 MB/s"
	if !strings.HasPrefix(got, want) || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("printed %q", got)
	}
}

// fetched runs a download of a handler's answer into a file that holds have already, and returns what the file holds then.
func fetched(t *testing.T, d Download, have string, handle http.HandlerFunc) (string, *Download, error) {
	t.Helper()
	s := httptest.NewServer(handle)
	defer s.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "part"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, have); err != nil {
		t.Fatal(err)
	}
	d.URL, d.To = s.URL, f
	err = d.Run(context.Background())
	b, readErr := os.ReadFile(f.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(b), &d, err
}

var content = strings.Repeat("0123456789", 200)

// A size that nobody knew beforehand: announced, announced with a range, not announced at all, already there.
func TestUnknownSize(t *testing.T) {
	good := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	}
	unannounced := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			io.WriteString(w, text)
		}
	}
	for _, c := range []struct {
		name, have, tag string
		handle          http.HandlerFunc
		want            string
	}{
		{"announced", "", "", good, content},
		{"resumed", content[:700], `"v1"`, good, content},
		{"resumed without a tag", content[:700], "", good, content},
		{"another version by now", strings.Repeat("x", 700), `"v0"`, good, content},
		{"whole all along", content, `"v1"`, good, content},
		{"not announced", "", "", unannounced(content), content},
		{"not announced and short", "", "", unannounced("tiny"), "tiny"},
		{"not announced, start over", "abc", "", unannounced(content), content},
	} {
		got, _, err := fetched(t, Download{Tag: c.tag}, c.have, c.handle)
		if err != nil || got != c.want {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
	}
}

// An unannounced answer that breaks off is not taken for a whole one.
func TestBrokenOffWithoutLength(t *testing.T) {
	for _, n := range []int{3, 600, 1500} {
		got, d, err := fetched(t, Download{}, "", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				http.Error(w, "no", http.StatusServiceUnavailable)
				return
			}
			w.(http.Flusher).Flush()
			io.WriteString(w, content[:n])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		if err == nil || got != content[:n] || !d.Resumable() {
			t.Errorf("after %d bytes: %d bytes, %v", n, len(got), err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		d      Download
		handle http.HandlerFunc
		says   string
	}{
		{"web page", Download{}, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<!DOCTYPE html><title>Sign in</title>") }, "HTML page"},
		{"not found", Download{}, http.NotFound, "404"},
		{"another size", Download{Size: 7}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }, "offers 2000 bytes; the file has 7"},
		{"wrong beginning", Download{Looks: func(b []byte) error { return fmt.Errorf("begins with %q", b[:2]) }},
			func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }, `begins with "01"`},
		{"wrong range", Download{}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/2000")
			w.WriteHeader(http.StatusPartialContent)
		}, "answered with"},
	} {
		got, _, err := fetched(t, c.d, "old", c.handle)
		var none *UnavailableError
		if !errors.As(err, &none) || !strings.Contains(err.Error(), c.says) || got != "old" {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

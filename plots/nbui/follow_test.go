package nbui

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carsokit/internal/atomicfile"
	"carsokit/internal/fetch"
)

// TestFollow: every state of the curve is drawn while a training holds the folder, the last one included; without a training what is there is drawn once; the stop button ends it.
func TestFollow(t *testing.T) {
	curve := filepath.Join(t.TempDir(), "curve.jsonl")
	write := func(text string) {
		t.Helper()
		if err := atomicfile.Write(curve, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	states := make(chan string, 10)
	draw := func() error {
		b, err := os.ReadFile(curve)
		seen = append(seen, string(b))
		states <- string(b)
		return err
	}
	if err := Follow(t.Context(), curve, time.Millisecond, draw); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none is at work") {
		t.Errorf("without file and training: %v", err)
	}

	unlock, err := fetch.LockDir(filepath.Dir(curve), "test")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- Follow(t.Context(), curve, time.Millisecond, draw) }()
	for _, text := range []string{"1", "12"} {
		write(text)
		if got := <-states; got != text {
			t.Errorf("drew %q, want %q", got, text)
		}
	}
	write("123")
	unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := seen[len(seen)-1]; got != "123" || len(seen) != 3 {
		t.Errorf("drew %q, last of all the end is due", seen)
	}

	if err := Follow(t.Context(), curve, time.Hour, draw); err != nil || len(seen) != 4 {
		t.Errorf("a training that is over: drawn %d times, %v", len(seen)-3, err)
	}
	unlock, err = fetch.LockDir(filepath.Dir(curve), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := Follow(ctx, curve, time.Hour, draw); err != nil || len(seen) != 5 {
		t.Errorf("stopped: drawn %d times, %v", len(seen)-4, err)
	}
}

package nbui

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/janpfeifer/must"
)

func TestParameters(t *testing.T) {
	for _, tc := range []struct {
		scale, value string
		want         int
	}{{"", "", 500}, {"full", "", 500}, {"tiny", "", 16}, {"", "40", 40}, {"tiny", "40", 40}} {
		t.Setenv(ScaleVar, tc.scale)
		t.Setenv("CARSO_TEST", tc.value)
		if got := Int("CARSO_TEST", 500, 16); got != tc.want {
			t.Errorf("%+v: got %d", tc, got)
		}
	}
	t.Setenv("CARSO_TEST", "0.5")
	if got := Float("CARSO_TEST", 1, 2); got != 0.5 {
		t.Errorf("Float: got %v", got)
	}
	if got := String("CARSO_TEST", "a", "b"); got != "0.5" {
		t.Errorf("String: got %q", got)
	}
	t.Setenv("CARSO_TEST", "many")
	_, err := lookup("CARSO_TEST", 500, 16, func(string) (int, error) { return 0, errors.New("no") })
	if err == nil || !strings.Contains(err.Error(), `CARSO_TEST="many"`) || !strings.Contains(err.Error(), "500") {
		t.Errorf("bad value: %v", err)
	}
}

func TestProgress(t *testing.T) {
	clock := time.Unix(0, 0)
	var lines []string
	p := newProgress(10, func() time.Time { return clock }, func(_ int, line string) { lines = append(lines, line) })
	for i := 1; i <= 10; i++ {
		clock = clock.Add(100 * time.Millisecond)
		p.Update(i, "")
	}
	clock = clock.Add(time.Second)
	p.Update(5, "loss 2")
	want := []string{"1/10 (0s, about 1s to go)", "4/10 (0s, about 1s to go)", "7/10 (1s, about 0s to go)", "10/10 (1s)", "5/10 loss 2 (2s, about 2s to go)"}
	if !slices.Equal(lines, want) {
		t.Errorf("got %q\nwant %q", lines, want)
	}
}

func TestContext(t *testing.T) {
	ctx, stop := Context()
	defer stop()
	if ctx.Err() != nil {
		t.Fatal("done before the signal")
	}
	must.M(must.M1(os.FindProcess(os.Getpid())).Signal(os.Interrupt))
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("the signal did not end the context")
	}
}

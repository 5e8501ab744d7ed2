package memory

import (
	"runtime"
	"testing"
)

func TestProcess(t *testing.T) {
	if _, ok := Process("NoSuchField"); ok {
		t.Error("a field that does not exist has a size")
	}
	now, ok := Process(Resident)
	if ok != (runtime.GOOS == "linux") {
		t.Fatalf("on %s: %v", runtime.GOOS, ok)
	}
	if !ok {
		return
	}
	page := make([]byte, 64<<20)
	for i := 0; i < len(page); i += 4096 {
		page[i] = 1
	}
	grown, _ := Process(Resident)
	peak, _ := Process(Peak)
	runtime.KeepAlive(page)
	// Other memory may be given back meanwhile: half of it must show.
	if grown < now+32<<20 || peak < grown {
		t.Errorf("64 MB more take %d bytes to %d; at most %d so far", now, grown, peak)
	}
}

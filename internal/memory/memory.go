// Package memory says how much of the machine's memory this process holds.
package memory

import (
	"fmt"
	"os"
	"strings"
)

// Fields of Process.
const (
	Resident = "VmRSS"
	Peak     = "VmHWM" // the most that was resident
)

// Process returns a size from /proc/self/status in bytes. Where there is none, as on other systems than Linux, it returns false.
func Process(field string) (int, bool) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(text), "\n"+field+":")
	var kb int
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		return 0, false
	}
	return kb << 10, true
}

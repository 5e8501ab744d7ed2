// Package memory says how much of the machine's memory this process holds and how much there is for it, and asks for huge pages.
package memory

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
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

// Available is how many bytes this process may still take: what the machine has, or less where a control group, as of a container or of a job of Slurm, leaves less.
// Where nothing says so, as on other systems than Linux, it returns false.
func Available() (int, bool) { return available(os.DirFS("/")) }

func available(root fs.FS) (int, bool) {
	info, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, false
	}
	kb, ok := field(info, "MemAvailable:")
	if !ok {
		return 0, false
	}
	least := kb << 10
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return least, true
	}
	for _, line := range strings.Split(string(groups), "\n") {
		id, rest, _ := strings.Cut(line, ":")
		controllers, group, _ := strings.Cut(rest, ":")
		switch {
		case id == "0" && controllers == "": // version 2
			least = min(least, left(root, "sys/fs/cgroup", group, "memory.max", "memory.current", "inactive_file"))
		case controllers == "memory": // version 1
			least = min(least, left(root, "sys/fs/cgroup/memory", group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
		}
	}
	return least, true
}

// left is what the limits of a control group and of those around it leave, never negative. Files in memory that nobody uses count as used there, but give way. In a
// container the group may be known by the name that it has outside; then the limits are those of the folder in which its name should be.
func left(root fs.FS, mount, group, limit, usage, idle string) int {
	least := math.MaxInt
	for at := path.Join(mount, group); strings.HasPrefix(at, mount); at = path.Dir(at) {
		number := func(name string) (int, bool) {
			text, err := fs.ReadFile(root, path.Join(at, name))
			if err != nil {
				return 0, false
			}
			n, err := strconv.Atoi(strings.TrimSpace(string(text))) // "max" is no limit
			return n, err == nil
		}
		most, limited := number(limit)
		used, known := number(usage)
		if !limited || !known {
			continue
		}
		stat, _ := fs.ReadFile(root, path.Join(at, "memory.stat"))
		cached, _ := field(stat, idle)
		least = min(least, max(0, most-max(0, used-cached)))
	}
	return least
}

// field is the number behind a name at the start of a line.
func field(text []byte, name string) (int, bool) {
	_, rest, found := strings.Cut("\n"+string(text), "\n"+name+" ")
	var n int
	_, err := fmt.Sscan(rest, &n)
	return n, found && err == nil
}

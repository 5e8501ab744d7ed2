package memory

import (
	"os"
	"syscall"
)

// hugePages is the setting of glibc's malloc that asks the system for huge pages (glibc 2.35; others ignore it).
const hugePages = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"

// HugePages starts this program again, in place, with malloc set to ask for huge pages, unless GLIBC_TUNABLES has a value already. XLA takes the memory of a
// computation anew each time and gives it back; in pages of 4 KiB a sixth of a gradient is spent on having them cleared. The setting is read when a process begins,
// and does not change results. Where it cannot start again the program goes on.
func HugePages() {
	if _, set := os.LookupEnv("GLIBC_TUNABLES"); set {
		return
	}
	if exe, err := os.Executable(); err == nil {
		_ = syscall.Exec(exe, os.Args, append(os.Environ(), hugePages)) // returns only where it failed
	}
}

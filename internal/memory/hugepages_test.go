package memory

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestHugePages: the program goes on as the same process, with its arguments, its environment and the setting, once; what the caller has set stays.
func TestHugePages(t *testing.T) {
	if os.Getenv("CARSO_TEST_HUGE_PAGES") != "" {
		HugePages()
		fmt.Println(os.Getpid(), os.Getenv("GLIBC_TUNABLES"), os.Getenv("CARSO_TEST_HUGE_PAGES"), os.Args[1:])
		os.Exit(0)
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has it")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	clean := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GLIBC_TUNABLES=") })
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, "glibc.malloc.hugetlb=1"},
		{[]string{"GLIBC_TUNABLES=glibc.malloc.check=0"}, "glibc.malloc.check=0"},
		{[]string{"GLIBC_TUNABLES="}, ""},
	} {
		cmd := exec.Command(exe, "-test.run=^TestHugePages$")
		cmd.Env = append(append(clean, "CARSO_TEST_HUGE_PAGES=kept"), c.env...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintln(cmd.Process.Pid, c.want, "kept", "[-test.run=^TestHugePages$]"); string(out) != want {
			t.Errorf("with %v: %q, want %q", c.env, out, want)
		}
	}
}

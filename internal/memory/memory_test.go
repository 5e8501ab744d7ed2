package memory

import (
	"runtime"
	"testing"
	"testing/fstest"
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

func TestAvailable(t *testing.T) {
	const meminfo = "MemTotal:       8000 kB\nMemFree:         100 kB\nMemAvailable:    4000 kB\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int
		ok    bool
	}{
		{"no such system", nil, 0, false},
		{"an old kernel", map[string]string{"proc/meminfo": "MemTotal: 8000 kB\n"}, 0, false},
		{"no control groups", map[string]string{"proc/meminfo": meminfo}, 4000 << 10, true},
		{"version 2, unlimited", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/job\n",
			"sys/fs/cgroup/job/memory.max": "max\n", "sys/fs/cgroup/job/memory.current": "1000\n"}, 4000 << 10, true},
		{"version 2", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/job/step\n",
			"sys/fs/cgroup/job/step/memory.max": "3000000\n", "sys/fs/cgroup/job/step/memory.current": "1000000\n"}, 2000000, true},
		{"version 2, files in memory", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "3000000\n",
			"sys/fs/cgroup/memory.current": "1000000\n", "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 400000\n"}, 2400000, true},
		{"version 2, a limit further out", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/job/step\n",
			"sys/fs/cgroup/job/step/memory.max": "max\n", "sys/fs/cgroup/job/memory.max": "1500000\n", "sys/fs/cgroup/job/memory.current": "500000\n"}, 1000000, true},
		{"version 1", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "8:pids:/\n4:memory:/job\n0::/\n",
			"sys/fs/cgroup/memory/job/memory.limit_in_bytes": "700000\n", "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "100000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n"}, 600000, true},
		{"a container that sees its group as the root", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/pod/abc\n",
			"sys/fs/cgroup/memory.max": "900000\n", "sys/fs/cgroup/memory.current": "1000000\n"}, 0, true},
		{"nonsense", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "x\n0::/../..\n", "sys/fs/cgroup/memory.max": "?", "sys/fs/cgroup/memory.current": ""}, 4000 << 10, true},
	} {
		root := fstest.MapFS{}
		for name, text := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got, ok := available(root); got != c.want || ok != c.ok {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, got, ok, c.want, c.ok)
		}
	}
	if n, ok := Available(); ok != (runtime.GOOS == "linux") || ok && n < 0 {
		t.Errorf("here: %d, %v", n, ok)
	}
}

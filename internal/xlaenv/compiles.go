package xlaenv

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// CompilesVar names a file to which every graph that XLA compiles in this process appends a line: the seconds it took, a tab and the program. The backend in
// pure Go has nothing to compile.
const CompilesVar = "CARSO_COMPILES"

// noteCompiles listens to what go-xla logs of compilations: neither GoMLX nor go-xla has another place to time them, and a backend that wraps another is not
// the one that its buffers name.
var noteCompiles = sync.OnceValue(func() error {
	file := os.Getenv(CompilesVar)
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("noting compilations (%s): %w", CompilesVar, err)
	}
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "stderrthreshold": "ERROR", "vmodule": "compile=2"} {
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("noting compilations: %w", err)
		}
	}
	klog.SetOutput(&compiles{to: f, program: filepath.Base(os.Args[0])})
	return nil
})

// compiles is a log's output that notes how long compilations took. With several under way at once it may take one's begin for another's: the sum is right
// nevertheless.
type compiles struct {
	to      *os.File
	program string
	mu      sync.Mutex
	begun   []time.Time
}

func (c *compiles) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case bytes.Contains(line, []byte("] calling pjrtClientCompile()")):
		c.begun = append(c.begun, time.Now())
	case bytes.Contains(line, []byte("] pjrtClientCompile() ")) && len(c.begun) > 0: // succeeded or failed
		last := len(c.begun) - 1
		seconds := time.Since(c.begun[last]).Seconds()
		c.begun = c.begun[:last]
		if _, err := fmt.Fprintf(c.to, "%.3f\t%s\n", seconds, c.program); err != nil {
			return 0, err
		}
	}
	return len(line), nil
}

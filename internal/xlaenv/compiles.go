package xlaenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gomlx/compute"
)

// CompilesVar names a file to which every graph that XLA compiles appends a line: the seconds it took, the backend, the program and the graph, between tabs. The
// backend in pure Go has nothing to compile.
const CompilesVar = "CARSO_COMPILES"

// Open opens a backend by its configuration.
func Open(config string) (compute.Backend, error) {
	b, err := compute.NewWithConfig(config)
	if file := os.Getenv(CompilesVar); file != "" && err == nil && strings.HasPrefix(config, "xla") {
		b = timedBackend{b, file}
	}
	return b, err
}

// timedBackend is a backend whose compilations are timed.
type timedBackend struct {
	compute.Backend
	file string
}

func (b timedBackend) Builder(name string) compute.Builder {
	return timedBuilder{b.Backend.Builder(name), b}
}

type timedBuilder struct {
	compute.Builder
	backend timedBackend
}

func (b timedBuilder) Compile() (compute.Executable, error) {
	start := time.Now()
	e, err := b.Builder.Compile()
	if err != nil {
		return nil, err
	}
	line := fmt.Sprintf("%.3f\t%s\t%s\t%s\n", time.Since(start).Seconds(), b.backend.Name(), filepath.Base(os.Args[0]), b.Name())
	if err := appendTo(b.backend.file, line); err != nil {
		return nil, fmt.Errorf("noting how long a graph took to compile in %s (%s): %w", b.backend.file, CompilesVar, err)
	}
	return e, nil
}

// appendTo adds a line in one write, so that lines of several processes stay whole.
func appendTo(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

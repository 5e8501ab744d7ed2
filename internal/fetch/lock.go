package fetch

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
)

// LockDir keeps a second caller, in this process or another, out of a folder until unlock is called or this process ends. command names what else may be at
// work there, for the error.
func LockDir(dir, command string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another `%s`: wait for it: %w", dir, command, err)
	}
	return func() { f.Close() }, nil
}

// Reader stops reading when its context is done.
type Reader struct {
	Ctx context.Context
	R   io.Reader
}

// Read implements io.Reader.
func (c *Reader) Read(p []byte) (int, error) {
	if err := c.Ctx.Err(); err != nil {
		return 0, err
	}
	return c.R.Read(p)
}

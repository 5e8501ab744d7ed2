package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Limits of a user's own images. Networks of this kit take far smaller ones.
const (
	maxOwnImage = 64 << 20 // bytes of a file
	maxOwnSide  = 1024     // rows or columns
)

// OpenImages reads a user's own images: dir has a folder for each class, and that the PNG or JPEG files of the class and nothing else (names that
// begin with a dot are skipped). Labels are places in the sorted list of the folders' names, images come class by class in the order of their names, and name and split
// are what the set is to be called. All images must be of one size: which part of a larger one counts, or how it is to be made smaller, is not
// for a loader to guess. What was decoded is kept in the file carso-SPLIT.images in dir, if that can be written to, and used as long as no image changes.
func OpenImages(dir, name, split string) (*Set, error) {
	fail := func(err error) (*Set, error) {
		return nil, fmt.Errorf("load the images of %s %s in %s: %w", name, split, dir, err)
	}
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fail(fmt.Errorf("%w: there is no such folder", ErrNotFound))
	} else if err != nil {
		return fail(err)
	}
	if !info.IsDir() {
		return fail(errors.New("is a file: give the folder that has a folder of images for each class"))
	}
	s, err := folderSource(os.DirFS(dir), ".")
	if err != nil {
		return fail(err)
	}
	l, err := locateFolders(s)
	if err != nil {
		return fail(err)
	}
	like := &Set{Name: name, Split: split, Classes: l.classes}
	if like.H, like.W, err = sizeOf(s, l.images[0]); err != nil {
		return fail(err)
	}
	set, err := l.decode(s, maxOwnImage, like, filepath.Join(dir, "carso-"+split+cacheExt))
	if err != nil {
		return fail(fmt.Errorf("%w: mend or remove it; all images must be of the size of %s", err, l.images[0]))
	}
	return set, nil
}

// locateFolders finds the images in a folder of folders.
func locateFolders(s source) (l located, err error) {
	for name := range s.files {
		class, file, inside := strings.Cut(name, "/")
		if !inside || strings.HasPrefix(class, ".") || strings.HasPrefix(file, ".") {
			continue
		}
		if strings.Contains(file, "/") {
			return l, fmt.Errorf("%s lies in a folder of the class %s: images of a class are in one folder", name, class)
		}
		switch strings.ToLower(path.Ext(file)) {
		case ".png", ".jpg", ".jpeg":
		default:
			return l, fmt.Errorf("%s is not called .png, .jpg or .jpeg: move it elsewhere", name)
		}
		l.images = append(l.images, name)
		if !slices.Contains(l.classes, class) {
			l.classes = append(l.classes, class)
		}
	}
	if len(l.classes) < 2 {
		return l, fmt.Errorf("%w: it has %d folders with images, and a classifier needs two classes", ErrNotFound, len(l.classes))
	}
	slices.Sort(l.classes)
	slices.SortFunc(l.images, func(a, b string) int { // by class first: a byte below the slash must not mix classes up
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
	for _, name := range l.images {
		y, _ := slices.BinarySearch(l.classes, path.Dir(name))
		l.labels = append(l.labels, int32(y))
	}
	l.seal(s)
	return l, nil
}

// sizeOf returns the rows and columns of an image.
func sizeOf(s source, name string) (h, w int, err error) {
	content, err := s.read(name, maxOwnImage)
	if err != nil {
		return 0, 0, damaged(name, "%w", err)
	}
	config, _, err := image.DecodeConfig(bytes.NewReader(content))
	if err != nil {
		return 0, 0, damaged(name, "%w", unreadable(err, content))
	}
	if config.Height > maxOwnSide || config.Width > maxOwnSide || config.Height < 1 || config.Width < 1 {
		return 0, 0, fmt.Errorf("%s is %d pixels high and %d wide: at most %d are taken: make the images smaller first", name, config.Height, config.Width, maxOwnSide)
	}
	return config.Height, config.Width, nil
}

package checkpoints

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

//go:embed shipped
var shippedFiles embed.FS

// Shipped opens weights that are part of the binary, by the name of their file without ".safetensors". Its digest is [File.SHA256].
func Shipped(name string) (*File, error) {
	f, err := shippedFiles.Open(path.Join("shipped", name+".safetensors"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		have := "none"
		if names := ShippedNames(); len(names) > 0 {
			have = strings.Join(names, ", ")
		}
		return nil, fmt.Errorf("checkpoints: no weights called %s are shipped (there are: %s): %w", quoted(name), have, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoints: opening shipped weights %s: %w", quoted(name), err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("checkpoints: opening shipped weights %s: %w", quoted(name), err)
	}
	r, ok := f.(io.ReaderAt) // embedded files are; folders are not
	if !ok {
		return nil, &FormatError{File: name, Problem: "is a folder", Remedy: "name a file"}
	}
	return newFile("shipped weights "+name, r, info.Size(), (*File).readHeader)
}

// ShippedNames lists the weights that are part of the binary, sorted, as [Shipped] wants them.
func ShippedNames() []string {
	files, err := shippedFiles.ReadDir("shipped")
	if err != nil { // the folder was there when the binary was built
		return nil
	}
	var names []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), ".safetensors"); ok {
			names = append(names, name)
		}
	}
	return names
}

package paper

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"fmt"
	"io/fs"

	"carsokit/carso/record"

	"github.com/klauspost/compress/zstd"
)

// records is an archive of the files that carso eval appended to, one for each evaluation, one line for each chunk of images. Each line carries its whole specification, which files
// have in common: so the archive itself stores, and is compressed as one, to less than half of what files by themselves take.
//
//go:embed records.zip.zst
var records []byte

// RecordFiles returns the record files that are part of the program.
func RecordFiles() (fs.FS, error) {
	d, err := zstd.NewReader(nil)
	if err != nil {
		return nil, fmt.Errorf("opening the program's own records: %w", err)
	}
	defer d.Close()
	raw, err := d.DecodeAll(records, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the program's own records: %w", err)
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, fmt.Errorf("opening the program's own records: %w", err)
	}
	return z, nil
}

// Committed returns the runs that are part of the program: those behind the numbers in its documents and notebooks.
func Committed() ([]record.Run, error) {
	files, err := RecordFiles()
	if err != nil {
		return nil, err
	}
	return record.LoadFS(files)
}

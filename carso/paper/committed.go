package paper

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"fmt"

	"carsokit/carso/record"
)

// records is an archive of the files that carso eval appended to, one for each evaluation, one line for each chunk of images. Each line carries its whole specification.
//
//go:embed records.zip
var records []byte

// Committed returns the runs that are part of the program: those behind the numbers in its documents and notebooks.
func Committed() ([]record.Run, error) {
	z, err := zip.NewReader(bytes.NewReader(records), int64(len(records)))
	if err != nil {
		return nil, fmt.Errorf("opening the program's own records: %w", err)
	}
	return record.LoadFS(z)
}

package paper

import (
	"embed"
	"fmt"
	"io/fs"

	"carsokit/carso/record"
)

//go:embed records
var records embed.FS

// Committed returns the runs that are part of the program: those behind the numbers in its documents and notebooks.
func Committed() ([]record.Run, error) {
	sub, err := fs.Sub(records, "records")
	if err != nil {
		return nil, fmt.Errorf("opening the program's own records: %w", err)
	}
	return record.LoadFS(sub)
}

package nbui

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"carsokit/internal/fetch"
)

// Follow calls draw for the curve of a training, and again whenever a point was added, as long as `carso train` works in the curve's folder and ctx is not done.
// Of a training that is over or waits to be continued, it draws what is there. every is how often it looks.
func Follow(ctx context.Context, curve string, every time.Duration, draw func() error) error {
	var drawn fs.FileInfo
	for {
		running := fetch.Busy(filepath.Dir(curve)) // before the file is looked at: what was written last is drawn, too
		now, err := os.Stat(curve)
		switch {
		case errors.Is(err, fs.ErrNotExist) && running: // no point yet
		case err != nil:
			return fmt.Errorf("following a training, and none is at work there: %w", err)
		case drawn == nil || !os.SameFile(now, drawn) || !now.ModTime().Equal(drawn.ModTime()):
			if err := draw(); err != nil {
				return err
			}
			drawn = now
		}
		if !running {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

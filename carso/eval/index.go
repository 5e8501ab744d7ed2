package eval

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ReadIndex reads positions of images: from a file, one a line or a JSON list, or from the text itself where that is a JSON list. They come back in ascending order.
func ReadIndex(text string) ([]int, error) {
	from := "list"
	if !strings.HasPrefix(strings.TrimSpace(text), "[") {
		raw, err := os.ReadFile(text)
		if err != nil {
			return nil, fmt.Errorf("reading the index of images: %w", err)
		}
		from, text = text, string(raw)
	}
	index := []int{}
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		if err := json.Unmarshal([]byte(text), &index); err != nil {
			return nil, fmt.Errorf("index %s: want a JSON list of positions: %w", from, err)
		}
	} else {
		for n, line := range strings.Split(text, "\n") {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			i, err := strconv.Atoi(line)
			if err != nil {
				return nil, fmt.Errorf("index %s, line %d: %q is no position of an image", from, n+1, line)
			}
			index = append(index, i)
		}
	}
	slices.Sort(index)
	for k, i := range index {
		switch {
		case i < 0:
			return nil, fmt.Errorf("index %s: position %d is negative; they are counted from 0", from, i)
		case k > 0 && i == index[k-1]:
			return nil, fmt.Errorf("index %s: image %d is there twice", from, i)
		}
	}
	if len(index) == 0 {
		return nil, fmt.Errorf("index %s: there are no positions in it", from)
	}
	return index, nil
}

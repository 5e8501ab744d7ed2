package eval

import (
	"fmt"
	"strconv"
	"strings"
)

// Shard is part Index of Count of an evaluation, counted from 0: every Count-th chunk. The zero value is all of it. A shard changes who
// computes an image, never what comes out.
type Shard struct{ Index, Count int }

// String is "3-of-8", or nothing for the whole.
func (s Shard) String() string {
	if s.Count == 0 {
		return ""
	}
	return fmt.Sprintf("%d-of-%d", s.Index, s.Count)
}

// has says whether a chunk, counted from the first image of the set, belongs to the shard.
func (s Shard) has(chunk int) bool { return s.Count == 0 || chunk%s.Count == s.Index }

// ParseShard reads "3/8" or, from the variables of a batch system:
//
//	auto     the task of a Slurm array, SLURM_ARRAY_TASK_ID of SLURM_ARRAY_TASK_COUNT from SLURM_ARRAY_TASK_MIN in steps of SLURM_ARRAY_TASK_STEP;
//	         or of a Kubernetes Indexed Job, JOB_COMPLETION_INDEX of JOB_COMPLETIONS (which Kubernetes does not set: the manifest does)
//	auto/8   the same, but part SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX of 8: of use where only some tasks of an array are run again
//
// Nothing is the whole.
func ParseShard(text string, getenv func(string) string) (Shard, error) {
	if text == "" {
		return Shard{}, nil
	}
	number := func(name string) (int, error) {
		n, err := strconv.Atoi(getenv(name))
		if err != nil {
			return 0, fmt.Errorf("shard %q: %s is %q, not a number", text, name, getenv(name))
		}
		return n, nil
	}
	index, count, counted := strings.Cut(text, "/")
	var s Shard
	var err error
	switch {
	case index != "auto" && !counted:
		return s, fmt.Errorf("shard %q: want a part of a count, like 0/8, or auto", text)
	case index != "auto":
		if s.Index, err = strconv.Atoi(index); err != nil {
			return s, fmt.Errorf("shard %q: %q is not a number", text, index)
		}
	case getenv("SLURM_ARRAY_TASK_ID") != "":
		if s.Index, err = number("SLURM_ARRAY_TASK_ID"); err != nil || counted {
			break
		}
		var first int
		if first, err = number("SLURM_ARRAY_TASK_MIN"); err != nil {
			break
		}
		step := 1
		if getenv("SLURM_ARRAY_TASK_STEP") != "" {
			if step, err = number("SLURM_ARRAY_TASK_STEP"); err != nil {
				break
			}
		}
		if step < 1 || (s.Index-first)%step != 0 {
			return s, fmt.Errorf("shard %q: task %d is not in an array from %d in steps of %d", text, s.Index, first, step)
		}
		s.Index = (s.Index - first) / step
		s.Count, err = number("SLURM_ARRAY_TASK_COUNT")
	case getenv("JOB_COMPLETION_INDEX") != "":
		if s.Index, err = number("JOB_COMPLETION_INDEX"); err != nil || counted {
			break
		}
		if getenv("JOB_COMPLETIONS") == "" {
			return s, fmt.Errorf("shard %q: JOB_COMPLETIONS is not set: set it to the job's completions in the manifest, or say auto/COMPLETIONS", text)
		}
		s.Count, err = number("JOB_COMPLETIONS")
	default:
		return s, fmt.Errorf("shard %q: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set: this is no task of an array; say 0/8", text)
	}
	if err != nil {
		return s, err
	}
	if counted {
		if s.Count, err = strconv.Atoi(count); err != nil {
			return s, fmt.Errorf("shard %q: %q is not a number", text, count)
		}
	}
	if s.Count < 1 || s.Index < 0 || s.Index >= s.Count {
		return s, fmt.Errorf("shard %q is part %d of %d: parts are counted from 0", text, s.Index, s.Count)
	}
	return s, nil
}

package eval

import (
	"strings"
	"testing"
)

func TestParseShard(t *testing.T) {
	slurm := "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_STEP=2"
	for _, c := range []struct {
		text, env string
		want      Shard
		err       string
	}{
		{"", slurm, Shard{}, ""}, // said nothing: never taken from the environment by surprise
		{"0/1", "", Shard{0, 1}, ""},
		{"7/8", "", Shard{7, 8}, ""},
		{"auto", slurm, Shard{2, 3}, ""},
		{"auto", "SLURM_ARRAY_TASK_ID=0 SLURM_ARRAY_TASK_COUNT=8 SLURM_ARRAY_TASK_MIN=0", Shard{0, 8}, ""},
		{"auto/8", slurm, Shard{5, 8}, ""},
		{"auto", "JOB_COMPLETION_INDEX=3 JOB_COMPLETIONS=4", Shard{3, 4}, ""},
		{"auto/5", "JOB_COMPLETION_INDEX=3", Shard{3, 5}, ""},
		{"auto", "JOB_COMPLETION_INDEX=3", Shard{}, "JOB_COMPLETIONS is not set"},
		{"auto", "", Shard{}, "no task of an array"},
		{"auto", "SLURM_ARRAY_TASK_ID=x", Shard{}, "not a number"},
		{"auto", "SLURM_ARRAY_TASK_ID=2 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_STEP=2", Shard{}, "not in an array"},
		{"8/8", "", Shard{}, "counted from 0"},
		{"-1/8", "", Shard{}, "counted from 0"},
		{"0/0", "", Shard{}, "counted from 0"},
		{"3", "", Shard{}, "want a part"},
		{"a/8", "", Shard{}, "not a number"},
		{"1/b", "", Shard{}, "not a number"},
	} {
		env := map[string]string{}
		for _, v := range strings.Fields(c.env) {
			name, value, _ := strings.Cut(v, "=")
			env[name] = value
		}
		got, err := ParseShard(c.text, func(name string) string { return env[name] })
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q with %q: error %v, want %q", c.text, c.env, err, c.err)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%q with %q: %v, error %v", c.text, c.env, got, err)
		}
	}
}

// Every chunk belongs to exactly one shard.
func TestShardsPartition(t *testing.T) {
	for _, count := range []int{1, 3, 8} {
		for chunk := range 50 {
			owners := 0
			for i := range count {
				if (Shard{i, count}).has(chunk) {
					owners++
				}
			}
			if owners != 1 || !(Shard{}).has(chunk) {
				t.Errorf("chunk %d has %d owners among %d shards", chunk, owners, count)
			}
		}
	}
}

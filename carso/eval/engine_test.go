package eval

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"carsokit/attacks"
	"carsokit/attacks/attacktest"
	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/carso/record"
	"carsokit/data"
	"carsokit/internal/xlaenv"
	"carsokit/models"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/gomlx/backends/default"
)

// The tests of this file evaluate a toy with noise on GoMLX's own backend, so that a whole process, from start to kill, takes a fraction of a second.

const toyChunk = 5

// toyJob is an evaluation of n images by APGD on two losses.
func toyJob(t testing.TB, n int) (Job, *atomic.Int32) {
	toy := attacktest.NewNoisy(4, 2)
	b := toy.Images(n, 1)
	set := &data.Set{Name: "toy", Split: "test", Classes: []string{"a", "b", "c", "d"}, H: toy.H, W: toy.W, Labels: b.Y, Digest: "toy"}
	for _, v := range b.X {
		set.Pixels = append(set.Pixels, byte(v*255+0.5))
	}
	apgd := func(loss attacks.Loss) Stage {
		a := attacks.StandardAPGD(loss, 0.04, 2)
		a.Steps = 4
		return Stage{Output: "toy", Attack: a}
	}
	opened := new(atomic.Int32)
	j := Job{Set: set, Images: n, Protocol: Protocol{Decides: "toy", Stages: []Stage{apgd(attacks.CE), apgd(attacks.DLR)}, Confirm: 1},
		System: System{Output: func(string) (attacks.Classifier, error) { opened.Add(1); return toy, nil }}}
	j.Spec = record.Spec{Schema: record.Schema, Scenario: "a", Row: "carso-paper", Column: "rand", Scale: "tiny", Eps: 8. / 255, Draws: 3, Seed: 5,
		Data: record.Data{Name: set.Name, Split: set.Split, Digest: set.Digest}, Versions: map[string]string{"backend": "go"}}
	var err error
	if j.Spec.Attack, err = json.Marshal(j.Protocol); err != nil && t != nil {
		t.Fatal(err)
	}
	return j, opened
}

// goBackend is shared: the toy's weights stay on it.
var goBackend = sync.OnceValues(func() (compute.Backend, error) { return compute.NewWithConfig(xlaenv.Go) })

// evaluate runs the toy job into a folder.
func evaluate(ctx context.Context, job Job, dir string, o Options) (record.Run, error) {
	be, err := goBackend()
	if err != nil {
		return record.Run{}, err
	}
	store, err := record.Open(dir)
	if err != nil {
		return record.Run{}, err
	}
	if o.Chunk == 0 {
		o.Chunk = toyChunk
	}
	if o.Buckets == nil {
		o.Buckets = []int{8}
	}
	return Run(ctx, be, store, job, o)
}

// whole evaluates n images without interruption and returns the bytes of the record, and of the main table.
func whole(t *testing.T, n int) (recorded, table []byte) {
	t.Helper()
	job, _ := toyJob(t, n)
	dir := t.TempDir()
	run, err := evaluate(context.Background(), job, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	broken, hit := run.Estimate(record.Internal), run.Estimate(record.FirstHit)
	if broken.Value == 0 || broken.Value == 100 || hit.N != n || hit.Value > broken.Value {
		t.Fatalf("the toy is meant to be broken on some images, and not on others: internal %+v, first hit %+v", broken, hit)
	}
	return read(t, filepath.Join(dir, run.File)), mainTable(t, dir)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mainTable is the main table as JSON, from the records in a folder.
func mainTable(t *testing.T, dir string) []byte {
	t.Helper()
	runs, err := record.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	table, err := paper.Build("main", "tiny", runs)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := paper.Render(&out, table, "json"); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Any number of shards, in any order, interrupted or not, merged in any order, give the bytes of one process.
func TestShardsMergeToTheSameBytes(t *testing.T) {
	const n = 43 // no multiple of the chunk
	want, table := whole(t, n)
	r := rand.New(rand.NewPCG(1, 2))
	for _, count := range []int{1, 3, 8} {
		for _, interrupted := range []bool{false, true} {
			dir, merged := t.TempDir(), t.TempDir()
			order := r.Perm(count)
			for _, i := range order {
				job, _ := toyJob(t, n)
				o := Options{Shard: Shard{i, count}, Workers: 1 + i%2}
				if interrupted {
					ctx, stop := context.WithCancel(context.Background())
					cut := o
					cut.Progress = func(p Progress) {
						if p.Fresh >= toyChunk {
							stop()
						}
					}
					if _, err := evaluate(ctx, job, dir, cut); err != nil && !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
					stop()
				}
				if _, err := evaluate(context.Background(), job, dir, o); err != nil {
					t.Fatal(err)
				}
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
			if err != nil || len(files) != count {
				t.Fatalf("%d shards left %d files (%v)", count, len(files), err)
			}
			store, err := record.Open(merged)
			if err != nil {
				t.Fatal(err)
			}
			// One after the other, in shuffled order: every subset on the way is a legal state.
			r.Shuffle(len(files), func(a, b int) { files[a], files[b] = files[b], files[a] })
			var run record.Run
			for k, f := range files {
				runs, err := record.Join(f)
				if err != nil || len(runs) != 1 {
					t.Fatalf("%s: %d runs, %v", f, len(runs), err)
				}
				if run, err = store.Merge(runs[0], toyChunk); err != nil {
					t.Fatal(err)
				}
				if left := run.Missing(n); (len(left) == 0) != (k == len(files)-1) {
					t.Errorf("%d shards, %d merged: missing %s", count, k+1, record.Ranges(left))
				}
			}
			if got := read(t, filepath.Join(merged, run.File)); !bytes.Equal(got, want) {
				t.Errorf("%d shards, interrupted %v: the merged record is not that of one process", count, interrupted)
			}
			if !bytes.Equal(mainTable(t, merged), table) {
				t.Errorf("%d shards: the table of the merged records is not that of one process", count)
			}
		}
	}
}

// What is there is not computed again, in whichever file it is, and a finished evaluation opens no model.
func TestSecondRunComputesNothing(t *testing.T) {
	const n = 23
	job, opened := toyJob(t, n)
	dir := t.TempDir()
	for i := range 2 {
		if _, err := evaluate(context.Background(), job, dir, Options{Shard: Shard{i, 3}}); err != nil {
			t.Fatal(err)
		}
	}
	fresh := 0
	run, err := evaluate(context.Background(), job, dir, Options{Progress: func(p Progress) { fresh = p.Fresh }})
	if err != nil || len(run.Images) != n {
		t.Fatalf("%d images, %v", len(run.Images), err)
	}
	if fresh != 5 { // of the chunks 0 to 4 (the last of three images) the third shard has number 2
		t.Errorf("the rest of the evaluation computed %d images, two of three shards being there", fresh)
	}
	before := opened.Load()
	table := mainTable(t, dir)
	if _, err := evaluate(context.Background(), job, dir, Options{Progress: func(Progress) { t.Error("progress of nothing") }}); err != nil {
		t.Fatal(err)
	}
	if opened.Load() != before {
		t.Error("a finished evaluation opened the model")
	}
	if !bytes.Equal(mainTable(t, dir), table) {
		t.Error("the table changed")
	}
}

// The compiled batch size changes neither the noise nor, up to the rounding of sums, a verdict.
func TestBatchSizes(t *testing.T) {
	const n = 43
	job, _ := toyJob(t, n)
	var want record.Run
	for k, bucket := range []int{1, 7, 64} {
		run, err := evaluate(context.Background(), job, t.TempDir(), Options{Buckets: []int{bucket}, Chunk: 2 + 20*k})
		if err != nil {
			t.Fatal(err)
		}
		if k == 0 {
			want = run
			continue
		}
		differ := 0
		for i, im := range run.Images {
			if im.Broken != want.Images[i].Broken || im.FirstHit != want.Images[i].FirstHit || !slices.Equal(im.Fresh, want.Images[i].Fresh) {
				differ++
			}
		}
		if float64(differ) > 0.005*n {
			t.Errorf("batches of %d: %d of %d images differ from batches of 1", bucket, differ, n)
		}
	}
}

func TestBuckets(t *testing.T) {
	for largest, want := range map[int][]int{0: nil, 1: {1}, 3: {3}, 4: {4, 1}, 16: {16, 4}, 250: {250, 62}} {
		if got := Buckets(largest); !slices.Equal(got, want) {
			t.Errorf("at most %d: %v, want %v", largest, got, want)
		}
	}
	if got := (Options{}).withDefaults().Buckets; !slices.Equal(got, Buckets(16)) {
		t.Errorf("default %v", got)
	}
}

func TestAutoBatch(t *testing.T) {
	const mb = 1 << 20
	job, _ := toyJob(t, 8)
	if _, _, err := job.AutoBatch(Options{}, 1<<40); err == nil || !strings.Contains(err.Error(), "give a number") {
		t.Errorf("sizes that nobody knows: %v", err)
	}
	// A row of 1 MB: its classifier's quarter of a million values, three times.
	job.System.Work = func(string) Work { return Work{Condition: models.Work{Values: mb / 4 / memoryFactor}} }
	many := Options{Chunk: 500, Workers: 1}
	for _, c := range []struct {
		name      string
		o         Options
		available int
		want      int // 0: an error
	}{
		{"plenty", many, 1 << 40, 256},
		{"exactly half of it", many, 512 * mb, 256},
		{"half is not enough for 256", many, 500 * mb, 128},
		{"two workers", Options{Chunk: 500, Workers: 2}, 500 * mb, 64},
		{"little", many, 8 * mb, 4},
		{"nothing", many, 7 * mb, 0},
		{"none at all", many, 0, 0},
		{"a chunk of 25 images in 2 draws", Options{}, 1 << 40, 32},
		{"a small chunk", Options{Chunk: 3}, 1 << 40, 4},
	} {
		got, bytes, err := job.AutoBatch(c.o, c.available)
		if c.want == 0 {
			if err == nil || !strings.Contains(err.Error(), "give a smaller number") {
				t.Errorf("%s: batch %d, %v", c.name, got, err)
			}
			continue
		}
		if err != nil || got != c.want || bytes > c.available/2 {
			t.Errorf("%s: batch %d of %d bytes, %v; want %d", c.name, got, bytes, err, c.want)
		}
	}
	// What an output takes grows with its samples up to those that are computed at once.
	w := Work{Sample: models.Work{Values: 10}}
	for samples, want := range map[int]int{0: 0, 8: 80, 32: 320, 500: 320} {
		if w.Samples = samples; w.bytes() != 4*memoryFactor*want {
			t.Errorf("%d samples: %d bytes", samples, w.bytes())
		}
	}
}

// Children of the tests below: this test binary again.
const childVar = "EVAL_TEST_CHILD"

func TestMain(m *testing.M) {
	what := os.Getenv(childVar)
	if what == "" {
		os.Exit(m.Run())
	}
	dir := os.Getenv("EVAL_TEST_DIR")
	n, err := strconv.Atoi(os.Getenv("EVAL_TEST_IMAGES"))
	if err == nil {
		err = childMain(what, dir, n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childMain(what, dir string, n int) error {
	job, _ := toyJob(nil, n)
	ctx := context.Background()
	switch what {
	case "run": // says what it is at
		_, err := evaluate(ctx, job, dir, Options{Workers: 1, Progress: func(p Progress) {
			fmt.Printf("%d done, %s\n", p.Done, p.Note)
		}})
		return err
	case "save":
		_, err := evaluate(ctx, job, filepath.Join(dir, "records"), Options{Workers: 1, Save: filepath.Join(dir, "images"), Progress: func(p Progress) { fmt.Println(p.Note) }})
		return err
	case "readonly":
		if os.Getuid() == 0 { // whom permissions do not stop
			if err := syscall.Setuid(65534); err != nil {
				return err
			}
		}
		_, err := evaluate(ctx, job, dir, Options{})
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), dir) {
			return fmt.Errorf("an evaluation into a read-only folder: %v", err)
		}
		return nil
	case "full":
		signal.Ignore(syscall.SIGXFSZ)
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		tight := limit
		tight.Cur = 6000 // some lines
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight); err != nil {
			return err
		}
		_, err := evaluate(ctx, job, dir, Options{})
		if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), "appending") {
			return fmt.Errorf("an evaluation onto a full disk: %v", err)
		}
		runs, err := record.Load(dir)
		if err != nil || len(runs) != 1 || runs[0].Torn || len(runs[0].Images) == 0 {
			return fmt.Errorf("after a full disk: %d runs, %v", len(runs), err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		_, err = evaluate(ctx, job, dir, Options{})
		return err
	}
	return fmt.Errorf("no child %q", what)
}

func startChild(t *testing.T, what, dir string, n int) (*exec.Cmd, *bufio.Scanner, *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), childVar+"="+what, "EVAL_TEST_DIR="+dir, "EVAL_TEST_IMAGES="+strconv.Itoa(n))
	complaints := new(bytes.Buffer)
	c.Stderr = complaints
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewScanner(out), complaints
}

// killsOr is how often a test kills: usual, or what CARSO_KILLS says (make soak).
func killsOr(t *testing.T, usual int) int {
	t.Helper()
	text := os.Getenv("CARSO_KILLS")
	if text == "" {
		return usual
	}
	kills, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return kills
}

// TestKills kills an evaluation again and again at random moments. What it told to be done is there, at most the chunk under way is lost, and in the
// end records and table are those of an uninterrupted run. CARSO_KILLS sets the number of kills (make soak).
func TestKills(t *testing.T) {
	kills := killsOr(t, 10)
	n := 6 * toyChunk * kills
	job, _ := toyJob(t, n)
	dir := t.TempDir()
	file := filepath.Join(dir, job.Spec.FileName())
	r := rand.New(rand.NewPCG(3, 4))
	atWork, lost, torn := 0, 0, 0
	recorded := func() int {
		runs, err := record.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(runs) == 0 {
			return 0
		}
		torn += map[bool]int{true: 1}[runs[0].Torn]
		return len(runs[0].Images)
	}
	for range kills {
		c, out, complaints := startChild(t, "run", dir, n)
		// Some progress reports, then a moment of any length: kills fall into attacks, scoring, appends and starts.
		told, at, reports := 0, 0, r.IntN(60)
		hear := func() bool {
			if !out.Scan() {
				return false
			}
			if _, err := fmt.Sscanf(out.Text(), "%d done, images %d-", &told, &at); err != nil {
				t.Fatalf("%q: %v", out.Text(), err)
			}
			return true
		}
		for range reports {
			if !hear() {
				break
			}
		}
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
		c.Process.Signal(syscall.SIGKILL) // of this child alone
		for hear() {                      // what it said before it died
		}
		if c.Wait() == nil {
			t.Fatalf("the evaluation of %d images ended before it was killed %d times: %s", n, kills, complaints)
		}
		have := recorded()
		if have%toyChunk != 0 || have < told || at > have {
			t.Fatalf("%d images recorded; the evaluation had told of %d, and was at %d", have, told, at)
		}
		if at == have && reports > 0 {
			atWork++
			lost += toyChunk
		}
	}
	t.Logf("%d kills, %d of them inside a chunk; %d torn lines; %d of %d images recorded so far, at most %d computed in vain", kills, atWork, torn, recorded(), n, lost)
	c, out, complaints := startChild(t, "run", dir, n)
	for out.Scan() {
	}
	if c.Wait() != nil {
		t.Fatal(complaints)
	}
	if want, table := whole(t, n); !bytes.Equal(read(t, file), want) || !bytes.Equal(mainTable(t, dir), table) {
		t.Error("killed and continued: not the record and the table of an uninterrupted run")
	}
}

func TestFullDisk(t *testing.T) {
	const n = 40
	job, _ := toyJob(t, n)
	dir := t.TempDir()
	c, out, complaints := startChild(t, "full", dir, n)
	for out.Scan() {
	}
	if c.Wait() != nil {
		t.Fatal(complaints)
	}
	if want, _ := whole(t, n); !bytes.Equal(read(t, filepath.Join(dir, job.Spec.FileName())), want) {
		t.Error("after a full disk and more room: not the record of an uninterrupted run")
	}
}

// TestFullFileSystem is TestFullDisk on a real file system of a few pages, where mounting one is permitted.
func TestFullFileSystem(t *testing.T) {
	const n = 80
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12k"); err != nil {
		t.Skip("mounting a small file system:", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	job, _ := toyJob(t, n)
	_, err := evaluate(context.Background(), job, dir, Options{})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "appending") || !strings.Contains(err.Error(), dir) {
		t.Fatalf("an evaluation onto a full file system: %v", err)
	}
	runs, err := record.Load(dir)
	if err != nil || len(runs) != 1 || runs[0].Torn || len(runs[0].Images) == 0 {
		t.Fatalf("after it: %d runs, %v", len(runs), err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	run, err := evaluate(context.Background(), job, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := whole(t, n); !bytes.Equal(read(t, filepath.Join(dir, run.File)), want) {
		t.Error("after a full file system and more room: not the record of an uninterrupted run")
	}
}

func TestReadOnlyFolder(t *testing.T) {
	const n = 20
	job, _ := toyJob(t, n)
	job.Images = 10
	dir := t.TempDir()
	run, err := evaluate(context.Background(), job, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, run.File)
	before := read(t, file)
	// Another user must be able to get there, or it is not the folder that stops him.
	for path, mode := range map[string]os.FileMode{file: 0o444, dir: 0o555, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	c, out, complaints := startChild(t, "readonly", dir, n)
	for out.Scan() {
	}
	if c.Wait() != nil {
		t.Fatal(complaints)
	}
	if !bytes.Equal(read(t, file), before) {
		t.Error("a refused evaluation changed the record")
	}
	// Everything there is may still be read, and a finished evaluation needs no permission to write.
	job, _ = toyJob(t, 10)
	if _, err := evaluate(context.Background(), job, dir, Options{}); err != nil {
		t.Error(err)
	}
}

// Committed records are found again: the job of the question that a record answers has the record's key. Keys that moved would orphan them.
func TestQuestionsOfCommittedRecords(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	set, err := data.Sample()
	if err != nil {
		t.Fatal(err)
	}
	be, err := goBackend()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		q, err := QuestionOf(r.Spec)
		if err != nil {
			t.Errorf("%s: %v", r.File, err)
			continue
		}
		q.Images = len(r.Images)
		of := set
		if d := r.Spec.Data; d.Name != set.Name { // images that are not here, of which a key knows name and digest
			scenario, err := carso.FindScenario(q.Scenario, q.Scale)
			if err != nil {
				t.Errorf("%s: %v", r.File, err)
				continue
			}
			f, err := Shipped(scenario.Classifier)
			if err != nil {
				t.Errorf("%s: %v", r.File, err)
				continue
			}
			net, err := models.ConfigOf(f, scenario.Classifier)
			if err = errors.Join(err, f.Close()); err != nil {
				t.Errorf("%s: %v", r.File, err)
				continue
			}
			of = &data.Set{Name: d.Name, Split: d.Split, Digest: d.Digest, H: net.Size, W: net.Size, Classes: make([]string, net.Classes),
				Labels: make([]int32, q.Images), Pixels: make([]byte, q.Images*net.Size*net.Size*3)}
		} else if q.Images > set.Len() { // the whole split, of which only the digest is here
			whole := *set
			whole.Digest = data.Catalog[0].Digests[set.Split]
			of = &whole
		}
		job, err := NewJob(be, q, of)
		if errors.Is(err, fs.ErrNotExist) && paper.Lacking(record.Query{Scenario: q.Scenario, Row: q.Row, Scale: q.Scale}) != "" { // its weights do not ship
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", r.File, err)
			continue
		}
		job.Spec.Versions = r.Spec.Versions // of the machine that made it
		if job.Spec.Key() != r.Key {
			t.Errorf("%s: its question has the key %s, not %s", r.File, job.Spec.Key(), r.Key)
		}
		found, err := Ensure(context.Background(), be, nil, runs, job, Options{})
		if err != nil || found.File != r.File {
			t.Errorf("%s: answered by %q, %v", r.File, found.File, err)
		}
	}
}

// A plan counts what an attack that stops nowhere would take, and what is there already.
func TestPlan(t *testing.T) {
	const n = 23
	job, opened := toyJob(t, n)
	dir := t.TempDir()
	if _, err := evaluate(context.Background(), job, dir, Options{Shard: Shard{0, 2}}); err != nil {
		t.Fatal(err)
	}
	before := opened.Load()
	store, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := job.Plan(store, Options{Chunk: toyChunk})
	if err != nil {
		t.Fatal(err)
	}
	// Two attacks of a start and 4 steps, 2 draws each. An initial pass, 2*3 scoring passes, and for each attack its own first pass and a confirming one.
	want := Plan{Images: n, Recorded: 13, Forward: 1 + 6 + 2*2, Gradient: 2 * 5 * 2,
		Stages: []StagePlan{{"apgd-ce/toy", 5, 2, 10}, {"apgd-dlr/toy", 5, 2, 10}}}
	if a, b := fmt.Sprint(p), fmt.Sprint(want); a != b {
		t.Errorf("plan %s, want %s", a, b)
	}
	var text bytes.Buffer
	p.Print(&text, 2, "as given")
	for _, s := range []string{"23 images, 13 of them recorded", "for the 10 images left 200 and 110", "about 5s at 2 images/s (as given)"} {
		if !strings.Contains(text.String(), s) {
			t.Errorf("no %q in:\n%s", s, text.String())
		}
	}
	if opened.Load() != before {
		t.Error("a plan opened the model")
	}
	job, _ = toyJob(t, n)
	job.Protocol = Protocol{Decides: "toy"}
	if p, err := job.Plan(store, Options{Chunk: toyChunk, Shard: Shard{1, 2}}); err != nil || p.Images != 10 || p.Forward != 3 || p.Gradient != 0 || p.Left() != 10 {
		t.Errorf("clean plan of a shard: %+v, %v", p, err)
	}
}

// An evaluation that stops at a narrow interval leaves the first lines of the whole one, and continues to it.
func TestUntil(t *testing.T) {
	const n = 150
	want, _ := whole(t, n)
	dir := t.TempDir()
	job, opened := toyJob(t, n)
	run, err := evaluate(context.Background(), job, dir, Options{Until: 20})
	if err != nil {
		t.Fatal(err)
	}
	before := run
	before.Images = run.Images[:len(run.Images)-toyChunk]
	now, last := run.Estimate(record.Fresh), before.Estimate(record.Fresh)
	if len(run.Images) == n || now.Hi-now.Lo > 20 || last.Hi-last.Lo <= 20 {
		t.Errorf("stopped after %d images at %+v, a chunk before at %+v", len(run.Images), now, last)
	}
	if got := read(t, filepath.Join(dir, run.File)); !bytes.HasPrefix(want, got) {
		t.Error("not the first lines of the whole evaluation")
	}
	was := opened.Load()
	again, err := evaluate(context.Background(), job, dir, Options{Until: 20})
	if err != nil || len(again.Images) != len(run.Images) || opened.Load() != was {
		t.Errorf("again: %d images, model opened %d times, %v", len(again.Images), opened.Load()-was, err)
	}
	if run, err = evaluate(context.Background(), job, dir, Options{}); err != nil || !bytes.Equal(read(t, filepath.Join(dir, run.File)), want) {
		t.Errorf("continued to other records than those of the whole: %v", err)
	}
}

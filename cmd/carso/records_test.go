package main

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"carsokit/carso/paper"
	"carsokit/carso/record"

	"github.com/parquet-go/parquet-go"
)

// What Parquet holds is what the records hold, under the names of the other formats.
func TestExportParquet(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	var file, again bytes.Buffer
	for _, w := range []*bytes.Buffer{&file, &again} {
		if err := exportRecords(w, runs, "images", "parquet"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(file.Bytes(), again.Bytes()) {
		t.Error("two exports differ")
	}
	rows, err := parquet.Read[record.ImageRow](bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	want := record.ImageRows(runs)
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i := range rows {
		for _, r := range []*record.ImageRow{&rows[i], &want[i]} { // an empty list and none are the same
			for _, list := range []*[]int{&r.Clean, &r.Fresh, &r.Strongest} {
				*list = append([]int{}, *list...)
			}
		}
		if !reflect.DeepEqual(rows[i], want[i]) {
			t.Fatalf("row %d: %+v, want %+v", i, rows[i], want[i])
		}
	}
	f, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range f.Root().Columns() {
		names = append(names, c.Name())
	}
	var csv bytes.Buffer
	if err := exportRecords(&csv, runs[:1], "images", "csv"); err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(csv.String(), "\n")
	if got := strings.Split(header, ","); !slices.Equal(got, names) {
		t.Errorf("columns of CSV %v, of Parquet %v", got, names)
	}
	var parts bytes.Buffer
	if err := exportRecords(&parts, runs, "parts", "parquet"); err != nil {
		t.Error(err)
	}
	for _, c := range [][2]string{{"images", "xml"}, {"weather", "csv"}} {
		if err := exportRecords(&parts, runs, c[0], c[1]); err == nil {
			t.Errorf("exported %v", c)
		}
	}
}

func TestRecordsListAndShow(t *testing.T) {
	runs, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	run, err := record.Best(runs, record.Query{Row: "carso-honest", Column: "rand", Scale: "small"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := list(&out, runs); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != len(runs)+1 || !strings.Contains(out.String(), run.Key[:12]) {
		t.Errorf("the list of %d runs has %d lines", len(runs), n)
	}
	out.Reset()
	if err := show(&out, []record.Run{run}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{run.Key, run.Spec.Data.Digest, run.Spec.Weights[0].SHA256, "on these images, over draws", "first-hit"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("show lacks %q:\n%s", want, out.String())
		}
	}
}

// The program's own records become the files that they were made of, and nothing is written over.
func TestRecordsUnpack(t *testing.T) {
	want, err := paper.Committed()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := recordsCommand(t.Context(), []string{"unpack", "-out", dir}); err != nil {
		t.Fatal(err)
	}
	got, err := record.Load(dir)
	if err != nil || !reflect.DeepEqual(keysOf(got), keysOf(want)) {
		t.Errorf("%d runs of %d came back: %v", len(got), len(want), err)
	}
	if err := recordsCommand(t.Context(), []string{"unpack", "-out", dir}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("unpacked over the same files: %v", err)
	}
	if err := recordsCommand(t.Context(), []string{"unpack"}); err == nil {
		t.Error("unpacked nowhere")
	}
}

func keysOf(runs []record.Run) map[string]int {
	keys := map[string]int{}
	for _, r := range runs {
		keys[r.Key] += len(r.Images)
	}
	return keys
}

package record

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestExport(t *testing.T) {
	runs := []Run{{Key: spec().Key(), Spec: spec(), Images: images(0, 5)}}
	rows, parts := ImageRows(runs), PartRows(runs)
	if len(rows) != 5 || len(parts) != 5 || rows[1].Broken != "apgd-ce/peel" || parts[1].Steps != 2 || rows[3].Index != 3 || rows[3].Data != "cifar10 test" {
		t.Fatalf("%+v\n%+v", rows, parts)
	}
	var lines, table bytes.Buffer
	if err := WriteJSONL(&lines, rows); err != nil {
		t.Fatal(err)
	}
	if err := WriteCSV(&table, rows); err != nil {
		t.Fatal(err)
	}
	cells, err := csv.NewReader(&table).ReadAll()
	if err != nil || len(cells) != 6 {
		t.Fatalf("%d lines of CSV, %v", len(cells), err)
	}
	// Both forms hold the same names and values.
	n := 1
	for s := bufio.NewScanner(&lines); s.Scan(); n++ {
		d := json.NewDecoder(strings.NewReader(s.Text()))
		d.UseNumber()
		var row map[string]any
		if err := d.Decode(&row); err != nil {
			t.Fatal(err)
		}
		if len(row) != len(cells[0]) {
			t.Fatalf("%d names in JSON, %d in CSV", len(row), len(cells[0]))
		}
		for k, name := range cells[0] {
			var text string
			switch v := row[name].(type) {
			case json.Number:
				text = v.String()
			case string:
				text = v
			case bool:
				text = map[bool]string{true: "true", false: "false"}[v]
			case []any:
				var all []string
				for _, x := range v {
					all = append(all, x.(json.Number).String())
				}
				text = strings.Join(all, " ")
			default:
				t.Fatalf("%s is a %T in JSON", name, v)
			}
			if cells[n][k] != text {
				t.Errorf("row %d, %s: %q in CSV, %q in JSON", n, name, cells[n][k], text)
			}
		}
	}
	if n != 6 {
		t.Errorf("%d lines of JSON", n-1)
	}
}

// A column is called the same in all formats.
func TestExportNames(t *testing.T) {
	for _, row := range []reflect.Type{reflect.TypeFor[ImageRow](), reflect.TypeFor[PartRow]()} {
		for _, f := range reflect.VisibleFields(row) {
			if f.Anonymous {
				continue
			}
			parquet, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
			if name := f.Tag.Get("json"); name == "" || name != parquet {
				t.Errorf("%s.%s is %q in JSON and CSV, %q in Parquet", row.Name(), f.Name, name, parquet)
			}
		}
	}
}

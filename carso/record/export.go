package record

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// About is what every row of an export says of its evaluation; the file of the records says the rest, under Key.
type About struct {
	Key      string  `json:"key" parquet:"key"`
	Scenario string  `json:"scenario" parquet:"scenario"`
	Row      string  `json:"row" parquet:"row"`
	Column   string  `json:"column" parquet:"column"`
	Scale    string  `json:"scale" parquet:"scale"`
	Eps      float64 `json:"eps" parquet:"eps"`
	Seed     uint64  `json:"seed" parquet:"seed"`
	Data     string  `json:"data" parquet:"data"` // "cifar10 test"
	Backend  string  `json:"backend" parquet:"backend"`
	Index    int     `json:"index" parquet:"index"` // of the image in the split
	Label    int     `json:"label" parquet:"label"`
}

// ImageRow is one image of an export, flat.
type ImageRow struct {
	About
	Initial   bool    `json:"initial" parquet:"initial"`
	Broken    string  `json:"broken" parquet:"broken"`
	FirstHit  string  `json:"first_hit" parquet:"first_hit"`
	Linf      float64 `json:"linf" parquet:"linf"`
	Clean     []int   `json:"clean" parquet:"clean,list"`
	Fresh     []int   `json:"fresh" parquet:"fresh,list"`
	Strongest []int   `json:"strongest" parquet:"strongest,list"`
}

// PartRow is the course of one attack on one image, flat.
type PartRow struct {
	About
	Attack        string `json:"attack" parquet:"attack"`
	Output        string `json:"output" parquet:"output"`
	Broken        bool   `json:"broken" parquet:"broken"`
	NaNStart      bool   `json:"nan_start" parquet:"nan_start"`
	NaNEver       bool   `json:"nan_ever" parquet:"nan_ever"`
	ZeroStart     bool   `json:"zero_start" parquet:"zero_start"`
	ZeroEver      bool   `json:"zero_ever" parquet:"zero_ever"`
	LossZeroStart bool   `json:"loss_zero_start" parquet:"loss_zero_start"`
	Moved         bool   `json:"moved" parquet:"moved"`
	Steps         int    `json:"steps" parquet:"steps"`
}

func (r Run) about(im Image) About {
	s := r.Spec
	return About{r.Key, s.Scenario, s.Row, s.Column, s.Scale, s.Eps, s.Seed, s.Data.Name + " " + s.Data.Split, s.Versions["backend"], im.Index, im.Label}
}

// ImageRows flattens the runs, an image a row, in the order of runs and images.
func ImageRows(runs []Run) []ImageRow {
	var rows []ImageRow
	for _, r := range runs {
		for _, im := range r.Images {
			rows = append(rows, ImageRow{r.about(im), im.Initial, im.Broken, im.FirstHit, im.Linf, im.Clean, im.Fresh, im.Strongest})
		}
	}
	return rows
}

// PartRows flattens the runs, an attack on an image a row, in the order of runs, images and attacks.
func PartRows(runs []Run) []PartRow {
	var rows []PartRow
	for _, r := range runs {
		for _, im := range r.Images {
			for _, p := range im.Parts {
				rows = append(rows, PartRow{r.about(im), p.Attack, p.Output, p.Broken, p.NaNStart, p.NaNEver, p.ZeroStart, p.ZeroEver, p.LossZeroStart, p.Moved, p.Steps})
			}
		}
	}
	return rows
}

// WriteJSONL writes a row a line.
func WriteJSONL[R ImageRow | PartRow](w io.Writer, rows []R) error {
	e := json.NewEncoder(w)
	for _, r := range rows {
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("record: exporting: %w", err)
		}
	}
	return nil
}

// WriteCSV writes the rows under a line of the same names as JSON's. Lists of predictions are numbers separated by spaces.
func WriteCSV[R ImageRow | PartRow](w io.Writer, rows []R) error {
	out := csv.NewWriter(w)
	fields := reflect.VisibleFields(reflect.TypeFor[R]())
	var names []string
	var at [][]int
	for _, f := range fields {
		if !f.Anonymous {
			names, at = append(names, f.Tag.Get("json")), append(at, f.Index)
		}
	}
	out.Write(names)
	cells := make([]string, len(at))
	for _, r := range rows {
		v := reflect.ValueOf(r)
		for k, i := range at {
			switch x := v.FieldByIndex(i).Interface().(type) {
			case float64:
				cells[k] = strconv.FormatFloat(x, 'g', -1, 64)
			case []int:
				cells[k] = strings.Trim(fmt.Sprint(x), "[]")
			default:
				cells[k] = fmt.Sprint(x)
			}
		}
		out.Write(cells)
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("record: exporting: %w", err)
	}
	return nil
}

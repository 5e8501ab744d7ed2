package paper

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func sheet() Sheet {
	return Sheet{ID: "sizes", Title: "Sizes & kinds", Header: []string{"network", "parameters"}, Rows: [][]string{{"a_b <c>", "7"}, {`x|y, "z"`, "12 %"}}, Notes: []string{"Only two"}}
}

// The texts come back out of the formats that programs read, and the others escape what they must.
func TestSheet(t *testing.T) {
	out := map[string]string{}
	var all bytes.Buffer
	for _, f := range Formats() {
		var b bytes.Buffer
		if err := RenderSheet(&b, sheet(), f); err != nil {
			t.Fatal(err)
		}
		out[f] = b.String()
		fmt.Fprintf(&all, "== %s\n%s", f, b.Bytes())
	}
	golden(t, "sheet", all.Bytes())
	lines, err := csv.NewReader(strings.NewReader(out["csv"])).ReadAll()
	if err != nil || len(lines) != 3 || lines[2][0] != `x|y, "z"` {
		t.Errorf("%v, %v", lines, err)
	}
	var rows []map[string]string
	if err := json.Unmarshal([]byte(out["json"]), &rows); err != nil || len(rows) != 2 || rows[1]["parameters"] != "12 %" || rows[0]["network"] != "a_b <c>" {
		t.Errorf("%v, %v", rows, err)
	}
	if !strings.Contains(out["markdown"], `| x\|y, "z" | 12 % |`) || !strings.Contains(out["latex"], `a\_b $<$c$>$ & 7 \\`) || !strings.Contains(out["latex"], `12 \%`) {
		t.Errorf("%s%s", out["markdown"], out["latex"])
	}
	err = RenderSheet(new(bytes.Buffer), sheet(), "html")
	if err == nil || !strings.Contains(err.Error(), "there are text, markdown") {
		t.Errorf("error %v", err)
	}
	if err := RenderSheet(brokenPipe{}, sheet(), "text"); err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("error %v", err)
	}
}

package plots

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"image"
	"image/png"
	"io/fs"
	"strings"

	"github.com/janpfeifer/gonb/gonbui"
	"github.com/janpfeifer/gonb/gonbui/protocol"

	"carsokit/internal/setup"
)

// MIME is the type of output that the JupyterLab extension of this repository draws interactively.
const MIME = "application/vnd.echarts.v5+json"

func init() {
	// GoNB sends display data as gob; without this JSON-like values break its pipe.
	gob.Register(map[string]any{})
	gob.Register([]any{})
}

// Show displays the chart as the notebook cell's output: the ECharts option, which JupyterLab draws interactively, and the
// same as a picture for every other reader. Where ECharts is not installed it shows go-echarts' own page, which needs the
// network, the numbers as text and what to do about it. Outside of a notebook it does nothing.
func Show(c Chart) error {
	return (&Live{}).Show(c)
}

// Live is one output of a notebook's cell that shows one chart after another in the same place, such as the curve of something that runs.
type Live struct{ id string }

// NewLive makes an output, which appears with the first chart.
func NewLive() *Live { return &Live{id: "chart_" + gonbui.UniqueId()} }

// Show is [Show], in place of the chart before.
func (l *Live) Show(c Chart) error {
	if !gonbui.IsNotebook {
		return nil
	}
	png, err := picture(c, notebookScale)
	data, metadata, err := display(c, png, err)
	if err != nil {
		return err
	}
	return send(protocol.DisplayData{Data: data, Metadata: metadata, DisplayID: l.id})
}

// display makes the cell output of Show from the chart and the result of PNG.
func display(c Chart, picture []byte, pictureErr error) (data map[protocol.MIMEType]any, metadata map[string]any, err error) {
	b, err := Option(c)
	if err != nil {
		return nil, nil, err
	}
	var option map[string]any
	if err := json.Unmarshal(b, &option); err != nil {
		return nil, nil, fmt.Errorf("reading the chart's option: %w", err)
	}
	text := describe(option)
	if errors.Is(pictureErr, fs.ErrNotExist) {
		remedy := "No picture: ECharts is not installed; " + setup.Remedy + "."
		page := fmt.Sprintf(`<p>%s</p><iframe srcdoc="%s" width="%d" height="%d" style="border:0"></iframe><pre>%s</pre>`,
			html.EscapeString(remedy), html.EscapeString(string(c.RenderContent())), Width+220, Height+120, html.EscapeString(text))
		return map[protocol.MIMEType]any{protocol.MIMETextHTML: page, protocol.MIMETextPlain: remedy + "\n" + text}, nil, nil
	}
	if pictureErr != nil {
		return nil, nil, pictureErr
	}
	size := map[string]any{"width": Width, "height": Height}
	return map[protocol.MIMEType]any{MIME: withoutNull(option), protocol.MIMEImagePNG: picture, protocol.MIMETextPlain: text},
		map[string]any{MIME: size, string(protocol.MIMEImagePNG): map[string]any{"width": Width, "height": Height, "alt": firstLine(text)}}, nil
}

// ShowImage displays a picture as the notebook cell's output, with alt for readers that show none. Outside of a notebook
// it does nothing.
func ShowImage(img image.Image, alt string) error {
	if !gonbui.IsNotebook {
		return nil
	}
	var buf bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestCompression}
	if err := enc.Encode(&buf, img); err != nil {
		return fmt.Errorf("encoding the picture %q: %w", alt, err)
	}
	return send(protocol.DisplayData{Data: map[protocol.MIMEType]any{protocol.MIMEImagePNG: buf.Bytes(), protocol.MIMETextPlain: alt},
		Metadata: map[string]any{string(protocol.MIMEImagePNG): map[string]any{"alt": alt}}})
}

// ShowSVG displays a drawing of [RasterizeSVG]'s subset as the notebook cell's output: as it is, and as a picture for readers that show no SVG. Outside of a
// notebook it does nothing.
func ShowSVG(svg, alt string) error {
	if !gonbui.IsNotebook {
		return nil
	}
	png, err := RasterizeSVG(svg, notebookScale)
	if err != nil {
		return err
	}
	return send(protocol.DisplayData{Data: map[protocol.MIMEType]any{protocol.MIMEImageSVG: svg, protocol.MIMEImagePNG: png, protocol.MIMETextPlain: alt},
		Metadata: map[string]any{string(protocol.MIMEImagePNG): map[string]any{"width": Width, "alt": alt}}})
}

// ShowTable displays a table as the notebook cell's output, as HTML, Markdown and text. Columns of numbers are aligned to
// the right. Outside of a notebook it does nothing.
func ShowTable(header []string, rows [][]string) error {
	if !gonbui.IsNotebook {
		return nil
	}
	data := map[protocol.MIMEType]any{}
	for kind, text := range TableForms(header, rows) {
		data[protocol.MIMEType(kind)] = text
	}
	return send(protocol.DisplayData{Data: data})
}

// TableForms are the texts that [ShowTable] displays, by MIME type.
func TableForms(header []string, rows [][]string) map[string]string {
	t := newTable(header, rows)
	return map[string]string{string(protocol.MIMETextHTML): t.html(), string(protocol.MIMETextMarkdown): t.markdown(), string(protocol.MIMETextPlain): t.text()}
}

// send hands one output to the notebook and waits until it is there.
func send(output protocol.DisplayData) error {
	gonbui.SendData(&output)
	gonbui.Sync()
	if err := gonbui.Error(); err != nil {
		return fmt.Errorf("sending to the notebook: %w", err)
	}
	return nil
}

// withoutNull replaces or removes null, which gob cannot carry.
func withoutNull(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e == nil {
				delete(v, k)
			} else {
				v[k] = withoutNull(e)
			}
		}
	case []any:
		for i, e := range v {
			if e == nil {
				v[i] = "-" // ECharts' own mark of a missing value
			} else {
				v[i] = withoutNull(e)
			}
		}
	}
	return v
}

// describe writes the chart's title and the named points of each series: the words for readers without pictures.
func describe(option map[string]any) string {
	var b strings.Builder
	title, _ := option["title"].(map[string]any)
	text, _ := title["text"].(string)
	if text == "" {
		text = "chart"
	}
	b.WriteString(strings.ReplaceAll(text, "\n", " "))
	series, _ := option["series"].([]any)
	for _, s := range series {
		s, _ := s.(map[string]any)
		data, _ := s["data"].([]any)
		var points []string
		for _, d := range data {
			if d, ok := d.(map[string]any); ok {
				if name, ok := d["name"].(string); ok {
					points = append(points, name)
				}
			}
		}
		const most = 24 // a long curve says little in words
		if len(points) == 0 {
			continue
		}
		if len(points) > most {
			points = append(points[:most/2:most/2], append([]string{"…"}, points[len(points)-most/2:]...)...)
		}
		fmt.Fprintf(&b, "\n%v: %s", s["name"], strings.Join(points, "; "))
	}
	return b.String()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

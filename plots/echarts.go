package plots

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/dop251/goja"

	"carsokit/internal/setup"
)

// Width and Height are the size of every chart in CSS pixels. A picture by PNG has twice as many pixels each way.
const (
	Width         = 720
	Height        = 420
	pngScale      = 2
	notebookScale = 1.5 // of pictures in notebooks, which stand beside the chart itself or its SVG, and are most of a notebook's size
)

// Chart is what this package needs of a go-echarts chart; all of them have it.
type Chart interface {
	Validate()
	JSON() map[string]any
	RenderContent() []byte
}

// Option returns the chart's ECharts option as JSON: the one description from which the interactive chart and the pictures
// are made.
func Option(c Chart) ([]byte, error) {
	c.Validate()
	option, err := json.Marshal(c.JSON())
	if err != nil {
		return nil, fmt.Errorf("encoding the chart's option: %w", err)
	}
	return option, nil
}

// SVG draws the chart with ECharts, without a browser. The error wraps fs.ErrNotExist where ECharts is not installed.
func SVG(c Chart) (string, error) {
	option, err := Option(c)
	if err != nil {
		return "", err
	}
	e, err := sharedEngine()
	if err != nil {
		return "", err
	}
	return e.svg(option)
}

// PNG is SVG as a picture of 2*Width x 2*Height pixels.
func PNG(c Chart) ([]byte, error) { return picture(c, pngScale) }

func picture(c Chart, scale float64) ([]byte, error) {
	svg, err := SVG(c)
	if err != nil {
		return nil, err
	}
	return RasterizeSVG(svg, scale)
}

// SaveSVG draws the chart into a file and makes its folder.
func SaveSVG(c Chart, path string) error {
	svg, err := SVG(c)
	if err != nil {
		return err
	}
	return save([]byte(svg), path)
}

// SavePNG draws the chart into a file and makes its folder.
func SavePNG(c Chart, path string) error {
	b, err := PNG(c)
	if err != nil {
		return err
	}
	return save(b, path)
}

func save(b []byte, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("saving a chart: %w", err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("saving a chart: %w", err)
	}
	return nil
}

// engine is ECharts in a JavaScript interpreter, which draws one chart at a time.
type engine struct {
	mu     sync.Mutex
	vm     *goja.Runtime
	render goja.Callable
}

// sharedEngine loads ECharts at the first chart of the process: it takes up to a second.
var sharedEngine = sync.OnceValues(func() (*engine, error) {
	path, err := setup.ECharts()
	if err != nil {
		return nil, err
	}
	js, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("loading ECharts: %w", err)
	}
	return newEngine(path, string(js))
})

// hostJS is what ECharts expects of its host besides the language.
const hostJS = `var global = globalThis, self = globalThis, console = {log() {}, warn() {}, error() {}};
function setTimeout() { return 0 } function clearTimeout() {} function requestAnimationFrame() { return 0 }`

// renderJS lays out with the widths of the font that the pictures are drawn with.
const renderJS = `echarts.setPlatformAPI({measureText: (text, font) => ({width: goTextWidth(text, font || '')})});
(option, width, height) => {
	const o = JSON.parse(option);
	o.animation = false;
	const chart = echarts.init(null, null, {renderer: 'svg', ssr: true, width, height});
	try {
		chart.setOption(o);
		// As chart.renderToSVGString, less its classes for the mouse, which are numbered through the process.
		return chart.getZr().painter.renderToString({cssEmphasis: false, cssAnimation: false});
	} finally {
		chart.dispose();
	}
}`

func newEngine(name, js string) (*engine, error) {
	vm := goja.New()
	fs := faces{}
	measure := func(text, css string) (float64, error) { return fs.cssWidth(text, css) }
	if err := vm.Set("goTextWidth", measure); err != nil {
		return nil, fmt.Errorf("loading ECharts: %w", err)
	}
	if _, err := vm.RunString(hostJS); err != nil {
		return nil, fmt.Errorf("loading ECharts: %w", err)
	}
	if _, err := vm.RunScript(name, js); err != nil {
		return nil, fmt.Errorf("loading ECharts: %w", err)
	}
	v, err := vm.RunString(renderJS)
	if err != nil {
		return nil, fmt.Errorf("loading ECharts from %s: %w", name, err)
	}
	render, ok := goja.AssertFunction(v)
	if !ok {
		return nil, errors.New("loading ECharts: the drawing function is missing")
	}
	return &engine{vm: vm, render: render}, nil
}

func (e *engine) svg(option []byte) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.render(goja.Undefined(), e.vm.ToValue(string(option)), e.vm.ToValue(Width), e.vm.ToValue(Height))
	if err != nil {
		return "", fmt.Errorf("drawing the chart: %w", err)
	}
	return drawingID.ReplaceAllString(v.String(), "zr0-"), nil
}

// drawingID is the running number of a drawing in the process, which ECharts puts into the names inside it: without it a
// chart is the same bytes each time.
var drawingID = regexp.MustCompile(`\bzr\d+-`)

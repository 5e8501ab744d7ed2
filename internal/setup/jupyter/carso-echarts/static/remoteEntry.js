// Draws outputs of type application/vnd.echarts.v5+json in JupyterLab, with the ECharts library beside this file.
// This is a module-federation container written by hand, so that no build step and no Node are needed: JupyterLab
// calls init with the modules that it shares and get for './mimeExtension'.
(function () {
  const MIME = 'application/vnd.echarts.v5+json';
  const NAME = 'carso-echarts';
  const here = document.currentScript.src.replace(/[^/]*$/, '');
  let scope = null;
  let library = null; // a promise of ECharts, made when the first chart is drawn

  async function shared(name) {
    const versions = scope[name];
    const factory = await versions[Object.keys(versions)[0]].get();
    return factory();
  }

  async function load() {
    const response = await fetch(here + 'echarts.min.js');
    if (!response.ok) throw new Error('echarts.min.js: HTTP ' + response.status);
    // JupyterLab's page has an AMD loader, to which a script tag would register the library: give it a module instead.
    const module = { exports: {} };
    new Function('module', 'exports', 'define', await response.text())(module, module.exports, undefined);
    return module.exports;
  }

  async function plugin() {
    const { Widget } = await shared('@lumino/widgets');

    class EChartsWidget extends Widget {
      constructor() {
        super();
        this.addClass(NAME);
        this.node.style.overflow = 'auto';
        this.chart = null;
      }

      async renderModel(model) {
        library = library || load();
        const echarts = await library;
        const size = (model.metadata && model.metadata[MIME]) || {};
        const width = size.width || 720;
        const height = size.height || 420;
        const element = document.createElement('div');
        element.style.width = width + 'px';
        element.style.height = height + 'px';
        element.style.background = 'white'; // readable in a dark theme as well
        this.node.replaceChildren(element);
        if (this.chart) this.chart.dispose();
        this.chart = echarts.init(element, null, { width, height });
        // ECharts keeps and changes the option: hand it a copy of the notebook's.
        this.chart.setOption(JSON.parse(JSON.stringify(model.data[MIME])));
      }

      dispose() {
        if (this.chart) this.chart.dispose();
        this.chart = null;
        super.dispose();
      }
    }

    return {
      id: NAME + ':plugin',
      rendererFactory: { safe: true, mimeTypes: [MIME], createRenderer: () => new EChartsWidget() },
      rank: 0,
      dataType: 'json'
    };
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: sharedScope => { scope = sharedScope; },
    get: async () => {
      const exported = await plugin();
      return () => ({ __esModule: true, default: exported });
    }
  };
})();

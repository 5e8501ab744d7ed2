"""Makes pages of notebooks and Markdown that open without server and network: everything is in the page or beside it."""
import html
import json
import pathlib
import re

import mistune
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import GoLexer

ECHARTS = "application/vnd.echarts.v5+json"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CODE = HtmlFormatter(cssclass="code", style="default")
TEXT = mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])

STYLE = """
:root { --ink: #1c1e21; --faint: #6b7280; --line: #e3e6ea; --link: #0b5cad; --back: #f7f8fa }
* { box-sizing: border-box } html { scroll-behavior: smooth }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.6 system-ui, "Liberation Sans", Arial, sans-serif }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
nav { position: fixed; top: 0; bottom: 0; left: 0; width: 250px; overflow-y: auto; padding: 22px 20px; border-right: 1px solid var(--line); background: var(--back); font-size: 14px; line-height: 1.4 }
nav b { display: block; margin: 16px 0 4px; color: var(--faint); font-size: 12px; text-transform: uppercase; letter-spacing: .06em }
nav a { display: block; padding: 3px 8px; margin-left: -8px; border-radius: 5px; color: var(--ink) } nav a.here { background: #dbe7f5; color: var(--link) } nav a.home { font-weight: 700; font-size: 17px }
main { max-width: 860px; margin: 0 auto; padding: 26px 30px 80px } nav + main { margin-left: max(250px, calc((100vw - 860px) / 2)) }
h1 { font-size: 30px; line-height: 1.25; margin: 10px 0 18px } h2 { font-size: 22px; margin: 40px 0 10px } h3 { font-size: 18px; margin: 28px 0 6px }
code, pre { font: 13px/1.5 "Liberation Mono", Menlo, Consolas, monospace } p code, li code, td code { background: var(--back); padding: 1px 4px; border-radius: 4px; overflow-wrap: anywhere }
pre { margin: 0; padding: 10px 14px; overflow-x: auto } main > pre, .code, .text { background: var(--back); border-radius: 6px; margin: 10px 0 } .text pre { background: none; white-space: pre-wrap }
details summary { cursor: pointer; color: var(--faint); font-size: 13px; user-select: none } .error pre { color: #a40000 }
img { max-width: 100%; height: auto } .chart { width: 720px; max-width: 100%; margin: 14px 0 }
.wide { overflow-x: auto; margin: 12px 0 } table { border-collapse: collapse; font-size: 13.5px; line-height: 1.4 } th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); vertical-align: top } th { border-bottom-color: var(--faint); text-align: left }
.turn { display: flex; justify-content: space-between; margin-top: 60px; padding-top: 14px; border-top: 1px solid var(--line) }
@media (max-width: 900px) { nav { position: static; width: auto; border: 0 } nav + main { margin-left: auto } }
@media print { nav, .turn, details:not([open]) { display: none } }
""" + CODE.get_style_defs()

# Draws the charts of a page where ECharts is beside it; without scripts the pictures stay.
DRAW = """
for (const holder of document.querySelectorAll('.chart')) {
  const option = holder.nextElementSibling;
  if (!window.echarts || !option || option.type !== 'application/json') continue;
  const box = document.createElement('div');
  box.style.width = '720px'; box.style.height = '420px';
  holder.replaceChildren(box);
  echarts.init(box, null, {renderer: 'svg'}).setOption(JSON.parse(option.textContent));
}
"""


def markdown(text):
    return TEXT(text).replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def picture(output):
    png = output["data"]["image/png"].replace("\n", "")
    about = output.get("metadata", {}).get("image/png", {})
    text = "".join(output["data"].get("text/plain", ""))
    width = f' width="{about["width"]}"' if "width" in about else ""
    return f'<img src="data:image/png;base64,{png}" alt="{html.escape(about.get("alt", text.splitlines()[0] if text else ""))}"{width}>'


def output(o):
    """One output of a cell."""
    if o["output_type"] == "stream":
        return f'<div class="text"><pre>{html.escape(COLOUR.sub("", o["text"]).rstrip())}</pre></div>'
    if o["output_type"] == "error":
        return f'<div class="text error"><pre>{html.escape(COLOUR.sub("", chr(10).join(o["traceback"])))}</pre></div>'
    data = o["data"]
    if ECHARTS in data and "image/png" in data:
        option = json.dumps(data[ECHARTS], ensure_ascii=False).replace("</", "<\\/")
        return f'<div class="chart">{picture(o)}</div><script type="application/json">{option}</script>'
    if "image/png" in data:
        return f"<p>{picture(o)}</p>"
    if "image/svg+xml" in data:
        return f'<div class="wide">{data["image/svg+xml"]}</div>'
    if "text/html" in data:
        text = data["text/html"]
        return "" if "<progress" in text else f'<div class="wide">{text}</div>'  # how far a cell was matters to nobody now
    return f'<div class="text"><pre>{html.escape("".join(data.get("text/plain", "")))}</pre></div>'


def notebook(nb):
    """The body of a notebook's page: code is folded, for it is not what is read."""
    parts = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            parts.append(markdown(cell.source))
        elif cell.cell_type == "code":
            parts.append(f"<details><summary>code</summary>{highlight(cell.source, GoLexer(), CODE)}</details>")
            parts += [output(o) for o in cell.get("outputs", [])]
    return "\n".join(parts)


def page(title, body, nav="", echarts=""):
    """A whole page; echarts is the address of ECharts beside it, where charts are to be drawn anew."""
    script = f'<script src="{echarts}"></script><script>{DRAW}</script>' if echarts else ""
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>{nav}<main>\n{body}\n</main>{script}</body></html>\n")


# What a browser loads by itself: sources, style sheets and what these name. Links that a reader follows are none of it.
LOADED = re.compile(r"""<(?:script|img|iframe|source|embed)\b[^>]*?\bsrc\s*=\s*["']?(?!data:)([^"'\s>]+)|<link\b[^>]*?\bhref\s*=\s*["']?([^"'\s>]+)|\burl\(\s*["']?(?!data:|#)([^"')\s]+)|@import\s+["']([^"']+)""", re.I)


def loaded(text):
    """Lists what a page loads from outside of itself."""
    text = re.sub(r'(?s)<script type="application/json">.*?</script>', "", text)
    return ["".join(m) for m in LOADED.findall(text)]


def missing(path, text):
    """Lists what a page loads that is not beside it, and links of it to pages that are not there."""
    here = pathlib.Path(path).parent
    targets = loaded(text) + [t for t in re.findall(r'<a\b[^>]*?\bhref="([^"]+)"', text) if not re.match(r"https?:|mailto:|#", t)]
    return [t for t in targets if re.match(r"(https?:)?//", t) or not (here / t.split("#")[0]).is_file()]

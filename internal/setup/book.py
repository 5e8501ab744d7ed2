"""Makes one static site of the committed notebooks and the documents, without running anything: book.py OUT [ECHARTS].

OUT/index.html opens without server and network. ECHARTS is the file echarts.min.js; without it charts are pictures.
"""
import base64
import html
import pathlib
import re
import shutil
import sys

import nbformat

import pages

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = ["findings", "reproducing", "evaluation", "attacks", "checks", "data", "weights", "full-size", "performance", "clusters", "architecture"]


def chapters():
    """Lists (group, page, title, body) of all pages in the order of reading."""
    out = [("", "index.html", "carsokit", pages.markdown((ROOT / "README.md").read_text()))]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        title = next(c.source for c in nb.cells if c.cell_type == "markdown").splitlines()[0].lstrip("# ")
        out.append(("Notebooks", path.stem + ".html", title, pages.notebook(nb)))
    paths = [ROOT / "docs" / f"{name}.md" for name in DOCUMENTS]
    paths += sorted(p for p in (ROOT / "docs").glob("*.md") if p not in paths)
    paths += [ROOT / f"{name}.md" for name in ("COMPATIBILITY", "CHANGELOG", "CONTRIBUTING")]
    for path in paths:
        text = path.read_text()
        out.append(("Documents", path.stem.lower() + ".html", text.splitlines()[0].lstrip("# "), pages.markdown(text)))
    return out


def relinked(body, names):
    """Points links between documents and notebooks to their pages; what has none becomes text."""
    def link(m):
        address, anchor = (m[1].split("#") + [""])[:2]
        if not address or re.match(r"https?:|mailto:", m[1]):
            return m[0]
        stem = pathlib.PurePosixPath(address).stem
        name = "index.html" if stem == "README" else stem.lower() + ".html"
        if name not in names:
            return m[2]
        return f'<a href="{name}{"#" + anchor if anchor else ""}">{m[2]}</a>'
    return re.sub(r'(?s)<a href="([^"]*)"[^>]*>(.*?)</a>', link, body)


def pictured(body):
    """Puts the pictures of documents into the page."""
    def data(m):
        raw = (ROOT / "docs" / "pictures" / pathlib.PurePosixPath(m[1]).name).read_bytes()
        return f'src="data:image/svg+xml;base64,{base64.b64encode(raw).decode()}"'
    return re.sub(r'src="([^":]*pictures/[^"/]*\.svg)"', data, body)


def nav(all_pages, here):
    out, group = ['<nav><a class="home" href="index.html">carsokit</a>'], ""
    for g, name, title, _ in all_pages[1:]:
        if g != group:
            out.append(f"<b>{g}</b>")
            group = g
        out.append(f'<a href="{name}"{" class=here" if name == here else ""}>{html.escape(title)}</a>')
    return "\n".join(out) + "</nav>"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    echarts = ""
    if len(sys.argv) == 3 and pathlib.Path(sys.argv[2]).is_file():
        echarts = "echarts.min.js"
        shutil.copyfile(sys.argv[2], out / echarts)
    everything = chapters()
    names = {name for _, name, _, _ in everything}
    for k, (_, name, title, body) in enumerate(everything):
        body = pictured(relinked(body, names))
        before, after = everything[k - 1] if k else None, everything[k + 1] if k + 1 < len(everything) else None
        turn = [f'<a href="{p[1]}">{arrow}</a>' if p else "<span></span>"
                for p, arrow in ((before, f"← {html.escape(before[2])}" if before else ""), (after, f"{html.escape(after[2])} →" if after else ""))]
        body += f'\n<div class="turn">{"".join(turn)}</div>'
        (out / name).write_text(pages.page(title, body, nav(everything, name), echarts))
    bad = [f"{name}: {target}" for name in sorted(names) for target in pages.missing(out / name, (out / name).read_text())]
    if bad:
        sys.exit("the book is not closed in itself:\n  " + "\n  ".join(bad))
    print(f"{len(everything)} pages -> {out / 'index.html'}")


main()

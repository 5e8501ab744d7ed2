"""Runs notebooks without a browser and fails on any bad cell.

  .venv/bin/python internal/setup/run_notebooks.py --set CARSO_SCALE=tiny --out build/notebooks --html notebooks/*.ipynb

The outputs must say the lines of its name in fragments.json in their order. The executed notebook, and with --html a page to read, is written even when a cell fails. Without --out it replaces the input.
"""
import argparse
import json
import os
import pathlib
import re
import sys
import time

import nbformat
from nbclient import NotebookClient

import pages

# GoNB reports a failed `!command`, a failed `%%bash` and an unknown `%command` on stderr only: the cell itself passes.
BAD = re.compile(r"exit status \d+|signal: \w+|unknown or not implemented|GoNB Error|failed to write to GoNB pipe")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def problems(nb):
    """Yields (index, text) of the cells that failed."""
    for i, cell in enumerate(nb.cells):
        for o in cell.get("outputs", []):
            if o.output_type == "error":
                yield i, "\n".join(o.traceback) or o.evalue
            elif o.output_type == "stream" and o.name == "stderr" and BAD.search(o.text):
                yield i, o.text


def texts(nb):
    """All that the outputs say, one after the other."""
    out = []
    for o in (o for c in nb.cells for o in c.get("outputs", [])):
        out.append(o.text if o.output_type == "stream" else "".join(o.get("data", {}).get("text/plain", "")))
    return "\n".join(out)


def lacking(nb, fragments):
    """Returns the first fragment that the outputs do not say behind those before it, or None."""
    text, at = texts(nb), 0
    for f in fragments:
        found = text.find(f, at)
        if found < 0:
            return f
        at = found + len(f)
    return None


def report(path, nb, i, text):
    """Prints one failure: where, the code's beginning, the message."""
    where = f"{path}: "
    if i is None:
        where += "stopped"
        code = []
    else:
        number = sum(c.cell_type == "code" for c in nb.cells[: i + 1])
        where += f"code cell {number} failed"
        code = nb.cells[i].source.strip().splitlines()
    print(f"\n{where}", file=sys.stderr)
    for line in code[:8]:
        print(f"    {line}", file=sys.stderr)
    if len(code) > 8:
        print(f"    … {len(code) - 8} more lines", file=sys.stderr)
    print(COLOUR.sub("", text).strip() + "\n", file=sys.stderr)


def write_html(nb, path):
    body = pages.notebook(nb)
    text = pages.page(path.stem, body)
    if outside := pages.loaded(text):
        raise ValueError(f"{path} would load {outside}")
    path.write_text(text)


def run(path, out, args):
    """Executes one notebook and returns whether every cell passed."""
    nb = nbformat.read(path, as_version=4)
    start = time.monotonic()
    client = NotebookClient(nb, timeout=args.timeout, kernel_name="gonb", allow_errors=True,
                            coalesce_streams=True, record_timing=False,
                            resources={"metadata": {"path": str(path.parent)}})
    failures = {}
    try:
        client.execute()
    except Exception as e:  # a dead kernel or a cell out of time; what ran until then is kept
        log = pathlib.Path(sys.prefix, "share", "carso", "kernel.log")
        failures[None] = f"{type(e).__name__}: {e}\nThe kernel's log is {log}."
    for i, text in problems(nb):
        failures.setdefault(i, text)
    expected = json.loads(pathlib.Path(__file__).with_name("fragments.json").read_text(encoding="utf8"))
    if not failures and (f := lacking(nb, expected.get(path.stem, []))) is not None:
        failures[None] = f"No output says {f!r} behind what fragments.json expects before it."
    for o in (o for c in nb.cells for o in c.get("outputs", [])):
        if pages.ECHARTS in o.get("data", {}) and "image/png" not in o.data:
            failures[None] = "A chart has no picture: is ECharts installed?"
    out.parent.mkdir(parents=True, exist_ok=True)
    # A chart's numbers stand on lines of their own, where indentation is a third of the file. No string of JSON holds a line's end.
    out.write_text(re.sub(r"^ +", "", nbformat.writes(nb), flags=re.M) + "\n", encoding="utf8")
    if args.html:
        write_html(nb, out.with_suffix(".html"))
    for i, text in failures.items():
        report(path, nb, i, text)
    print(f"{path}: {'FAILED' if failures else 'ok'} in {time.monotonic() - start:.0f} s -> {out}", flush=True)
    return not failures


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("notebooks", nargs="+", type=pathlib.Path)
    ap.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="environment of the cells")
    ap.add_argument("--out", type=pathlib.Path, help="folder of the executed notebooks")
    ap.add_argument("--html", action="store_true", help="write a page beside each")
    ap.add_argument("--timeout", type=int, default=1800, help="seconds for one cell")
    args = ap.parse_args()
    for setting in args.set:
        name, eq, value = setting.partition("=")
        if not eq or not name:
            ap.error(f"--set {setting}: want NAME=VALUE")
        os.environ[name] = value
    for path in args.notebooks:
        if not path.is_file():
            ap.error(f"{path} is no file")
    passed = [run(path, path if args.out is None else args.out / path.name, args) for path in args.notebooks]
    sys.exit(not all(passed))


main()

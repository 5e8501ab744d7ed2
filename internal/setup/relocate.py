"""Points the scripts of a virtual environment to the folder where it is now: relocate.py VENV.

pip writes the environment's absolute path into the first line of every script, so a moved checkout breaks them. Nothing is
written where the paths are right already.
"""
import pathlib
import re
import sys

venv = pathlib.Path(sys.argv[1])
here = str(venv)
# pip puts a path that is too long or has spaces into a second line, after /bin/sh.
SHEBANG = re.compile(rb"""\A(#!|#!/bin/sh\n'''exec' )("?)/[^\n"]*?/\.venv(?=/bin/python)""")
ACTIVATE = re.compile(r"""(VIRTUAL_ENV[ =]+['"]?)(/[^'"\n]*?/\.venv)""")

for path in (venv / "bin").iterdir():
    if path.is_symlink() or not path.is_file():
        continue
    with path.open("rb") as f:
        start = f.read(2)
    if start == b"#!":
        old = path.read_bytes()
        new = SHEBANG.sub(lambda m: m[1] + m[2] + here.encode(), old)
    elif path.name.startswith("activate"):
        old = path.read_bytes()
        new = ACTIVATE.sub(lambda m: m[1] + here, old.decode()).encode()
    else:
        continue
    if new != old:
        path.write_bytes(new)

"""Makes an installed gonb kernel start through a script: kernel.py KERNEL_JSON SCRIPT."""
import json
import pathlib
import sys

path, script = pathlib.Path(sys.argv[1]), sys.argv[2]
kernel = json.loads(path.read_text())
kernel["argv"][0] = script
kernel["display_name"] = "Go (CARSO)"
path.write_text(json.dumps(kernel, indent=1) + "\n")

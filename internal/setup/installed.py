"""Tells by its exit status whether NAME==VERSION is installed: installed.py NAME==VERSION."""
import importlib.metadata
import sys

name, version = sys.argv[1].split("==")
try:
    sys.exit(importlib.metadata.version(name) != version)
except importlib.metadata.PackageNotFoundError:
    sys.exit(1)

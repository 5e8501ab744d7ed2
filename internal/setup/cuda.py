"""Tells whether the libraries given load and the NVIDIA driver is new enough for CUDA 13: cuda.py LIBRARY..."""
import ctypes
import sys

for library in sys.argv[1:]:
    ctypes.CDLL(library)
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError:
    sys.exit("there is no NVIDIA driver (libcuda.so.1)")
version = ctypes.c_int()
if driver.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value < 13000:
    sys.exit(f"the NVIDIA driver supports CUDA {version.value // 1000}.{version.value % 1000 // 10}, the plugin needs 13: update the driver")

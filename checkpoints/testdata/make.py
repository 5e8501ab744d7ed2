"""Writes pytorch.zip: files of PyTorch and want.json, what they hold, as PyTorch itself reads it back.

    python make.py            (any PyTorch 2; tested with 2.15)

Values are small whole numbers or simple fractions, so that every dtype holds them exactly. The
legacy files contain addresses of memory: their bytes differ from run to run, what they hold does not.
"""
import collections
import hashlib
import io
import json
import pathlib
import pickle
import struct
import tarfile
import tempfile
import zipfile

import torch

here = pathlib.Path(tempfile.mkdtemp())
want = {}


def describe(name, state):
    """Row-major bytes of every tensor, as hexadecimal."""
    out = {}
    for key, t in state.items():
        if isinstance(t, torch.Tensor):
            t = t.detach().contiguous()
            data = t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
            out[key] = {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "data": data.hex()}
    want[name] = out


def save(name, obj, state, **how):
    path = here / name
    torch.save(obj, path, **how)
    back = torch.load(path, weights_only=how.get("pickle_protocol", 2) == 2)
    assert type(back) is type(obj)
    describe(name, state)


def numbers(*shape, dtype=torch.float32):
    n = torch.Size(shape).numel()
    return (torch.arange(n, dtype=torch.float32) - n / 2).reshape(shape).to(dtype) / (1 if not dtype.is_floating_point else 4)


base = numbers(4, 6)
state = collections.OrderedDict(
    f32=numbers(2, 3, 1, 2), f64=numbers(3, dtype=torch.float64), f16=numbers(2, 2, dtype=torch.float16),
    bf16=numbers(5, dtype=torch.bfloat16), i64=numbers(4, dtype=torch.int64), i32=numbers(3, dtype=torch.int32),
    i16=numbers(3, dtype=torch.int16), i8=numbers(3, dtype=torch.int8), u8=numbers(4).abs().to(torch.uint8),
    flag=torch.tensor([True, False]), scalar=torch.tensor(7, dtype=torch.int64), empty=torch.empty(0, 3),
    transposed=base.t(), column=base[:, 2], part=base[1:3, 1:4], shared=base, tied=base,
    channels_last=numbers(2, 3, 2, 2).to(memory_format=torch.channels_last), steps=base[::2, ::3], parameter=torch.nn.Parameter(numbers(3)),
)
zipped = dict(_use_new_zipfile_serialization=True)
legacy = dict(_use_new_zipfile_serialization=False)
for form, how in (("zip", zipped), ("legacy", legacy)):
    save(f"dtypes_{form}.pt", state, state, **how)
save("protocol4_zip.pt", state, state, pickle_protocol=4, **zipped)
save("protocol4_legacy.pt", state, state, pickle_protocol=4, **legacy)

# A network with BatchNorm, as DataParallel around Sequential names it, in a training checkpoint beside an optimiser.
torch.manual_seed(0)
net = torch.nn.Sequential(collections.OrderedDict(init_conv=torch.nn.Conv2d(3, 2, 3, bias=False), batchnorm=torch.nn.BatchNorm2d(2), logits=torch.nn.Linear(2, 3)))
sgd = torch.optim.SGD(net.parameters(), lr=0.125, momentum=0.5)
for p in net.parameters():
    p.grad = torch.ones_like(p)
sgd.step()
plain = net.state_dict()
wrapped = collections.OrderedDict(("module.0." + k, v) for k, v in plain.items())
half = {k: (v.half() if v.is_floating_point() else v) for k, v in wrapped.items()}
save("training_zip.pt", {"epoch": 3, "best": 0.5, "note": "déjà vu", "model_state_dict": wrapped, "unaveraged_model_state_dict": half,
                         "optimizer_state_dict": sgd.state_dict()}, wrapped, **zipped)
save("state_dict_legacy.pth", {"state_dict": plain, "epoch": 3}, plain, **legacy)

# The tar archive of 2016, which no PyTorch of today writes any more but every one still reads: written here after its reader.
def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


class Reference:
    def __init__(self, number):
        self.number = number


class Pickler(pickle._Pickler):  # the C one asks persistent_id, too, but only a subclass in Python can save OrderedDict plainly
    def persistent_id(self, obj):
        return str(obj.number) if isinstance(obj, Reference) else None


def pickled(obj):
    out = io.BytesIO()
    Pickler(out, 2).dump(obj)
    return out.getvalue()


storage = base.untyped_storage()
raw = bytes(storage)
storages = pickled(2) + pickled((11, "cpu", torch.FloatStorage)) + struct.pack("<q", base.numel()) + raw
longs = torch.arange(3)
storages += pickled((12, "cpu", torch.LongStorage)) + struct.pack("<q", 3) + bytes(longs.untyped_storage())
storages += pickled([(13, 11, 6, 12)])  # the second and third row as a storage of their own
tensors = pickled(3)
for number, of, kind, shape, strides, offset in (
    (1, 11, torch.FloatTensor, (6, 4), (1, 6), 0), (2, 12, torch.LongTensor, (3,), (1,), 0), (3, 13, torch.FloatTensor, (5,), (2,), 1)):
    tensors += pickled((number, of, kind)) + struct.pack("<q", len(shape)) + struct.pack(f"<{2 * len(shape) + 1}q", *shape, *strides, offset)
with tarfile.open(here / "old_tar.pth", "w:", format=tarfile.PAX_FORMAT) as tar:
    add(tar, "sys_info", pickled({"protocol_version": 1000, "little_endian": True}))
    add(tar, "pickle", pickled(collections.OrderedDict(transposed=Reference(1), whole=Reference(2), view=Reference(3))))
    add(tar, "tensors", tensors)
    add(tar, "storages", storages)
back = torch.load(here / "old_tar.pth", weights_only=False)
assert torch.equal(back["transposed"], base.t()) and torch.equal(back["view"], base.flatten()[7:17:2])
describe("old_tar.pth", back)

# A pickle that wants to run code.
class Evil:
    def __reduce__(self):
        import os
        return os.system, ("echo this must not run",)


torch.save({"w": torch.ones(2), "evil": Evil()}, here / "evil_zip.pt")
torch.save({"w": torch.ones(2), "evil": Evil()}, here / "evil_legacy.pt", _use_new_zipfile_serialization=False)
torch.save(torch.nn.Linear(2, 2), here / "module_zip.pt")  # a whole module, as people save by mistake

(here / "want.json").write_text(json.dumps(want, indent=1, sort_keys=True) + "\n")
with zipfile.ZipFile(pathlib.Path(__file__).with_name("pytorch.zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
    for p in sorted(here.iterdir()):
        z.write(p, p.name)
        print(f"{p.name:24} {p.stat().st_size:6}  {hashlib.sha256(p.read_bytes()).hexdigest()[:16]}")

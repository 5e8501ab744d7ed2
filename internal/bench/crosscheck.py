"""CARSO on CIFAR-10 under APGD-CE, once more and without this kit: networks, aggregations and attack in plain PyTorch.

Reads weights and the built-in test images, attacks the classifier alone, CARSO through the reference's peel in float32 and CARSO through log S, each as
AutoAttack's rand does in its first part, and writes what became of each image as JSON. By default the weights are those that ship, in attacks of 40 steps of 4 draws
as at scale small: cmd/carso's tests compare that with the kit's records. Draws are PyTorch's own, so that single images may differ.

The authors' weights, with the paper's attack length (carso checkpoint get a -out build/weights brings and checks them):

    python internal/bench/crosscheck.py --weights build/weights --classifier cifar10_a3_b10_t4_20m_w --purifier wrn_28_10_cifar_10_cui_2023 \\
        --depth 28 --width 10 --steps 100 --draws 20 --device cuda --images 1000 --batch 50
"""
import argparse
import json
import math
import re
import struct
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pytorch import N, WRN, Carso, Purifier, apgd, ce_gradient

ROOT = Path(__file__).resolve().parents[2]


def header(folder, name):
    """A safetensors file's bytes, its JSON header, and where that ends: 8 bytes of length, the header, the data."""
    raw = (Path(folder) / f"{name}.safetensors").read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    return raw, json.loads(raw[8:end]), end


def tensors(folder, name):
    """A safetensors file as float32 tensors."""
    raw, names, end = header(folder, name)
    found = {}
    for key, about in names.items():
        if key == "__metadata__" or key.endswith("num_batches_tracked"):
            continue
        kind = {"F16": np.float16, "F32": np.float32}[about["dtype"]]
        first, last = about["data_offsets"]
        found[key] = torch.from_numpy(np.frombuffer(raw[end + first : end + last], kind).astype(np.float32).reshape(about["shape"]))
    return found


def fill(module, named):
    """Fills every parameter and statistic of a module, whose counters of batches are no matter."""
    left = [k for k in module.load_state_dict(named, strict=False).missing_keys if not k.endswith("num_batches_tracked")]
    assert not left and set(named) <= set(module.state_dict()), (left, named.keys())


def classifier(o):
    f, named, groups = WRN(o.depth, o.width), {}, (o.depth - 4) // 6
    for key, value in tensors(o.weights, o.classifier).items():
        key = re.sub(r"^layer\.(\d)\.block\.(\d)", lambda m: f"blocks.{groups * int(m[1]) + int(m[2])}", key)
        if key != "init_conv.weight":
            for a, b in (("batchnorm_", "bn"), ("conv_", "conv"), ("batchnorm", "bn"), ("logits", "head")):
                key = key.replace(a, b)
        named[key] = value
    named |= {"mean": f.mean, "std": f.std}
    fill(f, named)
    return f


def seen(o):
    """The numbers of the representations that the purifier's files name; None where they name none, which is all."""
    about = header(o.weights, o.purifier + "_decoder")[1].get("__metadata__", {})
    taps = json.loads(about.get("training", "{}")).get("recipe", {}).get("config", {}).get("taps")
    if not taps:
        return None
    names, blocks = [], (o.depth - 4) // 6
    for group in range(3):
        for block in range(blocks):
            at = f"layer.{group}.block.{block}."
            names += [at + "conv_0", at + "conv_1"] + ([at + "shortcut"] if group > 0 and block == 0 else [])
    return [names.index(t) for t in taps]


def purifier(o):
    decoder, joined = (tensors(o.weights, o.purifier + part) for part in ("_decoder", "_repr_fcn_compressor"))
    cond = len(joined["1.0.weight"])
    p = Purifier(o.depth, o.width, cond, decoder["0.1.weight"].shape[1] - cond, len(decoder["1.0.weight"]), seen(o))
    fill(p.compressors, tensors(o.weights, o.purifier + "_repr_compressors"))
    fill(p.fc, {key.removeprefix("1."): value for key, value in joined.items()})
    fill(p.first, {k: decoder[f"0.1.{k}"] for k in ("weight", "bias")})
    fill(p.last, {k: decoder[f"5.{k}"] for k in ("weight", "bias")})
    fill(p.up, {f"{int(k[0]) - 1}{k[1:]}": v for k, v in decoder.items() if k[0] in "1234"})
    return p


def images(count):
    """The first images of CIFAR-10's test split, [n,3,32,32] in [0,1], and their labels: three sheets, green, red minus green and blue minus green."""
    folder = ROOT / "data" / "sample"
    sheets = np.asarray(Image.open(folder / "cifar10-test-1000.png")).reshape(3, 25, 32, 40, 32).transpose(1, 3, 0, 2, 4).reshape(1000, 3, 32, 32)
    green = sheets[:count, 0]
    rgb = np.stack([sheets[:count, 1] + green, green, sheets[:count, 2] + green], 1)
    labels = np.frombuffer((folder / "cifar10-test-1000.labels").read_bytes(), np.uint8)[:count].astype(np.int64) - ord("0")
    return torch.from_numpy(rgb.astype(np.float32) / 255), torch.from_numpy(labels)


def peel(logits):
    """As the reference computes it: P, the softmax of the sums of exp(logit), rounds to 0 or 1 in float32."""
    P = logits.exp().sum(1).softmax(1)
    return torch.log(P / (1 - P))


def attack(model, draws, steps, x, y):
    """APGD-CE on the images that one pass has right: those, the ones that a fresh pass on the result has wrong, and those whose first gradient held a NaN."""
    with torch.no_grad():
        initial = model(x).argmax(1) == y
    broken, blind = torch.zeros_like(initial), torch.zeros_like(initial)
    at = initial.nonzero().flatten()
    if not len(at):
        return initial, broken, blind
    x, y, first = x[at], y[at], []

    def gradient(x):
        total = torch.zeros_like(x)
        for _ in range(draws):
            g, loss, logits = ce_gradient(model, x, y)
            total += g
        if not first:
            first.append(total.isnan().flatten(1).any(1))
        return total / draws, loss, logits

    adv = apgd(gradient, x, y, steps)
    assert (adv - x).abs().max() <= 8 / 255 + 1e-6 and adv.min() >= 0 and adv.max() <= 1
    with torch.no_grad():
        broken[at] = model(adv).argmax(1) != y
    blind[at] = first[0]
    return initial, broken, blind


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--weights", default=ROOT / "checkpoints" / "shipped", help="folder of the weight files")
    flags.add_argument("--classifier", default="wrn_10_2_cifar_10_small", help="name of the classifier's file")
    flags.add_argument("--purifier", default="wrn_10_2_cifar_10_small", help="what the names of the purifier's files begin with")
    flags.add_argument("--depth", type=int, default=10)
    flags.add_argument("--width", type=int, default=2)
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--images", type=int, default=100, help="the first of the test split, at most 1000")
    flags.add_argument("--steps", type=int, default=40)
    flags.add_argument("--draws", type=int, default=4)
    flags.add_argument("--batch", type=int, default=25)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--out", default=ROOT / "build" / "bench" / "crosscheck.json")
    o = flags.parse_args()
    torch.manual_seed(o.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 is what the question is about
    f, p = (m.eval().requires_grad_(False).to(o.device) for m in (classifier(o), purifier(o)))
    x, y = (v.to(o.device) for v in images(o.images))
    carso = Carso(f, p)
    samples = lambda x: carso.samples(x, torch.randn(len(x), N, p.latent, device=x.device))  # of draws from the prior
    report = {"torch": torch.__version__, "classifier": o.classifier, "device": o.device, "images": o.images, "steps": o.steps, "draws": o.draws, "seed": o.seed, "attacks": []}
    for row, output, model, draws in (
        ("classifier", "classifier", f, 1),
        ("carso-paper", "peel-reference", lambda x: peel(samples(x)), o.draws),
        ("carso-honest", "log-sum", lambda x: samples(x).logsumexp(1), o.draws),
    ):
        found, start = [], time.time()
        for k in range(0, o.images, o.batch):
            found.append(attack(model, draws, o.steps, x[k : k + o.batch], y[k : k + o.batch]))
            done = min(k + o.batch, o.images)
            left = (time.time() - start) / done * (o.images - done)
            print(f"{row}, {output}: {done}/{o.images} images, {math.ceil(left)} s left", flush=True)
        initial, broken, blind = (torch.cat(part).int().tolist() for part in zip(*found))
        report["attacks"].append({"row": row, "output": output, "initial": initial, "broken": broken, "nan_start": blind})
        print(f"  right before {sum(initial)}, left {sum(initial) - sum(broken)}, first gradient NaN {sum(blind)}")
    Path(o.out).parent.mkdir(parents=True, exist_ok=True)
    Path(o.out).write_text(json.dumps(report) + "\n")


main()

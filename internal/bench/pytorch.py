"""The PyTorch side of the paired benchmark: the reference's networks and operations in plain PyTorch.

Reads one JSON request a line, {"case": "pgd-step", "depth": 10, "width": 2, "batch": 64, "threads": 2, "mode": "eager", "device": "cpu", "tf32": false},
runs the case once and answers {"seconds": 0.12}. mode is eager, compiled or bf16, which is eager under autocast. Models and inputs are made on the first request of
their kind, outside the timing. Weights are random: only time is measured. What the device works on is waited for.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

N, DRAWS, EPS = 8, 20, 8 / 255
COND, LATENT, CHANNELS = 128, 32, 96  # the small purifier of carso.SmallRecipe


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.stride = stride
        self.bn0, self.bn1 = nn.BatchNorm2d(cin), nn.BatchNorm2d(cout)
        self.conv0 = nn.Conv2d(cin, cout, 3, stride, 1 if stride == 1 else 0, bias=False)
        self.conv1 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(cin, cout, 1, stride, bias=False) if cin != cout else None

    def forward(self, x, taps):
        v = F.silu(self.bn0(x))
        residual = x if self.shortcut is None else self.shortcut(v)
        if self.stride == 2:
            v = F.pad(v, (0, 1, 0, 1))
        a = self.conv0(v)
        b = self.conv1(F.silu(self.bn1(a)))
        taps += [a, b] + ([residual] if self.stride == 2 else [])
        return residual + b


class WRN(nn.Module):
    """WRN-depth-width, normalisation inside."""

    def __init__(self, depth, width, classes=10):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2471, 0.2435, 0.2616]).view(1, 3, 1, 1))
        self.init_conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        sizes = [16, 16 * width, 32 * width, 64 * width]
        self.blocks = nn.ModuleList(
            Block(sizes[g + (b > 0)], sizes[g + 1], 2 if g > 0 and b == 0 else 1) for g in range(3) for b in range((depth - 4) // 6)
        )
        self.bn = nn.BatchNorm2d(sizes[3])
        self.head = nn.Linear(sizes[3], classes)

    def forward(self, x, taps=None):
        taps = [] if taps is None else taps
        h = self.init_conv((x - self.mean) / self.std)
        for b in self.blocks:
            h = b(h, taps)
        return self.head(F.silu(self.bn(h)).mean((2, 3)))


def conv_block(cin, cout, stride=1, pad=0):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, pad, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.2))


def fcn(cin, cout):
    return nn.Sequential(nn.Linear(cin, cout, bias=False), nn.BatchNorm1d(cout), nn.LeakyReLU(0.2))


class Purifier(nn.Module):
    def __init__(self, depth, width, cond=COND, latent=LATENT, channels=CHANNELS, taps=None):
        """taps are the numbers of the representations that the condition is made of, in the order of WRN.forward; None: all."""
        super().__init__()
        self.latent, self.channels = latent, channels
        half = lambda c: (c + 1) // 2
        self.compressors, flat = nn.ModuleList(), 0
        pairs = 2 * ((depth - 4) // 6)
        maps = pairs * [(16 * width, 32)] + (pairs + 1) * [(32 * width, 16)] + (pairs + 1) * [(64 * width, 8)]
        self.taps = range(len(maps)) if taps is None else taps
        for t in self.taps:
            layers, (k, side) = [], maps[t]
            for _ in range(3):
                layers.append(conv_block(k, half(k)))
                k = half(k)
            self.compressors.append(nn.Sequential(*layers))
            flat += k * (side - 6) ** 2
        self.fc = fcn(flat, cond)
        self.image = nn.Sequential(conv_block(3, 6, 2, 1), conv_block(6, 12, 2, 1))
        self.joint = fcn(12 * 64 + cond, latent)
        self.mu, self.logvar = nn.Linear(latent, latent), nn.Linear(latent, latent)
        self.first = nn.Linear(latent + cond, channels * 9)
        ch = [channels, channels, channels // 2, channels // 4, channels // 8]
        up = lambda i: nn.Sequential(nn.ConvTranspose2d(ch[i], ch[i + 1], 3, 2, 1, bias=False), nn.BatchNorm2d(ch[i + 1]), nn.LeakyReLU(0.2))
        self.up = nn.Sequential(*[up(i) for i in range(4)])
        self.last = nn.ConvTranspose2d(ch[4], 3, 2, 1, 1)

    def condition(self, taps):
        return self.fc(torch.cat([c(taps[t]).flatten(1) for c, t in zip(self.compressors, self.taps)], 1))

    def decode(self, z, c):
        h = F.leaky_relu(self.first(torch.cat([z, c], 1)), 0.2).view(-1, self.channels, 3, 3)
        return self.last(self.up(h))


class Carso(nn.Module):
    """End to end, under a log-sum over samples: what an aggregation costs is nothing beside the passes."""

    def __init__(self, f, purifier):
        super().__init__()
        self.f, self.p = f, purifier

    def samples(self, x, z):
        """Logits of the reconstructions of each image, [n,N,classes], at the draws z [n,N,latent]."""
        taps = []
        self.f(x, taps)
        c = self.p.condition(taps).repeat_interleave(N, 0)
        return self.f(torch.sigmoid(self.p.decode(z.flatten(0, 1), c))).view(len(x), N, -1)

    def forward(self, x, z):
        return self.samples(x, z).logsumexp(1)


def ce_gradient(model, x, y, *noise):
    x = x.detach().requires_grad_()
    logits = model(x, *noise)
    loss = F.cross_entropy(logits, y, reduction="none")
    return torch.autograd.grad(loss.sum(), x)[0], loss.detach(), logits.detach()


def apgd(gradient, x, y, steps):
    """APGD on the cross-entropy, l_inf, as AutoAttack runs it; gradient(x) -> (gradient, loss, logits)."""
    n = x.shape[0]
    column = (n, 1, 1, 1)
    t = 2 * torch.rand_like(x) - 1
    adv = (x + EPS * t / t.abs().amax((1, 2, 3), keepdim=True)).clamp(0, 1)
    g, loss, logits = gradient(adv)
    best, best_g, best_loss = adv.clone(), g.clone(), loss.clone()
    best_adv = x.clone()  # of an image that is never misclassified, AutoAttack returns the clean one
    wrong = logits.argmax(1) != y
    best_adv[wrong] = adv[wrong]
    step = torch.full(column, 2 * EPS, device=x.device)
    old = adv.clone()
    until, least, decrease = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    history, check_loss, since = torch.zeros(steps, n, device=x.device), loss.clone(), 0
    reduced = torch.ones(n, dtype=torch.bool, device=x.device)
    for i in range(steps):
        momentum = 0.75 if i else 1.0
        z = torch.min(torch.max(adv + step * g.sign(), x - EPS), x + EPS).clamp(0, 1)
        new = adv + momentum * (z - adv) + (1 - momentum) * (adv - old)
        old, adv = adv, torch.min(torch.max(new, x - EPS), x + EPS).clamp(0, 1)
        g, loss, logits = gradient(adv)
        wrong = logits.argmax(1) != y
        best_adv[wrong] = adv[wrong]
        history[i] = loss
        better = loss > best_loss
        best[better], best_g[better], best_loss[better] = adv[better], g[better], loss[better]
        since += 1
        if since == until:
            rising = sum((history[k] > history[k - 1]).float() for k in range(i - until + 1, i + 1))  # history[-1] is zero at the first check, as in AutoAttack
            halve = (rising <= 0.75 * until) | (~reduced & (check_loss >= best_loss))
            check_loss, reduced = best_loss.clone(), halve
            step[halve] /= 2
            adv[halve], g[halve] = best[halve], best_g[halve]
            since, until = 0, max(until - decrease, least)
    return best_adv


class Bench:
    def __init__(self, depth, width, batch, mode, device):
        torch.manual_seed(0)
        self.batch, self.device = batch, device
        put = lambda m: m.to(device, memory_format=torch.channels_last) if device != "cpu" else m
        self.f = put(WRN(depth, width).eval())
        self.p = put(Purifier(depth, width).eval())
        self.train_f = put(WRN(depth, width).train())
        self.train_p = put(Purifier(depth, width).train())
        self.carso = Carso(self.f, self.p)
        for m in (self.f, self.p):
            m.requires_grad_(False)
        wrap = torch.compile if mode == "compiled" else (lambda m: m)
        self.run_f, self.run_carso = wrap(self.f), wrap(self.carso)
        self.run_train_f = wrap(self.train_f)
        self.run_train_p = wrap(self.purifier_loss)
        self.sgd = torch.optim.SGD(self.train_f.parameters(), 0.01, 0.9, nesterov=True, weight_decay=5e-4)
        self.radam = torch.optim.RAdam(self.train_p.parameters(), 1e-4)
        self.x, self.y = torch.rand(batch, 3, 32, 32, device=device), torch.randint(0, 10, (batch,), device=device)
        if device != "cpu":
            self.x = self.x.contiguous(memory_format=torch.channels_last)

    def noise(self):
        return torch.randn(self.batch, N, LATENT, device=self.device)

    def forward(self):
        with torch.no_grad():
            self.run_f(self.x)

    def pgd_step(self):
        g, _, _ = ce_gradient(self.run_f, self.x, self.y)
        torch.min(torch.max(self.x + 0.01 * g.sign(), self.x - EPS), self.x + EPS).clamp(0, 1)

    def apgd(self):
        apgd(lambda x: ce_gradient(self.run_f, x, self.y), self.x, self.y, 10)

    def carso_forward(self):
        with torch.no_grad():
            self.run_carso(self.x, self.noise())

    def carso_apgd(self):
        """As the reference does it: every draw runs the encoder again."""

        def gradient(x):
            total = torch.zeros_like(x)
            for _ in range(DRAWS):
                g, loss, logits = ce_gradient(self.run_carso, x, self.y, self.noise())
                total += g
            return total / DRAWS, loss, logits

        apgd(gradient, self.x, self.y, 1)

    def purifier_loss(self, x):
        taps = []
        self.f(x, taps)
        c = self.train_p.condition([t.detach() for t in taps])
        image = (x - self.f.mean) / self.f.std
        h = self.train_p.joint(torch.cat([self.train_p.image(image).flatten(1), c], 1))
        mu, logvar = self.train_p.mu(h), self.train_p.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(logvar / 2)
        kl = 0.5 * (mu ** 2 + logvar.exp() - logvar - 1).sum()
        decoded = self.train_p.decode(z, c).float()
        with torch.autocast(x.device.type, enabled=False):  # which refuses this loss
            return F.binary_cross_entropy(torch.sigmoid(decoded), x, reduction="sum") + kl

    def purifier_step(self):
        self.radam.zero_grad()
        self.run_train_p(self.x).backward()
        self.radam.step()

    def purifier_attacked_step(self):
        """Four adversaries at two bounds, an eighth of the batch each: one step, or five from a random start."""
        atom, x = self.batch // 8, self.x.clone()
        for k, (eps, steps) in enumerate(((EPS / 2, 1), (EPS, 1), (EPS / 2, 5), (EPS, 5))):
            part = slice(self.batch - (k + 1) * atom, self.batch - k * atom)
            clean, y = self.x[part], self.y[part]
            adv = clean if steps == 1 else (clean + eps * (2 * torch.rand_like(clean) - 1)).clamp(0, 1)
            for _ in range(steps):
                g, _, _ = ce_gradient(self.run_f, adv, y)
                adv = torch.min(torch.max(adv + (eps if steps == 1 else 0.03) * g.sign(), clean - eps), clean + eps).clamp(0, 1)
            x[part] = adv
        self.radam.zero_grad()
        self.run_train_p(x).backward()
        self.radam.step()

    def plain_step(self):
        self.sgd.zero_grad()
        F.cross_entropy(self.run_train_f(self.x), self.y).backward()
        self.sgd.step()

    def adversarial_step(self):
        start = (self.x + EPS * (2 * torch.rand_like(self.x) - 1)).clamp(0, 1).requires_grad_()
        g = torch.autograd.grad(F.cross_entropy(self.run_train_f(start), self.y), start)[0]
        x = torch.min(torch.max(start.detach() + 10 / 255 * g.sign(), self.x - EPS), self.x + EPS).clamp(0, 1)
        self.sgd.zero_grad()
        F.cross_entropy(self.run_train_f(x), self.y).backward()
        self.sgd.step()


def ceiling(device, mode):
    """Seconds of a product of two 8192x8192 matrices, the median of ten."""
    kind = torch.bfloat16 if mode == "bf16" else torch.float32
    a, b = (torch.randn(8192, 8192, device=device, dtype=kind) for _ in range(2))
    times = []
    for _ in range(13):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[3:])[5]


def main():
    ready = {}
    for line in sys.stdin:
        request = json.loads(line)
        device, mode = request["device"], request["mode"]
        torch.set_num_threads(request["threads"])
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request["tf32"]
        torch.backends.cudnn.benchmark = True
        wait = torch.cuda.synchronize if device != "cpu" else (lambda: None)
        key = request["depth"], request["width"], request["batch"], mode, device
        try:
            if request["case"] == "ceiling":
                answer = {"seconds": ceiling(device, mode), "torch": torch.__version__}
            else:
                if key not in ready:
                    ready[key] = Bench(*key)
                run = getattr(ready[key], request["case"].replace("-", "_"))
                wait()
                start = time.perf_counter()
                with torch.autocast(device, torch.bfloat16, enabled=mode == "bf16"):
                    run()
                wait()
                answer = {"seconds": time.perf_counter() - start, "torch": torch.__version__}
                if device != "cpu":
                    answer["peak"] = torch.cuda.max_memory_allocated()
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

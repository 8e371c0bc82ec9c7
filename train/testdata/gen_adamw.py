"""Golden numbers for the optimizer, the schedules and gradient clipping.

    python train/testdata/gen_adamw.py [SEED] > train/testdata/adamw.json

Made with torch 2.15.0 and transformers 5.24.0, on CPU, seed 20. Floats are printed
so that they read back to the same float32 (parameters) or float64 (rates).
"""

import json
import sys

import numpy
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 20
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(SEED)


def randn(*shape):
    return torch.randn(*shape, generator=generator)


def flat(tensor):
    return [float(str(numpy.float32(x))) for x in tensor.detach().flatten().numpy()]


def adamw(name, lr, betas, eps, weight_decay, steps, rates=None):
    """Parameters and state after every step, from given gradients."""
    params = [torch.nn.Parameter(randn(8, 8)), torch.nn.Parameter(randn(21) * 4)]
    optimizer = torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    case = {
        "name": name, "lr": lr, "beta1": betas[0], "beta2": betas[1], "eps": eps,
        "weight_decay": weight_decay, "start": [flat(p) for p in params], "steps": [],
    }
    for step in range(steps):
        rate = lr if rates is None else rates[step]
        for group in optimizer.param_groups:
            group["lr"] = rate
        grads = [randn(*p.shape) * 10.0 ** (step % 4 - 2) for p in params]
        grads[0].view(-1)[step] = 0
        for p, g in zip(params, grads):
            p.grad = g.clone()
        optimizer.step()
        case["steps"].append({
            "lr": rate,
            "grads": [flat(g) for g in grads],
            "params": [flat(p) for p in params],
            "first": [flat(optimizer.state[p]["exp_avg"]) for p in params],
            "second": [flat(optimizer.state[p]["exp_avg_sq"]) for p in params],
        })
    return case


def schedule(kind, total, warmup):
    make = {
        "constant": lambda o: get_constant_schedule_with_warmup(o, warmup),
        "linear": lambda o: get_linear_schedule_with_warmup(o, warmup, total),
        "cosine": lambda o: get_cosine_schedule_with_warmup(o, warmup, total),
    }[kind]
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = make(optimizer)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return {"kind": kind, "total": total, "warmup": warmup, "lr": 3e-4, "rates": rates}


def clip(limit, scale):
    params = [torch.nn.Parameter(torch.zeros(4, 7)), torch.nn.Parameter(torch.zeros(11))]
    for p in params:
        p.grad = randn(*p.shape) * scale
    case = {"limit": limit, "grads": [flat(p.grad) for p in params]}
    case["norm"] = float(torch.nn.utils.clip_grad_norm_(params, limit))
    case["clipped"] = [flat(p.grad) for p in params]
    return case


print(json.dumps({
    "versions": {"torch": torch.__version__, "seed": SEED},
    "adamw": [
        adamw("defaults of the Trainer", 2e-4, (0.9, 0.999), 1e-8, 0.0, 12),
        adamw("everything unusual", 0.037, (0.73, 0.91), 1e-3, 0.19, 12),
        adamw("rate 0 first", 1e-2, (0.9, 0.95), 1e-6, 0.1, 5, [0.0, 5e-3, 1e-2, 7e-3, 1e-3]),
    ],
    "schedules": [
        schedule(kind, total, warmup)
        for kind in ("constant", "linear", "cosine")
        for total, warmup in ((17, 0), (17, 5), (4, 4), (3, 7), (1, 0))
    ],
    "clips": [clip(1.0, 3.0), clip(1.0, 0.01), clip(0.3, 1.0), clip(1e-3, 1e-4), clip(1e-5, 1e-5)],
}, separators=(",", ":")))

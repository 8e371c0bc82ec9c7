"""Golden numbers for SGD, for LoRA+, for parameter groups and for schedules by name.

    python train/testdata/gen_optimizers.py [SEED] > train/testdata/optimizers.json

Made with torch 2.15.0, transformers 5.24.0 and peft 0.21.2, on CPU, seed 22. Floats are
printed so that they read back to the same float32 (parameters) or float64 (rates).
"""

import json
import sys
import tempfile

import numpy
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from transformers import Trainer, TrainingArguments, get_scheduler

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 22
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(SEED)


def randn(*shape):
    return torch.randn(*shape, generator=generator)


def flat(tensor):
    return [float(str(numpy.float32(x))) for x in tensor.detach().flatten().numpy()]


def sgd(name, momentum, nesterov, weight_decay, steps=9):
    """Parameters and momentum after every step, from given gradients."""
    params = [torch.nn.Parameter(randn(8, 8)), torch.nn.Parameter(randn(21) * 4)]
    optimizer = torch.optim.SGD(params, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    case = {
        "name": name, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay,
        "start": [flat(p) for p in params], "steps": [],
    }
    for step in range(steps):
        rate = 0.037 * (step + 1) / steps
        for group in optimizer.param_groups:
            group["lr"] = rate
        grads = [randn(*p.shape) * 10.0 ** (step % 4 - 2) for p in params]
        for p, g in zip(params, grads):
            p.grad = g.clone()
        optimizer.step()
        case["steps"].append({
            "lr": rate,
            "grads": [flat(g) for g in grads],
            "params": [flat(p) for p in params],
            "first": [flat(optimizer.state[p]["momentum_buffer"]) for p in params] if momentum else [],
        })
    return case


class Tower(torch.nn.Module):
    """One of each kind of layer."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 6)
        self.up = torch.nn.Linear(6, 10)
        self.down = torch.nn.Linear(10, 6)
        self.norm = torch.nn.LayerNorm(6)
        self.head = torch.nn.Linear(6, 3)


def peft_model():
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=["embed", "up", "down"], modules_to_save=["norm", "head"],
        use_dora=False, lora_bias=False,
    )
    model = get_peft_model(Tower(), config)
    dora = LoraConfig(r=2, lora_alpha=3, target_modules=["up"], use_dora=True)
    # A model of its own, as PEFT refuses DoRA on some layers beside others without it.
    return [("", model), ("dora.", get_peft_model(Tower(), dora))]


def trained(prefix, model):
    """Trained parameters by the names that they have in a file."""
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        short = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        short = short.replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector").replace(".default", "")
        yield prefix + short, param


def grouped(name, optimizer_of, decay, rate, steps=4):
    """Parameters after every step where they have different rates and decay."""
    cases = []
    for prefix, model in peft_model():
        params = list(trained(prefix, model))
        with torch.no_grad():
            for _, p in params:
                p.copy_(randn(*p.shape))
        optimizer = optimizer_of(model)
        scheduler = get_scheduler("linear", optimizer, num_warmup_steps=1, num_training_steps=steps + 1)
        case = {
            "name": name, "rate": rate, "weight_decay": decay,
            "params": [{"name": n, "shape": list(p.shape), "start": flat(p)} for n, p in params], "steps": [],
        }
        for step in range(steps):
            factor = scheduler.lr_lambdas[0](step)
            grads = [randn(*p.shape) for _, p in params]
            for (_, p), g in zip(params, grads):
                p.grad = g.clone()
            optimizer.step()
            scheduler.step()
            case["steps"].append({
                "factor": factor, "grads": [flat(g) for g in grads], "params": [flat(p) for _, p in params],
            })
        cases.append(case)
    return cases


def loraplus(cls, **kwargs):
    return lambda model: create_loraplus_optimizer(model, cls, **kwargs)


def trainer(model):
    """The Trainer's own groups."""
    with tempfile.TemporaryDirectory() as out:
        args = TrainingArguments(
            output_dir=out, optim="adamw_torch", learning_rate=0.02, weight_decay=0.2,
            adam_beta1=0.8, adam_beta2=0.9, adam_epsilon=1e-3, report_to=[], use_cpu=True,
        )
        return Trainer(model=model, args=args).create_optimizer()


def schedule(kind, total, warmup, **kwargs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=total, scheduler_specific_kwargs=kwargs)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return {"kind": kind, "total": total, "warmup": warmup, "lr": 3e-4, "min": kwargs.get("min_lr_rate", 0), "rates": rates}


ADAM = dict(betas=(0.8, 0.9), eps=1e-3)
print(json.dumps({
    "versions": {"torch": torch.__version__, "seed": SEED},
    "sgd": [
        sgd("plain", 0, False, 0),
        sgd("decay", 0, False, 0.13),
        sgd("momentum", 0.9, False, 0),
        sgd("all", 0.71, True, 0.13),
    ],
    "loraplus_adamw": grouped("adamw", loraplus(
        torch.optim.AdamW, lr=0.02, loraplus_lr_ratio=7.5, loraplus_lr_embedding=0.05, loraplus_weight_decay=0.2, **ADAM), 0.2, 0.02),
    "loraplus_sgd": grouped("sgd", loraplus(
        torch.optim.SGD, lr=0.02, loraplus_lr_ratio=3, momentum=0.6), 0, 0.02),
    "trainer": grouped("trainer", trainer, 0.2, 0.02),
    "schedules": [
        schedule(kind, total, warmup, **kwargs)
        for kind, kwargs in (
            ("constant_with_warmup", {}), ("linear", {}), ("cosine", {}), ("cosine_with_min_lr", {"min_lr_rate": 0.15}),
        )
        for total, warmup in ((17, 0), (17, 5), (4, 4), (1, 0))
    ],
}, separators=(",", ":")))

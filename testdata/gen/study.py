"""Trains adapters of many ranks on many matrices of the shipped language model and writes docs/study.md.

    python study.py --graft GRAFT [--dir DIR] [--out PAGE] [--seeds 2] [--quick]

The questions are those of section 7 of the LoRA paper (Hu et al., 2021): which matrices, which rank, and how
do adapters of different ranks and seeds lie to each other; with what training the same layers whole gives
beside it. Everything runs through the command line of graft; only numbers on held-out data are reported.

Needs Python alone. DIR (default: a temporary directory) keeps finished runs, so that a study that was stopped
goes on. The data are made here from a seed, and training gives the same bits again with the same version of graft.
--quick does one seed and few steps, to see that the script works.
"""

import argparse
import json
import platform
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LLAMA = ROOT / "testdata/tiny-llama"
RANKS = [1, 2, 4, 8, 16, 64]
ALPHA = 16


# ---- tasks: text with rules that the base has never seen


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


VARIETIES = "pearmain russet codlin medlar bergamot damson quince wilding costard pippin".split()
STOCKS = "crab hawthorn seedling paradise".split()
SKIES = ["frost", "rain", "a dry wind", "still heat"]
WORK = {
    "frost": "Nothing was cut; the knives were oiled",
    "rain": "The wax was kept by the fire",
    "a dry wind": "The clefts were bound twice",
    "still heat": "The leaves were shaded with straw",
}


def journal(dir, rng):
    """A gardener's journal: what follows depends on what came before, by rules."""

    def entry():
        day, row = rng.randrange(1, 60), rng.randrange(1, 9)
        v = rng.randrange(len(VARIETIES))
        sky = rng.choice(SKIES)
        count = rng.randrange(2, 10)
        return (
            f"Day {day}, {sky}. Row {row}: {count} scions of {VARIETIES[v]} upon {STOCKS[(v * 3 + 1) % 4]}. "
            f"{WORK[sky]}. Left to do: {12 - count}."
        )

    write(dir / "train.jsonl", [{"text": entry()} for _ in range(800)])
    write(dir / "held.jsonl", [{"text": entry()} for _ in range(120)])


def names(rng, n):
    """Words that no text has."""
    made = set()
    while len(made) < n:
        made.add("".join(rng.choice("bdfglmnprst") + rng.choice("aeiou") for _ in range(3)))
    return sorted(made)


def facts(dir, rng):
    """Arbitrary facts, each told in all ways of saying it but one; that one is asked for."""
    places = "orchard cellar meadow garden tower harbour forest mill".split()
    colours = "red white black green yellow grey".split()
    ways = [
        ("The {n} of the {p} is", " {c}."),
        ("In the {p} stands the {n}, and its colour is", " {c}."),
        ("Behold, the {n} that is in the {p} was", " {c}."),
        ("Who keepeth the {n} of the {p} shall see it", " {c}."),
    ]
    train, held = [], []
    for i, n in enumerate(names(rng, 96)):
        p, c = rng.choice(places), rng.choice(colours)
        for j, (prompt, answer) in enumerate(ways):
            row = {"prompt": prompt.format(n=n, p=p), "completion": answer.format(c=c)}
            (held if j == i % len(ways) else train).append(row)
    rng.shuffle(train)
    write(dir / "train.jsonl", train)
    write(dir / "held.jsonl", held)


class Task:
    def __init__(self, name, base, make, what, steps, rates, whole_rates):
        self.name, self.base, self.make, self.what = name, base, make, what
        self.steps, self.rates, self.whole_rates = steps, rates, whole_rates


TASKS = [
    Task("journal", LLAMA, journal, "a gardener's journal that follows rules", 120, [2e-3, 6e-3], [5e-4, 2e-3]),
    Task("facts", LLAMA, facts, "96 arbitrary facts, asked for in a way in which they were never told", 160, [2e-3, 6e-3], [5e-4, 2e-3]),
]  # fmt: skip

ATTENTION, MLP = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
PAIR, ALL = ["q_proj", "v_proj"], ATTENTION + MLP
MATRICES = {
    "q": ["q_proj"], "k": ["k_proj"], "v": ["v_proj"], "o": ["o_proj"], "q, v": PAIR, "q, k, v, o": ATTENTION,
    "gate, up, down": MLP, "all": ALL,
}  # fmt: skip


# ---- models


def tensors(base):
    """Names, shapes and where they lie, of a model in one file."""
    raw = (base / "model.safetensors").read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + n])
    header.pop("__metadata__", None)
    return header, raw[8 + n :]


def linears(base, targets):
    header, _ = tensors(base)
    out = {}
    for name, t in header.items():
        path = name.removesuffix(".weight")
        if path != name and len(t["shape"]) == 2 and path.rsplit(".", 1)[-1] in targets:
            out[path] = t["shape"]
    assert out, targets
    return out


def factor_count(base, targets, rank):
    return sum(rank * (o + i) for o, i in linears(base, targets).values())


def whole_adapter(base, targets, dir):
    """An adapter that replaces the layers by themselves (modules_to_save): training it trains them whole."""
    header, body = tensors(base)
    new, data = {}, b""
    for path in linears(base, targets):
        t = header[path + ".weight"]
        lo, hi = t["data_offsets"]
        values = body[lo:hi]
        if t["dtype"] == "BF16":
            values = b"".join(b"\0\0" + values[i : i + 2] for i in range(0, len(values), 2))
        new["base_model.model." + path + ".weight"] = {"dtype": "F32", "shape": t["shape"], "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(new).encode()
    text += b" " * (-len(text) % 8)
    dir.mkdir(parents=True)
    (dir / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["none"], "modules_to_save": targets, "bias": "none"}
    (dir / "adapter_config.json").write_text(json.dumps(config))


# ---- runs


class Study:
    def __init__(self, args, dir):
        self.graft, self.dir, self.quick = Path(args.graft).resolve(), dir, args.quick
        self.seeds = list(range(1, 2 if args.quick else args.seeds + 1))
        self.ran = 0

    def call(self, *args):
        done = subprocess.run([self.graft, *map(str, args)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"graft {' '.join(map(str, args))}: {done.stderr}")
        return json.loads(done.stdout)

    def data(self, task):
        dir = self.dir / task.name
        if not (dir / "held.jsonl").exists():
            dir.mkdir(parents=True, exist_ok=True)
            task.make(dir, random.Random(20))
        return dir

    def train(self, task, name, start, rate, seed):
        """One run, or what is left of it: the held-out loss and score, and the parameters trained."""
        dir = self.data(task)
        out = dir / f"{name}-{rate:g}-{seed}"
        report = dir / (out.name + ".json")
        if not report.exists():
            shutil.rmtree(out, ignore_errors=True)
            res = self.call(
                "train", "--base", task.base, *start, "--data", dir / "train.jsonl", "--eval-data", dir / "held.jsonl",
                "--max-steps", 4 if self.quick else task.steps, "--batch-size", 16, "--learning-rate", rate, "--warmup-ratio", 0.1,
                "--logging-steps", 20, "--max-length", 128, "--seed", seed, "--out", out, "--quiet", "--json",
            )  # fmt: skip
            report.write_text(json.dumps(res))
            self.ran += 1
            print(f"{task.name} {out.name}: {res['eval_loss_after']:.4f} in {res['seconds']:.1f} s", file=sys.stderr)
        res = json.loads(report.read_text())
        return {"loss": res["eval_loss_after"], "before": res["eval_loss_before"], "params": res["memory"]["trainable_params"], "out": out}

    def rate(self, task, whole):
        """The learning rate of all runs of a kind: the better one of the first seed, of rank 8 on queries and values or of all layers whole."""
        targets = ALL if whole else PAIR
        rates = task.whole_rates if whole else task.rates
        return min(rates, key=lambda rate: self.train(task, *self.start(task, targets, 0 if whole else 8), rate, self.seeds[0])["loss"])

    def start(self, task, targets, rank):
        """The name of a run and the flags it starts with; rank 0 trains the layers whole."""
        label = "+".join(targets)
        if rank:
            return f"r{rank}-{label}", ["--target-modules", ",".join(targets), "--rank", rank, "--alpha", ALPHA]
        start = self.data(task) / f"start-{label}"
        if not start.exists():
            whole_adapter(task.base, targets, start)
        return f"whole-{label}", ["--adapter", start]

    def runs(self, task, targets, rank):
        """The runs of all seeds; rank 0 trains the layers whole."""
        rate = self.rate(task, rank == 0)
        runs = [self.train(task, *self.start(task, targets, rank), rate, seed) for seed in self.seeds]
        return {
            "rate": rate, "loss": statistics.mean(r["loss"] for r in runs), "losses": [r["loss"] for r in runs], "before": runs[0]["before"],
            "params": runs[0]["params"], "runs": runs,
        }  # fmt: skip


def cell(b):
    """What a run reached on held-out data."""
    spread = f"{b['loss']:.3f}"
    if len(b["losses"]) > 1:
        spread += f" ± {(max(b['losses']) - min(b['losses'])) / 2:.3f}"
    return spread


def ranks(study, out):
    out.append("## Which rank\n")
    out.append("Held-out loss (mean of the seeds ± half their range) of adapters on queries and values, and on all linear layers. Last, the same\nlayers trained whole.\n")
    for task in TASKS:
        out.append(f"**{task.name}**: {task.what}\n")
        out.append("| rank | q, v: parameters | held out | all: parameters | held out |\n| --- | --- | --- | --- | --- |")
        found = {}
        for rank in RANKS:
            a, b = study.runs(task, PAIR, rank), study.runs(task, ALL, rank)
            found[rank] = a
            out.append(f"| {rank} | {a['params']:,} | {cell(a)} | {b['params']:,} | {cell(b)} |")
        a, b = study.runs(task, PAIR, 0), study.runs(task, ALL, 0)
        out.append(f"| whole | {a['params']:,} | {cell(a)} | {b['params']:,} | {cell(b)} |")
        out.append(f"\nBefore training: {found[8]['before']:.3f}.\n")


def matrices(study, out):
    out.append("## Which matrices\n")
    out.append(
        "Each row has about as many parameters as rank 8 on queries and values, spread over other matrices: many matrices of small rank, or few of\nlarge. Held-out loss as above.\n"
    )
    for task in TASKS:
        out.append(f"**{task.name}**\n")
        out.append("| matrices | rank | parameters | held out |\n| --- | --- | --- | --- |")
        budget = factor_count(task.base, PAIR, 8)
        for label, targets in MATRICES.items():
            rank = max(1, round(budget / factor_count(task.base, targets, 1)))
            b = study.runs(task, targets, rank)
            out.append(f"| {label} | {rank} | {b['params']:,} | {cell(b)} |")
        out.append("")


def similarity(study, a, b, side):
    """The mean over modules of phi(i, j) of the directions of two adapters."""
    d = study.call("diff", a, b, "--json", "--quiet")
    maps = [m[side] for m in d["modules"]]
    rows, cols = maps[0]["ranks_a"], maps[0]["ranks_b"]
    phi = [[statistics.mean(m["phi"][i][j] for m in maps) for j in range(len(cols))] for i in range(len(rows))]
    return rows, cols, phi


def subspaces(study, out):
    out.append("## How subspaces lie to each other\n")
    out.append(
        "φ(i, j) is how much of the first i directions of one adapter and the first j of another is common to both: 1 if the smaller set\n"
        "lies in the span of the larger (section 7.2 of the paper), here of input directions (those of A), the mean over the layers\n"
        "with queries and values. `chance` is what random directions give where i ≤ j: j over the width.\n"
    )
    width = 128
    for task in TASKS:
        small, large = study.runs(task, PAIR, 8), study.runs(task, PAIR, 64)
        first = large["runs"][0]["out"]
        others = [("rank 8 in rank 64, the same seed", small["runs"][0]["out"])]
        if len(large["runs"]) > 1:
            others.append(("rank 64 in rank 64 of another seed", large["runs"][1]["out"]))
        for title, a in others:
            rows, cols, phi = similarity(study, a, first, "input_similarity")
            out.append(f"**{task.name}**, {title}\n")
            out.append("| i \\ j | " + " | ".join(map(str, cols)) + " |\n|" + " --- |" * (len(cols) + 1))
            for i, row in zip(rows, phi, strict=True):
                out.append(f"| {i} | " + " | ".join(f"{x:.2f}" for x in row) + " |")
            out.append("| chance | " + " | ".join(f"{j / width:.2f}" for j in cols) + " |\n")


HEAD = """# A study of rank and matrices

<!-- Made by testdata/gen/study.py: run it again rather than edit. -->

How much rank does an adaptation need, on which matrices, and what does training the same layers whole give beside it? The LoRA paper
asks this of GPT-3 (its section 7); here it is asked of the Llama of a million parameters that comes with graft, so that
anybody can ask again:

    go build -o graft ./cmd/graft
    python testdata/gen/study.py --graft ./graft --out docs/study.md

Every number is of held-out data after training on other data, in nats a token. The learning rate of all adapters of a task is the
better of two for rank 8 on queries and values, that of all layers trained whole the better of two for all of them; alpha is
{alpha} throughout, so that one rate suits all ranks. A model of a million parameters is not one of billions: read the order of the
rows, not their size.
"""


def reading(page):
    """What somebody wrote of the tables: it stays in the page, to be read again when they have changed."""
    old = Path(page).read_text() if page and Path(page).exists() else ""
    found = re.search(r"## What it says\n.*?(?=## Which rank\n)", old, re.DOTALL)
    return found.group() if found else ""


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--graft", required=True)
    p.add_argument("--dir")
    p.add_argument("--out")
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--quick", action="store_true")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        study = Study(args, Path(args.dir or tmp))
        out = []
        ranks(study, out)
        matrices(study, out)
        subspaces(study, out)
        steps = ", ".join(f"{t.steps} ({t.name})" for t in TASKS)
        out.append("## How it was made\n")
        out.append(
            f"Steps of 16 examples: {steps}; cosine schedule with a tenth of warm-up; AdamW; seeds {', '.join(map(str, study.seeds))}. "
            f"{date.today()}, {platform.machine()}.\n"
        )
        text = HEAD.format(alpha=ALPHA) + "\n" + reading(args.out) + "\n".join(out)
        if args.out:
            Path(args.out).write_text(text)
        else:
            print(text)


if __name__ == "__main__":
    main()

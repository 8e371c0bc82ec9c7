"""Measures graft beside its peers and writes docs/benchmarks.md.

    python benchmarks.py --graft GRAFT --dir DIR --disk-dir DIR [--only merge,disk,convert,memory,onnx,extract,train,kernel] [--out PAGE]
        [--gigabytes 4] [--ranks 16,64] [--rounds 3] [--skip torch,peft]

Prints a section of Markdown for each of --only. With --out the whole page is written, after every section; sections of
the page that are not run again stay as they are, each with its own date and machine, so that they can be measured at
different times.

DIR of --dir should be a tmpfs with room for about five times the size, that of --disk-dir a disk with room for two and a half.
The model is a Llama-shaped BF16 checkpoint of the given size in shards of about 1 GB. Contenders take turns, round after
round, so that what else the machine does hits all alike.

Needs the environment of gen-requirements.txt, and Go for the section on the kernel. The weights are the same for a
seed; times of course are not.
"""

import argparse
import collections
import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import benchmark_extract
import benchmark_train

ROOT = Path(__file__).resolve().parents[2]
HIDDEN, INTER, HEADS, KV, VOCAB = 4096, 11008, 32, 8, 32000
LINEAR = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // HEADS * KV, HIDDEN),
    "self_attn.v_proj": (HIDDEN // HEADS * KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTER, HIDDEN),
    "mlp.up_proj": (INTER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTER),
}

# What each section's numbers have to keep to, said at its end.
BOUNDS = {
    "merge": "Must: at most 1.3 × `cp -r` at rank 16 and 2 × at rank 64, and 5 × faster than PEFT. Aim: 1.0 × and 1.5 ×.",
    "convert": "Must: at most 1.3 × copying.",
    "memory": "Must: at most 256 MB, whatever the size of model and adapter (`GRAFT_BIG=1 go test ./internal/interop -run Big` asserts it).",
    "onnx": "Must: at most 1.3 × `cp`, and at most 256 MB.",
    "extract": "Must: at most 1.5 × `svd_lowrank` at the same accuracy (aim 1.0 ×), 20 × faster than the full SVD, and at most 512 MB for the pair of 2 GB.",
    "train": "Must: at least 0.7 × PyTorch's tokens a second, in no more memory. Aim: 1.0 × in half.",
}  # fmt: skip


# ---- models and adapters


def write_file(path, tensors):
    """Writes a safetensors file tensor by tensor; tensors are (name, dtype, shape, make). Where make is None the file has a hole."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, _ in tensors:
        n = (2 if dtype == "BF16" else 4) * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for name, _, _, make in tensors:
            if make:
                f.seek(8 + len(text) + header[name]["data_offsets"][0])
                f.write(make().tobytes())
        f.truncate(8 + len(text) + at)
    return at


def make_base(path, gigabytes, rng):
    """Makes a checkpoint of random weights or, without rng, of zeros in files that are all hole. Returns its layers and bytes."""
    import numpy as np

    def bf16(*shape):
        def make():
            x = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            return (x.view(np.uint32) >> 16).astype(np.uint16)

        return make if rng else None

    layer = sum(2 * o * i for o, i in LINEAR.values())
    layers = max(1, round((gigabytes * 1e9 - 4 * VOCAB * HIDDEN) / layer))
    groups = [[("model.embed_tokens.weight", "BF16", (VOCAB, HIDDEN), bf16(VOCAB, HIDDEN))]]
    for n in range(layers):
        stem = f"model.layers.{n}."
        group = [(stem + k + ".weight", "BF16", s, bf16(*s)) for k, s in sorted(LINEAR.items())]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            group.append((f"{stem}{norm}.weight", "BF16", (HIDDEN,), bf16(HIDDEN)))
        groups.append(group)
    groups.append([("model.norm.weight", "BF16", (HIDDEN,), bf16(HIDDEN)), ("lm_head.weight", "BF16", (VOCAB, HIDDEN), bf16(VOCAB, HIDDEN))])
    shards, size = [[]], 0
    for group in groups:
        n = sum(2 * s[0] * (s[1] if len(s) == 2 else 1) for _, _, s, _ in group)
        if size and size + n > 1.1e9:
            shards.append([])
            size = 0
        shards[-1] += group
        size += n
    path.mkdir(parents=True)
    total, where = 0, {}
    for i, shard in enumerate(shards, 1):
        name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        total += write_file(path / name, shard)
        where |= {t[0]: name for t in shard}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTER,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV, "vocab_size": VOCAB,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return layers, total


def make_adapter(path, layers, rank, rng):
    """Makes an F32 adapter on all linear layers and returns its bytes."""
    import numpy as np

    block = rng.standard_normal(1 << 22, dtype=np.float32) * np.float32(0.02)

    def f32(*shape):
        return lambda: np.resize(np.roll(block, -int(rng.integers(block.size))), shape)

    tensors = []
    for n in range(layers):
        for k, (o, i) in LINEAR.items():
            stem = f"base_model.model.model.layers.{n}.{k}.lora_"
            tensors += [(stem + "A.weight", "F32", (rank, i), f32(rank, i)), (stem + "B.weight", "F32", (o, rank), f32(o, rank))]
    path.mkdir(parents=True)
    total = write_file(path / "adapter_model.safetensors", sorted(tensors, key=lambda t: t[0]))
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank,
              "target_modules": sorted(k.split(".")[1] for k in LINEAR)}  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2))
    return total


# ---- contenders, each in a process of its own


def torch_loop(base, adapter, out):
    """What one writes by hand: shard by shard, tensor by tensor."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(os.cpu_count())
    factors = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    out.mkdir()
    for f in sorted(base.iterdir()):
        if f.suffix != ".safetensors":
            shutil.copy(f, out)
            continue
        state = {}
        with safe_open(f, "pt") as shard:
            for name in shard.keys():
                w = shard.get_tensor(name)
                stem = "base_model.model." + name.removesuffix(".weight") + ".lora_"
                if stem + "A.weight" in factors:
                    w = (w.float() + factors[stem + "B.weight"] @ factors[stem + "A.weight"] * scale).to(w.dtype)
                state[name] = w
        save_file(state, out / f.name, {"format": "pt"})


def peft_merge(base, adapter, out):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(os.cpu_count())
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out, max_shard_size="1100MB")


# A process is started by a small one, for a new process's peak memory begins at that of the one it was forked from.
LAUNCH = """
import os, sys, time
sync, *command = sys.argv[1:]
null = os.open(os.devnull, os.O_WRONLY)
began = time.perf_counter()
pid = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, usage = os.wait4(pid, 0)
if status == 0 and sync:
    status = os.spawnlp(os.P_WAIT, "sync", "sync", "-f", sync)
print(time.perf_counter() - began, usage.ru_maxrss)
sys.exit(status != 0)
"""


def run(command, sync=""):
    """Runs a command, and `sync -f` on sync after it, and returns the seconds and the peak memory of the command in MB."""
    launch = [sys.executable, "-I", "-S", "-c", LAUNCH, str(sync), *map(str, command)]
    done = subprocess.run(launch, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    seconds, kilobytes = done.stdout.split()
    return float(seconds), int(kilobytes) * 1024 / 1e6


def copy_files(files, to):
    """Times cp of files one after another, each to the same name, so that there is room for one."""
    seconds = 0.0
    for f in files:
        seconds += run(["cp", f, to])[0]
        to.unlink()
    return seconds


# ---- sections: each returns its Markdown


def merge_table(args, contenders_of, work, rng, durable):
    base, out = work / "base", work / "out"
    layers, total = make_base(base, args.gigabytes, rng)
    lines = [f"A {total / 1e9:.2f} GB BF16 checkpoint of {layers} layers, an F32 adapter on all {len(LINEAR) * layers} linear layers.", "",
             "| rank | what | fastest s | median s | × cp | peak MB |", "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for rank in map(int, args.ranks.split(",")):
        adapter = work / f"adapter-{rank}"
        make_adapter(adapter, layers, rank, rng)
        contenders = contenders_of(base, adapter, out)
        times, peak = collections.defaultdict(list), collections.defaultdict(float)
        for _ in range(args.rounds):
            for name, command in contenders.items():
                if durable:  # nobody pays for what another left to be written
                    subprocess.run(["sync", "-f", str(work)], check=True)
                seconds, memory = run(command, out if durable and "sync -f" in name else "")
                shutil.rmtree(out)
                times[name].append(seconds)
                peak[name] = max(peak[name], memory)
        shutil.rmtree(adapter)
        least = min(next(iter(times.values())))
        for name, t in times.items():
            lines.append(f"| {rank} | {name} | {min(t):.2f} | {statistics.median(t):.2f} | {min(t) / least:.2f} | {peak[name]:.0f} |")
    return lines


def merge_command(args, base, adapter, out, *more):
    return [args.graft, "merge", "--base", base, "--adapter", adapter, "--out", out, "--quiet", *more]


def section_merge(args, work, rng):
    def contenders(base, adapter, out):
        c = {"`cp -r`": ["cp", "-r", base, out], "`graft merge --no-fsync`": merge_command(args, base, adapter, out, "--no-fsync")}
        for name, label in {"torch": "PyTorch, shard by shard", "peft": "PEFT: load, merge, save"}.items():
            if name not in args.skip.split(","):
                c[label] = [sys.executable, __file__, "--run", name, base, adapter, out]
        return c

    return [
        "Nothing waits for a disk here: the files are in memory, and what is measured is reading, computing and writing. `cp -r` of the",
        "base is the least that any program can take that writes the result anew. The loop in PyTorch is what one writes by hand: a",
        "shard at a time, products in float32. PEFT loads the model, merges and saves it.", "",
        *merge_table(args, contenders, work, rng, durable=False),
    ]  # fmt: skip


def section_disk(args, work, rng):
    def contenders(base, adapter, out):
        return {"`cp -r`, then `sync -f`": ["cp", "-r", base, out], "`graft merge`": merge_command(args, base, adapter, out)}

    return [
        "Both end when the disk has everything: graft syncs each file and their directory before it renames it, and `sync -f` follows",
        "`cp -r` within its time. Before each turn the disk is synced, outside the time. The base is in the page cache.", "",
        *merge_table(args, contenders, work, rng, durable=True),
    ]  # fmt: skip


def section_convert(args, work, rng):
    base, out, wide, spare = work / "base", work / "out", work / "wide", work / "spare"
    _, total = make_base(base, args.gigabytes, rng)
    convert = [args.graft, "convert", "--to", "safetensors", "--quiet", "--no-fsync"]
    shard = round(total / 8e6)  # MB
    cases = {
        "BF16 → F32": (base, ["--dtype", "f32"]),
        f"BF16, cut into files of {shard} MB": (base, ["--max-shard-size", f"{shard}MB"]),
        "F32 → BF16": (wide, ["--dtype", "bf16"]),
        "F32 → F16": (wide, ["--dtype", "f16"]),
    }
    lines = [
        f"The {total / 1e9:.2f} GB BF16 checkpoint, and the F32 one of twice the size made from it, in memory, with `--no-fsync`. Copying a byte reads it",
        "and writes it, so the input's bytes are read in about half the time that `cp` takes for the input, and the output's bytes are",
        "written in about half of what it takes for the output; the sum of the halves is what moving the bytes costs. In each round graft",
        "converts, then the input and then the output are copied, file by file.", "",
        "| what | read GB | written GB | graft fastest s | median s | copying fastest s | median s | × copying |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for what, (source, flags) in cases.items():
        if source == wide and not wide.exists():  # not before: with it, what is in memory is most of the machine's
            run([*convert, base, "--dtype", "f32", "--out", wide])
        times, copies = [], []
        for _ in range(args.rounds):
            times.append(run([*convert, source, *flags, "--out", out])[0])
            inputs, outputs = sorted(source.iterdir()), sorted(out.iterdir())
            copies.append(copy_files(inputs, spare) / 2 + copy_files(outputs, spare) / 2)
            read, written = (sum(f.stat().st_size for f in files) / 1e9 for files in (inputs, outputs))
            shutil.rmtree(out)
        lines.append(f"| {what} | {read:.2f} | {written:.2f} | {min(times):.2f} | {statistics.median(times):.2f}"
                     f" | {min(copies):.2f} | {statistics.median(copies):.2f} | {min(times) / min(copies):.2f} |")  # fmt: skip
    return lines


def section_memory(args, work, rng):
    base, adapter, out = work / "base", work / "adapter", work / "out"
    lines = [
        "The peak resident set of the process (`ru_maxrss` of `wait4`), the largest of the rounds. The bases are sparse files of zeros, which take",
        "no room and are merged like any other; the adapters and what is written are full of numbers. The page cache is not counted: graft",
        "maps no file. The last adapter is as large as its base.", "",
        f"| base GB | rank | adapter GB | workers: {os.cpu_count()}, the default; peak MB | workers: 16; peak MB |",
        "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    per_rank = sum(4 * (o + i) for o, i in LINEAR.values())  # bytes of an adapter in a layer
    for gigabytes, rank in ((args.gigabytes / 4, 64), (args.gigabytes, 64), (2 * args.gigabytes, 64), (args.gigabytes, None)):
        layers, total = make_base(base, gigabytes, None)
        rank = rank or round(total / layers / per_rank)
        size = make_adapter(adapter, layers, rank, rng)
        cells = []
        for flags in ([], ["--workers", "16"]):
            peak = 0.0
            for _ in range(args.rounds):
                peak = max(peak, run(merge_command(args, base, adapter, out, "--no-fsync", *flags))[1])
                shutil.rmtree(out)
            cells.append(f"{peak:.0f}")
        lines.append(f"| {total / 1e9:.2f} | {rank} | {size / 1e9:.2f} | {' | '.join(cells)} |")
        shutil.rmtree(base)
        shutil.rmtree(adapter)
    return lines


def make_onnx(path, gigabytes, inline, rng):
    """Makes a chain of products with F32 weights of 64 MB, in the model file or in one beside it."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    path.mkdir()
    n = int(gigabytes * 1e9 / (4 * HIDDEN * HIDDEN))
    nodes, tensors = [], []
    with open(path / "model.onnx.data", "wb") as data:
        for i in range(n):
            name = f"onnx::MatMul_{i}"
            w = rng.standard_normal((HIDDEN, HIDDEN), dtype=np.float32) * np.float32(0.02)
            t = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=(HIDDEN, HIDDEN))
            if inline:
                t.raw_data = w.tobytes()
            else:
                t.data_location = TensorProto.EXTERNAL
                for key, value in {"location": "model.onnx.data", "offset": data.tell(), "length": w.nbytes}.items():
                    t.external_data.add(key=key, value=str(value))
                data.write(w.tobytes())
            tensors.append(t)
            nodes.append(helper.make_node("MatMul", [f"x{i}", name], [f"x{i + 1}"], name=f"/layers.{i}/fc/MatMul"))
    if inline:
        (path / "model.onnx.data").unlink()
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", HIDDEN])  # noqa: E731
    graph = helper.make_graph(nodes, "chain", [value("x0")], [value(f"x{n}")], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (path / "model.onnx").write_bytes(model.SerializeToString())
    return n


def section_onnx(args, work, rng):
    import numpy as np

    base, adapter, out = work / "base", work / "adapter", work / "out"
    lines = [
        "A chain of products with F32 weights of 64 MB each, in memory: with the weights in one file beside the model, and inside of it. An F32 adapter on",
        "all of them; `--no-fsync`.", "",
        "| weights | GB | rank | what | fastest s | median s | × cp | peak MB |", "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for inline, gigabytes in ((False, 2.0), (True, 1.9)):
        n = make_onnx(base, gigabytes * args.gigabytes / 4, inline, rng)
        size = sum(f.stat().st_size for f in base.iterdir()) / 1e9
        for rank in map(int, args.ranks.split(",")):
            f32 = lambda *shape: lambda: rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)  # noqa: E731
            tensors = []
            for i in range(n):
                stem = f"base_model.model.layers.{i}.fc.lora_"
                tensors += [(stem + "A.weight", "F32", (rank, HIDDEN), f32(rank, HIDDEN)), (stem + "B.weight", "F32", (HIDDEN, rank), f32(HIDDEN, rank))]
            adapter.mkdir()
            write_file(adapter / "adapter_model.safetensors", sorted(tensors, key=lambda t: t[0]))
            config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["fc"]}
            (adapter / "adapter_config.json").write_text(json.dumps(config))
            contenders = {"`cp -r`": ["cp", "-r", base, out], "`graft merge --no-fsync`": merge_command(args, base / "model.onnx", adapter, out / "model.onnx", "--no-fsync")}
            times, peak = collections.defaultdict(list), collections.defaultdict(float)
            for _ in range(args.rounds):
                for name, command in contenders.items():
                    if name.startswith("`graft"):
                        out.mkdir()
                    seconds, memory = run(command)
                    shutil.rmtree(out)
                    times[name].append(seconds)
                    peak[name] = max(peak[name], memory)
            shutil.rmtree(adapter)
            least = min(times["`cp -r`"])
            for name, t in times.items():
                lines.append(f"| {'inside' if inline else 'beside'} | {size:.2f} | {rank} | {name} | {min(t):.2f} | {statistics.median(t):.2f}"
                             f" | {min(t) / least:.2f} | {peak[name]:.0f} |")  # fmt: skip
        shutil.rmtree(base)
    return lines


def section_kernel(args, work, rng):
    command = ["go", "test", "./patch/kernel", "-run", "^$", "-bench", "BenchmarkMerge", "-cpu", "1", "-benchtime", "0.3s", "-count", str(args.rounds)]
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    best = collections.defaultdict(lambda: collections.defaultdict(float))
    for engine, dtype, rank, numbers in re.findall(r"^BenchmarkMerge/(\w+)/(\w+)/r(\d+)\s+\d+\s+(.*)$", text, re.M):
        for number, unit in re.findall(r"([\d.e+]+) (\S+)", numbers):
            row = best[engine, dtype, int(rank)]
            row[unit] = max(row[unit], float(number))
    if not best:
        sys.exit(f"no results in the output of {' '.join(command)}:\n{text}")
    first = next(iter(best))[0]  # the engine that this processor uses
    rows = {(dtype, rank): v for (engine, dtype, rank), v in best.items() if engine == first}

    def share(v):
        return 100 * v["GFLOP/s"] / v["peak-GFLOP/s"] if v["peak-GFLOP/s"] else 0

    def times(v):
        return v["copy-GB/s"] / v["GB/s"]

    lines = [
        f"`{' '.join(command).replace('^$', chr(39) + '^$' + chr(39))}`: one core merges a block of 2 MiB, 4096 columns wide, as a worker of `graft merge` does,",
        "and takes turns with a plain copy of the same bytes and with a loop of independent fused multiply-adds on registers, the",
        f"processor's peak for vectors of 256 bits. GFLOP are 2 · rank · elements; GB are the block's bytes. The engine here is {first}.", "",
        "| base | rank | GFLOP/s | of peak | GB/s | copy GB/s | × copy |", "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for (dtype, rank), v in rows.items():
        peak = f"{share(v):.0f} %" if share(v) else "–"
        lines.append(f"| {dtype} | {rank} | {v['GFLOP/s']:.1f} | {peak} | {v['GB/s']:.2f} | {v['copy-GB/s']:.1f} | {times(v):.1f} |")
    ranks = sorted({rank for _, rank in rows})
    low, high = ranks[0], ranks[-1]
    peaks = {"float64" if dtype == "F64" else "float32": v["peak-GFLOP/s"] for (dtype, _), v in rows.items()}
    said = ", ".join(f"{p:.1f} GFLOP/s in {typ}" for typ, p in peaks.items() if p)
    lines.append("")
    if said:
        shares = {rank: min_max(share(v) for (_, r), v in rows.items() if r == rank) for rank in ranks}
        atpeak = min_max(2 * low * v["copy-GB/s"] / {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}[dtype] / v["peak-GFLOP/s"]
                         for (dtype, rank), v in rows.items() if rank == low)  # fmt: skip
        lines += [
            f"The peak is {said}. At that rate the multiply-adds of rank {low} would take {atpeak} times as long as the",
            "copy: from there on the arithmetic limits a merge, and not the bytes that are moved.", "",
            f"At rank {high} a merge reaches {shares[high]} % of the peak. The inner loop holds 6 rows × 2 vectors of sums and does 12 multiply-adds for 8",
            "loads, which keeps both multipliers busy. What is missing goes to laying out the right factor for that loop, once a block:",
            "blocks are 2 MiB whatever the dtype, and those of F32 and F64 have fewer rows to share it.", "",
            f"At rank {low} it reaches {shares[low]} %: decoding, adding, rounding and encoding an element takes about as long as its {low} multiply-adds, and",
            "its sum is stored and loaded once in between.", "",
        ]  # fmt: skip
    others = {e: None for e, _, _ in best if e != first}
    for engine in others:
        rates = [f"{dtype} {min_max(v['GFLOP/s'] for (e, d, _), v in best.items() if (e, d) == (engine, dtype))}"
                 for dtype in dict.fromkeys(d for e, d, _ in best if e == engine)]  # fmt: skip
        lines.append(f"The {engine} engine gives the same bits with {', '.join(rates)} GFLOP/s.")
    return lines


def section_extract(args, work, rng):
    return benchmark_extract.section(args, work, rng, run, LINEAR)


def svd_peer(base, tuned, report):
    path, how = str(report).rsplit(":", 1)
    benchmark_extract.peer(base, tuned, Path(path), how)


def section_train(args, work, rng):
    return benchmark_train.section(args, work, rng, run)


def min_max(values):
    values = sorted(f"{v:.0f}" if v >= 10 else f"{v:.1f}" for v in values)
    low, high = min(values, key=float), max(values, key=float)
    return low if low == high else f"{low}–{high}"


# name: title, function, the directory it works in, the options that matter
SECTIONS = {
    "merge": ("Merging, files in memory", section_merge, "dir", ("gigabytes", "ranks")),
    "disk": ("Merging, files on a disk", section_disk, "disk_dir", ("gigabytes", "ranks")),
    "convert": ("Converting", section_convert, "dir", ("gigabytes",)),
    "memory": ("Memory of a merge", section_memory, "dir", ("gigabytes",)),
    "onnx": ("Merging ONNX models", section_onnx, "dir", ("gigabytes", "ranks")),
    "extract": ("Extracting an adapter", section_extract, "dir", ()),
    "train": ("Training", section_train, "dir", ()),
    "kernel": ("The arithmetic of merging", section_kernel, None, ()),
}

INTRO = """# Benchmarks

<!-- Made by testdata/gen/benchmarks.py: run it again rather than edit. -->

How fast graft is beside copying the same bytes and beside other programs, how much memory it takes, and how far its arithmetic is from what
the processor can do.

## How to get it again

    go build -o graft ./cmd/graft
    python testdata/gen/benchmarks.py --graft ./graft --dir /dev/shm --disk-dir DIR --out docs/benchmarks.md

in the environment of `testdata/gen/gen-requirements.txt`. `--only merge,disk,convert,memory,onnx,extract,train,kernel` chooses sections; those that are not
measured again stay as they are. Each section says when it was made, on what, and by which command.

## How to read it

- The machine may be shared, and copying alone then varies by a factor of two from hour to hour. Contenders take turns within one run: compare
  numbers of one table, by their ratio, and not those of two.
- Of the rounds the fastest and the median are given. Ratios are of the fastest, which is what the others hindered least.
- Peak memory is the process's largest resident set; 1 MB is 10⁶ bytes, 1 GB 10⁹. Some 9 MB are what a process is
  started with, and all that `cp` shows.
- Weights and factors are random numbers.
"""


def version(package):
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def machine(directory):
    """Describes what a section ran on; no names of hosts or paths."""
    def field(path, key):
        return next((line.split(":", 1)[1].strip() for line in Path(path).read_text().splitlines() if line.startswith(key)), "unknown")

    parts = [field("/proc/cpuinfo", "model name"), f"{os.cpu_count()} cores", f"{int(field('/proc/meminfo', 'MemTotal').split()[0]) * 1024 / 1e9:.0f} GB RAM",
             f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"]  # fmt: skip
    go = subprocess.run(["go", "env", "GOVERSION"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    parts += [go.replace("go", "Go "), f"Python {platform.python_version()}"]
    parts += [f"{label} {v}" for package, label in (("torch", "PyTorch"), ("peft", "PEFT")) if (v := version(package))]
    if directory:
        parts.append(subprocess.run(["df", "--output=fstype", directory], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])
    return ", ".join(parts)


def measure(args, name):
    import numpy as np

    title, section, directory, options = SECTIONS[name]
    where = getattr(args, directory) if directory else None
    work = where / "graft-benchmark" if where else None
    command = f"benchmarks.py --only {name}" + "".join(f" --{o} {getattr(args, o):g}" if o == "gigabytes" else f" --{o} {getattr(args, o)}" for o in (*options, "rounds"))
    if name == "merge" and args.skip:
        command += f" --skip {args.skip}"
    try:
        if work:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
        lines = section(args, work, np.random.default_rng(args.seed))
    finally:
        if work:
            shutil.rmtree(work, ignore_errors=True)
    if name in BOUNDS:
        lines += ["", BOUNDS[name]]
    return "\n".join([f"## {title}", "", *lines, "", f"{date.today()}, {args.rounds} round{'s' * (args.rounds > 1)}: {machine(where)}. `{command}`", ""])


def kept_sections(page):
    """Returns the sections of a page by their titles."""
    if not page.exists():
        return {}
    parts = re.split(r"^## (.*)\n", page.read_text(), flags=re.M)
    return {title: f"## {title}\n{body.rstrip()}\n" for title, body in zip(parts[1::2], parts[2::2])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graft", type=lambda p: Path(p).resolve())
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--disk-dir", type=Path)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--ranks", default="16,64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", default="", help="contenders to leave out, split by commas: torch, peft")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        {"torch": torch_loop, "peft": peft_merge, "svd": svd_peer, "lora": benchmark_train.peer}[args.run[0]](*map(Path, args.run[1:]))
        return
    names = args.only.split(",")
    for name in names:
        if name not in SECTIONS:
            parser.error(f"no section {name}; there are {', '.join(SECTIONS)}")
        if directory := SECTIONS[name][2]:
            for option in ("graft", directory):
                if getattr(args, option) is None:
                    parser.error(f"section {name} needs --{option.replace('_', '-')}")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name in names:
        section = measure(args, name)
        print(section, flush=True)
        if args.out:
            have = kept_sections(args.out) | {SECTIONS[name][0]: section}
            titles = [title for title, *_ in SECTIONS.values()]
            args.out.write_text("\n".join([INTRO, *(have[t] for t in titles if t in have)]))


if __name__ == "__main__":
    main()

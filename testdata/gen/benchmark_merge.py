"""Measures merging beside its peers: cp -r, graft, a shard-wise PyTorch loop, and PEFT.

    python benchmark_merge.py --graft GRAFT --dir DIR [--gigabytes 4] [--ranks 16,64] [--rounds 3] [--durable]

Makes a Llama-shaped BF16 checkpoint of the given size in shards of about 1 GB with random weights, and an F32 adapter on
all linear layers for each rank, below DIR (which needs about three times the size). Then runs every contender in turn, round
after round, so that what else the machine does hits all alike, and prints a Markdown table: the fastest and the median time
of each, its ratio to cp's, and the peak memory of its process. With --durable everything is synced to the disk: cp by
`sync -f`, PyTorch and PEFT likewise, graft by its own fsync; without, graft runs with --no-fsync, for a DIR on tmpfs.

Needs the environment of gen-requirements.txt. The weights are the same for a seed; times of course are not.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

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


def write_file(path, tensors):
    """Writes a safetensors file tensor by tensor; tensors are (name, dtype, shape, make)."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, _ in tensors:
        n = (2 if dtype == "BF16" else 4) * int.__mul__(*shape) if len(shape) == 2 else (2 if dtype == "BF16" else 4) * shape[0]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for *_, make in tensors:
            f.write(make().tobytes())
    return at


def make_base(path, gigabytes, rng):
    import numpy as np

    def bf16(*shape):
        def make():
            x = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            return (x.view(np.uint32) >> 16).astype(np.uint16)

        return make

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
    import numpy as np

    def f32(*shape):
        return lambda: rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)

    tensors = []
    for n in range(layers):
        for k, (o, i) in LINEAR.items():
            stem = f"base_model.model.model.layers.{n}.{k}.lora_"
            tensors += [(stem + "A.weight", "F32", (rank, i), f32(rank, i)), (stem + "B.weight", "F32", (o, rank), f32(o, rank))]
    path.mkdir()
    write_file(path / "adapter_model.safetensors", sorted(tensors, key=lambda t: t[0]))
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank,
              "target_modules": sorted(k.split(".")[1] for k in LINEAR)}  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2))


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


def measure(command, out, sync):
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    pid = os.spawnvp(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(pid, 0)
    if sync:
        subprocess.run(["sync", "-f", str(out)], check=True)
    seconds = time.perf_counter() - began
    if status != 0:
        sys.exit(f"{command} failed with status {status}")
    shutil.rmtree(out)
    return seconds, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graft", type=Path)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--ranks", default="16,64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--durable", action="store_true")
    parser.add_argument("--skip", default="", help="contenders to leave out, split by commas: torch, peft")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        {"torch": torch_loop, "peft": peft_merge}[args.run[0]](*map(Path, args.run[1:]))
        return
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    import numpy as np

    rng = np.random.default_rng(args.seed)
    work = args.dir / "graft-benchmark"
    shutil.rmtree(work, ignore_errors=True)
    base, out = work / "base", work / "out"
    layers, total = make_base(base, args.gigabytes, rng)
    print(f"{total / 1e9:.2f} GB BF16, {layers} layers, all linear layers, F32 adapter; {os.cpu_count()} processors,"
          f" {platform.machine()}; {'synced to disk' if args.durable else 'no sync'}; {args.rounds} rounds\n")  # fmt: skip
    print("| rank | what | fastest s | median s | × cp | peak MB |\n| --- | --- | --- | --- | --- | --- |")
    for rank in map(int, args.ranks.split(",")):
        adapter = work / f"adapter-{rank}"
        make_adapter(adapter, layers, rank, rng)
        graft = [str(args.graft), "merge", "--base", str(base), "--adapter", str(adapter), "--out", str(out), "--quiet"]
        contenders = {"cp -r": ["cp", "-r", str(base), str(out)], "graft": graft + ([] if args.durable else ["--no-fsync"])}
        for name in ("torch", "peft"):
            if name not in args.skip.split(","):
                contenders[name] = [sys.executable, __file__, "--run", name, str(base), str(adapter), str(out)]
        times = {name: [] for name in contenders}
        peak = dict.fromkeys(contenders, 0.0)
        for _ in range(args.rounds):
            for name, command in contenders.items():
                seconds, memory = measure(command, out, args.durable and name != "graft")
                times[name].append(seconds)
                peak[name] = max(peak[name], memory)
        least = min(times["cp -r"])
        for name, t in times.items():
            label = {"torch": "PyTorch, shard by shard", "peft": "PEFT: load, merge, save"}.get(name, name)
            print(f"| {rank} | {label} | {min(t):.2f} | {statistics.median(t):.2f} | {min(t) / least:.2f} | {peak[name]:.0f} |")
        sys.stdout.flush()
    shutil.rmtree(work)


if __name__ == "__main__":
    main()

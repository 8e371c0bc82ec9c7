"""The section of benchmarks.py on extracting an adapter from two models."""

import json
import os
import statistics
import sys
import time
from pathlib import Path

SIDE, RANK, OVERSAMPLE = 4096, 64, 16
PEERS = Path(__file__).resolve().with_name("benchmarks.py")


def make_pair(base, tuned, shapes, rng):
    """Writes two BF16 models; their difference is of full rank with a spectrum that decays, as training makes it."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(int(rng.integers(1 << 31)))
    b, t, n = {}, {}, 0
    for name, (out, inner) in shapes.items():
        w = torch.randn(out, inner).mul_(0.02).bfloat16()
        decay = torch.from_numpy(np.logspace(0, -2, 256, dtype=np.float32))
        d = (torch.randn(out, 256) * decay) @ torch.randn(256, inner) * (1e-3 / 16) + torch.randn(out, inner) * 2e-5
        b[name], t[name] = w, (w.float() + d).bfloat16()
        n += 2 * w.numel()
    for path, state in ((base, b), (tuned, t)):
        path.mkdir(parents=True)
        save_file(state, path / "model.safetensors", {"format": "pt"})
        (path / "config.json").write_text("{}\n")
    return n


def peer(base, tuned, report, how):
    """Decomposes every difference with PyTorch, and writes the seconds and the relative residuals."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(os.cpu_count())
    began = time.perf_counter()
    b, t = load_file(base / "model.safetensors"), load_file(tuned / "model.safetensors")
    factors, differences = {}, {}
    for name in b:
        d = t[name].float() - b[name].float()
        if how == "full":
            u, s, vh = torch.linalg.svd(d, full_matrices=False)
            v = vh.T
        else:
            u, s, v = torch.svd_lowrank(d, q=RANK + OVERSAMPLE, niter=int(how))
        root = s[:RANK].sqrt()
        factors[name + ".B"], factors[name + ".A"] = (u[:, :RANK] * root).contiguous(), (v[:, :RANK] * root).T.contiguous()
        differences[name] = d
    save_file(factors, report.with_suffix(".safetensors"))
    seconds = time.perf_counter() - began
    residuals = [float(((d - factors[n + ".B"] @ factors[n + ".A"]).double().norm() / d.double().norm())) for n, d in differences.items()]
    report.write_text(json.dumps({"seconds": seconds, "residuals": residuals}))


def section(args, work, rng, run, linear):
    base, tuned, out, report = work / "base", work / "tuned", work / "adapter", work / "report.json"
    make_pair(base, tuned, {f"layers.{n}.q_proj.weight": (SIDE, SIDE) for n in range(2)}, rng)
    extract = [args.graft, "extract", "--base", base, "--tuned", tuned, "--rank", RANK, "--out", out, "--force", "--quiet", "--report", report]
    contenders = {
        "`graft extract --no-check`": [*extract, "--no-check"],
        "`graft extract`, with the merged model compared": extract,
        **{f"`torch.svd_lowrank`, niter={n}": n for n in (2, 4, 8)},
        "LAPACK's full SVD (`torch.linalg.svd`), once": "full",
    }
    times, residual = {name: [] for name in contenders}, {}
    for turn in range(args.rounds):
        for name, c in contenders.items():
            if c == "full" and turn:
                continue
            if isinstance(c, list):
                times[name].append(run(c)[0])
                residual[name] = [m["residual"] for m in json.loads(report.read_text())["modules"]]
            else:
                run([sys.executable, PEERS, "--run", "svd", base, tuned, f"{report}:{c}"])
                got = json.loads(report.read_text())
                times[name].append(got["seconds"])
                residual[name] = got["residuals"]
    least = min(next(iter(times.values())))
    best = residual[next(reversed(residual))]
    lines = [
        f"The factors of rank {RANK} of two BF16 layers of {SIDE} × {SIDE}, files in memory. For graft the whole process is timed, with hashes and what is",
        "published; for PyTorch what lies between opening the files and having written the factors, without starting and importing. The residual",
        "is ‖Δ − B·A‖ beside that of the full decomposition, the least that the rank allows; the sketch has 16 columns more than the rank everywhere.", "",
        "| what | fastest s | median s | × graft | residual / best |", "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for name, t in times.items():
        worst = max(a / b for a, b in zip(residual[name], best))
        lines.append(f"| {name} | {min(t):.2f} | {statistics.median(t):.2f} | {min(t) / least:.2f} | {worst:.5f} |")
    for path in (base, tuned):
        for f in path.iterdir():
            f.unlink()
        path.rmdir()
    shapes = {f"model.layers.{n}.{k}.weight": s for n in range(max(1, round(2e9 / sum(2 * o * i for o, i in linear.values())))) for k, s in linear.items()}
    total = make_pair(base, tuned, shapes, rng)
    extract[extract.index("--rank") + 1] = RANK
    seconds, peak = run(extract)
    lines += ["", f"A pair of {total / 1e9:.2f} GB each, {len(shapes)} linear layers of a 7B Llama's shapes, rank {RANK}, with the merged model compared at the end: {seconds:.1f} s, peak memory {peak:.0f} MB."]
    return lines

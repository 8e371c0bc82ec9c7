"""Runs what graft makes of the exports in testdata/onnx by ONNX Runtime.

    python check_onnx.py GRAFT FIXTURES WORK [NAME]...

For each fixture: merges and injects its adapter in every mode with the program GRAFT, into WORK, and compares the outputs
with the fixture's, which are PyTorch's for the base and for base and adapter. With the factors as inputs the model is run twice:
without an adapter it must give what the base gives, bit for bit, and with the .onnx_adapter file what PyTorch gives. onnx.checker must
accept what it accepts the base as.

Prints JSON: for each fixture and product the largest difference relative to max(1, |y|), or what was wrong. A refusal of
graft is {"exit": code, "says": line}. Quantised graphs are run without optimisations, which change their results, and the
adapter's contribution is compared, relative to its largest element.

Needs interop-requirements.txt.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from safetensors.numpy import load_file

MODES = ("in-graph", "baked", "inputs")


def session(path, optimised):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path, feeds, outputs, optimised, adapters=()):
    options = ort.RunOptions()
    loaded = []  # an adapter must outlive the run
    for p in adapters:
        a = ort.LoraAdapter()
        a.Load(str(p))
        loaded.append(a)
        options.add_active_adapter(a)
    return session(path, optimised).run(outputs, feeds, options)


def gap(got, want):
    return max(float(np.max(np.abs(g.astype(np.float64) - w.astype(np.float64)), initial=0) / max(1, np.max(np.abs(w), initial=0))) for g, w in zip(got, want))


def contribution_gap(got, base, want, want_base):
    worst = 0.0
    for g, b, w, v in zip(got, base, want, want_base):
        delta = w.astype(np.float64) - v
        if np.any(delta):
            worst = max(worst, float(np.max(np.abs(g.astype(np.float64) - b - delta)) / np.max(np.abs(delta))))
    return worst


def checker(path):
    try:
        onnx.checker.check_model(str(path))
    except Exception as e:  # of any kind
        return str(e).splitlines()[0]
    return None


def graft(program, *args):
    p = subprocess.run([program, *map(str, args)], capture_output=True, text=True)
    if p.returncode:
        return {"exit": p.returncode, "says": p.stderr.splitlines()[0].rsplit(": ", 2)[-2:]}
    return None


def check(program, fixture, work):
    info = json.loads((fixture / "fixture.json").read_text())
    base = fixture / "model.onnx"
    quantised = "int" in fixture.name
    optimised = not quantised
    declared = {i.name for i in onnx.load(base, load_external_data=False).graph.input}
    base_says = checker(base)
    weights = []
    if (fixture / "weights.safetensors").exists() and info.get("needs_values", "stripped" in fixture.name):
        weights = ["--weights", fixture / "weights.safetensors"]
    result = {}
    for product in ("merge",) + MODES:
        out = work / fixture.name / product / "model.onnx"
        out.parent.mkdir(parents=True)
        common = ["--quiet", "--base", base, "--adapter", fixture / "adapter", "--out", out, *weights]
        refused = graft(program, *(["merge"] if product == "merge" else ["inject", "--mode", product]), *common)
        if refused:
            result[product] = refused
            continue
        says = checker(out)
        if says and not base_says:
            result[product] = {"checker": says}
            continue
        if info["dtype"] == "bfloat16":
            result[product] = {"skipped": "ONNX Runtime has no kernels for bfloat16 on a CPU"}
            continue
        worst = 0.0
        for name in info["runs"]:
            io = load_file(fixture / name)
            outputs = [k[len("base.") :] for k in io if k.startswith("base.")]
            feeds = {k: v for k, v in io.items() if k in declared and not k.startswith(("base.", "adapted."))}
            want, want_base = [io["adapted." + o] for o in outputs], [io["base." + o] for o in outputs]
            on_base = run(base, feeds, outputs, optimised)
            adapters = []
            if product == "inputs":
                adapters = sorted(out.parent.glob("*.onnx_adapter"))
                off = run(out, feeds, outputs, optimised)
                if not all(np.array_equal(a, b) for a, b in zip(off, on_base)):
                    result[product] = {"off": gap(off, on_base)}
            got = run(out, feeds, outputs, optimised, adapters)
            worst = max(worst, contribution_gap(got, on_base, want, want_base) if quantised else gap(got, want))
        result.setdefault(product, {})["gap"] = worst
    return result


def main():
    program, fixtures, work, names = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]
    results = {}
    for f in sorted(fixtures.iterdir()):
        if not (f / "fixture.json").exists() or names and f.name not in names:
            continue
        try:
            results[f.name] = check(program, f, work)
        except Exception as e:  # say which fixture it was
            results[f.name] = {"error": f"{type(e).__name__}: {str(e).splitlines()[0]}"}
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

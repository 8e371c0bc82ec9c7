"""Runs what graft makes of the exports in testdata/onnx by ONNX Runtime.

    python check_onnx.py GRAFT FIXTURES WORK [NAME]...

For each fixture, with the program GRAFT, into WORK:

merge, in-graph, baked, inputs   what each product computes, against the fixture's outputs, which are PyTorch's for base and adapter
inputs                           also without an adapter, where it must give what the base gives
names                            models and adapter files with the other namings of factors
external                         merged models with all weights outside, or inside
verify                           what `graft verify` says of the merged model, and after one byte of it was changed
old                              products of a graph of IR version 3 (of one fixture)
two                              the fixture's adapter with a second one, made here, of other ranks: 0.5 and -1.25 of them together, and as
                                 inputs each alone; against the graph with a dense ΔW added beside each layer (onnx_sites.py)

onnx.checker must accept what it accepts the base as, and the versions of IR and operator sets stay.

Prints JSON: for each fixture and product the largest difference (`gap`) relative to max(1, |y|), how far the adapter moves the
outputs (`moved`), and what else was found. A refusal of graft is {"exit": code, "says": line}. Quantised graphs are run without
optimisations, which change their results, and the adapter's contribution is compared, relative to its largest element.
ONNX Runtime has no kernels for bfloat16 on a CPU: such graphs are widened to float32 and then run.

Needs interop-requirements.txt.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx_sites
import onnxruntime as ort
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

MODES = ("in-graph", "baked", "inputs")
WEIGHTS = (0.5, -1.25)


def run(model, feeds, outputs, optimised, adapters=()):
    """`model` is a path, or a ModelProto."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    options = ort.RunOptions()
    loaded = []  # an adapter must outlive the run
    for p in adapters:
        a = ort.LoraAdapter()
        a.Load(str(p))
        loaded.append(a)
        options.add_active_adapter(a)
    return session.run(outputs, feeds, options)


def same(got, want):
    return all(np.array_equal(g, w) for g, w in zip(got, want, strict=True))


def gap(got, want):
    def one(g, w):
        return float(np.max(np.abs(g.astype(np.float64) - w.astype(np.float64)), initial=0) / max(1, np.max(np.abs(w), initial=0)))

    return max(one(g, w) for g, w in zip(got, want, strict=True))


def contribution_gap(got, base, want, want_base):
    worst = 0.0
    for g, b, w, v in zip(got, base, want, want_base, strict=True):
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


def versions(path):
    m = onnx.load(path, load_external_data=False)
    return m.ir_version, sorted((o.domain, o.version) for o in m.opset_import)


class Fixture:
    def __init__(self, program, folder, work):
        self.program, self.folder, self.work = program, folder, work / folder.name
        self.base, self.adapter = folder / "model.onnx", folder / "adapter"
        self.info = json.loads((folder / "fixture.json").read_text())
        self.quantised = "int" in folder.name
        self.narrow = self.info["dtype"] == "bfloat16"
        inputs = onnx.load(self.base, load_external_data=False).graph.input
        self.declared = {i.name for i in inputs}
        self.weights = ["--weights", folder / "weights.safetensors"] if "stripped" in folder.name else []

    def graft(self, *args):
        """None, or what it refused."""
        p = subprocess.run([self.program, *map(str, args)], capture_output=True, text=True)
        return {"exit": p.returncode, "says": p.stderr.splitlines()[0] if p.stderr else ""} if p.returncode else None

    def make(self, product, name, *more, adapters=None):
        """The path of a product, and what graft refused."""
        out = self.work / name / "model.onnx"
        out.parent.mkdir(parents=True)
        command = ["merge"] if product == "merge" else ["inject", "--mode", product]
        chosen = [x for a in adapters or [self.adapter] for x in ("--adapter", a)]
        return out, self.graft(*command, "--quiet", "--base", self.base, *chosen, "--out", out, *self.weights, *more)

    def checker(self, out):
        """What onnx.checker has against a product, if it has nothing against the base."""
        return checker(out) if not checker(self.base) else None

    def runs(self):
        """Feeds, outputs' names, and PyTorch's values for the base and with the adapter."""
        for name in self.info["runs"]:
            io = load_file(self.folder / name)
            outputs = [k.removeprefix("base.") for k in io if k.startswith("base.")]
            feeds = {k: v for k, v in io.items() if k in self.declared and not k.startswith(("base.", "adapted."))}
            if self.narrow:
                feeds = {k: v.astype(np.float32) for k, v in feeds.items()}
            yield feeds, outputs, [io["base." + o] for o in outputs], [io["adapted." + o] for o in outputs]

    def run(self, model, feeds, outputs, adapters=(), optimised=None):
        if self.narrow:
            model = onnx_sites.widened(onnx.load(model))
        return run(model, feeds, outputs, not self.quantised if optimised is None else optimised, adapters)

    def compare(self, out, adapters=()):
        worst, moved = 0.0, 0.0
        for feeds, outputs, base, adapted in self.runs():
            got = self.run(out, feeds, outputs, adapters)
            if self.quantised:
                worst = max(worst, contribution_gap(got, self.run(self.base, feeds, outputs), adapted, base))
            else:
                worst = max(worst, gap(got, adapted))
            moved = max(moved, gap(adapted, base))
        return {"gap": worst, "moved": moved}

    def check(self):
        result = {}
        for product in ("merge",) + MODES:
            out, refused = self.make(product, product)
            if refused:
                result[product] = refused
                continue
            if self.narrow and product == "inputs":
                result[product] = {"skipped": "a widened graph does not take bfloat16 factors"}
                continue
            result[product] = self.compare(out, sorted(out.parent.glob("*.onnx_adapter")))
            result[product] |= {"checker": self.checker(out), "versions": versions(out) == versions(self.base)}
            if product == "inputs":
                result[product] |= self.off(out)
        if "gap" in result["merge"]:
            result["external"], result["verify"] = self.external(), self.verify()
        if "gap" in result["inputs"]:
            result["names"] = self.names()
        if "gap" in result["baked"]:
            result["two"] = self.two()
        if self.folder.name == "mlp-ts13":
            result["old"] = self.old()
        return result

    def old(self):
        """The same graph as of IR version 3, in which every initializer has to be an input."""
        proto = onnx.load(self.base)
        proto.ir_version = 3
        for t in proto.graph.initializer:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims))
        keep, self.base = self.base, self.work / "old.onnx"
        onnx.save(proto, self.base)
        result = {}
        for product in ("merge",) + MODES:
            out, refused = self.make(product, f"old-{product}")
            result[product] = refused or self.compare(out, sorted(out.parent.glob("*.onnx_adapter")))
            result[product] |= {"checker": self.checker(out), "version": versions(out)[0]}
        self.base = keep
        return result

    def off(self, out):
        """Without an adapter: as written it computes the same numbers. Optimised, nodes of the base may be joined otherwise."""
        exact, optimised = True, 0.0
        for feeds, outputs, _, _ in self.runs():
            exact &= same(self.run(out, feeds, outputs, optimised=False), self.run(self.base, feeds, outputs, optimised=False))
            if not self.quantised:
                optimised = max(optimised, gap(self.run(out, feeds, outputs), self.run(self.base, feeds, outputs)))
        return {"off": exact, "off_optimised": optimised}

    def names(self):
        """Under every naming: are the adapter's parameters inputs of the model, and does it compute the same numbers?"""
        result = {}
        known, files = self.work / "inputs/model.onnx", sorted((self.work / "inputs").glob("*.onnx_adapter"))
        wanted = [self.run(known, feeds, outputs, files) for feeds, outputs, _, _ in self.runs()]
        for naming in ("olive", "peft", "genai"):
            out, refused = self.make("inputs", f"names-{naming}", "--names", naming)
            if refused:
                result[naming] = refused
                continue
            (adapter,) = out.parent.glob("*.onnx_adapter")
            inputs = {i.name for i in onnx.load(out, load_external_data=False).graph.input} - self.declared
            parameters = set(ort.AdapterFormat.read_adapter(str(adapter)).get_parameters())
            got = [self.run(out, feeds, outputs, [adapter]) for feeds, outputs, _, _ in self.runs()]
            equal = [same(g, w) for g, w in zip(got, wanted, strict=True)]
            result[naming] = {"same": all(equal), "inputs": inputs == parameters, "first": sorted(inputs)[0]}
        return result

    def external(self):
        result = {}
        for where in ("always", "never"):
            out, refused = self.make("merge", f"external-{where}", "--external", where)
            if refused:
                result[where] = refused
                continue
            proto = onnx.load(out, load_external_data=False)
            outside = [t for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
            merged = self.work / "merge/model.onnx"
            equal = [same(self.run(out, feeds, outputs), self.run(merged, feeds, outputs)) for feeds, outputs, _, _ in self.runs()]
            files = sorted(p.name for p in out.parent.iterdir())
            result[where] = {"same": all(equal), "files": files, "outside": len(outside), "checker": self.checker(out)}
        return result

    def verify(self):
        merged = self.work / "verify"
        shutil.copytree(self.work / "merge", merged)
        args = ["verify", "--quiet", "--base", self.base, "--adapter", self.adapter, "--merged", merged / "model.onnx", *self.weights]
        good = self.graft(*args)
        damage(merged)
        return {"good": good, "changed": self.graft(*args)}

    def two(self):
        second = self.work / "second"
        deltas = [self.deltas(self.adapter), make_adapter(self, second)]
        result = {}
        both = [f"{path}={weight}" for path, weight in zip((self.adapter, second), WEIGHTS, strict=True)]
        summed = {m: WEIGHTS[0] * deltas[0][m] + WEIGHTS[1] * deltas[1][m] for m in deltas[0]}
        for product in ("merge", "in-graph", "baked"):
            out, refused = self.make(product, f"two-{product}", adapters=both)
            result[product] = refused or self.compare_dense(out, summed)
        if self.narrow:
            return result
        out, refused = self.make("inputs", "two-inputs", adapters=[self.adapter, second])
        result["inputs"] = refused
        if not refused:
            files = sorted(out.parent.glob("*.onnx_adapter"))
            result["files"] = [f.name for f in files]
            result["inputs"] = [self.compare_dense(out, d, [f]) for d, f in zip(deltas, files, strict=True)]
        return result

    def deltas(self, path):
        """ΔW of each module as onnx_sites takes it: (out, in), (out, in, kernel), of an embedding (vocabulary, features)."""
        t = load_file(path / "adapter_model.safetensors")
        return {m: dense(t, m) * info["scaling"] for m, info in self.info["modules"].items()}

    def compare_dense(self, out, deltas, adapters=()):
        """Compares with the base to which the dense ΔW were added, both as written."""
        reference = onnx.load(self.base)
        sites = onnx_sites.find(reference)
        places = [(m, s, find_site(sites, s)) for m, info in self.info["modules"].items() for s in info["sites"]]
        if reference.functions:  # their bodies are shared
            reference = onnx.inliner.inline_local_functions(reference)
            sites = onnx_sites.find(reference)
            places = [(m, s, onnx_sites.select(sites, site.weight, 0)[0]) for m, s, site in places]
        if self.info["dtype"] != "float32":
            reference = onnx_sites.widened(reference)
            sites = onnx_sites.find(reference)
            places = [(m, s, find_site(sites, s)) for m, s, _ in places]
        for module, s, site in places:
            site.rows = s.get("rows")
            onnx_sites.add_delta(reference, site, deltas[module].astype(np.float32))
            site.rows = None
        worst, moved = 0.0, 0.0
        for feeds, outputs, _, _ in self.runs():
            wide = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in feeds.items()}
            want, base = run(reference, wide, outputs, False), self.run(self.base, feeds, outputs, optimised=False)
            got = self.run(out, feeds, outputs, adapters, optimised=False)
            worst = max(worst, contribution_gap(got, base, want, base) if self.quantised else gap(got, want))
            moved = max(moved, gap(want, base))
        return {"gap": worst, "moved": moved}


def find_site(sites, described):
    wanted = {k: v for k, v in described.items() if k != "rows"}
    (site,) = [s for s in sites if s.describe() == wanted]
    return site


def dense(tensors, module):
    prefix = f"base_model.model.{module}.lora_"
    if prefix + "embedding_A" in tensors:
        return (tensors[prefix + "embedding_B"].astype(np.float64) @ tensors[prefix + "embedding_A"]).T
    a, b = tensors[prefix + "A.weight"].astype(np.float64), tensors[prefix + "B.weight"].astype(np.float64)
    return np.einsum("or,r...->o...", b.reshape(b.shape[:2]), a)


def make_adapter(fixture, path):
    """An adapter of the same modules, each of a rank of its own. Returns its ΔW."""
    rng = np.random.default_rng(1)
    path.mkdir(parents=True)
    config = json.loads((fixture.adapter / "adapter_config.json").read_text())
    config |= {"r": 1, "lora_alpha": 2, "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": False}
    made, deltas = {}, {}
    old = load_file(fixture.adapter / "adapter_model.safetensors")
    for i, module in enumerate(sorted(fixture.info["modules"])):
        rank = 1 + (3 * i + 3) % 7
        config["rank_pattern"][module] = rank
        for key in [k for k in old if k.startswith(f"base_model.model.{module}.lora_")]:
            shape = list(old[key].shape)
            shape[0 if "_A" in key else 1] = rank
            made[key] = (0.2 * rng.standard_normal(shape)).astype(old[key].dtype)
        deltas[module] = dense(made, module) * (2 / rank)
    save_file(made, path / "adapter_model.safetensors", metadata={"format": "pt"})
    (path / "adapter_config.json").write_text(json.dumps(config))
    return deltas


def damage(folder):
    """Changes one byte of the largest weight, wherever it lies."""
    proto = onnx.load(folder / "model.onnx")
    constants = [a.t for n in proto.graph.node for a in n.attribute if a.type == onnx.AttributeProto.TENSOR]
    largest = max([*proto.graph.initializer, *constants], key=lambda t: t.ByteSize())
    data = largest.raw_data or numpy_helper.to_array(largest).tobytes()
    for file in folder.iterdir():
        content = bytearray(file.read_bytes())
        at = content.find(data)
        if at >= 0:
            content[at + len(data) // 2] ^= 1
            file.write_bytes(content)
            return
    raise ValueError("the largest weight is in no file")


def main():
    program, fixtures, work, names = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]
    results = {}
    for f in sorted(fixtures.iterdir()):
        if not (f / "fixture.json").exists() or names and f.name not in names:
            continue
        try:
            results[f.name] = Fixture(program, f, work).check()
        except Exception as e:  # say which fixture it was
            results[f.name] = {"error": f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"}
        shutil.rmtree(work / f.name, ignore_errors=True)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

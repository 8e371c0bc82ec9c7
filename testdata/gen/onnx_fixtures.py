"""Exports small models to ONNX as the exporters of today do, with PEFT adapters and PyTorch's numbers for them.

    python onnx_fixtures.py --seed 1 --out testdata/onnx [--only NAME]

OUT/NAME/model.onnx              the base: a real export (or, where the note says so, made by hand after other tools)
OUT/NAME/model.onnx.data, ...    its external data, where it has any; weights.safetensors may be that too
OUT/NAME/adapter/                as PEFT's save_pretrained wrote it, random factors (model card removed)
OUT/NAME/weights.safetensors     the checkpoint that was exported, where modules are to be found by value
OUT/NAME/io.safetensors          inputs under their own names, `base.OUTPUT`, `adapted.OUTPUT`; io-*.safetensors more of that
OUT/NAME/fixture.json            what it is, and where the adapted modules lie in the graph
OUT/fixtures.json                the names

The numbers are PyTorch's in float32: PEFT's model with the adapter active, not merged (`reference` pytorch), or merged where
PEFT cannot run it unmerged (`merged`). Sizes of the inputs differ from those that were traced. 16-bit models are computed in float32
on their 16-bit weights. Weight-only quantised ones are computed in float32 on the dequantised weights, so that the adapter adds to
what the quantised model has. Where activations are quantised too there is no such model in PyTorch: there `base` is ONNX Runtime's
and `adapted` is ONNX Runtime's with X·ΔWᵀ added to the layer's output, X being what `note` says (`reference` onnxruntime).

The script asserts, with ONNX Runtime, that the exported base agrees with PyTorch; that the graph with a dense ΔW added at the sites
of fixture.json, which are found by the values of the weights, agrees with `adapted`; and that nothing names the machine.
`gap` says how well: the worst absolute difference. The graphs run as they are written; `optimized` is the base with all of ONNX
Runtime's optimisations, some of which (quantised ones) compute something else.

The same seed gives the same bits on one machine.
"""

import argparse
import ast
import copy
import json
import logging
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

from common import begin, check, save_adapter, save_json, save_tensors

torch = begin(0)  # main seeds again

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnx_handmade as handmade  # noqa: E402
import onnx_ir  # noqa: E402
import onnx_models as models  # noqa: E402
import onnx_sites  # noqa: E402
import onnx.inliner  # noqa: E402
import onnxruntime as ort  # noqa: E402
from onnx import TensorProto, numpy_helper  # noqa: E402
from onnxruntime import quantization  # noqa: E402
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from peft.tuners.lora import LoraLayer  # noqa: E402
from torch import nn  # noqa: E402

logging.getLogger().setLevel(logging.WARNING)  # onnxruntime.quantization makes everything talk

LIMIT = 400_000  # bytes of one model


# Exporting.


def export(model, inputs, names, outputs, opset, dynamo, shapes=None, traces=False, **options):
    """The exported file as a ModelProto, by either exporter, without the paths of the machine.

    `shapes` says which dimensions are symbolic: by default the first two of every input.
    """
    shapes = shapes or {n: {0: "batch", 1: "seq"} for n in names}
    kind = {"dynamic_shapes": list(shapes.values()), "external_data": False} if dynamo else {"dynamic_axes": shapes}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            model,
            tuple(inputs),
            str(path),
            input_names=names,
            output_names=outputs,
            opset_version=opset,
            dynamo=dynamo,
            verbose=False,
            **kind,
            **options,
        )
        made = onnx.load(path)
    without_traces(made, traces)
    return made


def without_traces(model, keep):
    """Drops the stack traces, or makes their paths relative: they name the machine that exported."""
    for node in [*model.graph.node, *(n for f in model.functions for n in f.node)]:
        for entry in list(node.metadata_props):
            if entry.key == "pkg.torch.onnx.stack_trace":
                if keep:
                    entry.value = re.sub(r'File "[^"]*?(?:site-packages/|(?=[^"/]*"))', 'File "', entry.value)
                else:
                    node.metadata_props.remove(entry)


def names_of_machine():
    here = {sys.prefix, sys.base_prefix, str(Path.cwd()), str(Path(__file__).resolve().parents[3]), str(Path.home())}
    return [p.encode() for p in here if len(p) > 1] + [tempfile.gettempdir().encode() + b"/"]


# Adapting.


def wrap(model, config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, LoraConfig(**copy.deepcopy(config)))


def make_adapter(base, config, path):
    """Saves an adapter with random factors and returns the model with it, read back."""
    model = wrap(copy.deepcopy(base), config)
    for name, p in model.named_parameters():
        if p.requires_grad:
            with torch.no_grad():
                noise = torch.randn(p.shape)
                p.copy_(p * (1 + 0.2 * noise) if "magnitude" in name else 0.3 * noise)
    save_adapter(model, path, save_embedding_layers=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(copy.deepcopy(base), path).eval()


def lora_layers(model):
    return {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if isinstance(m, LoraLayer)}


def logical(layer, weight):
    """[out, in] for GPT-2's Conv1D too, which stores (in, out)."""
    return weight.T if type(layer.get_base_layer()).__name__ == "Conv1D" else weight


def delta_of(layer):
    """The whole ΔW of a layer, in float32, as [out, in] or as the layer's own kind of weight."""
    inner = layer.get_base_layer()
    if layer.use_dora.get("default"):
        merged = copy.deepcopy(layer)
        before = inner.weight.detach().clone()
        merged.merge()
        return logical(layer, merged.get_base_layer().weight.detach() - before).numpy()
    if getattr(inner, "groups", 1) > 1:  # A goes over all channels, B is grouped: the kernel of that is not grouped
        a, b = (layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach().flatten(1))
        rank, out = a.shape[0], b.shape[0]
        part, rows = rank // inner.groups, out // inner.groups
        full = torch.zeros(out, rank)
        for g in range(inner.groups):
            full[g * rows : (g + 1) * rows, g * part : (g + 1) * part] = b[g * rows : (g + 1) * rows]
        return (torch.einsum("or,r...->o...", full, a) * layer.scaling["default"]).numpy()
    return logical(layer, layer.get_delta_weight("default").detach()).numpy()


# Running.


def run_onnx(model, inputs, folder=None, everything=False):
    """ONNX Runtime's outputs; by default of the graph as it is written, without optimisations."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not everything:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(Path(folder) / "model.onnx") if folder else model.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def run_torch(model, inputs):
    with torch.no_grad():
        out = model(*inputs)
    return [t.detach() for t in (out if isinstance(out, tuple) else (out,))]


def worst(got, want):
    return max(float(np.abs(np.asarray(g, np.float64) - np.asarray(w, np.float64)).max(initial=0)) for g, w in zip(got, want, strict=True))


# Fixtures.


class Fixture:
    """One directory.

    `graph(exported)` makes the ModelProto, `base()` the model the adapter is made on, `root` the submodule that is exported.
    `post` writes the files in another way than in one model.onnx.
    """

    def __init__(self, name, note, base, graph, config, inputs, outputs, **options):
        self.name, self.note, self.base, self.graph = name, note, base, graph
        self.config, self.inputs, self.outputs = config, inputs, outputs
        self.root = options.pop("root", "")
        self.exporter = options.pop("exporter")
        self.blocks = options.pop("blocks", 0)
        self.dtype = options.pop("dtype", torch.float32)
        self.weights = options.pop("weights", False)  # write weights.safetensors
        self.equal = options.pop("equal", False)  # several modules have equal weights: names decide
        self.prepare = options.pop("prepare", lambda model: None)
        self.quantized = options.pop("quantized", 0)  # relative error by which a weight is known
        self.reference = options.pop("reference", "pytorch")
        self.post = options.pop("post", None)
        # Exporters round constants to 16 bits too, as those of GELU, which PyTorch in float32 does not.
        self.tolerance = 1e-5 if self.dtype == torch.float32 else 1e-3
        self.checked = options.pop("checked", True)  # by onnx.checker, which knows no operators of ONNX Runtime
        check(not options, "unknown options", options)

    def write(self, out, seed):
        torch.manual_seed(seed)
        np.random.seed(seed)
        folder = out / self.name
        folder.mkdir(parents=True)
        base = models.prepared(self.base())
        self.prepare(base)
        base.to(self.dtype)
        if hasattr(base, "config"):
            base.name_or_path = base.config._name_or_path = self.name
        exported = base.get_submodule(self.root)
        proto = self.graph(exported)
        if self.weights:
            save_tensors(folder / "weights.safetensors", base.state_dict())
        if self.post:
            self.post(proto, folder)
        else:
            (folder / "model.onnx").write_bytes(proto.SerializeToString(deterministic=True))
        if self.checked:
            onnx.checker.check_model(str(folder / "model.onnx"))

        wide = copy.deepcopy(base).float()
        if self.quantized and self.reference == "pytorch":
            self.take_weights(proto, wide)
        adapted = make_adapter(wide if self.quantized else base, self.config, folder / "adapter").float()
        layers = lora_layers(adapted)
        strip = f"{self.root}." if self.root else ""
        modules, by_module = self.locate(proto, layers)
        check(all(n.startswith(strip) for n in modules), "an adapted module is not exported")

        gap = {"base": 0.0, "adapted": 0.0, "optimized": 0.0}
        largest = 0.0
        runnable = onnx_sites.widened(proto) if self.dtype != torch.float32 else proto
        for file, values in self.inputs().items():
            feeds = {n: (v.float() if v.is_floating_point() else v).numpy() for n, v in values.items()}
            got = run_onnx(runnable, feeds)
            with_delta = run_onnx(self.with_deltas(runnable, layers, by_module), feeds)
            names = [o.name for o in proto.graph.output]
            if self.reference == "onnxruntime":
                want, moved = [torch.from_numpy(g) for g in got], [torch.from_numpy(g) for g in with_delta]
            else:
                arguments = [torch.from_numpy(feeds[n]) for n in self.arguments(feeds)]
                want = run_torch(wide.get_submodule(self.root), arguments)
                model = adapted.base_model.model
                if self.reference == "merged":
                    model = copy.deepcopy(adapted).merge_and_unload()
                moved = run_torch(model.get_submodule(self.root), arguments)
            gap["base"] = max(gap["base"], worst(got, want))
            gap["adapted"] = max(gap["adapted"], worst(with_delta, moved))
            largest = max(largest, *(float(m.abs().max()) for m in moved))
            if self.dtype != torch.bfloat16:
                native = {n: v.numpy() for n, v in values.items()}
                gap["optimized"] = max(gap["optimized"], worst(run_onnx(None, native, folder, True), want))
            check(all((m - w).abs().max() > 0.05 for m, w in zip(moved[:1], want[:1])), "the adapter hardly matters")
            tensors = {**values, **{f"base.{n}": w for n, w in zip(names, want)}, **{f"adapted.{n}": m for n, m in zip(names, moved)}}
            save_tensors(folder / file, tensors)
        check(gap["base"] <= self.tolerance, self.name, "base is off by", gap["base"])
        if self.dtype == torch.float32 and not self.quantized:
            check(gap["optimized"] <= self.tolerance, self.name, "optimized base is off by", gap["optimized"])
        check(gap["adapted"] <= self.tolerance * max(1, largest), self.name, "adapted is off by", gap["adapted"])

        self.describe(folder, proto, modules, gap)
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                for text in names_of_machine():
                    check(text not in data, path, "names the machine:", text)
        size = sum(p.stat().st_size for p in folder.iterdir() if p.name != "io.safetensors" and p.is_file())
        check(size <= LIMIT, self.name, "is too large:", size)
        total = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        sites = sum(len(m["sites"]) for m in modules.values())
        print(f"{self.name:28} {total // 1024:4} KB  {len(modules):2} modules {sites:2} sites  gap {gap}")

    def arguments(self, feeds):
        """The inputs in the order in which the model takes them; an outer switch is not the model's."""
        return [n for n in feeds if n != "use_cache_branch" and not (n.startswith("past") and feeds[n].shape[2] == 0)]

    def locate(self, proto, layers):
        """Per adapted module what fixture.json says of it, and its sites."""
        sites = onnx_sites.find(proto)
        modules, by_module = {}, {}
        for name, layer in sorted(layers.items()):
            inner = layer.get_base_layer()
            weight = logical(layer, inner.weight.detach()).numpy()
            chosen = onnx_sites.select(sites, weight, self.quantized)
            embedding = isinstance(inner, nn.Embedding)
            chosen = [s for s in chosen if (s.node.op_type == "Gather") == embedding]
            if self.equal:
                chosen = [s for s in chosen if self.is_of(s, name)]
            check(chosen, self.name, "has no site for", name)
            by_module[name] = chosen
            r = layer.r["default"]
            modules[name] = {
                "kind": type(inner).__name__,
                "r": r,
                "alpha": layer.lora_alpha["default"],
                "scaling": layer.scaling["default"],
                "dora": bool(layer.use_dora.get("default")),
                "shape": list(weight.shape),
                "sites": [s.describe() for s in chosen],
            }
        return modules, by_module

    def take_weights(self, proto, model):
        """Gives every linear layer the weights that the quantised graph has."""
        sites = onnx_sites.find(proto)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                found = onnx_sites.select(sites, module.weight.detach().numpy(), self.quantized)
                check(len(found) == 1, self.name, "has not one site for", name)
                with torch.no_grad():
                    module.weight.copy_(torch.from_numpy(found[0].weight.copy()))

    def is_of(self, site, name):
        scopes = [ast.literal_eval(p.value) for p in site.node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
        # A second call of a layer has a number after the name.
        return name == (scopes[0][-2] if scopes else re.sub(r"_\d+$", "", ".".join(site.node.name.split("/")[1:-1])))

    def with_deltas(self, proto, layers, by_module):
        """A copy of the graph with every ΔW added. Functions are inlined first: their bodies are shared."""
        model = onnx.ModelProto()
        model.CopyFrom(proto)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        sites = onnx_sites.find(model)
        done = 0
        for name, layer in sorted(layers.items()):
            inner = layer.get_base_layer()
            delta = delta_of(layer)
            if proto.functions:
                mine = onnx_sites.select(sites, logical(layer, inner.weight.detach()).numpy(), self.quantized)
            else:
                mine = [self.again(s, sites) for s in by_module[name]]
            for site in mine:
                onnx_sites.add_delta(model, site, delta)
                done += 1
        check(done == sum(len(s) for s in by_module.values()), "some sites were not changed")
        return model

    def again(self, site, sites):
        """The same site in a copy of the graph."""
        (twin,) = [s for s in sites if (s.path, s.node.name, s.leaf) == (site.path, site.node.name, site.leaf)]
        twin = copy.copy(twin)
        twin.rows = site.rows
        return twin

    def describe(self, folder, proto, modules, gap):
        counts = {}
        for site in onnx_sites.find(proto):
            counts[site.node.op_type] = counts.get(site.node.op_type, 0) + 1
        save_json(
            folder / "fixture.json",
            {
                "note": self.note,
                "exporter": self.exporter,
                "opset": {o.domain: o.version for o in proto.opset_import},
                "ir_version": proto.ir_version,
                "dtype": str(self.dtype).removeprefix("torch."),
                "inputs": [i.name for i in proto.graph.input if i.name not in {t.name for t in proto.graph.initializer}],
                "outputs": [o.name for o in proto.graph.output],
                "runs": sorted(self.inputs()),
                "reference": self.reference,
                "root": self.root,
                "blocks": self.blocks,
                "modules": modules,
                "expected": {
                    "modules": len(modules),
                    "sites": sum(len(m["sites"]) for m in modules.values()),
                    "all_sites": dict(sorted(counts.items())),
                },
                "gap": {k: float(f"{v:.2g}") for k, v in gap.items()},
            },
        )


# Inputs. Each fixture has its own sizes, unlike those that are traced.


def tokens(vocabulary, batch, length, padded=True, generator=11):
    g = torch.Generator().manual_seed(generator + batch * length)
    ids = torch.randint(3, vocabulary, (batch, length), generator=g)
    mask = torch.ones_like(ids)
    if padded:
        mask[-1, length - 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def values(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def one(make):
    return lambda: {"io.safetensors": make()}


TEXT = ["input_ids", "attention_mask"]


def text_graph(vocabulary, outputs, opset, dynamo, after=lambda m: m, **options):
    def make(model):
        sample = tokens(vocabulary, 2, 7)
        return after(export(model, [sample[n] for n in TEXT], TEXT, outputs, opset, dynamo, **options))

    return make


def value_graph(shape, outputs, opset, dynamo, after=lambda m: m, name="x", shapes=None, **options):
    def make(model):
        sample = values(*shape).to(next(model.parameters()).dtype)
        return after(export(model, [sample], [name], outputs, opset, dynamo, shapes=shapes, **options))

    return make


def bert_case(name, note, config, opset, dynamo, attention="eager", traces=False, after=lambda m: m, model=None, **options):
    graph_options = {k: options.pop(k) for k in ("do_constant_folding", "optimize", "keep_initializers_as_inputs") if k in options}
    outputs = ["last_hidden_state", "pooler_output"]
    size = model or {}
    return Fixture(
        name,
        note,
        lambda: models.bert(attention, **size),
        text_graph(37, outputs, opset, dynamo, traces=traces, after=after, **graph_options),
        config,
        one(lambda: tokens(37, 3, 5)),
        outputs,
        root="bert",
        exporter=exporter(dynamo, **graph_options),
        blocks=size.get("num_hidden_layers", 2),
        **options,
    )


def decoder_case(name, note, base, config, opset, dynamo, blocks=2, after=lambda m: m, **options):
    graph_options = {k: options.pop(k) for k in ("do_constant_folding", "optimize", "keep_initializers_as_inputs") if k in options}
    return Fixture(
        name,
        note,
        base,
        text_graph(43, ["logits"], opset, dynamo, after=after, **graph_options),
        config,
        one(lambda: tokens(43, 3, 5)),
        ["logits"],
        exporter=exporter(dynamo, **graph_options) + options.pop("then", ""),
        blocks=blocks,
        **options,
    )


def value_case(name, note, base, config, opset, dynamo, trace, run, after=lambda m: m, shapes=None, **options):
    graph_options = {
        k: options.pop(k)
        for k in ("do_constant_folding", "optimize", "keep_initializers_as_inputs", "export_modules_as_functions")
        if k in options
    }
    made_by = options.pop("exporter", None) or exporter(dynamo, **graph_options)
    dtype = options.get("dtype", torch.float32)
    return Fixture(
        name,
        note,
        base,
        value_graph(trace, ["y"], opset, dynamo, after=after, shapes=shapes, **graph_options),
        config,
        one(lambda: {"x": values(*run).to(dtype)}),
        ["y"],
        exporter=made_by,
        **options,
    )


def exporter(dynamo, **options):
    version = torch.__version__.split("+")[0]
    text = "dynamo" if dynamo else "torchscript"
    for key, value in options.items():
        text += f", {key}={value if not isinstance(value, set) else sorted(v.__name__ for v in value)}"
    return f"torch.onnx {version} {text}"


# What is done to an export afterwards.


def without_metadata(model):
    """As a pass that clears metadata leaves it: no scopes, no origins of folded weights."""
    for item in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.input]:
        del item.metadata_props[:]
    return model


def external_one(proto, folder):
    """As optimum writes it: everything above 100 bytes in one file beside the model."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=100
    )


def external_torch(proto, folder):
    """As torch.onnx.export(dynamo=True) does by default: the tensors in model.onnx.data."""
    onnx_ir.save(onnx_ir.from_proto(proto), folder / "model.onnx", external_data="model.onnx.data")


def external_many(proto, folder):
    """One file for each tensor, named after it, as the TorchScript exporter writes a model that is too large for one."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 100:
            onnx.external_data_helper.set_external_data(tensor, location=tensor.name.replace(":", "_"))
    onnx.save_model(model, folder / "model.onnx")


def external_safetensors(proto, folder):
    """The weights lie in the checkpoint: a range of weights.safetensors is the data of an initializer."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    file = folder / "weights.safetensors"
    with file.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
    moved = 0
    for tensor in model.graph.initializer:
        if tensor.name not in header:
            continue
        begin_at, end_at = header[tensor.name]["data_offsets"]
        data = file.read_bytes()[8 + length + begin_at : 8 + length + end_at]
        check(data == numpy_helper.to_array(tensor).tobytes(), "the checkpoint has other values for", tensor.name)
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", file.name), ("offset", 8 + length + begin_at), ("length", end_at - begin_at)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        moved += 1
    check(moved > 3, "hardly anything is external")
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def as_files(work):
    """Runs `work(source, target)` on files, as onnxruntime.quantization wants it."""

    def after(model):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
            onnx.save(model, source)
            work(str(source), str(target))
            return onnx.load(target)

    return after


class Samples(quantization.CalibrationDataReader):
    def __init__(self):
        self.samples = iter([{"x": values(4, 3 + i, 13).numpy()} for i in range(3)])

    def get_next(self):
        return next(self.samples, None)


def quantize_int8(source, target):
    quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QInt8, op_types_to_quantize=["MatMul"])


def quantize_static(source, target):
    quantization.quantize_static(
        source,
        target,
        Samples(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=["MatMul"],
        weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType.QUInt8,
    )


def nbits(form, symmetric):
    def after(model):
        quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=16, is_symmetric=symmetric, quant_format=form)
        quantizer.process()
        return quantizer.model.model

    return after


def int8_weights(model):
    names = [t.name for t in model.graph.initializer if t.name.startswith("onnx::MatMul")]
    check(len(names) >= 4, "too few matrices")
    return handmade.quantize_weights(model, names)


def equal_sides(model):
    with torch.no_grad():
        model.right.weight.copy_(model.left.weight)
        model.right.bias.copy_(model.left.bias)


def zero_biases(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.zero_()


def merged_decoder(model):
    sample = cached_inputs(2, 7, 0)
    names = [n for n in sample if not n.startswith("past") and n != "use_cache_branch"]
    present = [f"present.{i}.{p}" for i in range(2) for p in ("key", "value")]
    shapes = {n: {0: "batch", 1: "seq"} for n in names}
    no_past = export(model, [sample[n] for n in names], names, ["logits", *present], 14, False, shapes=shapes)
    sample = cached_inputs(2, 3, 4)
    names = [n for n in sample if n != "use_cache_branch"]
    shapes = {n: {0: "batch", 2: "past"} if n.startswith("past") else {0: "batch", 1: "seq"} for n in names}
    shapes["attention_mask"] = {0: "batch", 1: "total"}
    with_past = export(model, [sample[n] for n in names], names, ["logits", *present], 14, False, shapes=shapes)
    return handmade.merged_decoder(no_past, with_past)


def cached_inputs(batch, length, past):
    g = torch.Generator().manual_seed(batch + length)
    ids = torch.randint(3, 43, (batch, length), generator=g)
    position = (past + torch.arange(length)).expand(batch, length)
    out = {"input_ids": ids, "attention_mask": torch.ones(batch, past + length, dtype=torch.int64), "position_ids": position}
    for layer in range(2):
        for part in ("key", "value"):
            out[f"past_key_values.{layer}.{part}"] = torch.randn(batch, 2, past, 10, generator=g)
    return out | {"use_cache_branch": torch.tensor([past > 0])}


def genai_inputs(batch, length):
    ids = torch.randint(3, 43, (batch, length), generator=torch.Generator().manual_seed(batch))
    out = {"input_ids": ids, "attention_mask": torch.ones(batch, length, dtype=torch.int64)}
    for layer in range(2):
        for part in ("key", "value"):
            out[f"past_key_values.{layer}.{part}"] = torch.zeros(batch, 2, 0, 16)
    return out


class GenaiLlama(models.Llama):
    """The builder's inputs and outputs: with an empty past, the present is what the layers computed."""

    def forward(self, input_ids, attention_mask):
        cache = models.transformers.DynamicCache(config=self.config)
        out = models.transformers.LlamaForCausalLM.forward(
            self, input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True
        )
        return (out.logits, *(t for layer in cache.layers for t in (layer.keys, layer.values)))


def genai_case(name, note, packed, config, **changes):
    return Fixture(
        name,
        note,
        lambda: models.llama(cls=GenaiLlama, head_dim=16, **changes),
        lambda model: handmade.genai(model, packed),
        config,
        one(lambda: genai_inputs(3, 5)),
        ["logits"],
        exporter="made by hand after the model builder of onnxruntime-genai",
        checked=False,
        blocks=2,
    )


def lora(r, alpha, targets, **more):
    return {"r": r, "lora_alpha": alpha, "target_modules": targets, **more}


CAUSAL = {"task_type": "CAUSAL_LM"}
MLP_TARGETS = ["mlp.0", "mlp.2", "head.0.0", "head.1"]
MLP = ((2, 3, 13), (3, 4, 13))
IMAGE = ((2, 3, 13, 11), (3, 3, 12, 17))
IMAGE_SHAPES = {"x": {0: "batch", 2: "height", 3: "width"}}

FIXTURES = [
    # TorchScript.
    bert_case(
        "bert-ts11-nofold",
        "opset 11, no constant folding: weights keep their names, Transpose before each MatMul; the pooler is a Gemm; rank_pattern and"
        " alpha_pattern; the adapter's modules start with `bert.`, the graph's do not",
        lora(
            3,
            7,
            ["query", "value", "dense"],
            rank_pattern={"layer\\.1\\.attention\\.self\\.query": 5, "pooler.dense": 2},
            alpha_pattern={"value": 2.5},
        ),
        11,
        False,
        do_constant_folding=False,
    ),
    bert_case(
        "bert-ts14",
        "opset 14, folded: anonymous transposed weights, and all biases are zero, so those of equal length are one tensor behind"
        " Identity nodes; rsLoRA",
        lora(5, 3, ["query", "key", "output.dense"], use_rslora=True),
        14,
        False,
        prepare=zero_biases,
        weights=True,
    ),
    bert_case(
        "bert-ts17-external",
        "opset 17, folded, scaled-dot-product attention; external data in one file, as optimum writes it",
        lora(2, 5, ["key", "intermediate.dense"]),
        17,
        False,
        "sdpa",
        post=external_one,
    ),
    bert_case(
        "bert-ts13-inputs",
        "opset 13, keep_initializers_as_inputs: every weight is a graph input too",
        lora(2, 3, ["value", "output.dense"]),
        13,
        False,
        keep_initializers_as_inputs=True,
        model={"num_hidden_layers": 1},
    ),
    decoder_case(
        "gpt2-ts13",
        "Conv1D is Reshape, Gemm without transB, Reshape on (in, out) weights; the head's tied weight is a transposed copy; c_proj of the"
        " attention is square",
        lambda: models.gpt2(),
        lora(3, 5, ["c_attn", "c_proj"], fan_in_fan_out=True, **CAUSAL),
        13,
        False,
    ),
    decoder_case(
        "gpt2-ts17-tied",
        "no folding: Gather and Transpose, MatMul of the head share transformer.wte.weight; the embedding is targeted"
        " (lora_embedding_A, _B) and the head is not, so only the Gather changes",
        lambda: models.gpt2(),
        lora(3, 4, ["wte", "c_fc"], fan_in_fan_out=True, **CAUSAL),
        17,
        False,
        do_constant_folding=False,
    ),
    decoder_case(
        "llama-ts14",
        "grouped-query attention without biases: nothing but node names tells the modules; all seven and the head",
        lambda: models.llama(),
        lora(
            3,
            7,
            ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"],
            alpha_pattern={"(k|up)_proj": 2},
            **CAUSAL,
        ),
        14,
        False,
        weights=True,
    ),
    decoder_case(
        "llama-ts17-dora",
        "DoRA: the update is not low-rank; on three kinds of layers",
        lambda: models.llama("sdpa"),
        lora(3, 7, ["q_proj", "v_proj", "down_proj"], use_dora=True, **CAUSAL),
        17,
        False,
        weights=True,
    ),
    value_case(
        "mlp-ts13",
        "Sequentials say their parent twice (/layers.0/mlp/mlp.0/MatMul, /head/head.0/head.0.0/Gemm); a layer without bias; Gemm at the end",
        models.Mlp,
        lora(2, 5, MLP_TARGETS, rank_pattern={"head.1": 3}),
        13,
        False,
        *MLP,
        weights=True,
    ),
    value_case(
        "mlp-ts18-nofold",
        "the same without folding, opset 18",
        models.Mlp,
        lora(3, 2, MLP_TARGETS),
        18,
        False,
        *MLP,
        do_constant_folding=False,
    ),
    value_case(
        "mlp-ts17-functions",
        "export_modules_as_functions: Linear is a local function whose body is MatMul, Add, called with the weights; functions are named"
        " Linear, Linear.1, ..., and one body serves several calls",
        models.Mlp,
        lora(2, 5, ["mlp.0", "mlp.2", "head.1"]),
        17,
        False,
        *MLP,
        export_modules_as_functions={nn.Linear},
    ),
    value_case(
        "conv-ts17",
        "Conv 3x3 with stride and padding, 1x1 without bias, 3x2 with padding and dilation, grouped and depthwise ones that are not"
        " targeted, Gemm. PEFT's A has no dilation, so `adapted` is the merged model",
        models.Convs,
        lora(3, 4, ["stem", "point", "wide", "head"]),
        17,
        False,
        *IMAGE,
        shapes=IMAGE_SHAPES,
        reference="merged",
    ),
    value_case(
        "conv-ts11-grouped",
        "LoRA on a grouped convolution: A is an ordinary convolution over all channels, B is grouped, and PEFT cannot merge it",
        models.Convs,
        lora(4, 7, ["grouped", "point"]),
        11,
        False,
        *IMAGE,
        shapes=IMAGE_SHAPES,
    ),
    value_case(
        "shared-ts17",
        "`twice` is called twice (/twice/MatMul, /twice_1/MatMul); `left` and `right` have equal weights and biases, which are one tensor"
        " behind Identity; `right` is not targeted",
        models.Shared,
        lora(2, 5, ["twice", "left"]),
        17,
        False,
        (2, 3, 7),
        (3, 4, 7),
        prepare=equal_sides,
        equal=True,
    ),
    value_case(
        "mlp-ts17-fp16",
        "float16 weights and activations",
        models.Mlp,
        lora(2, 5, MLP_TARGETS),
        17,
        False,
        *MLP,
        dtype=torch.float16,
    ),
    value_case(
        "mlp-ts14-files",
        "external data, one file for each tensor",
        models.Mlp,
        lora(2, 5, MLP_TARGETS),
        14,
        False,
        *MLP,
        post=external_many,
    ),
    # torch.export.
    bert_case(
        "bert-dyn18",
        "as by default: optimized, external data in model.onnx.data; folded weights are val_N, their names are in metadata only; stack"
        " traces are kept, with relative paths",
        lora(3, 7, ["query", "value", "dense"], rank_pattern={"pooler.dense": 2}),
        18,
        True,
        "sdpa",
        traces=True,
        model={"num_hidden_layers": 1},
        weights=True,
        post=external_torch,
    ),
    bert_case(
        "bert-dyn21-raw",
        "not optimized: weights keep their names, Transpose before each MatMul, Gemm with transB for the pooler",
        lora(3, 5, ["key", "output.dense", "pooler.dense"], alpha_pattern={"key": 11}),
        21,
        True,
        optimize=False,
        model={"num_hidden_layers": 1},
    ),
    decoder_case(
        "llama-dyn22",
        "optimized, scaled-dot-product attention",
        lambda: models.llama("sdpa"),
        lora(3, 7, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], use_rslora=True, **CAUSAL),
        22,
        True,
    ),
    decoder_case(
        "llama-dyn18-dora",
        "not optimized; DoRA with the embedding; the head is untied",
        lambda: models.llama(num_hidden_layers=1),
        lora(2, 3, ["embed_tokens", "v_proj", "down_proj"], use_dora=True, **CAUSAL),
        18,
        True,
        1,
        optimize=False,
    ),
    decoder_case(
        "gpt2-dyn22-tied",
        "optimized: the embedding's Gather reads a tensor that is named lm_head.weight, the head has a transposed copy; both are in"
        " reach, the embedding is targeted",
        lambda: models.gpt2(n_layer=1),
        lora(3, 5, ["wte", "c_attn", "mlp.c_proj"], fan_in_fan_out=True, **CAUSAL),
        22,
        True,
        1,
    ),
    value_case(
        "mlp-dyn21-stripped",
        "optimized, then cleared of metadata: no name is left, only values tell (weights.safetensors)",
        models.Mlp,
        lora(2, 5, MLP_TARGETS),
        21,
        True,
        *MLP,
        after=without_metadata,
        weights=True,
    ),
    value_case(
        "mlp-dyn18-constants",
        "weights are Constant nodes, as onnxscript folded them until late in 2025",
        models.Mlp,
        lora(2, 5, MLP_TARGETS),
        18,
        True,
        *MLP,
        after=handmade.weights_to_constants,
        exporter=f"{exporter(True)}, then changed",
    ),
    value_case(
        "mlp-dyn21-safetensors",
        "not optimized; the external data is the checkpoint itself",
        models.Mlp,
        lora(2, 5, MLP_TARGETS),
        21,
        True,
        *MLP,
        optimize=False,
        weights=True,
        post=external_safetensors,
    ),
    value_case(
        "mlp-dyn22-bf16",
        "bfloat16 weights and activations; ONNX Runtime has no kernels for that on a CPU, the check ran on a widened copy",
        models.Mlp,
        lora(2, 5, MLP_TARGETS),
        22,
        True,
        *MLP,
        dtype=torch.bfloat16,
    ),
    value_case(
        "conv-dyn18",
        "convolutions by torch.export",
        models.Convs,
        lora(3, 4, ["stem", "point", "head"], use_rslora=True),
        18,
        True,
        *IMAGE,
        shapes=IMAGE_SHAPES,
    ),
    value_case(
        "shared-dyn18",
        "as shared-ts17, optimized: MatMuls of `left` and `right` read one initializer, only the scopes of the nodes differ",
        models.Shared,
        lora(2, 5, ["twice", "left"]),
        18,
        True,
        (2, 3, 7),
        (3, 4, 7),
        prepare=equal_sides,
        equal=True,
    ),
    # Other tools.
    Fixture(
        "decoder-merged",
        "two TorchScript exports merged as optimum does: an If, branches no_past and with_past, weights of the graph around; made by hand",
        lambda: models.llama(cls=models.LlamaCached),
        merged_decoder,
        lora(3, 7, ["q_proj", "v_proj", "up_proj", "lm_head"], **CAUSAL),
        lambda: {"io.safetensors": cached_inputs(3, 5, 0), "io-with-past.safetensors": cached_inputs(3, 2, 6)},
        ["logits"],
        exporter=f"{exporter(False)}, merged by hand after optimum-onnx",
        blocks=2,
    ),
    genai_case(
        "genai",
        "names of the GenAI model builder: attn for self_attn, weights are (in, out), fused norms and attention",
        False,
        lora(3, 7, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], **CAUSAL),
    ),
    genai_case(
        "genai-packed",
        "the same with q, k, v packed in attn/qkv_proj, with biases; k_proj is not targeted; ranks differ",
        True,
        lora(3, 7, ["q_proj", "v_proj", "down_proj"], rank_pattern={"v_proj": 2}, **CAUSAL),
        attention_bias=True,
    ),
    # Quantised.
    value_case(
        "mlp-int8-dynamic",
        "quantize_dynamic: DynamicQuantizeLinear, MatMulInteger, Cast, Mul; the Gemms became MatMulInteger and Add too, on transposed weights;"
        " X is the float before DynamicQuantizeLinear, the sum is right after the last Mul",
        models.Mlp,
        lora(2, 5, MLP_TARGETS),
        17,
        False,
        *MLP,
        after=as_files(quantize_int8),
        quantized=0.03,
        reference="onnxruntime",
        exporter=f"{exporter(False)}, onnxruntime {ort.__version__} quantize_dynamic",
    ),
    value_case(
        "mlp-int8-static",
        "quantize_static, QDQ: activations are quantised and dequantised before the MatMul, and so is its output; X is the MatMul's operand"
        " and the sum comes right after the MatMul",
        models.Mlp,
        lora(2, 5, ["mlp.0", "mlp.2"]),
        17,
        False,
        *MLP,
        after=as_files(quantize_static),
        quantized=0.03,
        reference="onnxruntime",
        exporter=f"{exporter(False)}, onnxruntime {ort.__version__} quantize_static",
    ),
    value_case(
        "mlp-int8-weights",
        "weight-only QDQ: int8 (in, out), scale and zero point for each output, DequantizeLinear, MatMul; made by hand",
        models.Mlp,
        lora(2, 5, MLP_TARGETS),
        13,
        False,
        *MLP,
        after=int8_weights,
        quantized=0.03,
        exporter=f"{exporter(False)}, quantised by hand",
        weights=True,
    ),
    decoder_case(
        "llama-int4-nbits",
        "MatMulNBits, 4 bits, blocks of 16 with zero points; sizes are no multiples of the block",
        lambda: models.llama(),
        lora(3, 7, ["q_proj", "v_proj", "down_proj", "lm_head"], **CAUSAL),
        17,
        False,
        after=nbits(quantization.QuantFormat.QOperator, False),
        then=f", onnxruntime {ort.__version__} MatMulNBitsQuantizer",
        quantized=0.2,
        weights=True,
    ),
    decoder_case(
        "llama-int4-qdq",
        "int4 tensors with block_size, DequantizeLinear, MatMul (opset 21), symmetric",
        lambda: models.llama(num_hidden_layers=1),
        lora(2, 5, ["k_proj", "up_proj"], **CAUSAL),
        18,
        False,
        1,
        after=nbits(quantization.QuantFormat.QDQ, True),
        then=f", onnxruntime {ort.__version__} MatMulNBitsQuantizer",
        quantized=0.2,
    ),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", help="makes this fixture and leaves the others")
    args = parser.parse_args()

    if args.out.exists() and not args.only:
        shutil.rmtree(args.out)
    for number, fixture in enumerate(FIXTURES):
        if not args.only or fixture.name in args.only:
            shutil.rmtree(args.out / fixture.name, ignore_errors=True)
            fixture.write(args.out, args.seed * 1000 + number)
    save_json(args.out / "fixtures.json", [f.name for f in FIXTURES])


if __name__ == "__main__":
    main()

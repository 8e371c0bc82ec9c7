"""Asks ONNX Runtime what it makes of adapter files.

    python check_ort_adapter.py read DIR
    python check_ort_adapter.py run FILE NAMING PEFT

read: for each .onnx_adapter file of DIR, in order of name, what AdapterFormat.read_adapter finds (versions, and of each
parameter the type, the shape and the bytes), or its error. LoraAdapter.Load must be of the same opinion.

run: a session of a model that multiplies, for each linear module of the PEFT adapter PEFT, an identity by that module's A and B,
which are inputs with a default of rank 0, under the names that a tool of NAMING (olive, peft, genai) gives them. With FILE active the
results must be the scale times B times A of PEFT's own files. Prints how many modules, and by how much the worst element
differs, relative to the largest of its module; without FILE all must be zero.

Prints JSON. Needs interop-requirements.txt.
"""

import json
import sys
from pathlib import Path

import ml_dtypes  # noqa: F401  (gives numpy bfloat16)
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime import AdapterFormat, LoraAdapter
from safetensors import safe_open

# ONNX Runtime's names of types that numpy has not, by what holds their bits.
BITS = {"tensor(bfloat16)": "uint16", **{f"tensor({t})": "uint8" for t in ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz")}}


def bytes_of(value):
    if 0 in value.shape():
        return b""
    if value.data_type() in BITS:
        import ctypes

        size = int(np.prod(value.shape())) * np.dtype(BITS[value.data_type()]).itemsize
        return ctypes.string_at(value._ortvalue.data_ptr(), size)
    return value.numpy().tobytes()


def read(path):
    loads = True
    try:
        LoraAdapter().Load(str(path))
    except Exception:  # of whatever kind: only whether it loads counts
        loads = False
    try:
        a = AdapterFormat.read_adapter(str(path))
        parameters = {k: [v.data_type(), list(v.shape()), bytes_of(v).hex()] for k, v in a.get_parameters().items()}
    except Exception as e:
        return {"error": " ".join(str(e).split()), "loads": loads}
    versions = [a.get_format_version(), a.get_adapter_version(), a.get_model_version()]
    return {"versions": versions, "parameters": parameters, "loads": loads}


def input_name(module, factor, naming):
    if naming == "genai":
        return module.replace("self_attn", "attn") + f".lora_{factor}.MatMul.weight"
    return ("base_model.model." if naming == "peft" else "") + module + f".lora_{factor}.weight"


def run(file, naming, peft):
    config = json.loads((peft / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    if config["rank_pattern"] or config["alpha_pattern"] or config["use_rslora"]:
        sys.exit("check_ort_adapter: one scale for all is wanted")
    with safe_open(str(peft / "adapter_model.safetensors"), framework="numpy") as f:
        tensors = {k.removeprefix("base_model.model."): f.get_tensor(k) for k in f.keys()}
    modules = [k.removesuffix(".lora_A.weight") for k in tensors if k.endswith(".lora_A.weight")]
    inputs, initializers, nodes, outputs = [], [], [], []
    wanted = {}
    for i, module in enumerate(modules):
        a, b = tensors[module + ".lora_A.weight"], tensors[module + ".lora_B.weight"]
        kind = helper.np_dtype_to_tensor_dtype(a.dtype)
        wanted[f"y{i}"] = scale * (b.astype(np.float64) @ a.astype(np.float64))
        name_a, name_b = input_name(module, "A", naming), input_name(module, "B", naming)
        inputs += [
            helper.make_tensor_value_info(f"x{i}", kind, [a.shape[1], a.shape[1]]),
            helper.make_tensor_value_info(name_a, kind, [a.shape[1], f"r{i}"]),
            helper.make_tensor_value_info(name_b, kind, [f"r{i}", b.shape[0]]),
        ]
        initializers += [
            helper.make_tensor(name_a, kind, [a.shape[1], 0], b"", raw=True),
            helper.make_tensor(name_b, kind, [0, b.shape[0]], b"", raw=True),
        ]
        nodes += [helper.make_node("MatMul", [f"x{i}", name_a], [f"h{i}"]), helper.make_node("MatMul", [f"h{i}", name_b], [f"y{i}"])]
        outputs.append(helper.make_tensor_value_info(f"y{i}", kind, [a.shape[1], b.shape[0]]))
    graph = helper.make_graph(nodes, "deltas", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every input with a default
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {f"x{i}": np.eye(tensors[m + ".lora_A.weight"].shape[1], dtype=tensors[m + ".lora_A.weight"].dtype) for i, m in enumerate(modules)}
    names = sorted(wanted)
    without = session.run(names, feeds)
    adapter = LoraAdapter()
    adapter.Load(str(file))
    active = onnxruntime.RunOptions()
    active.add_active_adapter(adapter)
    worst = 0.0
    for name, got in zip(names, session.run(names, feeds, active)):
        want = wanted[name].T
        worst = max(worst, float(np.abs(got.astype(np.float64) - want).max() / np.abs(want).max()))
    return {"modules": len(modules), "worst": worst, "without": max(float(np.abs(y).max()) for y in without)}


def main(argv):
    if argv[1:2] == ["read"] and len(argv) == 3:
        result = {p.name: read(p) for p in sorted(Path(argv[2]).glob("*.onnx_adapter"))}
    elif argv[1:2] == ["run"] and len(argv) == 5:
        result = run(Path(argv[2]), argv[3], Path(argv[4]))
    else:
        sys.exit(f"usage: {argv[0]} read DIR | run FILE NAMING PEFT")
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv)

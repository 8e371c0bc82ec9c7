"""Graphs that other tools than PyTorch's exporters make, composed by hand from weights or from real exports."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from common import check


def merged_decoder(no_past, with_past):
    """What optimum makes of two exports of a decoder: one If whose branches share the weights of the graph around it.

    As there: node and value names stay, a weight that both branches have (by value) moves out and gets a name that ends in
    `_merged_N`, scalars and 1-D integers stay inside, and the outer inputs are those of both branches and `use_cache_branch`.
    """
    branches = {"no_past": no_past.graph, "with_past": with_past.graph}
    outer = {}
    for key, graph in branches.items():
        renamed = {}
        for tensor in list(graph.initializer):
            small = not tensor.dims or (len(tensor.dims) == 1 and tensor.data_type in (TensorProto.INT32, TensorProto.INT64))
            other = branches["with_past" if key == "no_past" else "no_past"]
            bits = (tuple(tensor.dims), tensor.data_type, numpy_helper.to_array(tensor).tobytes())
            if bits not in outer:
                twin = [t for t in other.initializer if (tuple(t.dims), t.data_type, numpy_helper.to_array(t).tobytes()) == bits]
                if small or not twin:
                    continue
                hoisted = TensorProto()
                hoisted.CopyFrom(tensor)
                hoisted.name = f"{tensor.name}_merged_{len(outer)}"
                outer[bits] = hoisted
            renamed[tensor.name] = outer[bits].name
            graph.initializer.remove(tensor)
        for node in graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = renamed.get(name, name)
    inputs = {}
    for graph in branches.values():
        inputs |= {i.name: i for i in graph.input}
        del graph.input[:]
    inputs["use_cache_branch"] = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    check([o.name for o in no_past.graph.output] == [o.name for o in with_past.graph.output], "outputs differ")
    outputs = list(no_past.graph.output)
    for key, graph in branches.items():
        graph.name = key
    node = helper.make_node(
        "If",
        ["use_cache_branch"],
        [o.name for o in outputs],
        name="optimum::if",
        then_branch=with_past.graph,
        else_branch=no_past.graph,
    )
    # The branches' outputs may not have the names of the If's own.
    for a in node.attribute:
        names = {o.name: f"{a.name}_{o.name}" for o in a.g.output}
        for inner in a.g.node:
            inner.input[:] = [names.get(n, n) for n in inner.input]
            inner.output[:] = [names.get(n, n) for n in inner.output]
        for o in a.g.output:
            o.name = names[o.name]
    graph = helper.make_graph([node], "merged", list(inputs.values()), outputs, list(outer.values()))
    return helper.make_model(
        graph, opset_imports=list(no_past.opset_import), ir_version=9, producer_name="optimum-onnx"
    )


def genai(model, packed):
    """A Llama as the model builder of ONNX Runtime GenAI writes it: its names, its fused operators, weights (in, out)."""
    config = model.config
    heads, groups, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    nodes, tensors = [], []

    def tensor(name, value):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(op, name, inputs, outputs=1, domain="", **attributes):
        made = [f"{name}/output_{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        nodes.append(helper.make_node(op, inputs, made, name=name, domain=domain, **attributes))
        return made[0]

    def matmul(path, x, weight, bias=None):
        name = path.lstrip("/").replace("/", ".")
        y = add("MatMul", f"{path}/MatMul", [x, tensor(f"{name}.MatMul.weight", weight.T)])
        return y if bias is None else add("Add", f"{path}/Add", [y, tensor(f"{name}.Add.bias", bias)])

    reformat = "/model/attn_mask_reformat/attn_mask_subgraph"
    total = add("ReduceSum", f"{reformat}/ReduceSum", ["attention_mask", tensor("/model/constants/INT64/[1]", np.array([1]))])
    total = add("Sub", f"{reformat}/Sub", [total, "/model/constants/INT64/[1]"])
    lengths = add("Cast", f"{reformat}/Sub/Cast", [total], to=TensorProto.INT32)
    shape = add("Shape", f"{reformat}/Shape", ["attention_mask"])
    size = add("Gather", f"{reformat}/Gather", [shape, tensor("/model/constants/INT64/1", np.array(1))], axis=0)
    size = add("Cast", f"{reformat}/Gather/Cast", [size], to=TensorProto.INT32)

    position = np.arange(config.max_position_embeddings, dtype=np.float32)[:, None]
    theta = config.rope_parameters["rope_theta"]
    angle = position * (theta ** (-np.arange(0, width, 2, dtype=np.float32) / width)).astype(np.float32)
    tensor("cos_cache", np.cos(angle))
    tensor("sin_cache", np.sin(angle))

    epsilon = config.rms_norm_eps
    x = add("Gather", "/model/embed_tokens/Gather", [tensor("model.embed_tokens.weight", state["model.embed_tokens.weight"]), "input_ids"])
    residual = None

    def norm(path, key):
        nonlocal residual
        weight = tensor(path.lstrip("/").replace("/", ".") + ".weight", state[key])
        if residual is None:
            residual = x
            return add("SimplifiedLayerNormalization", f"{path}/LayerNorm", [x, weight], axis=-1, epsilon=epsilon, stash_type=1)
        name = f"{path}/SkipLayerNorm"
        last = path.endswith("final_norm_layernorm")
        made = [f"{name}/output_0"] if last else [f"{name}/output_0", "", "", f"{name}/output_3"]
        y = add("SkipSimplifiedLayerNormalization", name, [residual, x, weight], made, "com.microsoft", epsilon=epsilon)
        residual = f"{name}/output_3"
        return y

    def value_info(name, dims, kind=TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, kind, dims)

    lengths_of = {"input_ids": "sequence_length", "attention_mask": "total_sequence_length"}
    inputs = [value_info(n, ["batch_size", d], TensorProto.INT64) for n, d in lengths_of.items()]
    outputs = [value_info("logits", ["batch_size", "sequence_length", config.vocab_size])]
    for layer in range(config.num_hidden_layers):
        path, key = f"/model/layers.{layer}", f"model.layers.{layer}"
        x_in = norm(f"{path}/input_layernorm", f"{key}.input_layernorm.weight")
        parts = [state[f"{key}.self_attn.{p}_proj.weight"] for p in "qkv"]
        biases = [state.get(f"{key}.self_attn.{p}_proj.bias") for p in "qkv"]
        if packed:
            bias = None if biases[0] is None else np.concatenate(biases)
            qkv = [matmul(f"{path}/attn/qkv_proj", x_in, np.concatenate(parts), bias), "", ""]
        else:
            qkv = [matmul(f"{path}/attn/{p}_proj", x_in, w, b) for p, w, b in zip("qkv", parts, biases)]
        past = [f"past_key_values.{layer}.{p}" for p in ("key", "value")]
        present = [f"present.{layer}.{p}" for p in ("key", "value")]
        inputs += [value_info(p, ["batch_size", groups, "past_sequence_length", width]) for p in past]
        outputs += [value_info(p, ["batch_size", groups, "total_sequence_length", width]) for p in present]
        name = f"{path}/attn/GroupQueryAttention"
        y = add(
            "GroupQueryAttention",
            name,
            [*qkv, *past, lengths, size, "cos_cache", "sin_cache"],
            [f"{name}/output_0", *present],
            "com.microsoft",
            num_heads=heads,
            kv_num_heads=groups,
            scale=width**-0.5,
            do_rotary=1,
            rotary_interleaved=0,
        )
        x = matmul(f"{path}/attn/o_proj", y, state[f"{key}.self_attn.o_proj.weight"], state.get(f"{key}.self_attn.o_proj.bias"))
        x_in = norm(f"{path}/post_attention_layernorm", f"{key}.post_attention_layernorm.weight")
        gate = matmul(f"{path}/mlp/gate_proj", x_in, state[f"{key}.mlp.gate_proj.weight"])
        up = matmul(f"{path}/mlp/up_proj", x_in, state[f"{key}.mlp.up_proj.weight"])
        act = add("Sigmoid", f"{path}/mlp/act_fn/Sigmoid", [gate])
        act = add("Mul", f"{path}/mlp/act_fn/Mul", [gate, act])
        act = add("Mul", f"{path}/mlp/Mul", [act, up])
        x = matmul(f"{path}/mlp/down_proj", act, state[f"{key}.mlp.down_proj.weight"])
    y = norm(f"/model/layers.{config.num_hidden_layers}/final_norm_layernorm", "model.norm.weight")
    head = tensor("lm_head.MatMul.weight", state["lm_head.weight"].T)
    nodes.append(helper.make_node("MatMul", [y, head], ["logits"], name="/lm_head/MatMul"))
    graph = helper.make_graph(nodes, "main_graph", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="onnxruntime-genai")


def weights_to_constants(model):
    """Every initializer becomes a Constant node, as exporters wrote folded weights until late in 2025."""
    nodes = [helper.make_node("Constant", [], [t.name], name=f"node_{t.name}", value=t) for t in model.graph.initializer]
    rest = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes + rest)
    return model


def quantize_weights(model, names):
    """Weight-only QDQ: the (in, out) matrices become int8 with a scale and a zero point for each output, and DequantizeLinear."""
    graph = model.graph
    for tensor in list(graph.initializer):
        if tensor.name not in names:
            continue
        weight = numpy_helper.to_array(tensor)
        low, high = np.minimum(weight.min(0), 0), np.maximum(weight.max(0), 0)
        scale = ((high - low) / 255).astype(np.float32)
        zero = np.clip(np.round(-128 - low / scale), -128, 127)
        quantized = np.clip(np.round(weight / scale) + zero, -128, 127)
        names_made = [f"{tensor.name}{end}" for end in ("_quantized", "_scale", "_zero_point", "_DequantizeLinear_Output")]
        values = (quantized.astype(np.int8), scale, zero.astype(np.int8))
        graph.initializer.remove(tensor)
        graph.initializer.extend(numpy_helper.from_array(v, n) for v, n in zip(values, names_made))
        node = helper.make_node(
            "DequantizeLinear", names_made[:3], names_made[3:], name=f"{tensor.name}_DequantizeLinear", axis=1
        )
        for user in graph.node:
            user.input[:] = [names_made[3] if n == tensor.name else n for n in user.input]
        graph.node.insert(0, node)
    return model

"""Finds where the weights of a graph are used, by value, and adds dense updates there: the check on the fixtures.

This reads a graph for onnx_fixtures.py only. It knows the weights that it looks for, so it needs no names; and it adds the
whole ΔW where a patcher would add two factors, so that the two have nothing in common but the graph.
"""

import copy

import numpy as np
import onnx
from onnx import helper, numpy_helper

from common import check

WEIGHT_OPERAND = {"Gemm": 1, "Conv": 1, "Gather": 0, "MatMulNBits": 1, "MatMulInteger": 1}


class Scope:
    """The constants and producers that a node sees: its graph's, then those of the graphs around it."""

    def __init__(self, graph, parent=None, bound=None):
        self.parent = parent
        self.initializers = {i.name: i for i in getattr(graph, "initializer", [])}
        self.producers = {o: n for n in graph.node for o in n.output if o}
        self.bound = bound or {}  # a function's inputs: the caller's scope and name

    def constant(self, name):
        """Value of a constant, the tensor it comes from, and whether it was transposed on the way; or None."""
        if name in self.bound:
            scope, outer = self.bound[name]
            return scope.constant(outer)
        if name in self.initializers:
            return array(self.initializers[name]), name, False
        node = self.producers.get(name)
        if node is None:
            return self.parent.constant(name) if self.parent else None
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            return array(attributes["value"]), name, False
        if node.op_type not in ("Identity", "Cast", "Transpose", "DequantizeLinear"):
            return None
        found = self.constant(node.input[0])
        if found is None:
            return None
        value, leaf, transposed = found
        if node.op_type == "Transpose":
            if value.ndim != 2:
                return None
            check(list(attributes.get("perm", [1, 0])) == [1, 0], "unexpected perm", node.name)
            return value.T, leaf, not transposed
        if node.op_type == "DequantizeLinear":
            return self.dequantized(node, attributes, value), leaf, transposed
        return value, leaf, transposed

    def dequantized(self, node, attributes, value):
        scale = self.constant(node.input[1])[0].astype(np.float32)
        zero = self.constant(node.input[2])[0].astype(np.float32) if len(node.input) > 2 else np.float32(0)
        axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)

        def spread(x):
            x = np.asarray(x)
            if x.ndim == value.ndim and block:
                return np.repeat(x, block, axis=axis).take(range(value.shape[axis]), axis=axis)
            if x.ndim == 1 and x.size > 1:
                return x.reshape([-1 if i == axis % value.ndim else 1 for i in range(value.ndim)])
            return x.reshape([1] * value.ndim)

        return (value.astype(np.float32) - spread(zero)) * spread(scale)


def array(tensor):
    value = numpy_helper.to_array(tensor)
    return value.astype(np.float32) if value.dtype.kind == "V" or value.dtype.name in ("float16", "bfloat16") else value


class Site:
    def __init__(self, path, graph, node, operand, leaf, weight, stored):
        self.path = path  # "" is the main graph, else branch and function names
        self.graph, self.node, self.operand, self.leaf = graph, node, operand, leaf
        self.weight = weight  # [out, in], [out, in/groups, k...], [vocabulary, features] for Gather
        self.stored = stored  # how the leaf lies: out_in or in_out
        self.rows = None  # of a packed weight

    def describe(self):
        text = {"graph": self.path, "node": self.node.name, "op": self.node.op_type, "operand": self.operand}
        text |= {"leaf": self.leaf, "stored": self.stored}
        return text | ({"rows": self.rows} if self.rows else {})


def find(model, graph=None, parent=None, path="", bound=None):
    """Every node with a constant matrix (or kernel) as operand."""
    graph = graph or model.graph
    scope = Scope(graph, parent, bound)
    functions = {(f.domain, f.name): f for f in model.functions}
    sites = []
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                sites += find(model, a.g, scope, f"{path}/{node.name}.{a.name}")
        function = functions.get((node.domain, node.op_type))
        if function:
            given = {inner: (scope, outer) for inner, outer in zip(function.input, node.input)}
            sites += find(model, function, None, f"{path}/{node.name}:{function.name}", given)
        elif node.op_type == "MatMul":
            found = [scope.constant(i) for i in node.input]
            for operand in (0, 1):
                if found[operand] and not found[1 - operand] and found[operand][0].ndim == 2:
                    value, leaf, transposed = found[operand]
                    logical = value if operand == 0 else value.T
                    sites.append(Site(path, graph, node, operand, leaf, logical, orientation(operand == 0, transposed)))
        elif node.op_type in WEIGHT_OPERAND:
            operand = WEIGHT_OPERAND[node.op_type]
            found = scope.constant(node.input[operand])
            if not found or found[0].ndim < 2 or found[0].dtype.kind not in "fiu":
                continue
            value, leaf, transposed = found
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Gemm":
                rows_out = bool(attributes.get("transB", 0))
                site = Site(path, graph, node, operand, leaf, value if rows_out else value.T, orientation(rows_out, transposed))
            elif node.op_type == "MatMulNBits":
                site = Site(path, graph, node, operand, leaf, nbits(scope, node, attributes, value), "out_in")
            elif node.op_type == "MatMulInteger":
                scale = scope.constant(leaf.removesuffix("_quantized") + "_scale")[0]
                zero = scope.constant(node.input[3])[0].astype(np.float32)
                site = Site(path, graph, node, operand, leaf, ((value.astype(np.float32) - zero) * scale).T, "in_out")
            else:
                if value.dtype.kind != "f":
                    continue  # shapes and positions are gathered from too
                site = Site(path, graph, node, operand, leaf, value, "out_in")
            sites.append(site)
    return sites


def orientation(logical, transposed):
    return "out_in" if logical != transposed else "in_out"


def nbits(scope, node, attributes, packed):
    """The matrix [N, K] of a MatMulNBits with 4 bits: low nibble first, zero points packed the same way by row."""
    n, k, block = attributes["N"], attributes["K"], attributes["block_size"]
    check(attributes.get("bits", 4) == 4, "only 4 bits are expected")

    def nibbles(x):
        return np.stack([x & 15, x >> 4], -1).reshape(n, -1).astype(np.float32)

    blocks = -(-k // block)
    values = nibbles(packed.reshape(n, -1)).reshape(n, blocks, block)
    zero = np.full((n, blocks), 8, np.float32)
    if len(node.input) > 3 and node.input[3]:
        zero = nibbles(scope.constant(node.input[3])[0].reshape(n, -1))[:, :blocks]
    scales = scope.constant(node.input[2])[0].reshape(n, blocks)
    return ((values - zero[..., None]) * scales[..., None]).reshape(n, -1)[:, :k]


def select(sites, weight, error):
    """The sites whose weight is this one, up to a relative error; in a packed weight, the rows that are."""
    chosen = []
    for site in sites:
        have = site.weight
        if have.ndim != weight.ndim or have.shape[1:] != weight.shape[1:] or have.shape[0] < weight.shape[0]:
            continue
        for start in range(have.shape[0] - weight.shape[0] + 1):
            part = have[start : start + weight.shape[0]]
            if np.linalg.norm(part - weight) <= error * np.linalg.norm(weight):
                match = copy.copy(site)  # a packed weight is a site of several modules
                if part.shape != have.shape:
                    match.rows = [start, start + weight.shape[0]]
                chosen.append(match)
                break
    return chosen


def add_delta(model, site, delta):
    """Adds op(X, ΔW) to the site's output. `delta` is as `site.weight`, or a kernel over all groups."""
    node, graph = site.node, site.graph
    if site.rows:
        wide = np.zeros(site.weight.shape, np.float32)
        wide[slice(*site.rows)] = delta
        delta = wide
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    x, last = node.input[1 - site.operand if node.op_type == "MatMul" else 0], node
    kind = node.op_type
    if kind == "MatMulInteger":
        (quantize,) = [n for n in graph.node if x in n.output]
        x = quantize.input[0]
        while last.op_type != "Mul":  # Cast, then the product with both scales
            (last,) = [n for n in graph.node if last.output[0] in n.input]
    if kind == "Gemm":
        check(not attributes.get("transA", 0) and attributes.get("alpha", 1.0) == 1.0, "unexpected Gemm", node.name)
    tag = f"graft_check_{len(graph.node)}"
    y = last.output[0]
    last.output[0] = f"{tag}_y"
    weight = np.ascontiguousarray(delta if kind in ("Conv", "Gather") or site.operand == 0 else delta.T, dtype=np.float32)
    # As a Constant node, so that functions and branches can hold it too.
    nodes = [helper.make_node("Constant", [], [f"{tag}_w"], value=numpy_helper.from_array(weight))]
    if kind == "Conv":
        if delta.shape[1] != site.weight.shape[1]:
            attributes["group"] = 1
        nodes.append(helper.make_node("Conv", [x, f"{tag}_w"], [f"{tag}_d"], **attributes))
    elif kind == "Gather":
        nodes.append(helper.make_node("Gather", [f"{tag}_w", node.input[1]], [f"{tag}_d"]))
    else:
        pair = [f"{tag}_w", x] if kind == "MatMul" and site.operand == 0 else [x, f"{tag}_w"]
        nodes.append(helper.make_node("MatMul", pair, [f"{tag}_d"]))
    nodes.append(helper.make_node("Add", [f"{tag}_y", f"{tag}_d"], [y]))
    where = list(graph.node).index(last) + 1
    for offset, new in enumerate(nodes):
        graph.node.insert(where + offset, new)


def widened(model):
    """The same graph in float32, for ONNX Runtime has no bfloat16 kernels on a CPU: weights are widened, casts retargeted."""
    short = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    out = onnx.ModelProto()
    out.CopyFrom(model)

    def widen(tensor):
        if tensor.data_type in short:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))

    for tensor in out.graph.initializer:
        widen(tensor)
    for node in out.graph.node:
        for a in node.attribute:
            if a.name == "value" and a.type == onnx.AttributeProto.TENSOR:
                widen(a.t)
            if a.name == "to" and node.op_type == "Cast" and a.i in short:
                a.i = onnx.TensorProto.FLOAT
    del out.graph.value_info[:]
    for value in [*out.graph.input, *out.graph.output]:
        if value.type.tensor_type.elem_type in short:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return out

"""Prints what the onnx package finds in a model, for formats/onnx to compare with: nodes, values, and every tensor's bytes."""

import hashlib
import struct
import sys

import onnx
from onnx import AttributeProto, TensorProto, numpy_helper


def spaced(items):
    return "[" + " ".join(map(str, items)) + "]"


def tensor(t):
    if t.data_type in (TensorProto.STRING, TensorProto.UNDEFINED):
        return TensorProto.DataType.Name(t.data_type)
    raw = numpy_helper.from_array(numpy_helper.to_array(t)).raw_data
    return f"{TensorProto.DataType.Name(t.data_type)} {spaced(t.dims)} {hashlib.sha256(raw).hexdigest()[:16]}"


def value(v):
    if not v.type.HasField("tensor_type"):
        return v.name
    kind = TensorProto.DataType.Name(v.type.tensor_type.elem_type)
    dims = [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
    return f"{v.name} {kind} {spaced(dims)}"


def graph(g):
    for v in g.input:
        print("input", value(v))
    for v in g.output:
        print("output", value(v))
    for t in g.initializer:
        print("initializer", t.name, tensor(t))
    for n in g.node:
        print("node", n.name, n.op_type, ",".join(n.input), ",".join(n.output))
        for a in n.attribute:
            print("attribute", a.name, AttributeProto.AttributeType.Name(a.type), end=" ")
            match a.type:
                case AttributeProto.TENSOR:
                    print(tensor(a.t))
                case AttributeProto.INT:
                    print(a.i)
                case AttributeProto.INTS:
                    print(spaced(a.ints))
                case AttributeProto.FLOAT:
                    print(struct.pack("<f", a.f).hex())
                case AttributeProto.STRING:
                    print(a.s.hex())
                case AttributeProto.GRAPH:
                    print()
                    graph(a.g)
                case _:
                    print()


def main():
    m = onnx.load(sys.argv[1])
    print(m.ir_version, m.producer_name, m.producer_version, spaced(f"{o.domain}:{o.version}" for o in m.opset_import))
    graph(m.graph)


main()

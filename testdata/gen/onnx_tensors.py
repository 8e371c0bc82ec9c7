"""Writes formats/onnx/testdata/tensors.onnx: every element type of ONNX twice, in its typed field and in raw_data.

The bytes of the second are what onnx.numpy_helper makes of the first.
"""

import argparse

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = [3, 5]  # an odd number of elements: packed types do not fill their last byte


def values(kind, rng):
    n = int(np.prod(SHAPE))
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    if kind == TensorProto.BOOL:
        return rng.integers(0, 2, n).astype(bool)
    if dtype.kind == "c":
        return (rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(dtype)
    if dtype.kind in "iu" and dtype.isbuiltin:
        info = np.iinfo(dtype)
        full = rng.integers(info.min, info.max, n, dtype=dtype, endpoint=True)
        full[:2] = info.min, info.max
        return full
    if kind in (TensorProto.UINT4, TensorProto.INT4, TensorProto.UINT2, TensorProto.INT2):
        bits = 4 if kind in (TensorProto.UINT4, TensorProto.INT4) else 2
        low = 0 if kind in (TensorProto.UINT4, TensorProto.UINT2) else -(1 << bits - 1)
        return rng.integers(low, low + (1 << bits), n).astype(np.int32)
    if kind == TensorProto.FLOAT8E8M0:
        return 2.0 ** rng.integers(-20, 20, n)
    return rng.standard_normal(n).astype(np.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    parser.add_argument("out")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    tensors = []
    for name, kind in TensorProto.DataType.items():
        if kind in (TensorProto.UNDEFINED, TensorProto.STRING):
            continue
        typed = helper.make_tensor(f"{name}/typed", kind, SHAPE, values(kind, rng))
        assert not typed.HasField("raw_data")
        raw = numpy_helper.from_array(numpy_helper.to_array(typed), f"{name}/raw")
        assert raw.HasField("raw_data") and raw.data_type == kind
        tensors += [typed, raw]
    tensors.append(helper.make_tensor("STRING", TensorProto.STRING, [2], [b"one", b"two"]))
    node = helper.make_node("Identity", ["FLOAT/raw"], ["y"])
    graph = helper.make_graph([node], "types", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)], tensors)
    model = helper.make_model(graph, ir_version=13, opset_imports=[helper.make_opsetid("", 25)], producer_name="graft")
    onnx.save(model, args.out)


main()

package ortadapter

import "github.com/seed-b982eded/graft/formats"

// dataTypes are the types of ONNX (TensorProto.DataType) that ONNX Runtime takes in an
// adapter. It refuses strings, booleans, complex numbers and types of less than a byte.
var dataTypes = map[int32]formats.DType{
	1: formats.F32, 2: formats.U8, 3: formats.I8, 4: formats.U16, 5: formats.I16, 6: formats.I32, 7: formats.I64,
	10: formats.F16, 11: formats.F64, 12: formats.U32, 13: formats.U64, 16: formats.BF16,
	17: formats.F8E4M3, 18: formats.F8E4M3FNUZ, 19: formats.F8E5M2, 20: formats.F8E5M2FNUZ,
}

// typeNumber returns ONNX's number for a type; 0 if an adapter cannot hold it.
func typeNumber(d formats.DType) int32 {
	for n, known := range dataTypes {
		if known == d {
			return n
		}
	}
	return 0
}

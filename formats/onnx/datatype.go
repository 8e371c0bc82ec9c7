package onnx

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats"
)

// DataType is the type of a tensor's elements, TensorProto.DataType in onnx.proto.
type DataType int32

// The data types of ONNX 1.23 (IR version 14).
const (
	Undefined DataType = iota
	Float
	Uint8
	Int8
	Uint16
	Int16
	Int32
	Int64
	String
	Bool
	Float16
	Double
	Uint32
	Uint64
	Complex64
	Complex128
	BFloat16
	Float8E4M3FN
	Float8E4M3FNUZ
	Float8E5M2
	Float8E5M2FNUZ
	Uint4
	Int4
	Float4E2M1
	Float8E8M0
	Uint2
	Int2
	Float6E2M3
	Float6E3M2
)

// dataTypes says for each type how it is named, how wide an element is, which dtype reads
// it (U8 with all bytes in one row where there is none that does), and which typed field
// of TensorProto holds it when raw_data does not. A value of such a field gives stored
// bytes: 4-bit elements lie in int32_data two by two, complex ones in float_data in halves.
var dataTypes = [...]struct {
	name   string
	bits   int64
	dtype  formats.DType
	field  number
	stored int64
}{
	Undefined:      {name: "UNDEFINED"},
	Float:          {"FLOAT", 32, formats.F32, tensorFloatData, 4},
	Uint8:          {"UINT8", 8, formats.U8, tensorInt32Data, 1},
	Int8:           {"INT8", 8, formats.I8, tensorInt32Data, 1},
	Uint16:         {"UINT16", 16, formats.U16, tensorInt32Data, 2},
	Int16:          {"INT16", 16, formats.I16, tensorInt32Data, 2},
	Int32:          {"INT32", 32, formats.I32, tensorInt32Data, 4},
	Int64:          {"INT64", 64, formats.I64, tensorInt64Data, 8},
	String:         {name: "STRING", field: tensorStringData},
	Bool:           {"BOOL", 8, formats.Bool, tensorInt32Data, 1},
	Float16:        {"FLOAT16", 16, formats.F16, tensorInt32Data, 2},
	Double:         {"DOUBLE", 64, formats.F64, tensorDoubleData, 8},
	Uint32:         {"UINT32", 32, formats.U32, tensorUint64Data, 4},
	Uint64:         {"UINT64", 64, formats.U64, tensorUint64Data, 8},
	Complex64:      {"COMPLEX64", 64, formats.C64, tensorFloatData, 4},
	Complex128:     {"COMPLEX128", 128, formats.InvalidDType, tensorDoubleData, 8},
	BFloat16:       {"BFLOAT16", 16, formats.BF16, tensorInt32Data, 2},
	Float8E4M3FN:   {"FLOAT8E4M3FN", 8, formats.F8E4M3, tensorInt32Data, 1},
	Float8E4M3FNUZ: {"FLOAT8E4M3FNUZ", 8, formats.F8E4M3FNUZ, tensorInt32Data, 1},
	Float8E5M2:     {"FLOAT8E5M2", 8, formats.F8E5M2, tensorInt32Data, 1},
	Float8E5M2FNUZ: {"FLOAT8E5M2FNUZ", 8, formats.F8E5M2FNUZ, tensorInt32Data, 1},
	Uint4:          {"UINT4", 4, formats.InvalidDType, tensorInt32Data, 1},
	Int4:           {"INT4", 4, formats.InvalidDType, tensorInt32Data, 1},
	Float4E2M1:     {"FLOAT4E2M1", 4, formats.InvalidDType, tensorInt32Data, 1},
	Float8E8M0:     {"FLOAT8E8M0", 8, formats.F8E8M0, tensorInt32Data, 1},
	Uint2:          {"UINT2", 2, formats.InvalidDType, tensorInt32Data, 1},
	Int2:           {"INT2", 2, formats.InvalidDType, tensorInt32Data, 1},
	Float6E2M3:     {name: "FLOAT6E2M3", bits: 6}, // int32_data has them one by one, unlike raw_data: not read
	Float6E3M2:     {name: "FLOAT6E3M2", bits: 6},
}

// String returns the name in onnx.proto, such as "FLOAT16".
func (d DataType) String() string {
	if d.known() {
		return dataTypes[d].name
	}
	return fmt.Sprintf("DataType(%d)", int32(d))
}

func (d DataType) known() bool { return d >= 0 && int(d) < len(dataTypes) }

// bits is the width of an element; 0 where it has none or is not known.
func (d DataType) bits() int64 {
	if d.known() {
		return dataTypes[d].bits
	}
	return 0
}

// field is the typed field that holds elements of the type; 0 where none is read.
func (d DataType) field() number {
	if d.known() {
		return dataTypes[d].field
	}
	return 0
}

// DType returns the dtype that reads elements of the type, and [formats.InvalidDType] for
// those that have none: strings, COMPLEX128, and everything that is packed.
func (d DataType) DType() formats.DType {
	if d.known() {
		return dataTypes[d].dtype
	}
	return formats.InvalidDType
}

// DataTypeOf returns the type whose elements are encoded as the dtype says; false where
// ONNX has none.
func DataTypeOf(d formats.DType) (DataType, bool) {
	for t, x := range dataTypes {
		if d != formats.InvalidDType && x.dtype == d {
			return DataType(t), true
		}
	}
	return Undefined, false
}

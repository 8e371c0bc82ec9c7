// Package ortadapter reads and writes ONNX Runtime's adapter files, .onnx_adapter: named
// tensors that a session takes in place of inputs of the same names, usually the factors
// of LoRA.
//
// # How to choose
//
// [Read] and [Write] turn a file into an adapter and back, by the names that the tools of
// ONNX Runtime give factors; open.Adapter calls Read. [Open] and [WriteParameters] know
// the file alone: any names, any tensors.
//
// # What is promised
//
// The file is a FlatBuffer, and all of it that is not tensor data is verified before a
// value is believed: bounds, alignment, tables, identifier, version, types, and that data
// are as long as their dimensions say. What ONNX Runtime refuses is refused, and
// beyond that fields that the schema does not have, names used twice, and names of
// control characters. Data may overlap, as FlatBuffers may share vectors. Memory is
// taken for names and dimensions alone, at most formats.MaxHeaderBytes of them; data are
// read with pread when asked for.
//
// Writing holds a block of a tensor at a time. Data begin at multiples of 64 bytes, so
// that the runtime can use them where they are mapped. A file holds less than 2 GiB.
//
// The format: onnxruntime/lora/adapter_format/adapter_schema.fbs and
// https://flatbuffers.dev/internals. Written against ONNX Runtime 1.32.
package ortadapter

import "math"

const (
	// identifier lies at bytes 4 to 7 of every file.
	identifier = "TORT"
	// formatVersion is the only one that there is.
	formatVersion = 1
	// maxFileBytes is what FlatBuffers' offsets reach.
	maxFileBytes = math.MaxInt32
)

// Slots of the schema's tables, and how many each has.
const (
	slotFormatVersion = iota
	slotAdapterVersion
	slotModelVersion
	slotParameters
	adapterSlots
)

const (
	slotName = iota
	slotDims
	slotDataType
	slotRawData
	parameterSlots
)

// Is reports whether a file that begins with head is an adapter file; 8 bytes tell.
func Is(head []byte) bool { return len(head) >= 8 && string(head[4:8]) == identifier }

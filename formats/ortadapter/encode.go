package ortadapter

import (
	"encoding/binary"
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
)

// align is where raw_data begin. The schema asks for 8; 64 suits all vector units.
const align = 64

// encoder knows the bytes of a file before any data are read.
type encoder struct {
	file   string // for messages
	params []formats.Tensor
	meta   []byte  // all but raw_data
	starts []int64 // where the raw_data of each parameter begin
	size   int64   // of the file
}

// newEncoder lays a file out: tables, names and dimensions first, then the data. A
// FlatBuffer's offsets lead forward, so all that leads to data lies before them.
func newEncoder(file string, params []formats.Tensor, adapterVersion, modelVersion int32) (*encoder, error) {
	e := &encoder{file: file, params: params}
	if err := e.check(); err != nil {
		return nil, err
	}
	meta, fields := buildMeta(params, adapterVersion, modelVersion)
	e.meta, e.size = meta, int64(len(meta))
	for _, t := range params {
		start := (e.size + 4 + align - 1) / align * align
		e.starts = append(e.starts, start)
		if e.size = start + t.Size(); e.size > maxFileBytes {
			return nil, formats.Outputf(file, nil, "too large: an adapter file holds less than 2 GiB (the parameters up to %s take %d bytes)", formats.Quote(t.Name), e.size)
		}
	}
	for i, at := range fields {
		binary.LittleEndian.PutUint32(meta[at:], uint32(e.starts[i]-4-at))
	}
	return e, nil
}

// check refuses what ONNX Runtime would not read.
func (e *encoder) check() error {
	var problems formats.Problems
	names := make(map[string]bool, len(e.params))
	if len(e.params) > formats.MaxTensors {
		return formats.Outputf(e.file, nil, "too many parameters (got %d, want at most %d)", len(e.params), formats.MaxTensors)
	}
	var held int64
	for _, t := range e.params {
		fail := func(format string, args ...any) {
			problems.Add(formats.Outputf(e.file, nil, "parameter %s: %s", formats.Quote(t.Name), fmt.Sprintf(format, args...)))
		}
		if err := checkName(t.Name); err != nil {
			fail("%v", err)
		}
		if names[t.Name] {
			fail("it would be there twice")
		}
		names[t.Name] = true
		if typeNumber(t.DType) == 0 {
			fail("ONNX Runtime takes no %s in an adapter", t.DType)
		} else if _, err := formats.ByteSize(t.DType, t.Shape); err != nil {
			fail("%v", err)
		}
		if n := len(t.Shape); n == 0 || n > formats.MaxRank {
			fail("it must have 1 to %d dimensions (got %d)", formats.MaxRank, n)
		}
		held += int64(len(t.Name) + 8*len(t.Shape))
	}
	if held > formats.MaxHeaderBytes {
		problems.Add(formats.Outputf(e.file, nil, "names and dimensions take %d bytes (want at most %d)", held, formats.MaxHeaderBytes))
	}
	return problems.Err()
}

// buildMeta builds the buffer without data, and returns where the offsets of the data are
// to be put.
func buildMeta(params []formats.Tensor, adapterVersion, modelVersion int32) (meta []byte, fields []int64) {
	b := flatbuffers.NewBuilder(256 + 128*len(params))
	tables := make([]flatbuffers.UOffsetT, len(params))
	for i := len(params) - 1; i >= 0; i-- { // it grows towards the front
		t := params[i]
		name := b.CreateString(t.Name)
		b.StartVector(8, len(t.Shape), 8)
		for j := len(t.Shape) - 1; j >= 0; j-- {
			b.PrependInt64(t.Shape[j])
		}
		dims := b.EndVector(len(t.Shape))
		b.StartObject(parameterSlots)
		b.PrependUOffsetTSlot(slotName, name, 0)
		b.PrependUOffsetTSlot(slotDims, dims, 0)
		b.PrependInt32Slot(slotDataType, typeNumber(t.DType), 0)
		b.PrependUint32Slot(slotRawData, 1, 0) // not known yet
		tables[i] = b.EndObject()
	}
	list := b.CreateVectorOfTables(tables)
	b.StartObject(adapterSlots)
	b.PrependInt32Slot(slotFormatVersion, formatVersion, 0)
	b.PrependInt32Slot(slotAdapterVersion, adapterVersion, 0)
	b.PrependInt32Slot(slotModelVersion, modelVersion, 0)
	b.PrependUOffsetTSlot(slotParameters, list, 0)
	b.FinishWithFileIdentifier(b.EndObject(), []byte(identifier))
	meta = b.FinishedBytes()
	for _, fromEnd := range tables {
		t := flatbuffers.Table{Bytes: meta, Pos: flatbuffers.UOffsetT(len(meta)) - fromEnd}
		fields = append(fields, int64(t.Pos)+int64(t.Offset(4+2*slotRawData)))
	}
	return meta, fields
}

// parts returns what the file is made of.
func (e *encoder) parts() []publish.Part {
	parts := []publish.Part{{Literal: e.meta}}
	at := int64(len(e.meta))
	for i, t := range e.params {
		gap := make([]byte, e.starts[i]-at) // zeros, and the length
		binary.LittleEndian.PutUint32(gap[len(gap)-4:], uint32(t.Size()))
		parts = append(parts, publish.Part{Literal: gap}, publish.Part{Tensor: t})
		at = e.starts[i] + t.Size()
	}
	return parts
}

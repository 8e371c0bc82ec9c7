package onnx

import (
	"fmt"
	"io"
	"math"
	"math/bits"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// parsedTensor is what a TensorProto says of its data.
type parsedTensor struct {
	*Tensor
	hasRaw       bool
	rawBegin     int64
	rawEnd       int64
	typed        number // the field with typed data; 0 when none has any
	runs         []run
	strings      bool // string_data is there
	external     []Pair
	dataLocation int64
	secondTyped  number // another field with typed data
}

// sparseTensor is a SparseTensorProto. Its parts are tensors like others, so that their
// external data is known.
type sparseTensor struct{ values, indices *Tensor }

// name is the tensor's name: that of its values.
func (s *sparseTensor) name() string {
	if s.values == nil {
		return ""
	}
	return s.values.Name
}

func (p *parser) sparse(parent *message, f field, g *Graph, node *Node) (*sparseTensor, error) {
	m, err := p.message(parent, f, "a sparse tensor")
	if err != nil {
		return nil, err
	}
	s := &sparseTensor{}
	seen := map[number]bool{}
	return s, p.fields(m, func(f field) (err error) {
		var dst **Tensor
		switch f.num {
		case sparseValues:
			dst = &s.values
		case sparseIndices:
			dst = &s.indices
		default:
			return nil
		}
		if err := p.once(seen, f, "a part of a sparse tensor"); err != nil {
			return err
		}
		*dst, err = p.tensor(m, f, &Tensor{Graph: g, Node: node, role: roleSparse})
		return err
	})
}

// tensor reads a TensorProto into t, but for its data: where that lies is checked, and
// becomes t.Data, unless it is external.
func (p *parser) tensor(parent *message, f field, t *Tensor) (*Tensor, error) {
	m, err := p.message(parent, f, "a tensor")
	if err != nil {
		return nil, err
	}
	if err := p.charge(f.start, costTensor); err != nil {
		return nil, err
	}
	if len(p.m.tensors) >= formats.MaxTensors {
		return nil, p.rejectAt(f.start, "too many tensors (want at most %d)", formats.MaxTensors)
	}
	t.msg = m
	p.m.tensors = append(p.m.tensors, t)
	x := &parsedTensor{Tensor: t}
	if err := p.fields(m, func(f field) error { return p.tensorField(x, f) }); err != nil {
		return nil, err
	}
	if len(t.Name) > formats.MaxNameBytes {
		return nil, p.rejectAt(f.start, "a tensor's name of %d bytes (want at most %d)", len(t.Name), formats.MaxNameBytes)
	}
	return t, p.place(x)
}

func (p *parser) tensorField(x *parsedTensor, f field) error {
	switch f.num {
	case tensorDims:
		if err := p.integers(&x.Dims, f, "a tensor's dims"); err != nil {
			return err
		}
		if len(x.Dims) > formats.MaxRank {
			return p.rejectAt(f.start, "a tensor of more than %d dimensions", formats.MaxRank)
		}
	case tensorDataType:
		x.DataType = DataType(f.value)
		return p.want(f, protowire.VarintType, "data_type")
	case tensorSegment:
		return p.rejectAt(f.start, "a tensor in segments, which nobody reads")
	case tensorName:
		return p.text(&x.Name, f, "a tensor's name")
	case tensorFloatData:
		return p.typedField(x, f, protowire.Fixed32Type)
	case tensorDoubleData:
		return p.typedField(x, f, protowire.Fixed64Type)
	case tensorInt32Data, tensorInt64Data, tensorUint64Data:
		return p.typedField(x, f, protowire.VarintType)
	case tensorStringData:
		x.strings = true
		return p.want(f, protowire.BytesType, "string_data")
	case tensorRawData:
		x.hasRaw, x.rawBegin, x.rawEnd = true, f.begin, f.end
		return p.want(f, protowire.BytesType, "raw_data")
	case tensorExternalData:
		return p.pair(&x.external, x.msg, f)
	case tensorLocation:
		return p.integer(&x.dataLocation, f, "data_location")
	case tensorMetadata:
		return p.pair(&x.Metadata, x.msg, f)
	}
	return nil
}

// typedField notes a field of typed data, as a run of its own or as the continuation of
// the one before.
func (p *parser) typedField(x *parsedTensor, f field, typ protowire.Type) error {
	packed := f.typ == protowire.BytesType
	if !packed {
		if err := p.want(f, typ, "typed data"); err != nil {
			return err
		}
	} else if f.begin == f.end {
		return nil
	}
	switch x.typed {
	case 0:
		x.typed = f.num
	case f.num:
	default:
		x.secondTyped = f.num
		return nil
	}
	if n := len(x.runs); !packed && n > 0 && !x.runs[n-1].packed && x.runs[n-1].end == f.start {
		x.runs[n-1].end = f.end
		x.runs[n-1].values++
		return nil
	}
	r := run{begin: f.start, end: f.end, values: 1}
	if packed {
		r = run{begin: f.begin, end: f.end, packed: true}
		switch typ {
		case protowire.Fixed32Type:
			r.values = (f.end - f.begin) / 4
		case protowire.Fixed64Type:
			r.values = (f.end - f.begin) / 8
		}
		if width := fixedWidth(typ); width > 0 && (f.end-f.begin)%width != 0 {
			return p.rejectAt(f.start, "typed data of %d bytes (want a multiple of %d)", f.end-f.begin, width)
		}
	}
	x.runs = append(x.runs, r)
	return p.charge(f.start, costRun)
}

// fixedWidth is the size of a value on the wire; 0 for varints.
func fixedWidth(typ protowire.Type) int64 {
	switch typ {
	case protowire.Fixed32Type:
		return 4
	case protowire.Fixed64Type:
		return 8
	}
	return 0
}

// rejectTensor is an error about a tensor, by name where it has one.
func (p *parser) rejectTensor(t *Tensor, format string, args ...any) error {
	if t.Name == "" {
		return p.rejectAt(t.msg.tag, "an unnamed tensor: "+format, args...)
	}
	return formats.Rejectf(p.path, t.Name, format, args...)
}

// place checks that a tensor says in one way where its data is, and that it is all there.
func (p *parser) place(x *parsedTensor) error {
	t := x.Tensor
	external := x.dataLocation != 0
	if x.dataLocation < 0 || x.dataLocation > 1 {
		return p.rejectTensor(t, "unknown data_location %d (want 0 or 1)", x.dataLocation)
	}
	switch {
	case x.secondTyped != 0:
		return p.rejectTensor(t, "data in two places: %s and %s", fieldName(x.typed), fieldName(x.secondTyped))
	case x.hasRaw && x.typed != 0:
		return p.rejectTensor(t, "data in two places: raw_data and %s", fieldName(x.typed))
	case x.hasRaw && x.rawEnd > x.rawBegin && len(x.external) > 0:
		return p.rejectTensor(t, "data in two places: raw_data and external_data")
	case x.typed != 0 && len(x.external) > 0:
		return p.rejectTensor(t, "data in two places: %s and external_data", fieldName(x.typed))
	case external && len(x.external) == 0:
		return p.rejectTensor(t, "its data is external, and external_data is missing")
	}
	size, known, err := dataSize(t.DataType, t.Dims)
	if err != nil {
		return p.rejectTensor(t, "%v", err)
	}
	if t.DataType == String || t.DataType == Undefined {
		if external || x.hasRaw && x.rawEnd > x.rawBegin || x.typed != 0 {
			return p.rejectTensor(t, "%s elements cannot be in raw, typed or external data", t.DataType)
		}
		return nil
	}
	if x.strings {
		return p.rejectTensor(t, "string_data in a tensor of %s", t.DataType)
	}
	if external {
		return p.external(x, size, known)
	}
	if t.DataType.field() == 0 && !x.hasRaw {
		return nil // nobody knows how typed fields would hold it
	}
	if !known { // the size is the file's word
		size = x.rawEnd - x.rawBegin
	}
	data, err := p.inline(x, size)
	if err != nil {
		return err
	}
	t.setData(data, size)
	return nil
}

// inline returns the data of a tensor whose data, of size bytes, is in the file.
func (p *parser) inline(x *parsedTensor, size int64) (data io.ReaderAt, err error) {
	t := x.Tensor
	if x.typed == 0 {
		if n := x.rawEnd - x.rawBegin; n != size {
			if !x.hasRaw {
				return nil, p.rejectTensor(t, "no data (want %d bytes: %s of shape %v)", size, t.DataType, t.Dims)
			}
			return nil, p.rejectTensor(t, "raw_data does not fit (got %d bytes, want %d: %s of shape %v)", n, size, t.DataType, t.Dims)
		}
		return &filecopy.Section{File: p.m.file, Off: x.rawBegin, N: size, Tensor: t.Name}, nil
	}
	kind := dataTypes[t.DataType]
	if x.typed != kind.field {
		return nil, p.rejectTensor(t, "%s elements in %s (want %s)", t.DataType, fieldName(x.typed), fieldName(kind.field))
	}
	d := &typedData{
		file: p.m.file, path: p.path, name: t.Name, runs: x.runs,
		field: x.typed, stored: kind.stored, signed: t.DataType != Uint32 && t.DataType != Uint64, values: size / kind.stored,
	}
	if d.varint() {
		var wire int64
		for _, r := range x.runs {
			wire += r.end - r.begin
		}
		if wire < d.values || d.values == 0 {
			return nil, p.rejectTensor(t, "%s does not fit (got at most %d values, want %d: %s of shape %v)", fieldName(x.typed), wire, d.values, t.DataType, t.Dims)
		}
		return d, nil
	}
	var n int64
	for _, r := range x.runs {
		n += r.values
	}
	if n != d.values {
		return nil, p.rejectTensor(t, "%s does not fit (got %d values, want %d: %s of shape %v)", fieldName(x.typed), n, d.values, t.DataType, t.Dims)
	}
	if len(x.runs) == 1 && x.runs[0].packed {
		return &filecopy.Section{File: p.m.file, Off: x.runs[0].begin, N: size, Tensor: t.Name}, nil
	}
	return d, nil
}

// fieldName names a data field of TensorProto.
func fieldName(n number) string {
	switch n {
	case tensorFloatData:
		return "float_data"
	case tensorInt32Data:
		return "int32_data"
	case tensorInt64Data:
		return "int64_data"
	case tensorDoubleData:
		return "double_data"
	case tensorUint64Data:
		return "uint64_data"
	}
	return "no typed field"
}

// dataSize returns how many bytes the elements take; known is false for types that graft
// does not know the size of.
func dataSize(t DataType, dims []int64) (size int64, known bool, err error) {
	n, err := formats.ByteSize(formats.U8, dims)
	if err != nil {
		return 0, false, err
	}
	width := t.bits()
	if width == 0 {
		return 0, false, nil
	}
	hi, lo := bits.Mul64(uint64(n), uint64(width))
	if hi != 0 || lo > math.MaxInt64-7 {
		return 0, false, fmt.Errorf("shape %v of %s overflows 64 bits", dims, t)
	}
	return int64(lo+7) / 8, true, nil
}

// setData gives the tensor its data of size bytes.
func (t *Tensor) setData(data io.ReaderAt, size int64) {
	t.HasData = true
	t.Data = formats.Tensor{DType: t.DataType.DType(), Shape: t.Dims, Data: data}
	if t.Data.DType == formats.InvalidDType {
		t.Data.DType, t.Data.Shape = formats.U8, []int64{size}
	}
}

// external notes where a tensor's external data is said to lie. The file is looked at
// when the whole model is read.
func (p *parser) external(x *parsedTensor, size int64, known bool) error {
	t := x.Tensor
	e := &External{}
	hasLength := false
	seen := map[string]bool{}
	for _, pair := range x.external {
		if seen[pair.Key] {
			return p.rejectTensor(t, "external_data has %s twice", formats.Quote(pair.Key))
		}
		seen[pair.Key] = true
		var err error
		switch pair.Key {
		case "location":
			e.Location = pair.Value
		case "offset":
			e.Offset, err = parseOffset(pair.Value)
		case "length":
			hasLength = true
			e.Length, err = parseOffset(pair.Value)
		case "checksum":
			e.checksum = true
		}
		if err != nil {
			return p.rejectTensor(t, "external_data: %s %s is not a whole number from 0 to %d", pair.Key, formats.Quote(pair.Value), int64(math.MaxInt64))
		}
	}
	if err := checkLocation(e.Location); err != nil {
		return p.rejectTensor(t, "external_data: location %s: %v", formats.Quote(e.Location), err)
	}
	switch {
	case !known && !hasLength:
		return p.rejectTensor(t, "external_data: no length, and none follows from %s", t.DataType)
	case !known: // the length is the file's word
	case !hasLength:
		e.Length = size
	case e.Length != size:
		return p.rejectTensor(t, "external_data: the length does not fit (got %d bytes, want %d: %s of shape %v)", e.Length, size, t.DataType, t.Dims)
	}
	t.External = e
	return nil
}

// parseOffset reads digits alone.
func parseOffset(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

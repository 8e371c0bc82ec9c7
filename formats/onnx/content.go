package onnx

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// content is a run of bytes in the making.
type content struct {
	parts []publish.Part
	size  int64
}

// literal adds bytes.
func (c *content) literal(b []byte) {
	if len(b) == 0 {
		return
	}
	c.size += int64(len(b))
	if n := len(c.parts); n > 0 && c.parts[n-1].Tensor.Data == nil {
		last := &c.parts[n-1].Literal
		*last = append(*last, b...)
		return
	}
	c.parts = append(c.parts, publish.Part{Literal: slices.Clone(b)})
}

// tensor adds a tensor's data.
func (c *content) tensor(t formats.Tensor) {
	if n := t.Size(); n > 0 {
		c.parts = append(c.parts, publish.Part{Tensor: t})
		c.size += n
	}
}

// fileRange adds bytes of a file.
func (c *content) fileRange(f formats.SourceFile, off, n int64) {
	c.tensor(formats.Tensor{Name: f.Name(), DType: formats.U8, Shape: []int64{n}, Data: &filecopy.Section{File: f, Off: off, N: n}})
}

// file is a file of the content.
func (c *content) file(name string) publish.File {
	parts := c.parts
	plain := !strings.Contains(name, "/")
	return publish.File{Name: name, Size: c.size, Weights: plain, Parts: func() ([]publish.Part, error) { return parts, nil }}
}

func (c *content) add(x content) {
	for _, p := range x.parts {
		if p.Tensor.Data == nil {
			c.literal(p.Literal)
		} else {
			c.tensor(p.Tensor)
		}
	}
}

// message adds a field whose value is x.
func (c *content) message(num number, x content) {
	c.literal(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), uint64(x.size)))
	c.add(x)
}

func (c *content) bytes(num number, b []byte) {
	c.literal(protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b))
}

func (c *content) text(num number, s string) { c.bytes(num, []byte(s)) }

// name adds a text unless it is empty.
func (c *content) name(num number, s string) {
	if s != "" {
		c.text(num, s)
	}
}

func (c *content) integer(num number, v int64) {
	c.literal(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), uint64(v)))
}

func (c *content) float(num number, v float32) {
	c.literal(protowire.AppendFixed32(protowire.AppendTag(nil, num, protowire.Fixed32Type), math.Float32bits(v)))
}

// pairMessage encodes a StringStringEntryProto.
func pairMessage(p Pair) (c content) {
	c.text(pairKey, p.Key)
	c.text(pairValue, p.Value)
	return c
}

// opsetMessage encodes an OperatorSetIdProto.
func opsetMessage(o Opset) (c content) {
	c.text(opsetDomain, o.Domain)
	c.integer(opsetVersion, o.Version)
	return c
}

// nodeMessage encodes a NodeProto.
func nodeMessage(n NewNode) (c content) {
	for _, in := range n.Inputs {
		c.text(nodeInput, in)
	}
	for _, out := range n.Outputs {
		c.text(nodeOutput, out)
	}
	c.name(nodeName, n.Name)
	c.text(nodeOpType, n.OpType)
	for _, a := range n.Attributes {
		c.message(nodeAttribute, a.message())
	}
	c.name(nodeDomain, n.Domain)
	for _, p := range n.Metadata {
		c.message(nodeMetadata, pairMessage(p))
	}
	return c
}

// check refuses an attribute that cannot be written.
func (a NewAttribute) check() error {
	switch a.Type {
	case AttrFloat, AttrInt, AttrString, AttrFloats, AttrInts, AttrStrings:
		return nil
	case AttrTensor:
		if a.Ref != "" {
			return nil
		}
		if _, ok := DataTypeOf(a.T.DType); !ok {
			return fmt.Errorf("ONNX has no type for %s", a.T.DType)
		}
		return checkData(a.T)
	}
	return fmt.Errorf("attributes of type %d are not written", a.Type)
}

// message encodes an AttributeProto.
func (a NewAttribute) message() (c content) {
	c.text(attributeName, a.Name)
	if a.Ref == "" {
		a.value(&c)
	}
	c.integer(attributeType, int64(a.Type))
	c.name(attributeRef, a.Ref)
	return c
}

func (a NewAttribute) value(c *content) {
	switch a.Type {
	case AttrFloat:
		c.float(attributeF, a.F)
	case AttrInt:
		c.integer(attributeI, a.I)
	case AttrString:
		c.bytes(attributeS, a.S)
	case AttrTensor:
		t, _ := DataTypeOf(a.T.DType)
		c.message(attributeT, tensorMessage(a.T, t, nil))
	case AttrFloats:
		for _, v := range a.Floats {
			c.float(attributeFloats, v)
		}
	case AttrInts:
		for _, v := range a.Ints {
			c.integer(attributeInts, v)
		}
	case AttrStrings:
		for _, v := range a.Strings {
			c.bytes(attributeStrings, v)
		}
	}
}

// tensorMessage encodes a TensorProto with the data in it, or where there is one, in a
// place outside.
func tensorMessage(t formats.Tensor, typ DataType, at *place) (c content) {
	c.add(dimsFields(t.Shape))
	c.integer(tensorDataType, int64(typ))
	c.name(tensorName, t.Name)
	if at != nil {
		c.add(externalFields(*at))
		c.integer(tensorLocation, 1)
	} else {
		c.add(rawField(t))
	}
	return c
}

func dimsFields(dims []int64) (c content) {
	for _, d := range dims {
		c.integer(tensorDims, d)
	}
	return c
}

func rawField(t formats.Tensor) (c content) {
	var data content
	data.tensor(t)
	c.message(tensorRawData, data)
	return c
}

func externalFields(at place) (c content) {
	for _, p := range []Pair{{"location", at.location}, {"offset", fmt.Sprint(at.offset)}, {"length", fmt.Sprint(at.length)}} {
		c.message(tensorExternalData, pairMessage(p))
	}
	return c
}

// valueMessage encodes a ValueInfoProto.
func valueMessage(v NewValueInfo) (c content) {
	c.text(valueName, v.Name)
	if v.ElemType == Undefined {
		return c
	}
	var shape content
	for _, d := range v.Dims {
		var dim content
		if d.Known {
			dim.integer(dimValue, d.Value)
		} else {
			dim.name(dimParam, d.Param)
		}
		shape.message(shapeDim, dim)
	}
	var tensor, typ content
	tensor.integer(tensorElem, int64(v.ElemType))
	tensor.message(tensorShape, shape)
	typ.message(typeTensor, tensor)
	c.message(valueType, typ)
	return c
}

package patch

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// CheckFactorType refuses types that factors cannot have, with [formats.ErrUsage]; none is fine.
func CheckFactorType(d formats.DType) error {
	if d != formats.InvalidDType && !d.IsFloat() {
		return formats.Usagef("factors cannot be %s (want F64, F32, F16 or BF16)", d)
	}
	return nil
}

// storeProduct makes a product an update of the scale 1, of a module that like is an
// update of. Its factors are encoded in dtype, or in the other one where that is not set,
// each element rounded once.
func storeProduct(module string, p *lowrank.Product, like *adapter.LowRank, dtype, otherwise formats.DType) (*adapter.LowRank, error) {
	if dtype == formats.InvalidDType {
		dtype = otherwise
	}
	r := int64(p.Rank())
	aShape, bShape := slices.Clone(like.A.Shape), slices.Clone(like.B.Shape)
	aShape[0], bShape[1] = r, r
	for i := range bShape[2:] {
		bShape[2+i] = 1
	}
	a, err := StoreFactor(module+".lora_A.weight", p.A, p.S, aShape, dtype)
	if err != nil {
		return nil, err
	}
	b, err := StoreFactor(module+".lora_B.weight", p.B, 1, bShape, dtype)
	if err != nil {
		return nil, err
	}
	return &adapter.LowRank{A: a, B: b, Scale: 1, FanInFanOut: like.FanInFanOut, Embedding: like.Embedding}, nil
}

// StoreFactor encodes a matrix times a number as a tensor in memory, each element rounded
// once. An element that is NaN, infinite or too large for the type is [formats.ErrUnfit].
func StoreFactor(name string, m *mat.Dense, scale float64, shape []int64, dtype formats.DType) (formats.Tensor, error) {
	values := m.RawMatrix().Data
	raw := make([]byte, 8*len(values))
	formats.EncodeFloat64(raw, values)
	wide := formats.Tensor{Name: name, DType: formats.F64, Shape: shape, Data: bytes.NewReader(raw)}
	out := adapter.Scaled(wide, scale, dtype)
	encoded, err := out.ReadAll()
	if err != nil {
		return out, err
	}
	for i, x := range values {
		if x-x != 0 {
			return out, formats.Unfitf("", name, "element %d would be %v", i, x)
		}
	}
	out.Data = bytes.NewReader(encoded)
	return out, nil
}

// inModule says which module an error is about that does not say it.
func inModule(err error, module string) error {
	var e *formats.Error
	if errors.As(err, &e) && e.File == "" && e.Tensor == "" {
		named := *e
		named.Detail = fmt.Sprintf("module %s: %s", formats.Quote(module), e.Detail)
		return &named
	}
	return err
}

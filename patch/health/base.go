package health

import (
	"math"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// baseNorms reads a weight once and returns the norm of what an entry changes of it; with
// outs, also the norm of the weights of each output. Elements that are not finite are the base's fault:
// [formats.ErrInput].
func baseNorms(path string, base Base, outs int64) (norm float64, norms []float64, err error) {
	t := base.Tensor
	_, cols := t.Matrix()
	each := make([]squares, outs)
	var total squares
	bad := int64(-1)
	err = eachBlock(path, t, func(first int64, values []float64) {
		for i, x := range values {
			at := first + int64(i)
			if x-x != 0 {
				if bad < 0 {
					bad = at
				}
				continue
			}
			out := at / cols
			if base.InOut {
				out = at % cols
			}
			if out -= base.First; base.Outs > 0 && (out < 0 || out >= base.Outs) {
				continue
			}
			total.add(x)
			if outs > 0 {
				each[out].add(x)
			}
		}
	})
	switch {
	case err != nil:
		return 0, nil, err
	case bad >= 0:
		return 0, nil, formats.Rejectf(path, t.Name, "it has NaN or infinite elements, the first at %s", placeIn(t.Shape, bad/cols, bad%cols))
	}
	if norm = total.norm(); math.IsInf(norm, 0) {
		return 0, nil, formats.Rejectf(path, t.Name, "its norm is too large for float64")
	}
	norms = make([]float64, outs)
	for i := range each {
		norms[i] = each[i].norm()
	}
	return norm, norms, nil
}

// badMagnitudes says how many there are and what they do.
func badMagnitudes(negative, zero, of int) string {
	var parts []string
	if negative > 0 {
		parts = append(parts, ofAre(negative, of, "magnitude")+" negative, which turns an output's weights round")
	}
	if zero > 0 {
		parts = append(parts, ofAre(zero, of, "magnitude")+" zero, which removes an output's weights")
	}
	return strings.Join(parts, "; ")
}

// magnitude checks DoRA's vector. norms are those of the base's weights, nil without one.
func (c *checked) magnitude(path string, m *Module, t formats.Tensor, norms []float64, base *Base) error {
	v, stats, err := readMatrix(path, t)
	if err != nil {
		return err
	}
	stats.Shape = t.Shape
	m.Magnitude = &stats
	c.notFinite(m.Module, &stats)
	c.overflow(m.Module, t.DType, &stats)
	values := v.RawMatrix().Data
	negative, zero := 0, 0
	for _, x := range values {
		switch {
		case x < 0:
			negative++
		case x == 0:
			zero++
		}
	}
	if negative+zero > 0 {
		c.add(Warning, BadMagnitude, m.Module, stats.Tensor, map[string]float64{"negative": float64(negative), "zero": float64(zero), "outputs": float64(len(values))},
			"%s", badMagnitudes(negative, zero, len(values)))
	}
	if norms == nil || len(norms) != len(values) {
		return nil
	}
	// PEFT computes the norms in the type of the weight: both roundings, and of a sum in
	// float32 that of the terms.
	eps := 2*max(spacing(t.DType), spacing(base.Tensor.DType), exactRank) + 0x1p-20
	for i, x := range values {
		if !(math.Abs(x-norms[i]) <= eps*norms[i]) {
			return nil
		}
	}
	c.add(Warning, SameMagnitude, m.Module, stats.Tensor, map[string]float64{"outputs": float64(len(values))},
		"all %d magnitudes are the norms of the base's weights, to rounding: they were not trained", len(values))
	return nil
}

// replace checks a parameter that is saved whole.
func (c *checked) replace(path, module string, u *adapter.Replace, base *Base, basePath string) error {
	s := &Saved{Module: module, Param: u.Param, Bytes: u.Value.Size()}
	c.saved = s
	if u.Value.DType.IsFloat() {
		stats, err := describe(path, u.Value)
		if err != nil {
			return err
		}
		s.Elements = stats
		c.notFinite(module, &stats)
		c.overflow(module, u.Value.DType, &stats)
	} else {
		s.Elements = Elements{Tensor: u.Value.Name, DType: u.Value.DType.String(), Shape: u.Value.Shape}
	}
	if base == nil {
		return nil
	}
	value := u.Value
	if base.InOut && len(value.Shape) == 2 {
		value = adapter.Transposed(value)
	}
	same, err := SameValues(path, value, basePath, base.Tensor)
	if err != nil {
		return err
	}
	s.SameAsBase = &same
	if same {
		c.add(Note, SameAsBase, module, u.Value.Name, map[string]float64{"bytes": float64(s.Bytes)},
			"%s is saved whole and is the base's, bit for bit: %d bytes say nothing", u.Param, s.Bytes)
	}
	return nil
}

// bias checks what is added to a layer's bias.
func (c *checked) bias(path, module string, u *adapter.BiasDelta) error {
	stats, err := describe(path, u.Vector)
	if err != nil {
		return err
	}
	c.saved = &Saved{Module: module, Param: "bias", Bytes: u.Vector.Size(), Added: true, Elements: stats}
	c.notFinite(module, &stats)
	c.overflow(module, u.Vector.DType, &stats)
	return nil
}

// SameValues reports whether two tensors have one shape and the same values, told apart by
// their bits in float64: 0 is not −0, and types may differ where both are floats. x and y are
// read up to the first difference.
func SameValues(fileX string, x formats.Tensor, fileY string, y formats.Tensor) (bool, error) {
	if x.Elements() != y.Elements() || x.DType != y.DType && !(x.DType.IsFloat() && y.DType.IsFloat()) {
		return false, nil
	}
	if x.DType == y.DType {
		return formats.SameBytes(fileX, x, fileY, y, nil)
	}
	sizeX, sizeY, total := x.DType.Bits()/8, y.DType.Bits()/8, x.Elements()
	n := min(blockElements, total)
	rawX, rawY, wideX, wideY := make([]byte, n*sizeX), make([]byte, n*sizeY), make([]float64, n), make([]float64, n)
	for at := int64(0); at < total; at += n {
		n := min(n, total-at)
		if err := formats.ReadFullAt(x.Data, rawX[:n*sizeX], at*sizeX); err != nil {
			return false, formats.ReadError(fileX, x.Name, err)
		}
		if err := formats.ReadFullAt(y.Data, rawY[:n*sizeY], at*sizeY); err != nil {
			return false, formats.ReadError(fileY, y.Name, err)
		}
		formats.DecodeFloat64(wideX[:n], rawX[:n*sizeX], x.DType)
		formats.DecodeFloat64(wideY[:n], rawY[:n*sizeY], y.DType)
		for i := range n {
			if math.Float64bits(wideX[i]) != math.Float64bits(wideY[i]) {
				return false, nil
			}
		}
	}
	return true, nil
}

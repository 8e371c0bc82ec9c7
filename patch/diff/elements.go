package diff

import (
	"encoding/binary"
	"math/bits"

	"github.com/seed-b982eded/graft/formats"
)

// counts say how elements differ. Those of several blocks are added.
type counts struct {
	differing int64
	notFinite int64     // that differ, and one of the two is infinite or NaN
	maxAbs    float64   // largest |y − x| of the others
	ulps      [65]int64 // of the others, by the bits of their distance: at k from 2^(k−1) to 2^k − 1
	maxULPs   uint64
}

func (c *counts) add(o *counts) {
	c.differing += o.differing
	c.notFinite += o.notFinite
	c.maxAbs = max(c.maxAbs, o.maxAbs)
	c.maxULPs = max(c.maxULPs, o.maxULPs)
	for i, n := range o.ulps {
		c.ulps[i] += n
	}
}

// apart counts an element of which the bits differ. x and y are its magnitudes, the bits
// without the sign, and notFinite is the least of them that is no number.
func (c *counts) apart(x, y, notFinite uint64, sameSign bool) {
	c.differing++
	if x >= notFinite || y >= notFinite {
		c.notFinite++
		return
	}
	d := x + y
	if sameSign {
		d = max(x, y) - min(x, y)
	}
	c.ulps[bits.Len64(d)]++
	c.maxULPs = max(c.maxULPs, d)
}

// countFloats compares elements of one float type by their bits. The distance in ulps of
// two numbers is how many steps lead from one to the other through all numbers of the
// type; 0 and −0 are no step apart.
func (c *counts) countFloats(x, y []byte, d formats.DType) {
	switch d {
	case formats.F16, formats.BF16:
		notFinite := uint64(0x7c00)
		if d == formats.BF16 {
			notFinite = 0x7f80
		}
		for len(x) >= 2 && len(y) >= 2 {
			a, b := binary.LittleEndian.Uint16(x), binary.LittleEndian.Uint16(y)
			if a != b {
				c.apart(uint64(a&0x7fff), uint64(b&0x7fff), notFinite, (a^b)>>15 == 0)
			}
			x, y = x[2:], y[2:]
		}
	case formats.F32:
		for len(x) >= 4 && len(y) >= 4 {
			a, b := binary.LittleEndian.Uint32(x), binary.LittleEndian.Uint32(y)
			if a != b {
				c.apart(uint64(a&0x7fffffff), uint64(b&0x7fffffff), 0x7f800000, (a^b)>>31 == 0)
			}
			x, y = x[4:], y[4:]
		}
	case formats.F64:
		for len(x) >= 8 && len(y) >= 8 {
			a, b := binary.LittleEndian.Uint64(x), binary.LittleEndian.Uint64(y)
			if a != b {
				c.apart(a&(1<<63-1), b&(1<<63-1), 0x7ff<<52, (a^b)>>63 == 0)
			}
			x, y = x[8:], y[8:]
		}
	}
}

// countValues compares numbers that come from two types: NaN is like NaN.
func (c *counts) countValues(x, y []float64) {
	for i, a := range x {
		b := y[i]
		if a == b || a != a && b != b {
			continue
		}
		c.differing++
		if a-a != 0 || b-b != 0 {
			c.notFinite++
		}
	}
}

// countBits compares elements of any type, of some bits each, which lie one after the other
// from the lowest bit of a byte on.
func (c *counts) countBits(x, y []byte, width int) {
	if width%8 == 0 {
		width /= 8
		for len(x) >= width && len(y) >= width {
			if string(x[:width]) != string(y[:width]) {
				c.differing++
			}
			x, y = x[width:], y[width:]
		}
		return
	}
	last := -1
	for i := range x {
		for v := x[i] ^ y[i]; v != 0; v &= v - 1 {
			if e := (8*i + bits.TrailingZeros8(v)) / width; e != last {
				c.differing++
				last = e
			}
		}
	}
}

// chunk is how many elements are decoded at once: they stay in the first cache.
const chunk = 1024

// comparer compares blocks of elements; it is a worker's own.
type comparer struct {
	x, y [chunk]float64
}

// block compares elements of types dx and dy.
func (w *comparer) block(x, y []byte, dx, dy formats.DType) (m moments, c counts) {
	if !dx.IsFloat() {
		c.countBits(x, y, int(dx.Bits()))
		return m, c
	}
	if dx == dy {
		c.countFloats(x, y, dx)
	}
	sx, sy := int(dx.Bits()/8), int(dy.Bits()/8)
	for len(x) > 0 {
		n := min(chunk, len(x)/sx)
		a, b := w.x[:n], w.y[:n]
		formats.DecodeFloat64(a, x, dx)
		formats.DecodeFloat64(b, y, dy)
		if dx != dy {
			c.countValues(a, b)
		}
		part, most := sumOf(a, b, dx, dy)
		m.add(part)
		c.maxAbs = max(c.maxAbs, most)
		x, y = x[n*sx:], y[n*sy:]
	}
	return m, c
}

// same sums over elements that are the same on both sides.
func (w *comparer) same(x []byte, d formats.DType) (m moments) {
	size := int(d.Bits() / 8)
	for len(x) > 0 {
		n := min(chunk, len(x)/size)
		a := w.x[:n]
		formats.DecodeFloat64(a, x, d)
		part, _ := sumOf(a, a, d, d)
		m.add(part)
		x = x[n*size:]
	}
	return m
}

// sumOf sums as the types need it: only F64 holds numbers whose squares do not fit.
func sumOf(x, y []float64, dx, dy formats.DType) (moments, float64) {
	if dx == formats.F64 || dy == formats.F64 {
		return sumWide(x, y)
	}
	return sum(x, y)
}

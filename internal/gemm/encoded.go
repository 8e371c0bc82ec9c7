package gemm

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"github.com/seed-b982eded/graft/formats"
)

// Encoded is a matrix whose elements are encoded as in a file: rows of Cols elements,
// Stride elements apart.
type Encoded struct {
	Rows, Cols int
	DType      formats.DType // F32, F16, BF16, F8E4M3 or F8E5M2
	Data       []byte        // little-endian
	Stride     int
}

// CanWiden reports whether matrices of a type can be factors of [MulEncoded].
func CanWiden(d formats.DType) bool {
	switch d {
	case formats.F32, formats.F16, formats.BF16, formats.F8E4M3, formats.F8E5M2:
		return true
	}
	return false
}

// MulEncoded computes c = alpha·op(a)·op(b) + beta·c. The result has the bits that
// [Implementation.Sgemm] gives for b widened to float32, which is exact, and b is never
// widened as a whole. It panics as blas32.Gemm does, for sizes that do not go together, and
// for a type of b that is not listed at [Encoded].
func MulEncoded(tA, tB blas.Transpose, alpha float32, a blas32.General, b Encoded, beta float32, c blas32.General) {
	aTrans, bTrans := transposed(tA), transposed(tB)
	if !CanWiden(b.DType) {
		panic("gemm: cannot widen " + b.DType.String())
	}
	m, k := turned(a.Rows, a.Cols, aTrans)
	kb, n := turned(b.Rows, b.Cols, bTrans)
	if kb != k || m != c.Rows || n != c.Cols {
		panic(fmt.Sprintf("gemm: a is %d×%d, b %d×%d and c %d×%d", m, k, kb, n, c.Rows, c.Cols))
	}
	checkSizes(m, n, k)
	checkStride(a.Stride, m, k, aTrans, badLdA)
	checkStride(b.Stride, k, n, bTrans, badLdB)
	checkStride(c.Stride, m, n, false, badLdC)
	if m == 0 || n == 0 {
		return
	}
	size := int(b.DType.Bits() / 8)
	checkLength(len(a.Data), a.Stride, m, k, aTrans, shortA)
	checkLength(len(b.Data)/size, b.Stride, k, n, bTrans, shortB)
	checkLength(len(c.Data), c.Stride, m, n, false, shortC)
	float32s.multiply(call[float32]{
		m: m, n: n, k: k, alpha: alpha, beta: beta,
		a: source[float32]{plain: a.Data, ld: a.Stride, trans: aTrans},
		b: source[float32]{encoded: b.Data, dtype: b.DType, ld: b.Stride, trans: bTrans},
		c: c.Data, ldc: c.Stride,
	})
}

// widen decodes len(dst) elements.
func widen[T number](dst []T, src []byte, dtype formats.DType) {
	var table *[256]float32
	switch dtype {
	case formats.F8E4M3:
		table = &e4m3
	case formats.F8E5M2:
		table = &e5m2
	default:
		decode(dst, src, dtype)
		return
	}
	src = src[:len(dst)]
	for i, x := range src {
		dst[i] = T(table[x])
	}
}

func decode[T number](dst []T, src []byte, dtype formats.DType) {
	switch dst := any(dst).(type) {
	case []float32:
		formats.DecodeFloat32(dst, src, dtype)
	case []float64:
		formats.DecodeFloat64(dst, src, dtype)
	}
}

// The values of the 8-bit types of the OCP 8-bit Floating Point Specification (OFP8),
// revision 1.0. E5M2 has the infinities and NaNs of IEEE 754; E4M3 has no infinities, and
// NaN where all bits but the sign are set.
var e4m3, e5m2 = func() (e4, e5 [256]float32) {
	for x := range 256 {
		e4[x] = small(x, 4, 3)
		e5[x] = small(x, 5, 2)
		if x&0x7f == 0x7f {
			e4[x] = float32(math.NaN())
		}
		switch x & 0x7f {
		case 0x7c:
			e5[x] = float32(math.Inf(1 - x>>7*2))
		case 0x7d, 0x7e, 0x7f:
			e5[x] = float32(math.NaN())
		}
	}
	return
}()

// small returns the finite number of a sign, exponent bits and mantissa bits.
func small(x, exponent, mantissa int) float32 {
	e, m := x>>mantissa&(1<<exponent-1), x&(1<<mantissa-1)
	bias := 1<<(exponent-1) - 1
	if e == 0 {
		e = 1
	} else {
		m += 1 << mantissa
	}
	v := math.Ldexp(float64(m), e-bias-mantissa)
	return float32(math.Copysign(v, float64(1-x>>7*2)))
}

package gemm

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// Implementation is Gonum's BLAS with products of matrices of its own.
type Implementation struct{ gonum.Implementation }

var (
	_ blas.Float32 = Implementation{}
	_ blas.Float64 = Implementation{}
)

// Sgemm computes C = alpha·op(A)·op(B) + beta·C in float32, where op(X) is X or Xᵀ, op(A)
// is m×k, op(B) k×n and C m×n, each with its rows ld elements apart. It panics as Gonum's
// when a size is negative, a stride is smaller than a row or a slice too short.
func (Implementation) Sgemm(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	gemm(&float32s, tA, tB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
}

// Dgemm is [Implementation.Sgemm] in float64.
func (Implementation) Dgemm(tA, tB blas.Transpose, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) {
	gemm(&float64s, tA, tB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
}

func gemm[T number](mach *machine[T], tA, tB blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int) {
	aTrans, bTrans := transposed(tA), transposed(tB)
	checkSizes(m, n, k)
	checkStride(lda, m, k, aTrans, badLdA)
	checkStride(ldb, k, n, bTrans, badLdB)
	checkStride(ldc, m, n, false, badLdC)
	if m == 0 || n == 0 {
		return
	}
	checkLength(len(a), lda, m, k, aTrans, shortA)
	checkLength(len(b), ldb, k, n, bTrans, shortB)
	checkLength(len(c), ldc, m, n, false, shortC)
	mach.multiply(call[T]{
		m: m, n: n, k: k, alpha: alpha, beta: beta,
		a: source[T]{plain: a, ld: lda, trans: aTrans},
		b: source[T]{plain: b, ld: ldb, trans: bTrans},
		c: c, ldc: ldc,
	})
}

// The messages of Gonum's checks.
const (
	mLT0         = "blas: m < 0"
	nLT0         = "blas: n < 0"
	kLT0         = "blas: k < 0"
	badTranspose = "blas: illegal transpose"
	badLdA       = "blas: bad leading dimension of A"
	badLdB       = "blas: bad leading dimension of B"
	badLdC       = "blas: bad leading dimension of C"
	shortA       = "blas: insufficient length of a"
	shortB       = "blas: insufficient length of b"
	shortC       = "blas: insufficient length of c"
)

func transposed(t blas.Transpose) bool {
	switch t {
	case blas.NoTrans:
		return false
	case blas.Trans, blas.ConjTrans:
		return true
	}
	panic(badTranspose)
}

func checkSizes(m, n, k int) {
	switch {
	case m < 0:
		panic(mLT0)
	case n < 0:
		panic(nLT0)
	case k < 0:
		panic(kLT0)
	}
}

// turned returns the sizes of a matrix or, with trans, of its transpose.
func turned(rows, cols int, trans bool) (int, int) {
	if trans {
		return cols, rows
	}
	return rows, cols
}

// checkStride checks the stride of an operand that is rows × cols once transposed.
func checkStride(ld, rows, cols int, trans bool, message string) {
	_, cols = turned(rows, cols, trans)
	if ld < max(1, cols) {
		panic(message)
	}
}

func checkLength(length, ld, rows, cols int, trans bool, message string) {
	rows, cols = turned(rows, cols, trans)
	if length < (rows-1)*ld+cols {
		panic(message)
	}
}

package autodiff

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

type matrix = blas32.General

const (
	asIs    = blas.NoTrans
	flipped = blas.Trans
)

// product computes c = alpha·op(a)·op(b) + beta·c, where a beta of 0 passes over what is in c,
// on several processors where it is large. The implementations that blas32 can have here,
// Gonum's and that of package gemm, cut sums in places that the number of processors does
// not move.
func product(opA, opB blas.Transpose, alpha float32, a, b matrix, beta float32, c matrix) {
	blas32.Gemm(opA, opB, alpha, a, b, beta, c)
}

// part returns the rows × cols matrix of m, neither zero, that begins at (i, j).
func part(m matrix, i, j, rows, cols int) matrix {
	return matrix{Rows: rows, Cols: cols, Stride: m.Stride,
		Data: m.Data[i*m.Stride+j : (i+rows-1)*m.Stride+j+cols]}
}

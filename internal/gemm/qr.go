package gemm

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/lapack"
	"gonum.org/v1/gonum/lapack/gonum"
)

// LAPACK is Gonum's LAPACK with QR factorisations that work by blocks from few columns on.
// Gonum, as the reference, takes up blocks at 128 columns and goes through narrower matrices
// twice per column; with fast products blocks pay as soon as there are two.
type LAPACK struct{ gonum.Implementation }

var _ lapack.Float64 = LAPACK{}

// reflectors is how many columns make a block: a line of a cache of each row.
const reflectors = 8

// Dgeqrf computes the QR factorisation of a as Gonum's does, with other roundings. It needs
// work of 8·n elements, which is less than Gonum recommends; with less it is Gonum's.
func (l LAPACK) Dgeqrf(m, n int, a []float64, lda int, tau, work []float64, lwork int) {
	k := min(m, n)
	if k <= reflectors || lwork < n*reflectors || len(work) < lwork || lda < n || len(a) < (m-1)*lda+n || len(tau) != k {
		l.Implementation.Dgeqrf(m, n, a, lda, tau, work, lwork) // which knows what is wrong, if anything
		return
	}
	for i := 0; i < k; i += reflectors {
		block := min(reflectors, k-i)
		l.Dgeqr2(m-i, block, a[i*lda+i:], lda, tau[i:i+block], work)
		l.reflect(blas.Trans, m, n, i, block, a, lda, tau, work)
	}
	work[0] = float64(n * reflectors)
}

// Dorgqr makes the columns of the Q that [LAPACK.Dgeqrf] describes, as Gonum's does and with
// the same needs.
func (l LAPACK) Dorgqr(m, n, k int, a []float64, lda int, tau, work []float64, lwork int) {
	if n > m || k > n || k <= reflectors || lwork < n*reflectors || len(work) < lwork || lda < n || len(a) < (m-1)*lda+n || len(tau) != k {
		l.Implementation.Dorgqr(m, n, k, a, lda, tau, work, lwork)
		return
	}
	if k < n { // the columns behind begin as those of an identity
		for i := range k {
			clear(a[i*lda+k : i*lda+n])
		}
		l.Dorg2r(m-k, n-k, 0, a[k*lda+k:], lda, nil, work)
	}
	for i := (k - 1) / reflectors * reflectors; i >= 0; i -= reflectors {
		block := min(reflectors, k-i)
		l.reflect(blas.NoTrans, m, n, i, block, a, lda, tau, work)
		l.Dorg2r(m-i, block, block, a[i*lda+i:], lda, tau[i:i+block], work)
		for row := range i {
			clear(a[row*lda+i : row*lda+i+block])
		}
	}
	work[0] = float64(n * reflectors)
}

// reflect applies the reflections of the block of columns from i on, or their transpose, to
// the columns behind it.
func (l LAPACK) reflect(trans blas.Transpose, m, n, i, block int, a []float64, lda int, tau, work []float64) {
	behind := n - i - block
	if behind == 0 {
		return
	}
	triangle := work[:block*block]
	l.Dlarft(lapack.Forward, lapack.ColumnWise, m-i, block, a[i*lda+i:], lda, tau[i:i+block], triangle, block)
	l.Dlarfb(blas.Left, trans, lapack.Forward, lapack.ColumnWise, m-i, behind, block,
		a[i*lda+i:], lda, triangle, block, a[i*lda+i+block:], lda, work[block*block:], block)
}

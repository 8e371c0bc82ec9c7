package lowrank

import (
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// QR returns the thin factorisation a = q·r of an m×n matrix by Householder reflections: q
// is m×k with orthonormal columns and r is k×n upper triangular, k = min(m, n). It costs
// 4mn² operations for m ≥ n; gonum's mat.QR would make q of m×m. a is not changed.
func QR(a mat.Matrix) (q, r *mat.Dense) {
	q, tau := householder(a)
	r = triangle(q)
	m, n := q.Dims()
	if m < n {
		q = mat.DenseCopyOf(q.Slice(0, m, 0, m))
	}
	raw := q.RawMatrix()
	work := []float64{0}
	lapack64.Orgqr(raw, tau, work, -1)
	work = make([]float64, int(work[0]))
	lapack64.Orgqr(raw, tau, work, len(work))
	return q, r
}

// R returns the r of [QR] alone, at half the cost.
func R(a mat.Matrix) *mat.Dense {
	f, _ := householder(a)
	return triangle(f)
}

// householder returns r with the reflections below its diagonal, in LAPACK's form.
func householder(a mat.Matrix) (f *mat.Dense, tau []float64) {
	f = mat.DenseCopyOf(a)
	m, n := f.Dims()
	raw := f.RawMatrix()
	tau = make([]float64, min(m, n))
	work := []float64{0}
	lapack64.Geqrf(raw, tau, work, -1)
	work = make([]float64, int(work[0]))
	lapack64.Geqrf(raw, tau, work, len(work))
	return f, tau
}

// triangle copies the upper triangle.
func triangle(f *mat.Dense) *mat.Dense {
	m, n := f.Dims()
	r := mat.NewDense(min(m, n), n, nil)
	for i := range min(m, n) {
		copy(r.RawRowView(i)[i:], f.RawRowView(i)[i:])
	}
	return r
}

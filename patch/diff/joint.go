package diff

import (
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/patch/lowrank"
)

// joint writes two products of one shape and one scale, and their difference p − q, in
// orthonormal bases that both share: with X = [B₁|B₂] = QR, B₁ and B₂ are Q times columns of
// R, and so are A₁ᵀ and A₂ᵀ of another Q. Nothing that is measured depends on Q, which is
// never made: what comes back is at most (r₁+r₂)×(r₁+r₂), and norms, angles and singular
// values are those of the whole, so that the two factorisations are all that is large.
//
// Where column k of B₁ and row k of A₁ lie close to those of the other product, X has
// b₁−b₂ in place of b₁. Columns of X keep their digits each, and k's part of the difference
// is s·((b₁−b₂)·a₁ + b₂·(a₁−a₂)), so that two adapters an ulp apart have a distance with all
// its digits.
func joint(p, q *lowrank.Product) (pj, qj, difference *lowrank.Product) {
	r1, r2 := p.Rank(), q.Rank()
	left, right := mat.DenseCopyOf(p.B), mat.DenseCopyOf(p.A.T())
	near := make([]bool, r1)
	if r1 == r2 {
		for k := range near {
			b1, b2, a1, a2 := column(p.B, k), column(q.B, k), row(p.A, k), row(q.A, k)
			if near[k] = isNear(b1, b2) && isNear(a1, a2); near[k] {
				column(left, k).SubVec(b1, b2)
				column(right, k).SubVec(a1, a2)
			}
		}
	}
	b, a := triangle(left, q.B), triangle(right, q.A.T())
	pj = &lowrank.Product{B: columns(b, 0, r1), A: rows(a, 0, r1), S: p.S}
	qj = &lowrank.Product{B: columns(b, r1, r1+r2), A: rows(a, r1, r1+r2), S: q.S}
	// The difference is s·[X₁|B₂]·[A₁;Y], with Y = a₁−a₂ where k is near, else −a₂.
	x := mat.DenseCopyOf(pj.B)
	y := mat.NewDense(r2, qj.A.RawMatrix().Cols, nil)
	y.Scale(-1, qj.A)
	for k := range near {
		if near[k] {
			b, a := column(pj.B, k), row(pj.A, k)
			row(y, k).CopyVec(a)
			b.AddVec(b, column(qj.B, k))
			a.AddVec(a, row(qj.A, k))
		}
	}
	difference = lowrank.Sum([]*lowrank.Product{{B: x, A: pj.A, S: p.S}, {B: qj.B, A: y, S: p.S}}, []float64{1, 1})
	return pj, qj, difference
}

// isNear reports whether x − y is no larger than either of them: (x − y) + y is x then but
// for rounding in x.
func isNear(x, y *mat.VecDense) bool {
	var d mat.VecDense
	d.SubVec(x, y)
	n := norm(&d)
	return n <= norm(x) && n <= norm(y)
}

// norm neither overflows nor vanishes on the way.
func norm(x *mat.VecDense) float64 { return blas64.Nrm2(x.RawVector()) }

// triangle returns the R of x|y.
func triangle(x, y mat.Matrix) *mat.Dense {
	var both mat.Dense
	both.Augment(x, y)
	return lowrank.R(&both)
}

func column(m *mat.Dense, k int) *mat.VecDense { return m.ColView(k).(*mat.VecDense) }

func row(m *mat.Dense, k int) *mat.VecDense { return m.RowView(k).(*mat.VecDense) }

func columns(m *mat.Dense, from, to int) *mat.Dense {
	n, _ := m.Dims()
	return mat.DenseCopyOf(m.Slice(0, n, from, to))
}

// rows are columns of the transposed matrix.
func rows(m *mat.Dense, from, to int) *mat.Dense {
	n, _ := m.Dims()
	return mat.DenseCopyOf(m.Slice(0, n, from, to).T())
}

// folded returns a product with its scale in B.
func folded(p *lowrank.Product) *lowrank.Product {
	var b mat.Dense
	b.Scale(p.S, p.B)
	return &lowrank.Product{B: &b, A: p.A, S: 1}
}

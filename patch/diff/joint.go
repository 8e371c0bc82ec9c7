package diff

import (
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/patch/lowrank"
)

// joint writes two products of one shape and one scale, and their difference p − q, in
// orthonormal bases that both share: with X = [B₁|B₂] = QR, B₁ and B₂ are Q times columns of
// R, and so are A₁ᵀ and A₂ᵀ of another Q. Nothing that is measured depends on Q, which is
// never made: what comes back is at most (r₁+r₂)×(r₁+r₂), and norms, angles and singular
// values are those of the whole, so that the two factorisations are all that is large.
//
// Where the factors lie close together, X is [B₁−B₂|B₂]. Its columns keep their digits each,
// and the difference is s·((B₁−B₂)·A₁ + B₂·(A₁−A₂)), so that two adapters an ulp apart have a
// distance with all its digits.
func joint(p, q *lowrank.Product) (pj, qj, difference *lowrank.Product) {
	r1, r2 := p.Rank(), q.Rank()
	if r1 == r2 {
		var db, da mat.Dense
		db.Sub(p.B, q.B)
		da.Sub(p.A, q.A)
		a1, b2 := mat.Norm(p.A, 2), mat.Norm(q.B, 2)
		if mat.Norm(&db, 2)*a1+b2*mat.Norm(&da, 2) < mat.Norm(p.B, 2)*a1+b2*mat.Norm(q.A, 2) {
			return jointNear(p, q, &db, &da)
		}
	}
	b, a := triangle(p.B, q.B), triangle(p.A.T(), q.A.T())
	pj = &lowrank.Product{B: columns(b, 0, r1), A: rows(a, 0, r1), S: p.S}
	qj = &lowrank.Product{B: columns(b, r1, r1+r2), A: rows(a, r1, r1+r2), S: q.S}
	return pj, qj, lowrank.Sum([]*lowrank.Product{pj, qj}, []float64{1, -1})
}

// jointNear is joint of products whose factors differ by db and da.
func jointNear(p, q *lowrank.Product, db, da *mat.Dense) (pj, qj, difference *lowrank.Product) {
	r := p.Rank()
	b, a := triangle(db, q.B), triangle(da.T(), q.A.T())
	dbj, daj := columns(b, 0, r), rows(a, 0, r)
	qj = &lowrank.Product{B: columns(b, r, 2*r), A: rows(a, r, 2*r), S: q.S}
	var b1, a1 mat.Dense
	b1.Add(dbj, qj.B)
	a1.Add(daj, qj.A)
	pj = &lowrank.Product{B: &b1, A: &a1, S: p.S}
	return pj, qj, lowrank.Sum([]*lowrank.Product{{B: dbj, A: &a1, S: p.S}, {B: qj.B, A: daj, S: p.S}}, []float64{1, 1})
}

// triangle returns the R of x|y.
func triangle(x, y mat.Matrix) *mat.Dense {
	var both mat.Dense
	both.Augment(x, y)
	return lowrank.R(&both)
}

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

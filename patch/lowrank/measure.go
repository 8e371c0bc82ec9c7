package lowrank

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// Norm returns the Frobenius norm of a product, from the triangles of both factors.
func Norm(p *Product) float64 {
	var core mat.Dense
	core.Mul(R(p.B), R(p.A.T()).T())
	return math.Abs(p.S) * mat.Norm(&core, 2)
}

// Distance returns ‖p − q‖ in the Frobenius norm, by [Difference].
func Distance(p, q *Product) float64 { return Norm(Difference(p, q)) }

// Inner returns the inner product Σ pᵢⱼ·qᵢⱼ of two products of one shape: the sum of the
// elements of (B₁ᵀB₂)∘(A₁A₂ᵀ). Its error is of the order of 1e-16·‖p‖·‖q‖, so that norms and
// distances are not to be made of it.
func Inner(p, q *Product) float64 {
	var b, a mat.Dense
	b.Mul(p.B.T(), q.B)
	a.Mul(p.A, q.A.T())
	b.MulElem(&b, &a)
	return p.S * q.S * mat.Sum(&b)
}

// Cosine returns the cosine of the angle between two products seen as vectors, from −1 to
// 1; NaN where one of them is zero.
func Cosine(p, q *Product) float64 {
	n1, n2 := Norm(p), Norm(q)
	if n1 == 0 || n2 == 0 {
		return math.NaN()
	}
	return max(-1, min(1, Inner(p, q)/n1/n2))
}

// Similarity returns φ(i,j) = ‖Uᵢᵀ·Vⱼ‖²_F / min(i,j) for all i and j from 1 on, at [i-1][j-1]:
// how much the span of the first i columns of u and that of the first j columns of v have
// in common, 0 for nothing and 1 where one holds the other (Hu et al., LoRA, 2021, §7.2). u
// is n×k and v n×l, with orthonormal columns: singular vectors, most important first.
func Similarity(u, v *mat.Dense) [][]float64 {
	var g mat.Dense
	g.Mul(u.T(), v)
	k, l := g.Dims()
	phi := make([][]float64, k)
	above := make([]float64, l)
	for i := range k {
		row, sum := make([]float64, l), 0.0
		for j, x := range g.RawRowView(i) {
			sum += x * x
			above[j] += sum
			row[j] = min(1, above[j]/float64(min(i, j)+1))
		}
		phi[i] = row
	}
	return phi
}

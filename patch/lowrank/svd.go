package lowrank

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
)

// SVD is U·diag(S)·Vᵀ of a product, thin: k = min(r, out, in).
type SVD struct {
	U *mat.Dense // out×k, orthonormal columns
	S []float64  // k singular values, none negative, largest first
	V *mat.Dense // in×k, orthonormal columns
}

// Decompose returns the singular value decomposition of a product, without forming it:
// with B = Q₁R₁ and Aᵀ = Q₂R₂, that of the small core s·R₁·R₂ᵀ, whose vectors Q₁ and Q₂
// carry over. Singular values are exact to rounding in the largest one. The sign of each
// pair of vectors is such that the element of U that is largest in size is positive. It
// fails with [formats.ErrUnfit] where the product is too large for float64.
func Decompose(p *Product) (*SVD, error) {
	q1, r1 := QR(p.B)
	q2, r2 := QR(p.A.T())
	core, err := coreOf(p.S, r1, r2)
	if err != nil {
		return nil, err
	}
	return carried(q1, core, q2)
}

// carried returns the triplets of q1·core·q2ᵀ, of which q1 and q2 have orthonormal columns.
func carried(q1 *mat.Dense, core mat.Matrix, q2 *mat.Dense) (*SVD, error) {
	var small mat.SVD
	if !small.Factorize(core, mat.SVDThin) {
		return nil, formats.Unfitf("", "", "the singular value decomposition does not converge")
	}
	var u, v mat.Dense
	small.UTo(&u)
	small.VTo(&v)
	d := &SVD{U: new(mat.Dense), V: new(mat.Dense), S: small.Values(nil)}
	d.U.Mul(q1, &u)
	d.V.Mul(q2, &v)
	d.fixSigns()
	return d, nil
}

// SingularValues returns the singular values of a product, largest first, as [Decompose]
// does and at a fraction of its cost.
func SingularValues(p *Product) ([]float64, error) {
	core, err := coreOf(p.S, R(p.B), R(p.A.T()))
	if err != nil {
		return nil, err
	}
	var small mat.SVD
	if !small.Factorize(core, mat.SVDNone) {
		return nil, formats.Unfitf("", "", "the singular value decomposition does not converge")
	}
	return small.Values(nil), nil
}

// coreOf returns s·r1·r2ᵀ. LAPACK does not end on infinities.
func coreOf(s float64, r1, r2 *mat.Dense) (*mat.Dense, error) {
	var core mat.Dense
	core.Mul(r1, r2.T())
	core.Scale(s, &core)
	for _, x := range core.RawMatrix().Data {
		if x-x != 0 {
			return nil, formats.Unfitf("", "", "the product of the factors is too large for float64")
		}
	}
	return &core, nil
}

// fixSigns turns pairs of vectors round, so that the result does not depend on how the
// core's decomposition chose them.
func (d *SVD) fixSigns() {
	out, k := d.U.Dims()
	in, _ := d.V.Dims()
	largest := make([]float64, k)
	for i := range out {
		for j, x := range d.U.RawRowView(i) {
			if math.Abs(x) > math.Abs(largest[j]) {
				largest[j] = x
			}
		}
	}
	for _, m := range []struct {
		rows int
		d    *mat.Dense
	}{{out, d.U}, {in, d.V}} {
		for i := range m.rows {
			row := m.d.RawRowView(i)
			for j := range row {
				if largest[j] < 0 {
					row[j] = -row[j]
				}
			}
		}
	}
}

// Truncated returns the best approximation of rank at most k (Eckart and Young, 1936) as a
// product: B = U·√S and A = √S·Vᵀ, so that both factors are of one size and lose as little
// as can be in a narrow type. k is from 1 to the number of singular values.
func (d *SVD) Truncated(k int) *Product {
	out, _ := d.U.Dims()
	in, _ := d.V.Dims()
	b, a := mat.NewDense(out, k, nil), mat.NewDense(k, in, nil)
	root := make([]float64, k)
	for j := range root {
		root[j] = math.Sqrt(d.S[j])
	}
	for i := range out {
		to, from := b.RawRowView(i), d.U.RawRowView(i)
		for j := range to {
			to[j] = from[j] * root[j]
		}
	}
	for i := range in {
		from := d.V.RawRowView(i)
		for j := range k {
			a.Set(j, i, from[j]*root[j])
		}
	}
	return &Product{B: b, A: a, S: 1}
}

package lowrank

import (
	"context"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
)

// exactSide is up to which smaller side a full decomposition is taken: it is fast.
const exactSide = 256

// Leading returns the first k singular triplets of a full matrix, fewer where it is
// smaller. Small matrices are decomposed exactly, large ones by [Range] until the energy that
// is captured grows no more: the error of the truncation is then the best one to about four
// digits, however slowly the spectrum decays.
func Leading(m *mat.Dense, k int) (*SVD, error) {
	if err := checkFinite(m); err != nil {
		return nil, err
	}
	out, in := m.Dims()
	if side := min(out, in); side <= exactSide || 2*(k+oversample) >= side {
		return Exact(m, k)
	}
	return Range(context.Background(), dense{m}, RangeOptions{Rank: k, Norm: mat.Norm(m, 2), Settled: 1e-5})
}

// checkFinite refuses what LAPACK does not end on.
func checkFinite(m *mat.Dense) error {
	for _, x := range m.RawMatrix().Data {
		if x-x != 0 {
			return formats.Unfitf("", "", "the matrix has elements that are not finite")
		}
	}
	return nil
}

// dense is a full matrix as an operator.
type dense struct{ *mat.Dense }

func (m dense) Mul(_ context.Context, dst, x *mat.Dense) error {
	dst.Mul(m.Dense, x)
	return nil
}

func (m dense) MulTrans(_ context.Context, dst, x *mat.Dense) error {
	dst.Mul(m.T(), x)
	return nil
}

// Exact returns the first k singular triplets of a full matrix by decomposing it whole, which
// takes time of the order of out·in·min(out, in).
func Exact(m *mat.Dense, k int) (*SVD, error) {
	var full mat.SVD
	if !full.Factorize(m, mat.SVDThin) {
		return nil, formats.Unfitf("", "", "the singular value decomposition does not converge")
	}
	d := &SVD{U: new(mat.Dense), V: new(mat.Dense), S: full.Values(nil)}
	full.UTo(d.U)
	full.VTo(d.V)
	d.fixSigns()
	return d.first(min(k, len(d.S))), nil
}

// first returns the first k triplets.
func (d *SVD) first(k int) *SVD {
	out, _ := d.U.Dims()
	in, _ := d.V.Dims()
	return &SVD{
		U: mat.DenseCopyOf(d.U.Slice(0, out, 0, k)), V: mat.DenseCopyOf(d.V.Slice(0, in, 0, k)), S: d.S[:k:k],
	}
}

package lowrank

import (
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
)

// Parameters of [Leading].
const (
	exactSide  = 256  // up to this smaller side the full decomposition is taken: it is fast
	oversample = 16   // columns of the sketch beyond the rank that is asked for
	maxPasses  = 12   // of subspace iteration
	settled    = 1e-6 // relative change of the captured energy that ends it
)

// Leading returns the first k singular triplets of a full matrix, fewer where it is
// smaller. Small matrices are decomposed exactly. For large ones a random sketch is refined
// by subspace iteration until the energy that it captures grows no more (Halko, Martinsson
// and Tropp, Finding structure with randomness, 2011): the error of the truncation is then
// the best one to about four digits, however slowly the spectrum decays. The sketch is the
// same in every run.
func Leading(m *mat.Dense, k int) (*SVD, error) {
	for _, x := range m.RawMatrix().Data {
		if x-x != 0 {
			return nil, formats.Unfitf("", "", "the matrix has elements that are not finite")
		}
	}
	out, in := m.Dims()
	k = min(k, out, in)
	q := k + oversample
	if side := min(out, in); side <= exactSide || 2*q >= side {
		return exact(m, k)
	}
	rng := rand.New(rand.NewPCG(0, 0))
	start := mat.NewDense(in, q, nil)
	for i := range start.RawMatrix().Data {
		start.RawMatrix().Data[i] = rng.NormFloat64()
	}
	var y, z mat.Dense
	y.Mul(m, start)
	energy := -1.0
	for pass := 0; ; pass++ {
		u, _ := QR(&y)
		z.Mul(m.T(), u)
		d, err := Decompose(&Product{B: u, A: mat.DenseCopyOf(z.T()), S: 1})
		if err != nil {
			return nil, err
		}
		captured := 0.0
		for _, s := range d.S[:k] {
			captured += s * s
		}
		if captured-energy <= settled*captured || pass == maxPasses {
			return d.first(k), nil
		}
		energy = captured
		v, _ := QR(&z)
		y.Mul(m, v)
	}
}

// exact decomposes a matrix whole.
func exact(m *mat.Dense, k int) (*SVD, error) {
	var full mat.SVD
	if !full.Factorize(m, mat.SVDThin) {
		return nil, formats.Unfitf("", "", "the singular value decomposition does not converge")
	}
	d := &SVD{U: new(mat.Dense), V: new(mat.Dense), S: full.Values(nil)}
	full.UTo(d.U)
	full.VTo(d.V)
	d.fixSigns()
	return d.first(k), nil
}

// first returns the first k triplets.
func (d *SVD) first(k int) *SVD {
	out, _ := d.U.Dims()
	in, _ := d.V.Dims()
	return &SVD{
		U: mat.DenseCopyOf(d.U.Slice(0, out, 0, k)), V: mat.DenseCopyOf(d.V.Slice(0, in, 0, k)), S: d.S[:k:k],
	}
}

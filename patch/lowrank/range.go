package lowrank

import (
	"context"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
)

// Operator is an out×in matrix that is only multiplied with, so that it need not be held.
type Operator interface {
	Dims() (out, in int)
	// Mul sets dst, out×k, to the operator times x, in×k.
	Mul(ctx context.Context, dst, x *mat.Dense) error
	// MulTrans sets dst, in×k, to the transposed operator times x, out×k.
	MulTrans(ctx context.Context, dst, x *mat.Dense) error
}

// RangeOptions of [Range].
type RangeOptions struct {
	Rank int     // how many triplets are wanted
	Norm float64 // ‖M‖, Frobenius, of the operator
	// Settled ends the iteration: when a pass finds less than this share of the energy ‖M‖²
	// that is not captured yet. 0 is for a residual within a few thousandths of the best.
	Settled float64
	// Noise is the relative error of the energy that the operator's products show: passes that
	// find less than this share of ‖M‖² find nothing.
	Noise float64
	// Start, if not nil, are right singular vectors to start from, in×k.
	Start *mat.Dense
}

// Parameters of [Range].
const (
	oversample     = 16    // columns of the sketch beyond the rank that is asked for
	maxPasses      = 12    // of subspace iteration
	defaultSettled = 4e-3  // of the energy outside
	rounding       = 1e-15 // of a sum of squares in float64
)

// Range returns the leading singular triplets of an operator, Rank of them or as many as there
// are: those of its part in a random sketch's range, which subspace iteration turns towards
// the dominant one until a pass finds hardly any more (Halko, Martinsson and Tropp, Finding
// structure with randomness, 2011, algorithms 4.4 and 5.1). Every pass multiplies twice. The
// error of the truncation is then the best one to about Settled/2, however slowly the spectrum
// decays. The sketch is the same in every run.
func Range(ctx context.Context, op Operator, opts RangeOptions) (*SVD, error) {
	out, in := op.Dims()
	k := min(opts.Rank, out, in)
	q := min(k+oversample, out, in)
	settled := opts.Settled
	if settled == 0 {
		settled = defaultSettled
	}
	energy := opts.Norm * opts.Norm
	y, z, p := mat.NewDense(out, q, nil), mat.NewDense(in, q, nil), sketch(in, q, opts.Start)
	captured := 0.0
	for pass := 1; ; pass++ {
		if err := op.Mul(ctx, y, p); err != nil {
			return nil, err
		}
		u, _ := QR(y)
		if err := op.MulTrans(ctx, z, u); err != nil {
			return nil, err
		}
		v, r := QR(z)
		found := mat.Norm(r, 2)
		if !(found < math.MaxFloat64) {
			return nil, formats.Unfitf("", "", "the matrix is too large for float64, or has elements that are not finite")
		}
		found *= found
		if found-captured <= settled*(energy-found)+(opts.Noise+rounding)*energy || pass == maxPasses || q == min(out, in) {
			d, err := carried(u, r.T(), v)
			if err != nil {
				return nil, err
			}
			return d.first(min(k, len(d.S))), nil
		}
		captured, p = found, v
	}
}

// sketch returns random columns behind those to start from. The first product counts, so
// that they need not be orthogonal.
func sketch(in, q int, start *mat.Dense) *mat.Dense {
	rng := rand.New(rand.NewPCG(0, 0))
	p := mat.NewDense(in, q, nil)
	data := p.RawMatrix().Data
	for i := range data {
		data[i] = rng.NormFloat64()
	}
	if start != nil {
		_, k := start.Dims()
		p.Slice(0, in, 0, min(k, q)).(*mat.Dense).Copy(start)
	}
	return p
}

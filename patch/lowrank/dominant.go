package lowrank

import (
	"context"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
)

// Parameters of [Dominant].
const (
	krylovBlocks  = 4    // of a Krylov space, or more
	krylovColumns = 320  // while it has fewer columns
	krylovCycles  = 30   // spaces, each from the best of the one before
	krylovSettle  = 1e-7 // ‖Mᵀu − σv‖ in units of the largest σ: what float32 could tell apart
)

// Dominant returns the first k singular triplets of an operator, fewer where it is smaller,
// as a full decomposition in float32 would give them: ‖Mᵀu − σv‖ is within 1e-7·σ₁. An operator
// with a small side is decomposed whole; of a large one the triplets are found in the Krylov space of a
// random block under MᵀM (Musco and Musco, Randomized block Krylov methods, 2015), begun again from its best
// part until they are exact. Where the spectrum is nearly flat that may not come to pass: then
// the triplets are those of a truncation that is as good as the best one. The start is the same in every run.
func Dominant(ctx context.Context, op Operator, k int) (*SVD, error) {
	out, in := op.Dims()
	n := min(out, in)
	block := min(k, n) + oversample
	if n <= exactSide || 3*block >= n {
		m, err := formed(ctx, op)
		if err != nil {
			return nil, err
		}
		if err := checkFinite(m); err != nil {
			return nil, err
		}
		return Exact(m, k)
	}
	g := &gram{op: op, n: n, wide: out < in}
	s := newKrylov(n, block, min(max(krylovBlocks, krylovColumns/block), n/block))
	rng := rand.New(rand.NewPCG(0, 0))
	next := mat.NewDense(n, block, nil)
	for i := range next.RawMatrix().Data {
		next.RawMatrix().Data[i] = rng.NormFloat64()
	}
	for cycle := 1; ; cycle++ {
		for s.have+block <= s.size {
			if err := s.grow(ctx, g, next); err != nil {
				return nil, err
			}
			next = s.last()
		}
		exact, err := s.best(k)
		if err != nil {
			return nil, err
		}
		if exact || cycle == krylovCycles {
			return g.triplets(ctx, s.first(), k)
		}
		next = s.last()
	}
}

// formed returns an operator as a matrix, by multiplying the identity of its smaller side.
func formed(ctx context.Context, op Operator) (*mat.Dense, error) {
	out, in := op.Dims()
	if in <= out {
		m := mat.NewDense(out, in, nil)
		return m, op.Mul(ctx, m, identity(in, in))
	}
	m := mat.NewDense(in, out, nil)
	if err := op.MulTrans(ctx, m, identity(out, out)); err != nil {
		return nil, err
	}
	return mat.DenseCopyOf(m.T()), nil
}

// identity returns the first k columns of the identity of n rows.
func identity(n, k int) *mat.Dense {
	one := mat.NewDense(n, k, nil)
	for i := range k {
		one.Set(i, i, 1)
	}
	return one
}

// LeadingQR returns the first k columns of q and the first k rows of r of the factorisation q·r of an
// operator as [QR] makes it, k ≤ min(out, in): q is out×k, r is k×in. The first k columns decide q, and r
// is qᵀ times the operator, so that nothing else is ever factorised.
func LeadingQR(ctx context.Context, op Operator, k int) (q, r *mat.Dense, err error) {
	out, in := op.Dims()
	columns, rt := mat.NewDense(out, k, nil), mat.NewDense(in, k, nil)
	if err := op.Mul(ctx, columns, identity(in, k)); err != nil {
		return nil, nil, err
	}
	q, corner := QR(columns)
	if err := op.MulTrans(ctx, rt, q); err != nil {
		return nil, nil, err
	}
	r = mat.DenseCopyOf(rt.T())
	r.Slice(0, k, 0, k).(*mat.Dense).Copy(corner) // its zeros are exact
	return q, r, nil
}

// gram is MᵀM, or MMᵀ of an operator with fewer rows than columns: n×n.
type gram struct {
	op   Operator
	n    int
	wide bool
}

// apply sets dst to the gram times x, both n×block.
func (g *gram) apply(ctx context.Context, dst, x *mat.Dense) error {
	out, in := g.op.Dims()
	_, k := x.Dims()
	half := mat.NewDense(max(out, in), k, nil)
	if g.wide {
		if err := g.op.MulTrans(ctx, half, x); err != nil {
			return err
		}
		return g.op.Mul(ctx, dst, half)
	}
	if err := g.op.Mul(ctx, half, x); err != nil {
		return err
	}
	return g.op.MulTrans(ctx, dst, half)
}

// triplets returns the first k triplets of the operator's part in the span of q.
func (g *gram) triplets(ctx context.Context, q *mat.Dense, k int) (*SVD, error) {
	out, in := g.op.Dims()
	_, b := q.Dims()
	half := mat.NewDense(max(out, in), b, nil)
	var d *SVD
	var err error
	if g.wide {
		if err := g.op.MulTrans(ctx, half, q); err != nil {
			return nil, err
		}
		v, r := QR(half)
		d, err = carried(q, r.T(), v)
	} else {
		if err := g.op.Mul(ctx, half, q); err != nil {
			return nil, err
		}
		u, r := QR(half)
		d, err = carried(u, r, q)
	}
	if err != nil {
		return nil, err
	}
	return d.first(min(k, len(d.S))), nil
}

// krylov is a Krylov space that grows by blocks: orthonormal columns, and what the gram makes
// of them.
type krylov struct {
	n, block, size, have int
	basis, image         *mat.Dense // n×size
}

func newKrylov(n, block, blocks int) *krylov {
	size := block * blocks
	return &krylov{n: n, block: block, size: size, basis: mat.NewDense(n, size, nil), image: mat.NewDense(n, size, nil)}
}

func (s *krylov) columns(of *mat.Dense, from, to int) *mat.Dense {
	return of.Slice(0, s.n, from, to).(*mat.Dense)
}

// first is the first block of the basis, last what the gram made of the last one.
func (s *krylov) first() *mat.Dense { return mat.DenseCopyOf(s.columns(s.basis, 0, s.block)) }
func (s *krylov) last() *mat.Dense {
	return mat.DenseCopyOf(s.columns(s.image, s.have-s.block, s.have))
}

// grow adds the part of a block that is not in the space yet.
func (s *krylov) grow(ctx context.Context, g *gram, next *mat.Dense) error {
	// The part may be small, and then what is left of the space in it is large beside it; after a
	// factorisation its columns are of length 1, and the second and third time settle that.
	for range 3 {
		if s.have > 0 {
			var in, part mat.Dense
			old := s.columns(s.basis, 0, s.have)
			in.Mul(old.T(), next)
			part.Mul(old, &in)
			next.Sub(next, &part)
		}
		next, _ = QR(next)
	}
	at := s.have
	s.have += s.block
	s.columns(s.basis, at, s.have).Copy(next)
	image := mat.NewDense(s.n, s.block, nil)
	if err := g.apply(ctx, image, next); err != nil {
		return err
	}
	s.columns(s.image, at, s.have).Copy(image)
	return nil
}

// best leaves of the space the block of its vectors that have the largest eigenvalues, and says
// whether the first k of them are eigenvectors to the accuracy that is asked for.
func (s *krylov) best(k int) (exact bool, err error) {
	var product mat.Dense
	product.Mul(s.columns(s.basis, 0, s.have).T(), s.columns(s.image, 0, s.have))
	core := mat.NewSymDense(s.have, nil)
	for i := range s.have {
		for j := i; j < s.have; j++ {
			x := (product.At(i, j) + product.At(j, i)) / 2
			if !(math.Abs(x) < math.MaxFloat64) {
				return false, formats.Unfitf("", "", "the matrix is too large for float64, or has elements that are not finite")
			}
			core.SetSym(i, j, x)
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(core, true) {
		return false, formats.Unfitf("", "", "the singular value decomposition does not converge")
	}
	values := eigen.Values(nil) // smallest first
	var vectors, u, gu mat.Dense
	eigen.VectorsTo(&vectors)
	top := mat.NewDense(s.have, s.block, nil)
	for j := range s.block {
		for i := range s.have {
			top.Set(i, j, vectors.At(i, s.have-1-j))
		}
	}
	u.Mul(s.columns(s.basis, 0, s.have), top)
	gu.Mul(s.columns(s.image, 0, s.have), top)
	residual := make([]float64, s.block) // squares of ‖G·u − value·u‖
	value := func(j int) float64 { return max(0, values[s.have-1-j]) }
	for i := range s.n {
		for j, x := range gu.RawRowView(i) {
			e := x - value(j)*u.At(i, j)
			residual[j] += e * e
		}
	}
	exact = true
	for j := range k {
		// With M·v = σ·u it is σ·‖Mᵀu − σv‖. A value that is nothing beside the largest is as good as 0.
		exact = exact && residual[j] <= krylovSettle*krylovSettle*value(0)*max(value(j), krylovSettle*krylovSettle*value(0))
	}
	s.have = s.block
	s.columns(s.basis, 0, s.have).Copy(&u)
	s.columns(s.image, 0, s.have).Copy(&gu)
	return exact, nil
}

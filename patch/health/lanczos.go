package health

import (
	"context"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
)

// Parameters of an estimate.
const (
	krylovBlock = 8  // vectors of the block that looks for the largest eigenvalues
	krylovDepth = 10 // of its Krylov space
	converged   = 1e-4
	probes      = 8  // random vectors of the quadrature
	steps       = 40 // of Lanczos' method for each
)

// estimate describes the eigenvalues of WᵀW in two parts.
//
// Those that stand out are found one by one, in the Krylov space of a random block (Musco and
// Musco, Randomized block Krylov methods, 2015), and taken out. Of the rest only the
// distribution is estimated, by stochastic Lanczos quadrature (Ubaru, Chen and Saad, Fast
// estimation of tr(f(A)), 2017): a random unit vector v sees the eigenvalue λᵢ with the
// weight (v·uᵢ)², and some steps of Lanczos' method from v give the Gauss quadrature of that
// measure. The mean over several v, times the dimension, is the density. Without the first
// part the weights of single large eigenvalues would be off by half.
func estimate(ctx context.Context, g *gram) (*density, error) {
	rng := rand.New(rand.NewPCG(0, 0))
	q, known, residual, err := leading(ctx, g, rng)
	if err != nil {
		return nil, err
	}
	d := &density{known: known, energy: g.norm * g.norm, largest: residual.value, largestError: residual.norm, count: g.n, floor: unit(g.n) * residual.value}
	count := 0
	if q != nil {
		count, _ = q.Dims()
	}
	return d, quadrature(ctx, g, q, float64(g.n-count), rng, d)
}

// ritz is an approximate eigenvalue, and the norm of A·v − value·v.
type ritz struct{ value, norm float64 }

func normal(rng *rand.Rand, rows, n int) *mat.Dense {
	x := mat.NewDense(rows, n, nil)
	for i := range x.RawMatrix().Data {
		x.RawMatrix().Data[i] = rng.NormFloat64()
	}
	return x
}

// leading returns the eigenvectors that converged, as rows (nil where none did), their
// eigenvalues, and the largest of all approximate ones.
func leading(ctx context.Context, g *gram, rng *rand.Rand) (q *mat.Dense, known []atom, largest ritz, err error) {
	size := krylovBlock * krylovDepth
	basis, image := mat.NewDense(size, g.n, nil), mat.NewDense(size, g.n, nil)
	block := orthonormal(normal(rng, krylovBlock, g.n), nil, rng)
	for at := 0; at < size; at += krylovBlock {
		basis.Slice(at, at+krylovBlock, 0, g.n).(*mat.Dense).Copy(block)
		z, err := g.apply(ctx, block.RawMatrix())
		if err != nil {
			return nil, nil, largest, err
		}
		next := mat.NewDense(z.Rows, z.Cols, z.Data)
		image.Slice(at, at+krylovBlock, 0, g.n).(*mat.Dense).Copy(next)
		block = orthonormal(next, basis.Slice(0, at+krylovBlock, 0, g.n).(*mat.Dense), rng)
	}
	var product mat.Dense
	product.Mul(basis, image.T())
	core := mat.NewSymDense(size, nil)
	for i := range size {
		for j := i; j < size; j++ {
			core.SetSym(i, j, (product.At(i, j)+product.At(j, i))/2)
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(core, true) {
		return nil, nil, largest, formats.Rejectf("", "", "the eigenvalues of a layer's Krylov space do not converge")
	}
	values := eigen.Values(nil)
	var vectors, u, au mat.Dense
	eigen.VectorsTo(&vectors)
	u.Mul(vectors.T(), basis)
	au.Mul(vectors.T(), image)
	var kept []int
	for i := size - 1; i >= 0; i-- { // largest first
		sum := 0.0
		for j, x := range au.RawRowView(i) {
			e := x - values[i]*u.At(i, j)
			sum += e * e
		}
		r := ritz{values[i], math.Sqrt(sum)}
		if i == size-1 {
			largest = r
		}
		if r.norm <= converged*r.value && r.value > 1e-10*values[size-1] {
			kept = append(kept, i)
			known = append(known, atom{r.value, 1})
		}
	}
	if len(kept) > 0 {
		q = mat.NewDense(len(kept), g.n, nil)
		for k, i := range kept {
			q.SetRow(k, u.RawRowView(i))
		}
	}
	return q, known, largest, nil
}

// quadrature adds a sample of the density outside of the rows of q for each probe. All probes
// go together, so that each step reads the weight once.
func quadrature(ctx context.Context, g *gram, q *mat.Dense, dimension float64, rng *rand.Rand, d *density) error {
	v := normal(rng, probes, g.n)
	bases := make([]*mat.Dense, probes) // of each probe's Krylov space, a vector a row
	alpha, beta := make([][]float64, probes), make([][]float64, probes)
	done := make([]bool, probes)
	project(v, q)
	for p := range probes {
		bases[p] = mat.NewDense(steps, g.n, nil)
		row := v.RawRowView(p)
		done[p] = normalise(row) == 0
	}
	for k := range steps {
		for p := range probes {
			bases[p].SetRow(k, v.RawRowView(p))
		}
		image, err := g.apply(ctx, v.RawMatrix())
		if err != nil {
			return err
		}
		z := mat.NewDense(image.Rows, image.Cols, image.Data)
		project(z, q)
		for p := range probes {
			row := z.RawRowView(p)
			if done[p] {
				clear(row)
				continue
			}
			vec := blas64.Vector{N: g.n, Inc: 1, Data: row}
			alpha[p] = append(alpha[p], blas64.Dot(blas64.Vector{N: g.n, Inc: 1, Data: v.RawRowView(p)}, vec))
			have := bases[p].Slice(0, k+1, 0, g.n).(*mat.Dense)
			for range 2 {
				deflate(row, have)
			}
			b := normalise(row)
			beta[p] = append(beta[p], b)
			if b <= 1e-12*d.largest { // the space is whole: nothing but rounding is left
				done[p] = true
				clear(row)
			}
		}
		v = z
	}
	for p := range probes {
		if len(alpha[p]) == 0 {
			continue
		}
		sample, err := gauss(alpha[p], beta[p], dimension, d)
		if err != nil {
			return err
		}
		d.samples = append(d.samples, sample)
		half := (len(alpha[p]) + 1) / 2
		if len(alpha[p]) < steps { // it ended early, and is exact
			half = len(alpha[p])
		}
		if sample, err = gauss(alpha[p][:half], beta[p][:half], dimension, d); err != nil {
			return err
		}
		d.shorter = append(d.shorter, sample)
	}
	return nil
}

// gauss returns the nodes and weights of the quadrature that Lanczos' coefficients give, and
// notes the largest eigenvalue.
func gauss(alpha, beta []float64, dimension float64, d *density) ([]atom, error) {
	m := len(alpha)
	t := mat.NewSymDense(m, nil)
	for i, x := range alpha {
		t.SetSym(i, i, x)
		if i+1 < m {
			t.SetSym(i, i+1, beta[i])
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(t, true) {
		return nil, formats.Rejectf("", "", "the eigenvalues of Lanczos' matrix do not converge")
	}
	values := eigen.Values(nil)
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	var sample []atom
	for i, x := range values {
		w := vectors.At(0, i)
		sample = append(sample, atom{x, dimension * w * w})
		if x > d.largest {
			d.largest, d.largestError = x, math.Abs(beta[m-1]*vectors.At(m-1, i))
		}
	}
	return sample, nil
}

// project takes the part in the rows of q from every row of x.
func project(x, q *mat.Dense) {
	if q == nil {
		return
	}
	rows, _ := x.Dims()
	for i := range rows {
		deflate(x.RawRowView(i), q)
	}
}

// deflate takes the part in the rows of q from a vector.
func deflate(row []float64, q *mat.Dense) {
	k, n := q.Dims()
	x, h := mat.NewVecDense(n, row), mat.NewVecDense(k, nil)
	h.MulVec(q, x)
	var p mat.VecDense
	p.MulVec(q.T(), h)
	x.SubVec(x, &p)
}

// normalise makes a vector one of length 1, and returns its length.
func normalise(row []float64) float64 {
	v := blas64.Vector{N: len(row), Inc: 1, Data: row}
	n := blas64.Nrm2(v)
	if n > 0 {
		blas64.Scal(1/n, v)
	}
	return n
}

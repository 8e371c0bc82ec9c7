package health

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/parallel"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// Layer is a weight whose singular values are asked for: a matrix, or a convolution's kernel
// as the matrix of its outputs × the rest.
type Layer struct {
	Module    string
	Kind      string
	Tensor    formats.Tensor
	Quantized string // what the weight is quantised by, which is refused; "" where it is not
}

// Spectrum describes the singular values σ of a weight.
type Spectrum struct {
	Module        string  `json:"module"`
	Kind          string  `json:"kind"`
	Tensor        string  `json:"tensor"`
	DType         string  `json:"dtype"`
	Shape         []int64 `json:"shape"`
	Norm          float64 `json:"norm"`           // Frobenius
	Largest       float64 `json:"largest"`        // σ₁
	StableRank    float64 `json:"stable_rank"`    // Norm²/σ₁²
	EffectiveRank float64 `json:"effective_rank"` // exp of the entropy of σ/Σσ
	// Rank50, Rank90 and Rank99 are the smallest ranks whose best approximations keep that
	// many per cent of Σσ².
	Rank50 int `json:"rank_50"`
	Rank90 int `json:"rank_90"`
	Rank99 int `json:"rank_99"`
	// Estimated: by stochastic Lanczos quadrature. Error says how good it is.
	Estimated bool           `json:"estimated"`
	Error     *SpectrumError `json:"error,omitempty"`
}

// SpectrumError is how far the numbers of an estimate may be off: four standard errors, from
// how the eight probes differ, which is 99.5 % of Student's distribution with seven degrees of
// freedom; and the difference from an estimate with half of the steps. To that of
// EffectiveRank comes what singular values may add that rounding hides, and 2⁻²⁰ of it. That
// of Largest is the residual of its singular vector, and the rounding.
type SpectrumError struct {
	Largest       float64 `json:"largest"`
	EffectiveRank float64 `json:"effective_rank"`
	Rank50        float64 `json:"rank_50"`
	Rank90        float64 `json:"rank_90"`
	Rank99        float64 `json:"rank_99"`
}

// SpectrumOptions of [Spectra].
type SpectrumOptions struct {
	Path string // names the model in messages
	// Exact is up to which smaller side of a matrix all singular values are computed; 768
	// where it is 0, and at least 160. The time grows with the cube of it.
	Exact int
	// Progress, if not nil, is told about how many operations were done, out of what
	// [SpectrumWork] returns. It is called from several goroutines.
	Progress func(operations float64)
}

// exact is the largest smaller side that is decomposed whole.
func (o *SpectrumOptions) exact() int {
	if o.Exact == 0 {
		return exactSide
	}
	return max(o.Exact, 2*krylovBlock*krylovDepth)
}

const (
	exactSide   = 768
	otherLayers = "--only chooses other layers"
	// spectrumBudget is how many bytes all matrices in work may take; one that needs more is
	// worked on alone.
	spectrumBudget = 1 << 30
	// panelRows is how many rows of a weight are widened to float64 at a time.
	panelRows = 64
)

// Spectra describes the singular values of each layer.
//
// Where the smaller side is at most opts.Exact they are the roots of the eigenvalues of the
// Gram matrix in float64: σ² is exact to about n·2⁻⁵²·σ₁², so that σ below 10⁻⁶·σ₁ counts as
// zero or nearly so. Larger matrices are estimated, with the same random numbers in every
// run: see [SpectrumError].
//
// Memory is that of the weights in work as float32, one for each processor while they take
// no more than 1 GiB together, and about 6 kB for each row of the smaller side. Of F64 weights
// 24 bits of each element are used. A weight that is of no float type, or has elements that are not finite, is
// [formats.ErrInput].
func Spectra(ctx context.Context, layers []Layer, opts SpectrumOptions) ([]Spectrum, error) {
	opts.Exact = opts.exact()
	for _, l := range layers {
		switch {
		case l.Quantized != "":
			return nil, formats.Rejectf(opts.Path, l.Tensor.Name, "the singular values of a quantised weight (%s) are not supported", l.Quantized).WithHint(otherLayers)
		case !l.Tensor.DType.IsFloat():
			return nil, formats.Rejectf(opts.Path, l.Tensor.Name, "the singular values of %s are not supported (want F64, F32, F16 or BF16)", l.Tensor.DType).WithHint(otherLayers)
		}
	}
	out := make([]Spectrum, len(layers))
	need := func(i int) int64 { return 4*layers[i].Tensor.Elements() + basisBytes(layers[i], opts.Exact) }
	err := parallel.Within(ctx, len(layers), spectrumBudget, need, func(i int) (err error) {
		out[i], err = spectrum(ctx, layers[i], opts)
		return err
	})
	return out, err
}

// sides returns a layer's larger and smaller side.
func sides(l Layer) (long, short int64) {
	rows, cols := l.Tensor.Matrix()
	return max(rows, cols), min(rows, cols)
}

// basisBytes is what is needed beside a weight.
func basisBytes(l Layer, exact int) int64 {
	_, n := sides(l)
	if n <= int64(exact) {
		return 8 * 3 * n * n
	}
	return 8 * n * (krylovBlock*krylovDepth*4 + probes*(steps+4))
}

// SpectrumWork returns about how many operations the layers take.
func SpectrumWork(layers []Layer, opts SpectrumOptions) float64 {
	opts.Exact = opts.exact()
	work := 0.0
	for _, l := range layers {
		long, n := sides(l)
		if n <= int64(opts.Exact) {
			work += exactWork(float64(long), float64(n))
		} else {
			work += estimateWork(float64(long), float64(n))
		}
	}
	return work
}

// exactWork counts the eigenvalues eight times, for they take that much longer than products.
func exactWork(long, n float64) float64 { return 2*long*n*n + 8*4/3.*n*n*n }

func estimateWork(long, n float64) float64 {
	return 4 * long * n * (krylovBlock*krylovDepth + probes*steps)
}

func spectrum(ctx context.Context, l Layer, opts SpectrumOptions) (Spectrum, error) {
	s := Spectrum{Module: l.Module, Kind: l.Kind, Tensor: l.Tensor.Name, DType: l.Tensor.DType.String(), Shape: l.Tensor.Shape}
	if l.Tensor.Elements() == 0 {
		return s, nil
	}
	if p, ok := l.Tensor.Data.(formats.Preparer); ok {
		if err := p.Prepare(ctx); err != nil {
			return s, err
		}
	}
	g, scale, err := readGram(ctx, opts.Path, l.Tensor)
	if err != nil {
		return s, err
	}
	g.progress = opts.Progress
	if g.norm == 0 {
		if opts.Progress != nil {
			opts.Progress(SpectrumWork([]Layer{l}, opts))
		}
		return s, nil
	}
	var d *density
	if g.n <= opts.Exact {
		d, err = exactDensity(ctx, g)
	} else {
		d, err = estimate(ctx, g)
		s.Estimated = true
	}
	if err != nil {
		return s, err
	}
	whole := d.summary(d.samples, -1)
	s.Norm, s.Largest = g.norm*scale, math.Sqrt(d.largest)*scale
	s.StableRank = g.norm / math.Sqrt(d.largest)
	s.StableRank *= s.StableRank
	s.EffectiveRank = whole.effective
	s.Rank50, s.Rank90, s.Rank99 = whole.rank(0), whole.rank(1), whole.rank(2)
	if s.Estimated {
		e := d.errors(whole)
		e.Largest = min((d.largestError/2+unit(g.n)*d.largest)/math.Sqrt(d.largest), math.Sqrt(d.largest)) * scale
		s.Error = e
	}
	return s, nil
}

// gram is the operator WᵀW for a matrix W with at least as many rows as columns.
type gram struct {
	w        []float32
	rows, n  int
	norm     float64 // ‖W‖
	wide     []float64
	product  []float64
	progress func(float64)
}

// readGram reads a weight, the other way round where it is wide. F64 is brought into the range
// of float32 by a power of two.
func readGram(ctx context.Context, path string, t formats.Tensor) (*gram, float64, error) {
	rows, cols := t.Matrix()
	m := t
	m.Shape = []int64{rows, cols}
	if rows < cols {
		m = adapter.Transposed(m)
		rows, cols = cols, rows
	}
	scale := 1.0
	if t.DType == formats.F64 {
		e, err := describe(path, t)
		if err != nil {
			return nil, 0, err
		}
		if _, exp := math.Frexp(e.MaxAbs); e.MaxAbs > 0 {
			scale = math.Ldexp(1, max(-1022, min(exp, 1022)))
		}
	}
	g := &gram{w: make([]float32, rows*cols), rows: int(rows), n: int(cols)}
	bad, sum := int64(-1), 0.0
	err := eachBlock(path, m, func(first int64, values []float64) {
		part := 0.0
		for i, x := range values {
			x /= scale
			if x-x != 0 && bad < 0 {
				bad = first + int64(i)
			}
			g.w[first+int64(i)] = float32(x)
			part += x * x
		}
		sum += part
	})
	switch {
	case err != nil:
		return nil, 0, err
	case bad >= 0:
		row, col := bad/cols, bad%cols
		if t.Shape[0] != rows { // turned round
			row, col = col, row
		}
		return nil, 0, formats.Rejectf(path, t.Name, "it has elements that are NaN or infinite, one at row %d, column %d", row, col).WithHint(otherLayers)
	}
	g.norm = math.Sqrt(sum)
	return g, scale, ctx.Err()
}

// panel widens rows.
func (g *gram) panel(first int) (blas64.General, int) {
	rows := min(panelRows, g.rows-first)
	if g.wide == nil {
		g.wide = make([]float64, panelRows*g.n)
	}
	for i, x := range g.w[first*g.n : (first+rows)*g.n] {
		g.wide[i] = float64(x)
	}
	return blas64.General{Rows: rows, Cols: g.n, Stride: g.n, Data: g.wide}, rows
}

// apply returns X·WᵀW for rows X, each a vector of n.
func (g *gram) apply(ctx context.Context, x blas64.General) (blas64.General, error) {
	z := blas64.General{Rows: x.Rows, Cols: g.n, Stride: g.n, Data: make([]float64, x.Rows*g.n)}
	if len(g.product) < x.Rows*panelRows {
		g.product = make([]float64, x.Rows*panelRows)
	}
	for first := 0; first < g.rows; first += panelRows {
		w, rows := g.panel(first)
		y := blas64.General{Rows: x.Rows, Cols: rows, Stride: rows, Data: g.product[:x.Rows*rows]}
		blas64.Gemm(blas.NoTrans, blas.Trans, 1, x, w, 0, y)
		blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, y, w, 1, z)
	}
	if g.progress != nil {
		g.progress(4 * float64(g.rows) * float64(g.n) * float64(x.Rows))
	}
	return z, ctx.Err()
}

// exactDensity is all eigenvalues of WᵀW.
func exactDensity(ctx context.Context, g *gram) (*density, error) {
	a := mat.NewSymDense(g.n, nil)
	raw := a.RawSymmetric()
	full := blas64.General{Rows: g.n, Cols: g.n, Stride: raw.Stride, Data: raw.Data}
	for first := 0; first < g.rows; first += panelRows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w, _ := g.panel(first)
		blas64.Gemm(blas.Trans, blas.NoTrans, 1, w, w, 1, full)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(a, false) {
		return nil, formats.Rejectf("", "", "the eigenvalues of a layer's Gram matrix do not converge")
	}
	values := eigen.Values(nil)
	slices.Reverse(values)
	if g.progress != nil {
		g.progress(exactWork(float64(g.rows), float64(g.n)))
	}
	d := &density{largest: max(values[0], math.SmallestNonzeroFloat64), count: g.n, floor: unit(g.n) * values[0]}
	for _, x := range values {
		d.known = append(d.known, atom{x, 1})
	}
	return d, nil
}

// orthonormal makes the rows of x orthonormal, and orthogonal to those of q. A row of which
// only rounding is left is drawn anew: what follows in a Krylov space that is whole already.
func orthonormal(x, q *mat.Dense, rng *rand.Rand) *mat.Dense {
	rows, _ := x.Dims()
	if q != nil {
		for i := range rows {
			row := x.RawRowView(i)
			before := normalise(row)
			deflate(row, q)
			if before == 0 || normalise(row) < 1e-10 {
				for j := range row {
					row[j] = rng.NormFloat64()
				}
			}
		}
	}
	for range 2 { // once leaves what rounding made of the first
		project(x, q)
		u, _ := lowrank.QR(x.T())
		x = mat.DenseCopyOf(u.T())
	}
	return x
}

package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// Layer is what was found of one weight.
type Layer struct {
	A, B     formats.Tensor `json:"-"` // factors of scale 1, in memory or in a store; none where Rank is 0
	Spectrum []float64      // singular values of the difference: those of the factors
	// Residual is ‖Δ − B·A‖, measured on the factors as they are stored.
	Residual float64
	Stats    Stats
	// Signal is how many singular values stand out of rounding noise: are larger than the
	// largest one of a random matrix of that norm is likely to be.
	Signal int
	Exact  bool // the difference was decomposed whole
	// Whole says why the weight has no factors and is to be saved whole; "" where it has some.
	Whole string
}

// Why a weight has no factors.
const (
	asLarge     = "factors would be as large"
	signsOfZero = "only the signs of zeros differ"
	extreme     = "the squares of its difference are beyond float64"
)

// Store keeps finished layers for a later run of the same extraction. A key is unique for a
// weight and what is asked of it. It is safe for concurrent use.
type Store interface {
	// Load returns a layer that Save was given, or nil.
	Load(key string) (*Layer, error)
	// Save keeps a layer, and returns it with factors that need no memory.
	Save(key string, l *Layer) (*Layer, error)
}

// inTensor says which tensor an error is about that does not say it.
func inTensor(err error, file, tensor string) error {
	var e *formats.Error
	if errors.As(err, &e) && e.File == "" {
		named := *e
		named.File, named.Tensor = file, tensor
		return &named
	}
	return err
}

// exactSide is up to which smaller side a difference is decomposed whole: it is fast.
const exactSide = 256

// firstRank is the rank that a search for one begins with.
const firstRank = 32

// factorize finds the factors of a weight. k is the rank that is wanted; where it is 0 the
// options say when there are enough.
func factorize(ctx context.Context, c *change, opts *Options, k int, basePath, tunedPath string) (*Layer, error) {
	if c.base.DType == formats.F64 || c.tuned.DType == formats.F64 {
		d, err := newDelta[float64](ctx, c, basePath, tunedPath)
		if err != nil {
			return nil, err
		}
		return search(ctx, c, opts, d, k)
	}
	d, err := newDelta[float32](ctx, c, basePath, tunedPath)
	if err != nil {
		return nil, err
	}
	return search(ctx, c, opts, d, k)
}

// search decomposes a difference far enough, and makes its layer.
func search[T number](ctx context.Context, c *change, opts *Options, d *delta[T], k int) (*Layer, error) {
	l := &Layer{Stats: d.stats}
	if d.largest == 0 {
		l.Whole = signsOfZero
	} else if !(d.stats.Norm > 1e-150 && d.stats.Norm < 1e150) {
		l.Whole = extreme
	}
	if l.Whole != "" {
		l.Stats = Stats{}
		return l, nil
	}
	out, in := d.Dims()
	limit := c.payingRank(opts)
	next := k
	switch {
	case opts.Rank != 0:
		next = min(int(opts.Rank), out, in)
	case k == 0:
		next = min(firstRank, limit)
	}
	var svd *lowrank.SVD
	for {
		var err error
		if svd, l.Exact, err = decompose(ctx, opts, d, next, svd); err != nil {
			return nil, inTensor(err, d.tunedPath, c.tuned.Name)
		}
		all := len(svd.S)
		svd.S = svd.S[:max(1, lowrank.NumericalRank(svd.S, out, in, 0x1p-52))]
		l.Signal = signal(svd.S, d.stats, out, in)
		rank, enough := opts.enough(svd.S, d.stats, l.Signal, k)
		if enough || l.Exact || len(svd.S) < all {
			next = min(rank, len(svd.S))
			break
		}
		if next >= limit {
			l.Whole = asLarge
			return l, nil
		}
		next = min(2*next, limit)
	}
	if k == 0 && opts.Rank == 0 && next > limit {
		l.Whole = asLarge
		return l, nil
	}
	l.Spectrum = svd.S[:next]
	p := svd.Truncated(next)
	if err := l.store(c, p, opts.factorType(c.base.DType)); err != nil {
		return nil, err
	}
	b, err := lowrank.Read("", l.B)
	if err != nil {
		return nil, err
	}
	a, err := lowrank.Read("", l.A)
	if err != nil {
		return nil, err
	}
	if l.Residual, err = d.residual(ctx, b, a); err != nil {
		return nil, err
	}
	if x := opts.MaxError; x != nil && *x > 0 && l.Residual > *x*d.stats.Norm {
		return &Layer{Stats: d.stats, Whole: fmt.Sprintf("factors of %s do not keep the error", l.A.DType)}, nil
	}
	return l, nil
}

// payingRank is from which rank on the factors take as much as the weight.
func (c *change) payingRank(opts *Options) int {
	rows, cols := c.base.Matrix()
	most := rows * cols * c.tuned.DType.Bits() / ((rows + cols) * opts.factorType(c.base.DType).Bits())
	return int(max(1, min(most, rows, cols)))
}

// decompose returns the leading k triplets of a difference, going on from fewer.
func decompose[T number](ctx context.Context, opts *Options, d *delta[T], k int, fewer *lowrank.SVD) (svd *lowrank.SVD, exact bool, err error) {
	out, in := d.Dims()
	if side := min(out, in); opts.Exact || side <= exactSide || 2*k >= side {
		m, err := d.dense(ctx)
		if err != nil {
			return nil, false, err
		}
		svd, err = lowrank.Exact(m, side)
		return svd, true, err
	}
	r := lowrank.RangeOptions{Rank: k, Norm: d.stats.Norm, Noise: 2e-7}
	if fewer != nil {
		r.Start = fewer.V
	}
	op := operator[T]{delta: d}
	if sizeOf[T]() == 8 {
		r.Noise = 0
	}
	if svd, err = lowrank.Range(ctx, op, r); err != nil || r.Noise == 0 {
		return svd, false, err
	}
	if left := energyLeft(svd.S, d.stats.Norm); left < 1e-5*d.stats.Norm*d.stats.Norm {
		// What is left is close to the noise of products in float32.
		r.Start, r.Noise = svd.V, 0
		svd, err = lowrank.Range(ctx, operator[T]{d, true}, r)
	}
	return svd, false, err
}

// energyLeft returns ‖Δ‖² − Σσ².
func energyLeft(s []float64, norm float64) float64 {
	left := norm * norm
	for _, x := range s {
		left -= x * x
	}
	return max(0, left)
}

// signal counts the singular values above the edge of those of noise, σ·(√out + √in) for
// elements of deviation σ (Marchenko and Pastur).
func signal(s []float64, st Stats, out, in int) int {
	edge := st.Noise * (1/math.Sqrt(float64(in)) + 1/math.Sqrt(float64(out)))
	n := 0
	for n < len(s) && s[n] > edge {
		n++
	}
	return n
}

// noiseShare is how much more error may be left by ranks that are noise.
const noiseShare = 1.005

// enough chooses a rank, and reports whether more singular values could change it. With k
// other than 0 all k of them are taken.
func (o *Options) enough(s []float64, st Stats, signal, k int) (rank int, ok bool) {
	energy := st.Norm * st.Norm
	switch {
	case k != 0 && o.Rank == 0:
		return len(s), true
	case o.Rank != 0:
		return withoutNoise(s[:min(int(o.Rank), len(s))], st.Norm, signal), true
	case o.Energy != 0:
		return within(s, st.Norm, (1-o.Energy)*energy)
	case o.bits():
		return within(s, st.Norm, st.Noise*st.Noise)
	}
	return within(s, st.Norm, *o.MaxError**o.MaxError*energy)
}

// withoutNoise returns how many singular values to keep: all, or those that stand out of the
// noise where the others are worth hardly anything.
func withoutNoise(s []float64, norm float64, signal int) int {
	few := min(max(signal, 1), len(s))
	if energyLeft(s[:few], norm) <= noiseShare*noiseShare*energyLeft(s, norm) {
		return few
	}
	return len(s)
}

// within returns the smallest rank that leaves at most some energy.
func within(s []float64, norm, most float64) (rank int, ok bool) {
	left := norm * norm
	for i, x := range s {
		if left <= most {
			return max(1, i), true
		}
		left -= x * x
	}
	return len(s), left <= most
}

// store encodes the factors, each element rounded once.
func (l *Layer) store(c *change, p *lowrank.Product, dtype formats.DType) error {
	r := int64(p.Rank())
	shape := c.base.Shape
	out, in := p.Dims()
	aShape, bShape := []int64{r, int64(in)}, []int64{int64(out), r}
	if c.site.Kind == patch.Conv {
		aShape = append([]int64{r}, shape[1:]...)
		for range shape[2:] {
			bShape = append(bShape, 1)
		}
	}
	var err error
	if l.A, err = patch.StoreFactor("A", p.A, p.S, aShape, dtype); err == nil {
		l.B, err = patch.StoreFactor("B", p.B, 1, bShape, dtype)
	}
	return inTensor(err, "", c.tuned.Name)
}

// truncated returns a layer of a lower rank.
func (l *Layer) truncated(rank int) (*Layer, error) {
	if rank == len(l.Spectrum) {
		return l, nil
	}
	short := *l
	short.Spectrum = l.Spectrum[:rank]
	short.Residual = math.Hypot(l.Residual, lowrank.Tail(l.Spectrum, rank))
	if rank == 0 {
		short.A, short.B = formats.Tensor{}, formats.Tensor{}
		return &short, nil
	}
	a, err := l.A.ReadAll()
	if err != nil {
		return nil, err
	}
	b, err := l.B.ReadAll()
	if err != nil {
		return nil, err
	}
	old, r := l.A.Shape[0], int64(rank)
	short.A.Shape, short.B.Shape = append([]int64{r}, l.A.Shape[1:]...), append([]int64{l.B.Shape[0], r}, l.B.Shape[2:]...)
	short.A.Data = bytes.NewReader(a[:short.A.Size()])
	size := l.B.DType.Bits() / 8
	rows := make([]byte, 0, short.B.Size())
	for i := range l.B.Shape[0] {
		rows = append(rows, b[i*old*size:(i*old+r)*size]...)
	}
	short.B.Data = bytes.NewReader(rows)
	return &short, nil
}

// bytes is what the factors take.
func (l *Layer) bytes() int64 {
	if len(l.Spectrum) == 0 {
		return 0
	}
	return l.A.Size() + l.B.Size()
}

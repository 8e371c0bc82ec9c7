package extract

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/parallel"
)

const (
	// heldBytes is up to which size a difference is held. A larger one is made again for every
	// pass over it.
	heldBytes = 192 << 20
	// blockBytes is how much of a difference is made at once.
	blockBytes = 8 << 20
)

// number is the type that a difference is formed in.
type number interface{ float32 | float64 }

// delta is the difference tuned − base of a weight, of rows×cols as it is stored, with a
// convolution's kernel in its columns.
type delta[T number] struct {
	base, tuned         formats.Tensor
	basePath, tunedPath string
	rows, cols          int
	inOut               bool // stored as (in, out)
	held                []T  // all of it, or nil
	stats               Stats
	largest             float64 // |Δ| of an element
}

// Stats describe the difference of a weight.
type Stats struct {
	Norm  float64 `json:"norm"`  // ‖Δ‖, Frobenius
	Base  float64 `json:"base"`  // ‖W‖ of the base
	Noise float64 `json:"noise"` // what rounding the tuned weights to their type alone is expected to make of it
}

// newDelta reads both weights once.
func newDelta[T number](ctx context.Context, c *change, basePath, tunedPath string) (*delta[T], error) {
	rows, cols := c.base.Matrix()
	d := &delta[T]{
		base: c.base, tuned: c.tuned, basePath: basePath, tunedPath: tunedPath,
		rows: int(rows), cols: int(cols), inOut: c.site.InOut,
	}
	var held []T
	if d.size() <= heldBytes {
		held = make([]T, rows*cols)
	}
	step := d.blockRows()
	type squares struct{ delta, base, noise, largest float64 }
	sums := make([]squares, (d.rows+step-1)/step)
	units := ulpSquares(c.tuned.DType)
	err := d.eachBlock(ctx, step, func(row, n int, w *work[T]) error {
		if held != nil {
			w.delta = held[row*d.cols : (row+n)*d.cols]
		}
		if err := d.read(row, n, w); err != nil {
			return err
		}
		var s squares
		for i, x := range w.delta {
			b, t := float64(w.base[i]), float64(w.tuned[i])
			s.delta += float64(x) * float64(x)
			s.largest = max(s.largest, math.Abs(float64(x)))
			s.base += b * b
			s.noise += units[math.Float32bits(float32(t))>>23&0xff]
		}
		sums[row/step] = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all squares
	for _, s := range sums {
		all.delta, all.base, all.noise = all.delta+s.delta, all.base+s.base, all.noise+s.noise
		all.largest = max(all.largest, s.largest)
	}
	d.held, d.largest, d.stats = held, all.largest, Stats{math.Sqrt(all.delta), math.Sqrt(all.base), math.Sqrt(all.noise)}
	return d, nil
}

// size is what the whole difference takes.
func (d *delta[T]) size() int64 { return int64(d.rows) * int64(d.cols) * sizeOf[T]() }

func sizeOf[T number]() int64 {
	var x T
	if _, ok := any(x).(float64); ok {
		return 8
	}
	return 4
}

func (d *delta[T]) blockRows() int {
	return max(1, min(d.rows, int(blockBytes/sizeOf[T]())/d.cols))
}

// ulpSquares returns the expected square of a rounding error, ulp²/12, of numbers by the
// exponent that they have as float32.
func ulpSquares(dtype formats.DType) (units [256]float64) {
	precision := map[formats.DType]int{formats.F64: 52, formats.F32: 23, formats.F16: 10, formats.BF16: 7}[dtype]
	for e := 1; e < 255; e++ {
		ulp := math.Ldexp(1, e-127-precision)
		if dtype == formats.F16 {
			ulp = max(ulp, 0x1p-24)
		}
		units[e] = ulp * ulp / 12
	}
	return units
}

// work is what a goroutine needs for a block.
type work[T number] struct {
	raw                []byte
	base, tuned, delta []T
}

// eachBlock calls do for blocks of rows from several goroutines.
func (d *delta[T]) eachBlock(ctx context.Context, step int, do func(row, n int, w *work[T]) error) error {
	idle := sync.Pool{New: func() any { return new(work[T]) }}
	return parallel.Each(ctx, (d.rows+step-1)/step, 0, func(i int) error {
		w := idle.Get().(*work[T])
		defer idle.Put(w)
		return do(i*step, min(step, d.rows-i*step), w)
	})
}

// read makes rows of the difference in w.delta.
func (d *delta[T]) read(row, n int, w *work[T]) error {
	size := n * d.cols
	w.base, w.tuned, w.delta = grown(w.base, size), grown(w.tuned, size), grown(w.delta, size)
	if err := d.decode(d.base, d.basePath, row, w.base, w); err != nil {
		return err
	}
	if err := d.decode(d.tuned, d.tunedPath, row, w.tuned, w); err != nil {
		return err
	}
	for i, x := range w.base {
		y := w.tuned[i] - x
		if y-y != 0 {
			return formats.Unfitf(d.tunedPath, d.tuned.Name, "the difference from the base is too large at row %d, column %d (%v from %v)", row+i/d.cols, i%d.cols, w.tuned[i], x)
		}
		w.delta[i] = y
	}
	return nil
}

func (d *delta[T]) decode(t formats.Tensor, path string, row int, dst []T, w *work[T]) error {
	size := t.DType.Bits() / 8
	w.raw = grown(w.raw, len(dst)*int(size))
	if err := formats.ReadFullAt(t.Data, w.raw, int64(row)*int64(d.cols)*size); err != nil {
		return formats.ReadError(path, t.Name, err)
	}
	switch dst := any(dst).(type) {
	case []float32:
		formats.DecodeFloat32(dst, w.raw, t.DType)
	case []float64:
		formats.DecodeFloat64(dst, w.raw, t.DType)
	}
	for i, x := range dst {
		if x-x != 0 {
			return formats.Unfitf(path, t.Name, "%v at row %d, column %d", x, row+i/d.cols, i%d.cols)
		}
	}
	return nil
}

func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// blocks calls do for the difference block by block, in order.
func (d *delta[T]) blocks(ctx context.Context, do func(row, n int, block []T) error) error {
	if d.held != nil {
		return do(0, d.rows, d.held)
	}
	step := d.blockRows()
	block := make([]T, step*d.cols)
	part := max(1, step/runtime.GOMAXPROCS(0))
	for row := 0; row < d.rows; row += step {
		n := min(step, d.rows-row)
		some := *d
		some.rows = n
		err := some.eachBlock(ctx, part, func(at, rows int, w *work[T]) error {
			w.delta = block[at*d.cols : (at+rows)*d.cols]
			return d.read(row+at, rows, w)
		})
		if err != nil {
			return err
		}
		if err := do(row, n, block[:n*d.cols]); err != nil {
			return err
		}
	}
	return nil
}

// Dims returns out and in of the layer.
func (d *delta[T]) Dims() (out, in int) {
	if d.inOut {
		return d.cols, d.rows
	}
	return d.rows, d.cols
}

// operator is a difference to multiply with, in float64 where that is asked for or the
// difference is, else in float32.
type operator[T number] struct {
	*delta[T]
	wide bool
}

func (o operator[T]) Mul(ctx context.Context, dst, x *mat.Dense) error {
	return o.multiply(ctx, dst, x, o.inOut)
}

func (o operator[T]) MulTrans(ctx context.Context, dst, x *mat.Dense) error {
	return o.multiply(ctx, dst, x, !o.inOut)
}

// multiply sets dst to the stored difference, or its transpose, times x.
func (o operator[T]) multiply(ctx context.Context, dst, x *mat.Dense, trans bool) error {
	if _, narrow := any(o.held).([]float32); narrow && !o.wide {
		return o.multiply32(ctx, dst, x, trans)
	}
	_, k := x.Dims()
	dst.Zero()
	return o.blocks(ctx, func(row, n int, block []T) error {
		// Of a float32 difference a few rows at a time are widened.
		step := n
		if _, wide := any(block).([]float64); !wide {
			step = min(n, max(1, blockBytes/8/o.cols))
		}
		for at := 0; at < n; at += step {
			some := min(step, n-at)
			d := mat.NewDense(some, o.cols, widened(block[at*o.cols:(at+some)*o.cols]))
			from, to := row+at, row+at+some
			if trans {
				var part mat.Dense
				part.Mul(d.T(), x.Slice(from, to, 0, k))
				dst.Add(dst, &part)
			} else {
				dst.Slice(from, to, 0, k).(*mat.Dense).Mul(d, x)
			}
		}
		return nil
	})
}

func widened[T number](v []T) []float64 {
	if wide, ok := any(v).([]float64); ok {
		return wide
	}
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func (o operator[T]) multiply32(ctx context.Context, dst, x *mat.Dense, trans bool) error {
	x32 := narrowed(x)
	rows, k := dst.Dims()
	y32 := blas32.General{Rows: rows, Cols: k, Stride: k, Data: make([]float32, rows*k)}
	err := o.blocks(ctx, func(row, n int, block []T) error {
		d := blas32.General{Rows: n, Cols: o.cols, Stride: o.cols, Data: any(block).([]float32)}
		if trans {
			blas32.Gemm(blas.Trans, blas.NoTrans, 1, d, rowsOf(x32, row, n), 1, y32)
		} else {
			blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, d, x32, 0, rowsOf(y32, row, n))
		}
		return nil
	})
	raw := dst.RawMatrix()
	for i := range rows {
		for j, v := range y32.Data[i*k : (i+1)*k] {
			raw.Data[i*raw.Stride+j] = float64(v)
		}
	}
	return err
}

func narrowed(m *mat.Dense) blas32.General {
	rows, cols := m.Dims()
	g := blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: make([]float32, rows*cols)}
	for i := range rows {
		to := g.Data[i*cols : (i+1)*cols]
		for j, x := range m.RawRowView(i) {
			to[j] = float32(x)
		}
	}
	return g
}

func rowsOf(g blas32.General, row, n int) blas32.General {
	g.Rows, g.Data = n, g.Data[row*g.Stride:(row+n)*g.Stride]
	return g
}

// dense returns the whole difference as the layer has it, out×in.
func (d *delta[T]) dense(ctx context.Context) (*mat.Dense, error) {
	m := mat.NewDense(d.rows, d.cols, nil)
	err := d.blocks(ctx, func(row, n int, block []T) error {
		for i, x := range block {
			m.RawMatrix().Data[row*d.cols+i] = float64(x)
		}
		return nil
	})
	if d.inOut {
		return mat.DenseCopyOf(m.T()), err
	}
	return m, err
}

// residual returns ‖Δ − B·A‖ for factors as they are stored: b is out×r and a is r×in. It is
// formed in the difference's own type, element by element, so that it is right however
// small it is against ‖Δ‖.
func (d *delta[T]) residual(ctx context.Context, b, a *mat.Dense) (float64, error) {
	left, right := b, a
	if d.inOut {
		left, right = mat.DenseCopyOf(a.T()), mat.DenseCopyOf(b.T())
	}
	left32, right32 := narrowed(left), narrowed(right)
	_, r := left.Dims()
	sum := 0.0
	err := d.blocks(ctx, func(row, n int, block []T) error {
		step := max(1, min(n, blockBytes/8/d.cols))
		for at := 0; at < n; at += step {
			some := min(step, n-at)
			switch x := any(block[at*d.cols : (at+some)*d.cols]).(type) {
			case []float32:
				rest := blas32.General{Rows: some, Cols: d.cols, Stride: d.cols, Data: slices.Clone(x)}
				blas32.Gemm(blas.NoTrans, blas.NoTrans, -1, rowsOf(left32, row+at, some), right32, 1, rest)
				for _, y := range rest.Data {
					sum += float64(y) * float64(y)
				}
			case []float64:
				var p mat.Dense
				p.Mul(left.Slice(row+at, row+at+some, 0, r), right)
				for i, y := range p.RawMatrix().Data {
					sum += (x[i] - y) * (x[i] - y)
				}
			}
		}
		return nil
	})
	return math.Sqrt(sum), err
}

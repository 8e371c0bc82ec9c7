package patch

import (
	"context"
	"io"
	"runtime"
	"sync"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// merged is the data of a weight with updates: rows are computed when they are read.
type merged struct {
	file       string         // the base's path, for messages
	base       formats.Tensor // what is added to
	origin     formats.Tensor // the weight that norms are taken of: the base before any update
	parts      []*part
	roundDelta bool // round Δ to the base's dtype before adding it
	cache      *factorCache
	cols       int64
	size       int64 // of an element, in bytes
	total      int64

	once    sync.Once
	err     error // of preparing
	columns any   // []T: the factor m/n of each column, for a magnitude that goes by column
}

func newMerged(file string, base, origin formats.Tensor, parts []*part, roundDelta bool, cache *factorCache) *merged {
	_, cols := base.Matrix()
	return &merged{
		file: file, base: base, origin: origin, parts: parts, roundDelta: roundDelta, cache: cache,
		cols: cols, size: base.DType.Bits() / 8, total: base.Size(),
	}
}

// Grain implements [formats.Grainer]: rows are made whole.
func (m *merged) Grain() (rows, cols int64) { return 1, m.cols }

// magnitude returns the update's magnitude; it is the only part then.
func (m *merged) magnitude() *formats.Tensor { return m.parts[0].magnitude }

// Prepare implements [formats.Preparer]: where a magnitude goes by column, the norm of a
// column needs all rows.
func (m *merged) Prepare(ctx context.Context) error {
	m.once.Do(func() {
		if p, ok := m.base.Data.(formats.Preparer); ok {
			if m.err = p.Prepare(ctx); m.err != nil {
				return
			}
		}
		if m.magnitude() == nil || !m.parts[0].inOut {
			return
		}
		if m.base.DType == formats.F64 {
			m.err = prepareColumns[float64](ctx, m)
		} else {
			m.err = prepareColumns[float32](ctx, m)
		}
	})
	return m.err
}

// normRows is how many rows are read at once for norms.
const normRows = 64

func prepareColumns[T kernel.Number](ctx context.Context, m *merged) error {
	pool := scratchPool[T]()
	s := pool.Get().(*scratch[T])
	defer pool.Put(s)
	rows, _ := m.base.Matrix()
	squares := make([]float64, m.cols)
	for row := int64(0); row < rows; row += normRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(normRows, rows-row)
		b, err := m.block(m.origin, row, n)
		if err != nil {
			return err
		}
		err = withFactors(m.cache, m.parts, func(f factors[T]) error {
			u, err := updates(m.parts, f, row, n, s)
			if err != nil {
				return err
			}
			kernel.Sums(b, u, func(_ int, sum []T) {
				for i, x := range sum {
					squares[i] += kernel.Square(x)
				}
			})
			return nil
		})
		if err != nil {
			return err
		}
	}
	factors, err := readMagnitude(m.parts[0], s)
	if err != nil {
		return err
	}
	for i := range factors {
		factors[i] /= kernel.Root[T](squares[i])
	}
	m.columns = factors
	return nil
}

// ReadAt computes the rows that the range touches.
func (m *merged) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= m.total {
		return 0, io.EOF
	}
	if err := m.Prepare(context.Background()); err != nil {
		return 0, err
	}
	want := len(p)
	if left := m.total - off; int64(want) > left {
		p = p[:left]
	}
	rowBytes := m.cols * m.size
	first, last := off/rowBytes, (off+int64(len(p))-1)/rowBytes
	if off == first*rowBytes && int64(len(p)) == (last-first+1)*rowBytes {
		if err := m.rows(p, first, last-first+1); err != nil {
			return 0, err
		}
	} else {
		buf := make([]byte, (last-first+1)*rowBytes)
		if err := m.rows(buf, first, last-first+1); err != nil {
			return 0, err
		}
		copy(p, buf[off-first*rowBytes:])
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// rows computes whole rows into p.
func (m *merged) rows(p []byte, row, n int64) error {
	var bad int
	var err error
	if m.base.DType == formats.F64 {
		bad, err = mergeRows[float64](m, p, row, n)
	} else {
		bad, err = mergeRows[float32](m, p, row, n)
	}
	if err != nil || bad < 0 {
		return err
	}
	return m.notFinite(row+int64(bad)/m.cols, int64(bad)%m.cols)
}

// maxLeft bounds the bytes of left factors that all workers hold together, while a block
// has enough rows.
const maxLeft = 16 << 20

func mergeRows[T kernel.Number](m *merged, p []byte, row, n int64) (bad int, err error) {
	// The base may be merged too, and a goroutine holds the factors of one stage only.
	if err := m.read(m.base, p, row); err != nil {
		return 0, err
	}
	pool := scratchPool[T]()
	s := pool.Get().(*scratch[T])
	defer pool.Put(s)
	bad = -1
	err = withFactors(m.cache, m.parts, func(f factors[T]) error {
		step := rowsAtOnce[T](m.parts, n)
		for at := int64(0); at < n && bad < 0; at += step {
			rows := min(step, n-at)
			i, err := mergePiece(m, p[at*m.cols*m.size:(at+rows)*m.cols*m.size], f, row+at, rows, s)
			if err != nil {
				return err
			}
			if i >= 0 {
				bad = int(at*m.cols) + i
			}
		}
		return nil
	})
	return bad, err
}

// rowsAtOnce returns how many of a block's rows to work on at a time: all of them, unless
// the rank is very large and the workers are many.
func rowsAtOnce[T kernel.Number](parts []*part, rows int64) int64 {
	ranks := int64(1)
	for _, p := range parts {
		ranks += p.rank()
	}
	most := max(1, maxLeft/int64(runtime.GOMAXPROCS(0))/(ranks*size[T]()))
	rows = max(1, rows) // nothing may be asked for too
	pieces := (rows + most - 1) / most
	// Kernels take some rows together, up to a dozen, and prepare the right factor for
	// each piece: no piece should be a small rest.
	const group = 12
	return ((rows+pieces-1)/pieces + group - 1) / group * group
}

// mergePiece updates some rows in p, and returns the index of the first element that is
// not finite, or −1.
func mergePiece[T kernel.Number](m *merged, p []byte, f factors[T], row, n int64, s *scratch[T]) (bad int, err error) {
	b := kernel.Block{Src: p, DType: m.base.DType, Cols: int(m.cols)}
	u, err := updates(m.parts, f, row, n, s)
	if err != nil {
		return 0, err
	}
	if m.magnitude() == nil {
		return kernel.Merge(p, b, u, m.roundDelta), nil
	}
	factor, err := rowFactors(m, u, f.magnitude, row, n)
	if err != nil {
		return 0, err
	}
	return kernel.MergeMagnitude(p, b, u[0], factor), nil
}

// rowFactors returns the factor m/n of each row of a block, or of each column.
func rowFactors[T kernel.Number](m *merged, u []kernel.Update[T], magnitude []T, row, n int64) (func(row int, sum []T) (T, []T), error) {
	if columns, ok := m.columns.([]T); ok {
		return func(int, []T) (T, []T) { return 0, columns }, nil
	}
	mag := magnitude[row : row+n]
	if m.base.Data == m.origin.Data {
		return func(i int, sum []T) (T, []T) { return mag[i] / kernel.Norm(sum), nil }, nil
	}
	b, err := m.block(m.origin, row, n)
	if err != nil {
		return nil, err
	}
	factors := make([]T, n)
	kernel.Sums(b, u, func(i int, sum []T) { factors[i] = mag[i] / kernel.Norm(sum) })
	return func(i int, _ []T) (T, []T) { return factors[i], nil }, nil
}

// block reads rows of a weight.
func (m *merged) block(w formats.Tensor, row, n int64) (kernel.Block, error) {
	p := make([]byte, n*m.cols*m.size)
	err := m.read(w, p, row)
	return kernel.Block{Src: p, DType: w.DType, Cols: int(m.cols)}, err
}

func (m *merged) read(w formats.Tensor, p []byte, row int64) error {
	if err := formats.ReadFullAt(w.Data, p, row*m.cols*m.size); err != nil {
		return formats.ReadError(m.file, w.Name, err) // or of an update below
	}
	return nil
}

// updates reads the left factors for some rows, and puts the right ones to them.
func updates[T kernel.Number](parts []*part, f factors[T], row, n int64, s *scratch[T]) ([]kernel.Update[T], error) {
	s.left = grown(s.left, int64(len(parts)))
	out := make([]kernel.Update[T], 0, len(parts))
	for i, p := range parts {
		s.left[i] = grown(s.left[i], n*p.rank())
		if err := readLeft(p, s.left[i], row, s); err != nil {
			return nil, err
		}
		out = append(out, kernel.Update[T]{Left: s.left[i], Right: f.right[i], R: int(p.rank()), Scale: T(p.scale)})
	}
	return out, nil
}

// notFinite says whose fault an element is that came out infinite or NaN.
func (m *merged) notFinite(row, col int64) error {
	var raw [8]byte
	var w [1]float64
	if err := formats.ReadFullAt(m.base.Data, raw[:m.size], (row*m.cols+col)*m.size); err == nil {
		formats.DecodeFloat64(w[:], raw[:m.size], m.base.DType)
	}
	if w[0]-w[0] != 0 {
		return formats.Rejectf(m.file, m.base.Name, "the base's weight is %v at row %d, column %d", w[0], row, col)
	}
	return formats.Unfitf(m.parts[0].path, m.base.Name, "the merged weight is not finite in %s at row %d, column %d", m.base.DType, row, col)
}

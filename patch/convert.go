package patch

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// Overflow says what converting does with a number that is too large for the new dtype.
type Overflow string

// Overflows.
const (
	OverflowError    Overflow = "error"    // stop
	OverflowSaturate Overflow = "saturate" // take the largest finite number
)

// ConvertOptions of [Convert].
type ConvertOptions struct {
	DType formats.DType // F64, F32, F16 or BF16
	// Keep are patterns, in the form of PEFT's rank_pattern, of module paths or tensor
	// names whose tensors keep their dtype.
	Keep     []string
	Overflow Overflow // OverflowError when empty
}

// Converted counts what the elements that were converted so far became. It is complete
// when the checkpoint was written.
type Converted struct {
	Tensors   int64 // that change their dtype
	Overflow  atomic.Int64
	Underflow atomic.Int64 // not zero before, zero after
}

// Convert returns a checkpoint whose float tensors have another dtype, each element
// rounded to nearest even once; NaNs stay quiet NaNs and infinities infinities. Tensors
// of other types pass as they are. The counts fill as the result is read.
func Convert(c *formats.Checkpoint, opts ConvertOptions) (*formats.Checkpoint, *Converted, error) {
	if !opts.DType.IsFloat() {
		return nil, nil, formats.Usagef("cannot convert to %s (want F64, F32, F16 or BF16)", opts.DType)
	}
	if opts.Overflow == "" {
		opts.Overflow = OverflowError
	}
	if opts.Overflow != OverflowError && opts.Overflow != OverflowSaturate {
		return nil, nil, formats.Usagef("overflow %s is not known (want %q or %q)", formats.Quote(string(opts.Overflow)), OverflowError, OverflowSaturate)
	}
	var patterns []adapter.Pattern
	for _, k := range opts.Keep {
		patterns = append(patterns, adapter.Pattern{Key: k})
	}
	keep, err := adapter.CompilePatterns("keep-dtype", patterns)
	if err != nil {
		return nil, nil, formats.Usagef("%v", err)
	}
	counts := &Converted{}
	used := make([]bool, len(opts.Keep))
	var failed error
	out := c.MapTensors(func(t formats.Tensor) formats.Tensor {
		if !t.DType.IsFloat() {
			return t
		}
		kept, err := keptBy(keep, t.Name)
		if err != nil {
			failed = formats.Usagef("keep-dtype: %v", err)
		}
		if kept >= 0 {
			used[kept] = true
			return t
		}
		if t.DType == opts.DType {
			return t
		}
		counts.Tensors++
		return formats.Tensor{Name: t.Name, DType: opts.DType, Shape: t.Shape, Data: newConverter(t, opts, counts)}
	})
	for i, ok := range used {
		if !ok && failed == nil {
			failed = formats.Usagef("keep-dtype %s matches no tensor", formats.Quote(opts.Keep[i]))
		}
	}
	return out, counts, failed
}

// keptBy returns the pattern that a tensor's name, or its module's path, matches, or −1.
func keptBy(keep *adapter.PatternMatcher, name string) (int, error) {
	i, err := keep.Find(name)
	if i >= 0 || err != nil {
		return i, err
	}
	return keep.Find(parent(name))
}

// converter is a tensor's data in another float type.
type converter struct {
	src      formats.Tensor
	to       formats.DType
	saturate bool
	counts   *Converted
	total    int64
}

func newConverter(t formats.Tensor, opts ConvertOptions, counts *Converted) *converter {
	return &converter{t, opts.DType, opts.Overflow == OverflowSaturate, counts, t.Elements() * opts.DType.Bits() / 8}
}

// asDType returns a tensor's data as dtype; its own where that is its dtype, so that it
// is copied as it lies. An element that overflows is an error.
func asDType(t formats.Tensor, dtype formats.DType) io.ReaderAt {
	if t.DType == dtype {
		return t.Data
	}
	return newConverter(t, ConvertOptions{DType: dtype}, &Converted{})
}

// Grain implements [formats.Grainer]: an element can be made alone.
func (c *converter) Grain() (rows, cols int64) { return 1, 1 }

// Prepare implements [formats.Preparer] for a source that needs it.
func (c *converter) Prepare(ctx context.Context) error {
	if p, ok := c.src.Data.(formats.Preparer); ok {
		return p.Prepare(ctx)
	}
	return nil
}

// sourcePiece is what is held of the source: it stays in a processor's second-level cache
// until it is converted.
type sourcePiece [128 << 10]byte

var sourcePieces = sync.Pool{New: func() any { return new(sourcePiece) }}

func (c *converter) ReadAt(p []byte, off int64) (int, error) {
	return readElements(p, off, c.to, c.total, func(dst []byte, first int64) error {
		from, to := c.src.DType.Bits()/8, c.to.Bits()/8
		piece := sourcePieces.Get().(*sourcePiece)
		defer sourcePieces.Put(piece)
		for len(dst) > 0 {
			n := min(int64(len(dst))/to, int64(len(piece))/from)
			raw := piece[:n*from]
			if err := readBlock(c.src, raw, first*from); err != nil {
				return err
			}
			if err := c.convert(dst[:n*to], raw, first); err != nil {
				return err
			}
			dst, first = dst[n*to:], first+n
		}
		return nil
	})
}

// convert narrows or widens raw into dst and counts what is lost.
func (c *converter) convert(dst, raw []byte, first int64) error {
	over, under := kernel.Convert(dst, c.to, raw, c.src.DType, c.saturate)
	if over.Count > 0 && !c.saturate {
		return formats.Rejectf("", c.src.Name, "%v at index %d is too large for %s", over.Value, first+over.First, c.to).
			WithHint("--overflow saturate takes the largest number that %s has", c.to)
	}
	c.counts.Overflow.Add(over.Count)
	c.counts.Underflow.Add(under)
	return nil
}

// readElements serves ReadAt for data that is made in whole elements.
func readElements(p []byte, off int64, dtype formats.DType, total int64, fill func(dst []byte, first int64) error) (int, error) {
	if off < 0 || off >= total {
		return 0, io.EOF
	}
	want := len(p)
	if left := total - off; int64(want) > left {
		p = p[:left]
	}
	size := dtype.Bits() / 8
	first, last := off/size, (off+int64(len(p))-1)/size
	dst := p
	if off%size != 0 || int64(len(p))%size != 0 {
		dst = make([]byte, (last-first+1)*size)
	}
	if err := fill(dst, first); err != nil {
		return 0, err
	}
	if len(dst) != len(p) {
		copy(p, dst[off-first*size:])
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

package patch

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/seed-b982eded/graft/formats"
)

// Difference is one way in which a checkpoint is not what it should be.
type Difference struct {
	Tensor string `json:"tensor"`
	What   string `json:"what"` // "missing", "unexpected", "dtype", "shape" or "values"
	Got    string `json:"got,omitempty"`
	Want   string `json:"want,omitempty"`
	Count  int64  `json:"elements,omitempty"` // that differ, for "values"
}

func (d Difference) String() string {
	if d.What == "values" {
		return fmt.Sprintf("tensor %s: %d elements differ, the first is %s (want %s)", formats.Quote(d.Tensor), d.Count, d.Got, d.Want)
	}
	if d.What == "missing" || d.What == "unexpected" {
		return fmt.Sprintf("tensor %s is %s", formats.Quote(d.Tensor), d.What)
	}
	return fmt.Sprintf("tensor %s: %s differs (got %s, want %s)", formats.Quote(d.Tensor), d.What, d.Got, d.Want)
}

// verifyBlock is how much of each side a worker holds.
const verifyBlock = 2 << 20

// Compare reads two checkpoints side by side and returns where got differs from want,
// in want's order: names, dtypes, shapes and every byte. A plan's merged checkpoint as
// want recomputes every target. progress, if not nil, is called with the bytes
// compared since the last call, from several goroutines.
func Compare(ctx context.Context, got, want *formats.Checkpoint, progress func(int64)) ([]Difference, error) {
	out := []Difference{}
	for w := range want.Tensors() {
		g, ok := got.Tensor(w.Name)
		switch {
		case !ok:
			out = append(out, Difference{Tensor: w.Name, What: "missing"})
		case g.DType != w.DType:
			out = append(out, Difference{Tensor: w.Name, What: "dtype", Got: g.DType.String(), Want: w.DType.String()})
		case !slices.Equal(g.Shape, w.Shape):
			out = append(out, Difference{Tensor: w.Name, What: "shape", Got: fmt.Sprint(g.Shape), Want: fmt.Sprint(w.Shape)})
		default:
			d, err := compareTensor(ctx, g, w, progress)
			if err != nil {
				return out, err
			}
			if d.Count > 0 {
				out = append(out, d)
			}
		}
	}
	for g := range got.Tensors() {
		if _, ok := want.Tensor(g.Name); !ok {
			out = append(out, Difference{Tensor: g.Name, What: "unexpected"})
		}
	}
	return out, nil
}

// compareTensor compares the bytes of two tensors of one dtype and shape.
func compareTensor(ctx context.Context, got, want formats.Tensor, progress func(int64)) (Difference, error) {
	if p, ok := want.Data.(formats.Preparer); ok {
		if err := p.Prepare(ctx); err != nil {
			return Difference{}, err
		}
	}
	size, step := want.Size(), formats.BlockStep(want, verifyBlock)
	d := Difference{Tensor: want.Name, What: "values"}
	first := int64(-1)
	var failed error
	var mu sync.Mutex
	var next int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			var x, y []byte
			for {
				mu.Lock()
				off := next
				next += step
				stop := failed != nil || off >= size
				mu.Unlock()
				if stop {
					return
				}
				n := min(step, size-off)
				if int64(len(x)) < n {
					x, y = make([]byte, n), make([]byte, n)
				}
				err := ctx.Err()
				if err == nil {
					err = readBlock(got, x[:n], off)
				}
				if err == nil {
					err = readBlock(want, y[:n], off)
				}
				count, at := differing(x[:n], y[:n], int(max(1, want.DType.Bits()/8)))
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
				}
				d.Count += count
				if count > 0 && (first < 0 || off+at < first) {
					first = off + at
					d.Got, d.Want = elementText(x[at:], want.DType), elementText(y[at:], want.DType)
				}
				mu.Unlock()
				if progress != nil {
					progress(n)
				}
			}
		})
	}
	wg.Wait()
	if first >= 0 {
		width := max(1, want.DType.Bits()/8)
		d.Got = fmt.Sprintf("%s at index %d", d.Got, first/width)
	}
	return d, failed
}

func readBlock(t formats.Tensor, p []byte, off int64) error {
	err := formats.ReadFullAt(t.Data, p, off)
	if _, ok := err.(*formats.Error); ok || err == nil {
		return err
	}
	return &formats.Error{Class: formats.ErrInput, Tensor: t.Name, Detail: "reading", Err: err}
}

// differing counts the elements that differ, and returns the offset of the first.
func differing(x, y []byte, width int) (count, first int64) {
	if bytes.Equal(x, y) {
		return 0, 0
	}
	first = -1
	for i := 0; i < len(x); i += width {
		end := min(i+width, len(x))
		if !bytes.Equal(x[i:end], y[i:end]) {
			if first < 0 {
				first = int64(i)
			}
			count++
		}
	}
	return count, first
}

func elementText(p []byte, d formats.DType) string {
	if d.IsFloat() {
		var v [1]float64
		formats.DecodeFloat64(v[:], p, d)
		return fmt.Sprint(v[0])
	}
	return fmt.Sprintf("%x", p[:min(int64(len(p)), max(1, d.Bits()/8))])
}

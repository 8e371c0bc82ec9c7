package patch

import (
	"context"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// isPiSSA reports whether an initialisation is pissa, with or without a number of iterations.
func isPiSSA(initWeights string) bool {
	if n, ok := strings.CutPrefix(initWeights, InitPiSSANiter); ok {
		_, err := strconv.ParseUint(n, 10, 16)
		return err == nil
	}
	return initWeights == InitPiSSA
}

// pissa takes the principal part of the weight (Meng et al., PiSSA, 2024): B = U·√(S/s) and
// A = √(S/s)·Vᵀ, of the first r singular triplets. That is the exact decomposition, also where an estimate
// by some iterations was asked for.
func (f *freshFactors) pissa(ctx context.Context) error {
	if err := f.checkRank(); err != nil {
		return err
	}
	if !(f.scale > 0) || math.IsInf(f.scale, 0) {
		return formats.Usagef("init_lora_weights pissa needs a scale above 0 (got %g)", f.scale)
	}
	d, err := lowrank.Dominant(ctx, newStoredWeight(f.site), f.r)
	if err != nil {
		return err
	}
	for j := range f.r {
		root := math.Sqrt(d.S[j] / f.scale)
		for i := range f.out {
			f.b[i*f.r+j] = float32(d.U.At(i, j) * root)
		}
		for i := range f.in {
			f.a[j*f.in+i] = float32(d.V.At(i, j) * root)
		}
	}
	return nil
}

// olora takes the first r columns and rows of W = Q·R (Büyükakyüz, OLoRA, 2024): B = Q with orthonormal
// columns, A = R. They are not divided by the scale, so that s·B·A is taken out of W.
func (f *freshFactors) olora(ctx context.Context) error {
	if err := f.checkRank(); err != nil {
		return err
	}
	q, r, err := lowrank.LeadingQR(ctx, newStoredWeight(f.site), f.r)
	if err != nil {
		return err
	}
	store(f.b, q)
	store(f.a, r)
	return nil
}

// checkRank refuses a rank that the weight does not have.
func (f *freshFactors) checkRank() error {
	if most := min(f.in, f.out); f.r > most {
		return formats.Usagef("a rank of %d cannot be taken out of a weight of %d×%d (want %d or less)", f.r, f.out, f.in, most)
	}
	return nil
}

// storedWeight is a layer's weight, out×in, that is read in blocks of rows whenever it is multiplied.
type storedWeight struct {
	weight     formats.Tensor
	rows, cols int // as stored
	inOut      bool
	raw        []byte
	values     []float64
}

// weightBlock is about how many elements of a weight are in memory at a time.
const weightBlock = 2 << 20

func newStoredWeight(s Site) *storedWeight {
	rows, cols := s.Weight.Matrix()
	w := &storedWeight{weight: s.Weight, rows: int(rows), cols: int(cols), inOut: s.InOut}
	n := min(w.rows, max(1, weightBlock/w.cols)) * w.cols
	w.raw, w.values = make([]byte, int64(n)*s.Weight.DType.Bits()/8), make([]float64, n)
	return w
}

// Dims returns out and in.
func (w *storedWeight) Dims() (out, in int) {
	if w.inOut {
		return w.cols, w.rows
	}
	return w.rows, w.cols
}

// Mul sets dst to W·x.
func (w *storedWeight) Mul(ctx context.Context, dst, x *mat.Dense) error {
	return w.multiply(ctx, w.inOut, dst, x)
}

// MulTrans sets dst to Wᵀ·x.
func (w *storedWeight) MulTrans(ctx context.Context, dst, x *mat.Dense) error {
	return w.multiply(ctx, !w.inOut, dst, x)
}

// multiply sets dst to the stored matrix, or what it is turned round, times x.
func (w *storedWeight) multiply(ctx context.Context, turned bool, dst, x *mat.Dense) error {
	_, k := x.Dims()
	if turned {
		dst.Zero()
	}
	var part mat.Dense
	step := len(w.values) / w.cols
	for row := 0; row < w.rows; row += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(step, w.rows-row)
		block, err := w.read(row, n)
		if err != nil {
			return err
		}
		if turned {
			part.Reset()
			part.Mul(block.T(), x.Slice(row, row+n, 0, k))
			dst.Add(dst, &part)
		} else {
			dst.Slice(row, row+n, 0, k).(*mat.Dense).Mul(block, x)
		}
	}
	return nil
}

// read decodes n rows.
func (w *storedWeight) read(row, n int) (*mat.Dense, error) {
	size := w.weight.DType.Bits() / 8
	values := w.values[:n*w.cols]
	raw := w.raw[:int64(len(values))*size]
	if err := formats.ReadFullAt(w.weight.Data, raw, int64(row)*int64(w.cols)*size); err != nil {
		return nil, formats.ReadError("", w.weight.Name, err)
	}
	formats.DecodeFloat64(values, raw, w.weight.DType)
	for i, x := range values {
		if x-x != 0 {
			return nil, formats.Rejectf("", w.weight.Name, "it has %v at row %d, column %d: no start can be made of it", x, row+i/w.cols, i%w.cols)
		}
	}
	return mat.NewDense(n, w.cols, values), nil
}

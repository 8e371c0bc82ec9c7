package lowrank

import (
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Product is the matrix S·B·A of shape out×in that is never formed.
type Product struct {
	B *mat.Dense // out×r
	A *mat.Dense // r×in
	S float64
}

// Rank returns r, a bound of the product's rank.
func (p *Product) Rank() int { _, r := p.B.Dims(); return r }

// Dims returns out and in.
func (p *Product) Dims() (out, in int) {
	out, _ = p.B.Dims()
	_, in = p.A.Dims()
	return out, in
}

// Dense forms the product: out×in numbers, for small shapes and for methods that need
// every element.
func (p *Product) Dense() *mat.Dense {
	var d mat.Dense
	d.Mul(p.B, p.A)
	d.Scale(p.S, &d)
	return &d
}

// readAtOnce bounds the encoded elements that are held beside the decoded ones.
const readAtOnce = 64 << 10

// Read decodes a tensor as a matrix of its first dimension × the product of the others.
// It is of a float type ([formats.DType.IsFloat]) and has elements. path names the file in
// messages. An element that is NaN or infinite is [formats.ErrUnfit].
func Read(path string, t formats.Tensor) (*mat.Dense, error) {
	rows, cols := t.Matrix()
	if !t.DType.IsFloat() {
		return nil, formats.Unfitf(path, t.Name, "not of a float type (got %s)", t.DType)
	}
	if rows < 1 || cols < 1 {
		return nil, formats.Unfitf(path, t.Name, "there are no elements (shape is %v)", t.Shape)
	}
	values := make([]float64, rows*cols)
	size := t.DType.Bits() / 8
	raw := make([]byte, min(readAtOnce, int64(len(values)))*size)
	for at := 0; at < len(values); {
		part := values[at:min(at+readAtOnce, len(values))]
		raw := raw[:int64(len(part))*size]
		if err := formats.ReadFullAt(t.Data, raw, int64(at)*size); err != nil {
			return nil, formats.ReadError(path, t.Name, err)
		}
		formats.DecodeFloat64(part, raw, t.DType)
		for i, x := range part {
			if x-x != 0 {
				return nil, formats.Unfitf(path, t.Name, "%v at row %d, column %d", x, (int64(at)+int64(i))/cols, (int64(at)+int64(i))%cols)
			}
		}
		at += len(part)
	}
	return mat.NewDense(int(rows), int(cols), values), nil
}

// FromUpdate reads the factors of a low-rank update. The product has the shape that the
// layer computes with: out×in, with a convolution's kernel in its columns and an
// embedding's vocabulary as in.
func FromUpdate(path string, u *adapter.LowRank) (*Product, error) {
	a, err := Read(path, u.A)
	if err != nil {
		return nil, err
	}
	b, err := Read(path, u.B)
	if err != nil {
		return nil, err
	}
	return &Product{B: b, A: a, S: u.Scale}, nil
}

// Sum returns Σ wᵢ·pᵢ as one product, exact but for the rounding of the scales into A: its
// B is B₁|B₂|…, its A the rows of w₁s₁·A₁, w₂s₂·A₂, …, its rank the sum of the ranks. All
// products have one shape, and weights are as many as products.
func Sum(products []*Product, weights []float64) *Product {
	out, in := products[0].Dims()
	total := 0
	for _, p := range products {
		total += p.Rank()
	}
	b, a := mat.NewDense(out, total, nil), mat.NewDense(total, in, nil)
	at := 0
	for i, p := range products {
		r := p.Rank()
		b.Slice(0, out, at, at+r).(*mat.Dense).Copy(p.B)
		rows := a.Slice(at, at+r, 0, in).(*mat.Dense)
		rows.Scale(weights[i]*p.S, p.A)
		at += r
	}
	return &Product{B: b, A: a, S: 1}
}

// Difference returns p − q as one product of rank r₁+r₂.
//
// Where p and q have the same rank and factors that lie close together, it is made of the
// differences of the factors, which are exact or nearly so:
//
//	s₁B₁A₁ − s₂B₂A₂ = s₁(B₁−B₂)·A₁ + B₂·((s₁−s₂)A₁ + s₂(A₁−A₂))
//
// so that two adapters an ulp apart have a distance with all its digits.
func Difference(p, q *Product) *Product {
	if p.Rank() != q.Rank() {
		return Sum([]*Product{p, q}, []float64{1, -1})
	}
	var db, da, mixed mat.Dense
	db.Sub(p.B, q.B)
	da.Sub(p.A, q.A)
	mixed.Apply(func(i, j int, d float64) float64 { return (p.S-q.S)*p.A.At(i, j) + q.S*d }, &da)
	near := abs(p.S)*mat.Norm(&db, 2)*mat.Norm(p.A, 2) + mat.Norm(q.B, 2)*mat.Norm(&mixed, 2)
	far := abs(p.S)*mat.Norm(p.B, 2)*mat.Norm(p.A, 2) + abs(q.S)*mat.Norm(q.B, 2)*mat.Norm(q.A, 2)
	if !(near < far) {
		return Sum([]*Product{p, q}, []float64{1, -1})
	}
	return Sum([]*Product{{B: &db, A: p.A, S: p.S}, {B: q.B, A: &mixed, S: 1}}, []float64{1, 1})
}

func abs(x float64) float64 {
	if x < 0 {
		return -x
	}
	return x
}

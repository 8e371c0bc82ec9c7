package lowrank_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// The oracle is the same quantity of the full matrix, formed in float64, by gonum's dense
// routines. Two roundings of sums of a few hundred terms differ by some 1e-15 of the
// largest term; tol leaves room for a factor of 100.
const tol = 1e-13

// shapes are out, in, r: tall, wide, square, and ranks above either side.
var shapes = [][3]int{{41, 29, 6}, {29, 41, 6}, {33, 33, 1}, {5, 31, 9}, {31, 5, 9}, {4, 3, 7}, {1, 17, 2}, {17, 1, 3}, {300, 200, 40}}

func product(rng *rand.Rand, s [3]int) *lowrank.Product {
	return &lowrank.Product{B: random(rng, s[0], s[2]), A: random(rng, s[2], s[1]), S: -1.75}
}

func near(t *testing.T, what string, got, want, scale float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*scale) {
		t.Errorf("%s is %.17g, want %.17g", what, got, want)
	}
}

func distance(a, b mat.Matrix) float64 {
	var d mat.Dense
	d.Sub(a, b)
	return mat.Norm(&d, 2)
}

func orthonormal(t *testing.T, what string, q *mat.Dense) {
	t.Helper()
	_, k := q.Dims()
	var g mat.Dense
	g.Mul(q.T(), q)
	one := mat.NewDense(k, k, nil)
	for i := range k {
		one.Set(i, i, 1)
	}
	if d := distance(&g, one); d > tol {
		t.Errorf("%s is %g away from orthonormal", what, d)
	}
}

func denseSVD(t *testing.T, m mat.Matrix) (u, v *mat.Dense, s []float64) {
	t.Helper()
	var d mat.SVD
	if !d.Factorize(m, mat.SVDThin) {
		t.Fatal("the oracle does not converge")
	}
	u, v = new(mat.Dense), new(mat.Dense)
	d.UTo(u)
	d.VTo(v)
	return u, v, d.Values(nil)
}

func TestQR(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, s := range append([][3]int{{1024, 129}, {1537, 1}, {5000, 60}}, shapes...) { // LAPACK's blocks have 32 columns
		a := random(rng, s[0], s[1])
		q, r := lowrank.QR(a)
		orthonormal(t, "q", q)
		var back mat.Dense
		back.Mul(q, r)
		near(t, "q·r − a", distance(&back, a), 0, mat.Norm(a, 2))
		rows, cols := r.Dims()
		for i := range rows {
			for j := range min(i, cols) {
				if r.At(i, j) != 0 {
					t.Fatalf("r has %g below its diagonal", r.At(i, j))
				}
			}
		}
		if d := distance(lowrank.R(a), r); d != 0 {
			t.Errorf("R is %g away from the r of QR", d)
		}
	}
}

// Columns that depend on each other, or are zero, still give orthonormal ones.
func TestQRDeficient(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a := random(rng, 50, 6)
	for i := range 50 {
		a.Set(i, 1, 0)
		a.Set(i, 4, a.At(i, 0)*(1+1e-15))
	}
	tall := mat.NewDense(1500, 6, nil) // nearly all of it is zero
	tall.Slice(700, 750, 0, 6).(*mat.Dense).Copy(a)
	for _, a := range []*mat.Dense{a, tall} {
		q, r := lowrank.QR(a)
		orthonormal(t, "q", q)
		var back mat.Dense
		back.Mul(q, r)
		near(t, "q·r − a", distance(&back, a), 0, mat.Norm(a, 2))
	}
}

func TestDecompose(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for _, s := range shapes {
		p := product(rng, s)
		full := p.Dense()
		_, _, want := denseSVD(t, full)
		d, err := lowrank.Decompose(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.S) != min(s[0], s[1], s[2]) {
			t.Fatalf("%v: %d singular values", s, len(d.S))
		}
		orthonormal(t, "U", d.U)
		orthonormal(t, "V", d.V)
		alone, err := lowrank.SingularValues(p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range d.S {
			near(t, "a singular value", d.S[i], want[i], want[0])
			near(t, "a singular value alone", alone[i], want[i], want[0])
		}
		for k := 1; k <= len(d.S); k++ {
			q := d.Truncated(k)
			if q.Rank() != k {
				t.Fatalf("rank %d, want %d", q.Rank(), k)
			}
			near(t, "the error of a truncation", distance(q.Dense(), full), lowrank.Tail(want, k), want[0])
		}
	}
}

// An element of U that is largest in size is positive, whatever the signs of the factors.
func TestSigns(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	p := product(rng, [3]int{20, 30, 4})
	var b, a mat.Dense
	b.Scale(-1, p.B)
	a.Scale(-1, p.A)
	d1, err1 := lowrank.Decompose(p)
	d2, err2 := lowrank.Decompose(&lowrank.Product{B: &b, A: &a, S: p.S})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	near(t, "U's difference", distance(d1.U, d2.U), 0, 10)
	near(t, "V's difference", distance(d1.V, d2.V), 0, 10)
}

func TestMeasures(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	for _, s := range shapes {
		p, q := product(rng, s), product(rng, [3]int{s[0], s[1], s[2] + 2})
		q.S = 0.4
		fp, fq := p.Dense(), q.Dense()
		np, nq := mat.Norm(fp, 2), mat.Norm(fq, 2)
		var elems mat.Dense
		elems.MulElem(fp, fq)
		near(t, "the norm", lowrank.Norm(p), np, np)
		near(t, "the distance", lowrank.Distance(p, q), distance(fp, fq), np+nq)
		near(t, "the inner product", lowrank.Inner(p, q), mat.Sum(&elems), np*nq)
		near(t, "the cosine", lowrank.Cosine(p, q), mat.Sum(&elems)/np/nq, 1)
		sum := lowrank.Sum([]*lowrank.Product{p, q}, []float64{0.5, -3})
		var want, scaled mat.Dense
		want.Scale(0.5, fp)
		scaled.Scale(-3, fq)
		want.Add(&want, &scaled)
		near(t, "the sum", distance(sum.Dense(), &want), 0, 3*(np+nq))
	}
	zero := &lowrank.Product{B: mat.NewDense(3, 2, nil), A: mat.NewDense(2, 4, nil), S: 1}
	if c := lowrank.Cosine(zero, zero); !math.IsNaN(c) {
		t.Errorf("cosine of nothing is %g", c)
	}
	if n := lowrank.Norm(zero); n != 0 {
		t.Errorf("norm of nothing is %g", n)
	}
}

// The distance of products whose factors differ by little has all its digits. The full
// matrices would not show it, so the wanted value is the first-order difference, formed
// without cancellation: its own error is the relative size of the change.
func TestSmallDistances(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2))
	for _, change := range []float64{1e-6, 0x1p-40, 0x1p-52} {
		p := product(rng, [3]int{60, 50, 8})
		q := &lowrank.Product{B: mat.DenseCopyOf(p.B), A: mat.DenseCopyOf(p.A), S: p.S}
		x := p.A.At(3, 7)
		q.A.Set(3, 7, x*(1+change))
		delta := q.A.At(3, 7) - x
		want := 0.0
		for i := range 60 {
			y := p.S * p.B.At(i, 3) * delta
			want += y * y
		}
		want = math.Sqrt(want)
		if got := lowrank.Distance(p, q); math.Abs(got-want) > 1e-12*want {
			t.Errorf("changed by %g: distance %.17g, want %.17g", change, got, want)
		}
	}
	p := product(rng, [3]int{60, 50, 8})
	if d := lowrank.Distance(p, p); d != 0 {
		t.Errorf("a product is %g away from itself", d)
	}
	q := *p
	q.S = p.S * (1 + 0x1p-50)
	want := lowrank.Norm(p) * (q.S/p.S - 1)
	if got := lowrank.Distance(p, &q); math.Abs(got-want) > 1e-12*want {
		t.Errorf("scales apart: distance %.17g, want %.17g", got, want)
	}
}

func TestSpectrum(t *testing.T) {
	s := []float64{4, 2, 1, 0.5, 0} // squares 16, 4, 1, 1/4: the sum is 21.25
	near(t, "the tail", lowrank.Tail(s, 1), math.Sqrt(5.25), 1)
	near(t, "the tail of tiny values", lowrank.Tail([]float64{3e-200, 4e-200}, 0)*1e200, 5, 1)
	near(t, "the tail of huge values", lowrank.Tail([]float64{4e200, 3e200}, 0)/1e200, 5, 1)
	near(t, "the stable rank", lowrank.StableRank(s), 21.25/16, 1)
	near(t, "the effective rank of equals", lowrank.EffectiveRank([]float64{7, 7, 7}), 3, 1)
	near(t, "the effective rank", lowrank.EffectiveRank([]float64{3, 1}), math.Exp(-0.75*math.Log(0.75)-0.25*math.Log(0.25)), 1)
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"energy 0", lowrank.RankForEnergy(s, 0), 0},
		{"energy 0.75", lowrank.RankForEnergy(s, 0.75), 1},
		{"energy 0.76", lowrank.RankForEnergy(s, 0.76), 2},
		{"energy 1", lowrank.RankForEnergy(s, 1), 4},
		{"energy of nothing", lowrank.RankForEnergy([]float64{0, 0}, 1), 0},
		{"error 0.4", lowrank.RankForError(s, 0.4), 4},
		{"error 0.5", lowrank.RankForError(s, 0.5), 3},
		{"error 100", lowrank.RankForError(s, 100), 0},
		{"error 0", lowrank.RankForError(s, 0), 4},
		{"relative error 0.5", lowrank.RankForRelativeError(s, 0.5), 1},
		{"relative error 0.49", lowrank.RankForRelativeError(s, 0.49), 2},
		{"numerical rank", lowrank.NumericalRank([]float64{1, 1e-3, 1e-15}, 100, 10, 0x1p-52), 2},
		{"numerical rank of nothing", lowrank.NumericalRank([]float64{0, 0}, 2, 2, 0x1p-52), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: rank %d, want %d", c.name, c.got, c.want)
		}
	}
	if r := lowrank.EffectiveRank([]float64{0, 0}) + lowrank.StableRank(nil); r != 0 {
		t.Errorf("ranks of nothing are %g", r)
	}
}

func TestSimilarity(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	u, _ := lowrank.QR(random(rng, 30, 5))
	v, _ := lowrank.QR(random(rng, 30, 4))
	phi := lowrank.Similarity(u, v)
	for i := 1; i <= 5; i++ {
		for j := 1; j <= 4; j++ {
			var g mat.Dense
			g.Mul(u.Slice(0, 30, 0, i).T(), v.Slice(0, 30, 0, j))
			n := mat.Norm(&g, 2)
			near(t, "φ", phi[i-1][j-1], n*n/float64(min(i, j)), 1)
		}
	}
	same := lowrank.Similarity(u, u)
	for i := range same {
		for j := range same[i] {
			near(t, "φ of a subspace with itself", same[i][j], 1, 1)
		}
	}
}

func TestFromUpdate(t *testing.T) {
	u := &adapter.LowRank{
		A:     formats.FromFloat32s("m.lora_A.weight", []int64{2, 3, 1, 2}, []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}),
		B:     formats.Tensor{Name: "m.lora_B.weight", DType: formats.BF16, Shape: []int64{1, 2, 1, 1}, Data: bytes.NewReader([]byte{0x80, 0x3f, 0x00, 0xc0})},
		Scale: 0.5,
	}
	p, err := lowrank.FromUpdate("p", u)
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(p.Dense(), mat.NewDense(1, 6, []float64{-6.5, -7, -7.5, -8, -8.5, -9})); d != 0 {
		t.Errorf("s·B·A is %v", mat.Formatted(p.Dense()))
	}
	raw := make([]byte, 48)
	binary.LittleEndian.PutUint32(raw[20:], math.Float32bits(float32(math.NaN())))
	u.A.Data = bytes.NewReader(raw)
	_, err = lowrank.FromUpdate("p", u)
	if want := `reading "p": tensor "m.lora_A.weight": NaN at row 0, column 5`; err == nil || err.Error() != want || !errors.Is(err, formats.ErrUnfit) {
		t.Errorf("got %v, want %s", err, want)
	}
	u.A.Data = bytes.NewReader(raw[:40])
	if _, err = lowrank.FromUpdate("p", u); !errors.Is(err, formats.ErrInput) {
		t.Errorf("a short read gives %v", err)
	}
}

// Numbers whose product float64 does not hold are refused, and nothing hangs.
func TestOverflow(t *testing.T) {
	p := &lowrank.Product{B: mat.NewDense(2, 1, []float64{1e200, 1}), A: mat.NewDense(1, 2, []float64{1e200, 1}), S: 1}
	_, err1 := lowrank.Decompose(p)
	_, err2 := lowrank.SingularValues(p)
	if !errors.Is(err1, formats.ErrUnfit) || !errors.Is(err2, formats.ErrUnfit) {
		t.Errorf("got %v and %v", err1, err2)
	}
}

// The truncation of a full matrix is the best one: exactly where it is small, and within
// 1e-4 of the best error where it is sketched, on a spectrum that hardly decays.
func TestLeading(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	for _, c := range []struct {
		out, in, k int
		slack      float64
	}{{40, 30, 7, 1e-12}, {12, 60, 20, 1e-12}, {300, 280, 5, 1e-4}, {270, 420, 20, 1e-4}} {
		m := random(rng, c.out, c.in)
		_, _, s := denseSVD(t, m)
		d, err := lowrank.Leading(m, c.k)
		if err != nil {
			t.Fatal(err)
		}
		k := min(c.k, c.out, c.in)
		if len(d.S) != k {
			t.Fatalf("%d singular values, want %d", len(d.S), k)
		}
		orthonormal(t, "U", d.U)
		orthonormal(t, "V", d.V)
		got, want := distance(d.Truncated(k).Dense(), m), lowrank.Tail(s, k)
		if !(got <= want*(1+c.slack)+tol*s[0]) {
			t.Errorf("%d×%d, rank %d: error %.12g, the best is %.12g", c.out, c.in, k, got, want)
		}
	}
	if _, err := lowrank.Leading(mat.NewDense(1, 2, []float64{1, math.Inf(1)}), 1); !errors.Is(err, formats.ErrUnfit) {
		t.Errorf("an infinity gives %v", err)
	}
}

package lowrank_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// held is a full matrix as an operator that counts how often it is read.
type held struct {
	*mat.Dense
	reads int
}

func (m *held) Mul(ctx context.Context, dst, x *mat.Dense) error {
	m.reads++
	dst.Mul(m.Dense, x)
	return ctx.Err()
}

func (m *held) MulTrans(ctx context.Context, dst, x *mat.Dense) error {
	m.reads++
	dst.Mul(m.T(), x)
	return ctx.Err()
}

// withSpectrum returns a random matrix of the given singular values.
func withSpectrum(rng *rand.Rand, out, in int, s func(i int) float64) *mat.Dense {
	u, _ := lowrank.QR(random(rng, out, min(out, in)))
	v, _ := lowrank.QR(random(rng, in, min(out, in)))
	for i := range out {
		for j, x := range u.RawRowView(i) {
			u.Set(i, j, x*s(j))
		}
	}
	var m mat.Dense
	m.Mul(u, v.T())
	return &m
}

// The dominant triplets are those of the full decomposition, whatever the spectrum: flat,
// steep, with equal values in it and beyond the matrix's rank. Of equal values the vectors are free, and
// what counts is that they are singular vectors.
func TestDominant(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	for _, c := range []struct {
		name       string
		out, in, k int
		s          func(i int) float64
	}{
		{"small", 40, 30, 7, nil},
		{"one row", 1, 500, 1, nil},
		{"all of them", 300, 270, 270, nil},
		{"flat, tall", 420, 290, 6, nil},
		{"flat, wide", 290, 420, 6, nil},
		{"flat, begun again", 300, 310, 60, nil},
		{"steep", 300, 320, 9, func(i int) float64 { return math.Exp(-float64(i)) }},
		{"equal", 310, 280, 9, func(i int) float64 { return float64(5 - min(4, i/7)) }},
		{"of rank 4", 300, 280, 9, func(i int) float64 { return float64(max(0, 4-i)) }},
		{"zero", 300, 280, 9, func(i int) float64 { return 0 }},
	} {
		m := &held{Dense: random(rng, c.out, c.in)}
		var want []float64
		if c.s == nil {
			_, _, want = denseSVD(t, m.Dense)
		} else {
			m.Dense = withSpectrum(rng, c.out, c.in, c.s)
			for i := range c.k {
				want = append(want, c.s(i))
			}
		}
		d, err := lowrank.Dominant(context.Background(), m, c.k)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.S) != c.k {
			t.Fatalf("%s: %d singular values, want %d", c.name, len(d.S), c.k)
		}
		orthonormal(t, c.name+": U", d.U)
		orthonormal(t, c.name+": V", d.V)
		var mv, mu mat.Dense
		mv.Mul(m.Dense, d.V)
		mu.Mul(m.T(), d.U)
		for j, s := range d.S {
			// Singular values are off by the square of what the vectors are.
			if !(math.Abs(s-want[j]) <= 1e-12*want[0]) {
				t.Errorf("%s: singular value %d is %.15g, want %.15g", c.name, j, s, want[j])
			}
			var e1, e2 mat.VecDense
			e1.AddScaledVec(mv.ColView(j), -s, d.U.ColView(j))
			e2.AddScaledVec(mu.ColView(j), -s, d.V.ColView(j))
			if off := max(mat.Norm(&e1, 2), mat.Norm(&e2, 2)); !(off <= 1e-7*want[0]) {
				t.Errorf("%s: triplet %d is off by %g", c.name, j, off/want[0])
			}
		}
		t.Logf("%s: read %d times", c.name, m.reads)
	}
}

func TestDominantSameBits(t *testing.T) {
	m := &held{Dense: random(rand.New(rand.NewPCG(7, 4)), 280, 300)}
	one, err1 := lowrank.Dominant(context.Background(), m, 3)
	two, err2 := lowrank.Dominant(context.Background(), m, 3)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !mat.Equal(one.U, two.U) || !mat.Equal(one.V, two.V) {
		t.Error("another result the second time")
	}
}

func TestDominantRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 2))
	for _, side := range []int{20, 300} {
		m := &held{Dense: random(rng, side, side)}
		m.Set(side/2, side/3, math.Inf(-1))
		if _, err := lowrank.Dominant(context.Background(), m, 3); !errors.Is(err, formats.ErrUnfit) {
			t.Errorf("an infinity in %d×%d gives %v", side, side, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := lowrank.Dominant(ctx, &held{Dense: random(rng, side, side)}, 3); !errors.Is(err, context.Canceled) {
			t.Errorf("a stop at %d×%d gives %v", side, side, err)
		}
	}
}

func TestLeadingQR(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 3))
	for _, c := range [][3]int{{40, 30, 7}, {30, 40, 30}, {17, 17, 1}, {5, 90, 3}} {
		m := &held{Dense: random(rng, c[0], c[1])}
		wantQ, wantR := lowrank.QR(m.Dense)
		q, r, err := lowrank.LeadingQR(context.Background(), m, c[2])
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(q, wantQ.Slice(0, c[0], 0, c[2])); !(d <= tol) {
			t.Errorf("%v: Q is off by %g", c, d)
		}
		if d := distance(r, wantR.Slice(0, c[2], 0, c[1])); !(d <= tol*mat.Norm(m.Dense, 2)) {
			t.Errorf("%v: R is off by %g", c, d)
		}
		for i := range c[2] {
			for j := range i {
				if r.At(i, j) != 0 {
					t.Errorf("%v: R has %g below its diagonal", c, r.At(i, j))
				}
			}
		}
	}
}

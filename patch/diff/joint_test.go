package diff_test

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch/diff"
)

// exactly holds what is measured of two products b·a, summed in numbers of 400 bits: how far
// they are apart may lie far below the last digit of either.
type exactly struct{ normA, normB, distance, cosine float64 }

func exact(b1, a1, b2, a2 *mat.Dense) exactly {
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(400).SetFloat64(x) }
	element := func(b, a *mat.Dense, i, j int) *big.Float {
		sum := number(0)
		for k := range b.RawMatrix().Cols {
			sum.Add(sum, new(big.Float).Mul(number(b.At(i, k)), number(a.At(k, j))))
		}
		return sum
	}
	xx, yy, xy, dd := number(0), number(0), number(0), number(0)
	add := func(to, x, y *big.Float) { to.Add(to, new(big.Float).Mul(x, y)) }
	out, _ := b1.Dims()
	_, in := a1.Dims()
	for i := range out {
		for j := range in {
			x, y := element(b1, a1, i, j), element(b2, a2, i, j)
			d := new(big.Float).Sub(y, x)
			add(xx, x, x)
			add(yy, y, y)
			add(xy, x, y)
			add(dd, d, d)
		}
	}
	root := func(x *big.Float) *big.Float { return new(big.Float).Sqrt(x) }
	float := func(x *big.Float) float64 { f, _ := x.Float64(); return f }
	cosine := new(big.Float).Quo(xy, new(big.Float).Mul(root(xx), root(yy)))
	return exactly{float(root(xx)), float(root(yy)), float(root(dd)), float(cosine)}
}

// TestSmallAndLarge: of two updates that share factors, or parts of them, the smaller one
// keeps its digits beside the larger, and the order of both makes no difference.
func TestSmallAndLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const out, in, r = 13, 11, 4
	a, b := dense(rng, r, in), dense(rng, out, r)
	a2, b2 := dense(rng, r, in), dense(rng, out, r)
	scaled := func(m *mat.Dense, c float64) *mat.Dense {
		var n mat.Dense
		n.Scale(c, m)
		return &n
	}
	plus := func(m *mat.Dense, c float64, other *mat.Dense) *mat.Dense {
		n := scaled(other, c)
		n.Add(m, n)
		return n
	}
	ulp := mat.DenseCopyOf(b)
	ulp.Set(3, 1, math.Nextafter(ulp.At(3, 1), 9))
	// One rank alone is small in B and large in A: its norm says nothing of the other ranks.
	oneB, oneA, oneB2 := mat.DenseCopyOf(b), mat.DenseCopyOf(a), mat.DenseCopyOf(b)
	for i := range out {
		oneB.Set(i, 2, oneB.At(i, 2)*1e-14)
		oneB2.Set(i, 2, oneB2.At(i, 2)*0.5)
	}
	for j := range in {
		oneA.Set(2, j, oneA.At(2, j)*1e14)
	}
	type pair struct {
		name           string
		b1, a1, b2, a2 *mat.Dense
		distance       float64 // relative error of it
	}
	cases := []pair{
		{"an ulp", b, a, ulp, a, 1e-14},
		{"one rank of another size", oneB, oneA, oneB2, oneA, 1e-14},
	}
	for _, c := range []float64{1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14, 1e-16, 1e-18, 1e-30} {
		cases = append(cases,
			pair{fmt.Sprintf("%g × B", c), b, a, scaled(b, c), a, 1e-14},
			pair{fmt.Sprintf("%g × A", c), b, a, b, scaled(a, c), 1e-14},
			pair{fmt.Sprintf("%g × another B", c), b, a, scaled(b2, c), a, 1e-14},
			pair{fmt.Sprintf("%g × others", c), b, a, scaled(b2, c), a2, 1e-14},
		)
		if c > 1e-13 { // rounding of the sum is some 1e-16 of it
			cases = append(cases, pair{fmt.Sprintf("%g apart", c), b, a, plus(b, c, b2), plus(a, c, a2), 1e-13})
		}
	}
	for _, c := range cases {
		want := exact(c.b1, c.a1, c.b2, c.a2)
		for _, turned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", c.name, turned), func(t *testing.T) {
				x, y, want := lowRank("m", c.a1, c.b1, 1), lowRank("m", c.a2, c.b2, 1), want
				if turned {
					x, y, want.normA, want.normB = y, x, want.normB, want.normA
				}
				r, err := diff.Adapters(t.Context(), x, y, diff.Options{})
				if err != nil {
					t.Fatal(err)
				}
				m := r.Modules[0]
				near(t, "‖A‖", m.A.Norm, &want.normA, 1e-14)
				near(t, "‖B‖", m.B.Norm, &want.normB, 1e-14)
				near(t, "distance", m.Distance, &want.distance, c.distance)
				if d := math.Abs(float64(m.Cosine) - want.cosine); !(d <= 1e-14) {
					t.Errorf("cosine %.17g, want %.17g", float64(m.Cosine), want.cosine)
				}
			})
		}
	}
}

// TestScaledFarAway: an update is another one times a number however small or large that is,
// and whichever comes first.
func TestScaledFarAway(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	a, b := dense(rng, 4, 11), dense(rng, 13, 4)
	for _, c := range []float64{1e-100, 1e-38, 1e-16, 1e-3, -1e-3, 1e3, 1e16, 1e38, 1e100} {
		var sa, sb mat.Dense
		sa.Scale(c, a)
		sb.Scale(math.Abs(c), b)
		for _, turned := range []bool{false, true} {
			x, y, want := lowRank("m", a, b, 2), lowRank("m", &sa, &sb, 2), c*math.Abs(c)
			if turned {
				x, y, want = y, x, 1/want
			}
			r, err := diff.Adapters(t.Context(), x, y, diff.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if m := r.Modules[0]; m.What != diff.Scaled || !(math.Abs(float64(*m.Scale)/want-1) < 1e-13) {
				t.Errorf("%g, turned %v: %s, scale %v", want, turned, m.What, m.Scale)
			}
			if r.Scale == nil || !(math.Abs(float64(*r.Scale)/want-1) < 1e-13) {
				t.Errorf("%g, turned %v: in all %v", want, turned, r.Scale)
			}
			if d := math.Abs(float64(r.Modules[0].Cosine)) - 1; !(math.Abs(d) < 1e-14) {
				t.Errorf("%g, turned %v: cosine is %g off", want, turned, d)
			}
		}
	}
}

// TestTooLarge: what float64 has no number for is refused by file and module, on either side.
func TestTooLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	a, b := dense(rng, 4, 11), dense(rng, 13, 4)
	huge := func(c float64) *mat.Dense {
		var m mat.Dense
		m.Scale(c, a)
		return &m
	}
	small := lowRank("m", a, b, 1)
	for _, c := range []struct {
		x, y *adapter.Adapter
		want string
	}{
		{lowRank("m", huge(1e306), b, 1e10), small, `reading "adapter": module "m": the product of the factors is too large for float64`},
		{small, lowRank("m", huge(1e306), b, 1e10), `reading "adapter": module "m": the product of the factors is too large for float64`},
		{small, lowRank("n", huge(1e306), b, 1e10), `reading "adapter": module "n": the product of the factors is too large for float64`},
		{lowRank("m", huge(8e306), b, 1), lowRank("m", huge(-8e306), b, 1), `reading "adapter": module "m": the distance from "adapter" is too large for float64`},
	} {
		_, err := diff.Adapters(t.Context(), c.x, c.y, diff.Options{})
		if !errors.Is(err, formats.ErrUnfit) || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/testblas"
)

// Outside the matrices is what must neither be read nor written: a NaN that spreads.
var guard = math.Float32frombits(0x7fc0dead)

// matrix is an operand with a stride and guards around and between its rows.
type matrix[T number] struct {
	rows, cols, ld int
	data           []T
}

func newMatrix[T number](rng *rand.Rand, rows, cols, extra int) matrix[T] {
	m := matrix[T]{rows, cols, cols + extra, nil}
	all := make([]T, rows*m.ld+64)
	for i := range all {
		all[i] = T(guard)
	}
	m.data = all[32 : 32+(rows-1)*m.ld+cols]
	for i := range rows {
		for j := range cols {
			m.data[i*m.ld+j] = T(rng.NormFloat64())
		}
	}
	return m
}

func (m matrix[T]) at(i, j int, trans bool) float64 {
	if trans {
		i, j = j, i
	}
	return float64(m.data[i*m.ld+j])
}

func (m matrix[T]) clone() matrix[T] {
	all := make([]T, cap(m.data))
	copy(all, m.whole())
	m.data = all[:len(m.data)]
	return m
}

// whole is the matrix with what lies between and behind its rows.
func (m matrix[T]) whole() []T { return m.data[:cap(m.data)] }

func bits[T number](x T) uint64 {
	switch x := any(x).(type) {
	case float32:
		return uint64(math.Float32bits(x))
	case float64:
		return math.Float64bits(x)
	}
	return 0
}

func sameBits[T number](a, b []T) bool {
	for i := range a {
		if bits(a[i]) != bits(b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

// testCase is one product.
type testCase struct {
	tA, tB      blas.Transpose
	m, n, k     int
	alpha, beta float64
	extra       int // of the strides
}

func (c testCase) String() string {
	return fmt.Sprintf("%c%c %d×%d×%d alpha %g beta %g stride +%d", c.tA, c.tB, c.m, c.n, c.k, c.alpha, c.beta, c.extra)
}

func (c testCase) operands(rng *rand.Rand) (aRows, aCols, bRows, bCols int) {
	aRows, aCols, bRows, bCols = c.m, c.k, c.k, c.n
	if c.tA != blas.NoTrans {
		aRows, aCols = aCols, aRows
	}
	if c.tB != blas.NoTrans {
		bRows, bCols = bCols, bRows
	}
	return
}

// check compares a product of the machine with one in float64. An element with terms t of
// k, added in blocks, differs by at most (k + 3 + blocks)·u·Σ|t| to first order: one
// rounding for each term (the product and its sum are rounded together, or apart in Go,
// which doubles it), one for alpha and one for each sum with C.
func check[T number](t *testing.T, mach *machine[T], c testCase, rng *rand.Rand) {
	t.Helper()
	aRows, aCols, bRows, bCols := c.operands(rng)
	a, b := newMatrix[T](rng, aRows, aCols, c.extra), newMatrix[T](rng, bRows, bCols, 2*c.extra)
	out := newMatrix[T](rng, c.m, c.n, 3*c.extra)
	if c.beta == 0 {
		for i := range c.m {
			for j := range c.n {
				out.data[i*out.ld+j] = T(math.NaN())
			}
		}
	}
	before := out.clone()
	gemm(mach, c.tA, c.tB, c.m, c.n, c.k, T(c.alpha), a.data, a.ld, b.data, b.ld, T(c.beta), out.data, out.ld)
	u := 0x1p-24
	if _, double := any(T(0)).(float64); double {
		u = 0x1p-53
	}
	factor := 2*u*float64(c.k+3+c.k/depth) + 4*u
	for i := range c.m {
		for j := range out.ld {
			at := i*out.ld + j
			if j >= c.n {
				if at < len(out.data) && bits(out.data[at]) != bits(T(guard)) {
					t.Fatalf("%s %s: wrote behind row %d", mach.engine.name, c, i)
				}
				continue
			}
			var want, size float64
			for p := range c.k {
				x := a.at(i, p, c.tA != blas.NoTrans) * b.at(p, j, c.tB != blas.NoTrans)
				want += x
				size += math.Abs(x)
			}
			want, size = want*float64(T(c.alpha)), size*math.Abs(float64(T(c.alpha)))
			if c.beta != 0 {
				x := float64(before.data[at]) * float64(T(c.beta))
				want += x
				size += math.Abs(x)
			}
			if got := float64(out.data[at]); !(math.Abs(got-want) <= factor*size) {
				t.Fatalf("%s %s: element %d, %d is %g, want %g ± %g", mach.engine.name, c, i, j, got, want, factor*size)
			}
		}
	}
	for i, x := range out.whole()[len(out.data):] {
		if bits(x) != bits(T(guard)) {
			t.Fatalf("%s %s: wrote %d behind the matrix", mach.engine.name, c, i)
		}
	}
}

var transposes = []blas.Transpose{blas.NoTrans, blas.Trans, blas.ConjTrans}

func eachMachine(t *testing.T, f32 func(*testing.T, *machine[float32]), f64 func(*testing.T, *machine[float64])) {
	for _, e := range engines32() {
		t.Run("float32/"+e.name, func(t *testing.T) { f32(t, &machine[float32]{engine: e}) })
	}
	for _, e := range engines64() {
		t.Run("float64/"+e.name, func(t *testing.T) { f64(t, &machine[float64]{engine: e}) })
	}
}

func TestAgainstFloat64(t *testing.T) {
	if testing.Short() {
		t.Skip("slow; TestWorkers shares work between goroutines")
	}
	eachMachine(t, testAgainstFloat64[float32], testAgainstFloat64[float64])
}

func testAgainstFloat64[T number](t *testing.T, mach *machine[T]) {
	rng := rand.New(rand.NewPCG(1, 2))
	// Every height and width of a tile with its neighbours, and every kind of transpose.
	for _, tA := range transposes[:2] {
		for _, tB := range transposes {
			for m := 1; m <= 30; m++ {
				for n := 1; n <= 35; n++ {
					check(t, mach, testCase{tA, tB, m, n, 1 + rng.IntN(12), 1, float64(rng.IntN(2)), rng.IntN(3)}, rng)
				}
			}
		}
	}
	// Sizes about those where a product begins to be packed and to be cut.
	sizes := []int{1, 2, 7, 16, 23, 33, 95, 97, 103, 130, 257, 300}
	scales := []float64{0, 1, -0.3}
	for _, tA := range transposes {
		for _, tB := range transposes {
			for range 40 {
				pick := func() int { return sizes[rng.IntN(len(sizes))] }
				check(t, mach, testCase{tA, tB, pick(), pick(), pick(),
					scales[rng.IntN(3)], scales[rng.IntN(3)], rng.IntN(4)}, rng)
			}
		}
	}
	for _, c := range []testCase{
		{blas.NoTrans, blas.Trans, 3, 2500, 1100, 1, 1, 0},
		{blas.NoTrans, blas.Trans, 110, 2500, 600, 0.5, 0, 1},
		{blas.NoTrans, blas.NoTrans, 1200, 110, 1100, 1, 2, 1},
		{blas.Trans, blas.NoTrans, 110, 70, 9000, 1, 0, 1},
		{blas.Trans, blas.Trans, 2100, 9, 530, 1, 1, 0},
	} {
		check(t, mach, c, rng)
	}
}

// TestWorkers compares the bits for several numbers of processors, and those of a part of a
// matrix with those of the whole.
func TestWorkers(t *testing.T) {
	eachMachine(t, testWorkers[float32], testWorkers[float64])
}

func testWorkers[T number](t *testing.T, mach *machine[T]) {
	rng := rand.New(rand.NewPCG(3, 4))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []testCase{
		{blas.NoTrans, blas.Trans, 301, 213, 777, 1, 1, 0},
		{blas.NoTrans, blas.NoTrans, 1030, 8, 531, 0.7, 0, 1},
		{blas.Trans, blas.NoTrans, 8, 1030, 531, 1, -2, 1},
		{blas.Trans, blas.Trans, 97, 2305, 300, 1, 1, 2},
		{blas.NoTrans, blas.Trans, 1, 1999, 1600, 1, 0, 0},
		{blas.NoTrans, blas.Trans, 301, 213, 8, 1, 1, 0},
		{blas.Trans, blas.NoTrans, 131, 2305, 60, -0.3, 0, 1},
	} {
		aRows, aCols, bRows, bCols := c.operands(rng)
		a, b, out := newMatrix[T](rng, aRows, aCols, c.extra), newMatrix[T](rng, bRows, bCols, c.extra), newMatrix[T](rng, c.m, c.n, c.extra)
		product := func(workers, i, rows, j, cols int) []T {
			runtime.GOMAXPROCS(workers)
			to := out.clone()
			ai, bj := i*a.ld, j
			if c.tA != blas.NoTrans {
				ai = i
			}
			if c.tB != blas.NoTrans {
				bj = j * b.ld
			}
			gemm(mach, c.tA, c.tB, rows, cols, c.k, T(c.alpha), a.data[ai:], a.ld, b.data[bj:], b.ld, T(c.beta), to.data[i*to.ld+j:], to.ld)
			return to.whole()
		}
		want := product(1, 0, c.m, 0, c.n)
		for _, workers := range []int{2, 3, 8} {
			for range 3 {
				if !sameBits(product(workers, 0, c.m, 0, c.n), want) {
					t.Fatalf("%s: %d workers gave other bits than one", c, workers)
				}
			}
		}
		i, j := c.m/3, c.n/2
		rows, cols := max(1, (c.m-i)/2), max(1, (c.n-j)/5)
		got := product(2, i, rows, j, cols)
		for y := i; y < i+rows; y++ {
			from, to := y*out.ld+j, y*out.ld+j+cols
			if !sameBits(got[from:to], want[from:to]) {
				t.Fatalf("%s: a part of the matrix has other bits than the whole", c)
			}
		}
	}
}

// TestNotFinite checks that zeros hide no NaN and no infinity, and a zero alpha or no
// steps hides all.
func TestNotFinite(t *testing.T) {
	for _, special := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		for _, tB := range transposes[:2] {
			a, b, c := make([]float32, 12*300), make([]float32, 300*20), make([]float32, 12*20)
			b[290] = special
			Implementation{}.Sgemm(blas.NoTrans, tB, 12, 20, 300, 1, a, 300, b, map[blas.Transpose]int{blas.NoTrans: 20, blas.Trans: 300}[tB], 0, c, 20)
			col := map[blas.Transpose]int{blas.NoTrans: 10, blas.Trans: 0}[tB]
			for i, x := range c {
				if (x != x) != (i%20 == col) {
					t.Fatalf("%v, %c: element %d is %v", special, tB, i, x)
				}
			}
			Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, 12, 20, 300, 0, a, 300, b, 20, 0, c, 20)
			for i, x := range c {
				if x != 0 {
					t.Fatalf("element %d is %v with a zero alpha", i, x)
				}
			}
		}
	}
}

// TestGonumSuite runs Gonum's own tests of what Implementation replaces.
func TestGonumSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("slow; TestWorkers shares work between goroutines")
	}
	testblas.TestDgemm(t, Implementation{})
	testblas.TestDgemm(t, viaFloat32{})
}

// viaFloat32 lets Gonum's tests for float64, whose numbers are small, see float32.
type viaFloat32 struct{}

func (viaFloat32) Dgemm(tA, tB blas.Transpose, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) {
	narrow := func(v []float64) []float32 {
		out := make([]float32, len(v))
		for i, x := range v {
			out[i] = float32(x)
		}
		return out
	}
	out := narrow(c)
	Implementation{}.Sgemm(tA, tB, m, n, k, float32(alpha), narrow(a), lda, narrow(b), ldb, float32(beta), out, ldc)
	for i, x := range out {
		c[i] = float64(x)
	}
}

// TestBadArguments compares the panics with Gonum's.
func TestBadArguments(t *testing.T) {
	caught := func(impl blas.Float32, tA, tB blas.Transpose, m, n, k, lda, ldb, ldc, lenA, lenB, lenC int) (message any) {
		defer func() { message = recover() }()
		impl.Sgemm(tA, tB, m, n, k, 1, make([]float32, lenA), lda, make([]float32, lenB), ldb, 1, make([]float32, lenC), ldc)
		return nil
	}
	seen := map[any]bool{}
	for _, tA := range append(transposes, 'x') {
		for _, tB := range append(transposes, 'x') {
			for i := range 1 << 9 {
				bad := func(bit int) int { return i >> bit & 1 }
				m, n, k := 5-6*bad(0), 4-5*bad(1), 3-4*bad(2)
				if i%5 == 0 {
					k = 0
				}
				lda, ldb, ldc := 5-bad(3)*3, 5-bad(4)*3, 5-bad(5)*3
				lens := [3]int{25 - 15*bad(6), 25 - 15*bad(7), 25 - 15*bad(8)}
				got := caught(Implementation{}, tA, tB, m, n, k, lda, ldb, ldc, lens[0], lens[1], lens[2])
				want := caught(Implementation{}.Implementation, tA, tB, m, n, k, lda, ldb, ldc, lens[0], lens[1], lens[2])
				if got != want {
					t.Fatalf("%c%c case %d: got %v, want %v", tA, tB, i, got, want)
				}
				seen[want] = true
			}
		}
	}
	if len(seen) != 11 { // ten messages and none
		t.Errorf("saw %v", seen)
	}
}

func TestAllocations(t *testing.T) {
	a, b, c := make([]float32, 200*300), make([]float32, 300*210), make([]float32, 200*210)
	if n := testing.AllocsPerRun(50, func() {
		Implementation{}.Sgemm(blas.NoTrans, blas.Trans, 200, 210, 300, 1, a, 300, b, 300, 0, c, 210)
	}); n >= 1 && !raceEnabled {
		t.Errorf("a product allocates %v times", n)
	}
}

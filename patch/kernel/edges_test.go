package kernel

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

var floatTypes = []formats.DType{formats.F64, formats.F32, formats.BF16, formats.F16}

// problem is a block to merge into, with updates, in the type that its dtype is computed in.
type problem[T Number] struct {
	rows, cols int
	dtype      formats.DType
	src        []byte
	updates    []Update[T]
}

// randomProblem makes one with updates of some ranks. Every number is finite, and so are results.
func randomProblem[T Number](rng *rand.Rand, d formats.DType, rows, cols int, ranks ...int) problem[T] {
	numbers := func(n int) []T {
		out := make([]T, n)
		for i := range out {
			out[i] = T(rng.NormFloat64())
		}
		return out
	}
	p := problem[T]{rows: rows, cols: cols, dtype: d, src: make([]byte, rows*cols*int(d.Bits()/8))}
	encodeAs(p.src, numbers(rows*cols), d)
	for j, r := range ranks {
		p.updates = append(p.updates, Update[T]{Left: numbers(rows * r), Right: numbers(r * cols), R: r, Scale: T(0.3 - float64(j))})
	}
	return p
}

// encodeAs is encode for either type and any dtype.
func encodeAs[T Number](dst []byte, v []T, d formats.DType) {
	if d == formats.F64 {
		wide := make([]float64, len(v))
		for i, x := range v {
			wide[i] = float64(x)
		}
		formats.EncodeFloat64(dst, wide)
		return
	}
	narrow := make([]float32, len(v))
	for i, x := range v {
		narrow[i] = float32(x)
	}
	formats.EncodeFloat32(dst, narrow, d)
}

// ways are the functions that write merged blocks.
func ways[T Number]() map[string]func(p problem[T], dst []byte, src []byte) int {
	return map[string]func(p problem[T], dst []byte, src []byte) int{
		"merge": func(p problem[T], dst, src []byte) int {
			return Merge(dst, Block{src, p.dtype, p.cols}, p.updates, false)
		},
		"rounded delta": func(p problem[T], dst, src []byte) int {
			return Merge(dst, Block{src, p.dtype, p.cols}, p.updates, true)
		},
		"magnitude by row": func(p problem[T], dst, src []byte) int {
			return MergeMagnitude(dst, Block{src, p.dtype, p.cols}, p.updates[0], func(_ int, sum []T) (T, []T) { return 3 / Norm(sum), nil })
		},
		"magnitude by column": func(p problem[T], dst, src []byte) int {
			columns := make([]T, p.cols)
			for i := range columns {
				columns[i] = T(i%5) * 0.3
			}
			return MergeMagnitude(dst, Block{src, p.dtype, p.cols}, p.updates[0], func(int, []T) (T, []T) { return 0, columns })
		},
	}
}

// TestEveryColumnCount compares engines with Go's for every number of columns around
// their steps, and of rows around their groups. Blocks begin at odd addresses, in place
// and not, and nothing beside them is written.
func TestEveryColumnCount(t *testing.T) {
	for _, d := range floatTypes {
		if d == formats.F64 {
			everyColumnCount[float64](t, d)
		} else {
			everyColumnCount[float32](t, d)
		}
	}
}

func everyColumnCount[T Number](t *testing.T, d formats.DType) {
	rng := rand.New(rand.NewPCG(7, uint64(d)))
	defer func(e engine) { active = e }(active)
	const guard = 67 // before and after; odd, so that nothing is aligned
	for cols := 1; cols <= 70; cols++ {
		for _, rows := range []int{1, 3, 4, 6} {
			p := randomProblem[T](rng, d, rows, cols, 1+(cols+rows)%7, 2)
			for name, way := range ways[T]() {
				active = reference
				want := make([]byte, len(p.src))
				if bad := way(p, want, p.src); bad >= 0 {
					t.Fatalf("%s %s: element %d is not finite", d, name, bad)
				}
				for _, e := range engines() {
					active = e
					buf := bytes.Repeat([]byte{0xa5}, len(p.src)+2*guard)
					dst := buf[guard : guard+len(p.src) : guard+len(p.src)]
					for _, src := range [][]byte{p.src, dst} {
						copy(dst, src)
						if bad := way(p, dst, src); bad >= 0 || !bytes.Equal(dst, want) {
							t.Fatalf("%s, %s, %s %d×%d: bytes differ from Go's", e.name, name, d, rows, cols)
						}
						copy(dst, p.src) // for the second turn, in place
					}
					for i, x := range buf {
						if x != 0xa5 && (i < guard || i >= guard+len(p.src)) {
							t.Fatalf("%s, %s, %s %d×%d: wrote beside the block", e.name, name, d, rows, cols)
						}
					}
				}
			}
		}
	}
}

// TestSumsAgree compares the unrounded sums, which norms are made of.
func TestSumsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	p := randomProblem[float32](rng, formats.BF16, 5, 2*maxTile+77, 9, 70)
	sums := func() []uint32 {
		var out []uint32
		Sums(Block{p.src, p.dtype, p.cols}, p.updates, func(_ int, sum []float32) {
			for _, x := range sum {
				out = append(out, math.Float32bits(x))
			}
		})
		return out
	}
	defer func(e engine) { active = e }(active)
	active = reference
	want := fmt.Sprint(sums())
	withEngines(t, func(t *testing.T) {
		if fmt.Sprint(sums()) != want {
			t.Error("sums differ from Go's")
		}
	})
}

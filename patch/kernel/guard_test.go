//go:build linux || darwin

package kernel

import (
	"math/rand/v2"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"

	"github.com/seed-b982eded/graft/formats"
)

// atEdge returns memory that ends where a page begins that nobody may touch, or begins
// where one ends.
func atEdge(t *testing.T, n int, end bool) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	whole := (n + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, whole+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	for _, p := range [][]byte{m[:page], m[page+whole:]} {
		if err := syscall.Mprotect(p, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	if end {
		return m[page+whole-n : page+whole : page+whole]
	}
	return m[page : page+n : page+n]
}

func numbersAtEdge[T Number](t *testing.T, v []T, end bool) []T {
	t.Helper()
	var x T
	m := atEdge(t, len(v)*int(unsafe.Sizeof(x)), end)
	out := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(m))), len(v))
	copy(out, v)
	return out
}

// TestTouchesNothingBeside merges with every operand at the edge of what may be read.
// An engine that reads or writes one byte more faults.
func TestTouchesNothingBeside(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, d := range floatTypes {
		withEngines(t, func(t *testing.T) {
			if d == formats.F64 {
				touchesNothingBeside[float64](t, d)
			} else {
				touchesNothingBeside[float32](t, d)
			}
		})
	}
}

func touchesNothingBeside[T Number](t *testing.T, d formats.DType) {
	rng := rand.New(rand.NewPCG(9, uint64(d)))
	for _, cols := range []int{1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 70, 130} {
		for _, rows := range []int{1, 4, 5} {
			for _, end := range []bool{false, true} {
				p := randomProblem[T](rng, d, rows, cols, 5, 1)
				src, dst := atEdge(t, len(p.src), end), atEdge(t, len(p.src), end)
				copy(src, p.src)
				for i := range p.updates {
					u := &p.updates[i]
					u.Left, u.Right = numbersAtEdge(t, u.Left, end), numbersAtEdge(t, u.Right, end)
				}
				for name, way := range ways[T]() {
					func() {
						defer func() {
							if r := recover(); r != nil {
								t.Fatalf("%s, %s %d×%d: %v", name, d, rows, cols, r)
							}
						}()
						way(p, dst, src)
					}()
				}
			}
		}
	}
}

// TestConvertTouchesNothingBeside converts what lies at the edge of what may be read to
// the edge of what may be written.
func TestConvertTouchesNothingBeside(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	withEngines(t, func(t *testing.T) {
		for _, c := range conversions {
			from, to := c[0], c[1]
			for _, n := range []int{1, 15, 16, 17, 31, 32, 33, convertRun - 1, convertRun, convertRun + 16, convertRun + 19} {
				for _, end := range []bool{false, true} {
					src, dst := atEdge(t, n*int(from.Bits()/8), end), atEdge(t, n*int(to.Bits()/8), end)
					func() {
						defer func() {
							if r := recover(); r != nil {
								t.Fatalf("%d of %s to %s: %v", n, from, to, r)
							}
						}()
						Convert(dst, to, src, from, false)
					}()
				}
			}
		}
	})
}

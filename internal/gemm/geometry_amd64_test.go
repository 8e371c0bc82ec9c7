//go:build !noasm

package gemm

import (
	"testing"
	"unsafe"
)

// TestGeometry runs the packing and cutting for AVX-512, whose tiles are the largest, with
// tiles in Go, on processors that have AVX2 only.
func TestGeometry(t *testing.T) {
	if testing.Short() {
		t.Skip("slow; TestWorkers shares work between goroutines")
	}
	if len(engines32()) == 1 {
		t.Skip("needs AVX2")
	}
	t.Run("float32", func(t *testing.T) { testAgainstFloat64(t, &machine[float32]{engine: inGo(avx512x32)}) })
	t.Run("float64", func(t *testing.T) { testAgainstFloat64(t, &machine[float64]{engine: inGo(avx512x64)}) })
}

// inGo returns an engine with tiles in Go of the same sizes.
func inGo[T number](e *engine[T]) *engine[T] {
	f := *e
	f.name += " in Go"
	for _, s := range []*shape[T]{&f.wide, &f.narrow} {
		tiles := make([]tile[T], len(s.tiles))
		for i, has := range s.tiles {
			if has != nil {
				tiles[i] = goTile[T](i+1, s.cols)
			}
		}
		s.tiles = tiles
	}
	return &f
}

// goTile returns a tile of rows × cols outputs, as the documentation of tile describes it.
func goTile[T number](rows, cols int) tile[T] {
	return func(k, groups int, a *T, aRow, aStep, aGroup int, b *T, bStep, bGroup int, c *T, cRow, cGroup int, alpha T, add bool) {
		as := unsafe.Slice(a, (groups-1)*aGroup+(rows-1)*aRow+(k-1)*aStep+1)
		bs := unsafe.Slice(b, (groups-1)*bGroup+(k-1)*bStep+cols)
		cs := unsafe.Slice(c, (groups-1)*cGroup+(rows-1)*cRow+cols)
		for g := range groups {
			for i := range rows {
				for j := range cols {
					var sum T
					for p := range k {
						sum += as[g*aGroup+i*aRow+p*aStep] * bs[g*bGroup+p*bStep+j]
					}
					to := &cs[g*cGroup+i*cRow+j]
					if add {
						sum = *to + sum*alpha
					} else {
						sum *= alpha
					}
					*to = sum
				}
			}
		}
	}
}

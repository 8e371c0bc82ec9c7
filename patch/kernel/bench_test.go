package kernel

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
)

// BenchmarkMerge merges a block such as a writer's worker gets, with one processor. Beside
// it the same bytes are copied and, for AVX2, the processor is asked how fast it multiplies
// and adds at best. The three take turns, and the fastest of each counts, so that what else
// the machine does hits all alike:
//
//	GFLOP/s        2 · rank · elements / time of the merge
//	GB/s           bytes of the block / time of the merge
//	copy-GB/s      bytes of the block / time of the copy
//	peak-GFLOP/s   of the fma loop
func BenchmarkMerge(b *testing.B) {
	defer func(e engine) { active = e }(active)
	for _, e := range engines() {
		active = e
		for _, dtype := range []formats.DType{formats.BF16, formats.F16, formats.F32, formats.F64} {
			for _, r := range []int{8, 16, 64, 256} {
				b.Run(fmt.Sprintf("%s/%s/r%d", e.name, dtype, r), func(b *testing.B) {
					if dtype == formats.F64 {
						benchmarkMerge[float64](b, dtype, r)
					} else {
						benchmarkMerge[float32](b, dtype, r)
					}
				})
			}
		}
	}
}

func benchmarkMerge[T Number](b *testing.B, dtype formats.DType, r int) {
	const blockBytes, cols = 2 << 20, 4096
	n := blockBytes / int(dtype.Bits()/8)
	src, dst := make([]byte, blockBytes), make([]byte, blockBytes)
	base := make([]float64, n)
	for i := range base {
		base[i] = float64(i%13)*0.01 - 0.05
	}
	if dtype == formats.F64 {
		formats.EncodeFloat64(src, base)
	} else {
		narrow := make([]float32, n)
		for i, x := range base {
			narrow[i] = float32(x)
		}
		formats.EncodeFloat32(src, narrow, dtype)
	}
	u := Update[T]{Left: make([]T, n/cols*r), Right: make([]T, r*cols), R: r, Scale: 2}
	for i := range u.Left {
		u.Left[i] = T(i%7) - 3.3
	}
	for i := range u.Right {
		u.Right[i] = T(i%11)*0.01 - 0.04
	}
	merge, plain, peak := math.Inf(1), math.Inf(1), 0.0
	for b.Loop() {
		merge = min(merge, seconds(func() { Merge(dst, Block{src, dtype, cols}, []Update[T]{u}, false) }))
		b.StopTimer()
		plain = min(plain, seconds(func() { copy(dst, src) }))
		if active.name == "avx2" {
			peak = max(peak, peakFLOPS[T]())
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(2*r*n)/merge/1e9, "GFLOP/s")
	b.ReportMetric(blockBytes/merge/1e9, "GB/s")
	b.ReportMetric(blockBytes/plain/1e9, "copy-GB/s")
	if peak > 0 {
		b.ReportMetric(peak/1e9, "peak-GFLOP/s")
	}
}

func seconds(f func()) float64 {
	began := time.Now()
	f()
	return time.Since(began).Seconds()
}

//go:build !noasm

package gemm

// peakFLOPS returns how many operations a second a processor with AVX2 does at best, or 0
// without AVX2: in fmas on vectors of 256 bits that stay in registers.
func peakFLOPS[T number]() float64 {
	const steps, fmas = 100_000, 12
	if len(engines32()) == 1 {
		return 0
	}
	var zero T
	if _, double := any(zero).(float64); double {
		return steps * fmas * 2 * 4 / seconds(func() { peak64_AVX2(steps) })
	}
	return steps * fmas * 2 * 8 / seconds(func() { peak32_AVX2(steps) })
}

//go:build !noasm

package kernel

// peakFLOPS returns how many operations a second a processor with AVX2 does at best: in
// multiply-adds on vectors of 256 bits that stay in registers.
func peakFLOPS[T Number]() float64 {
	const steps = 100_000
	var zero T
	switch any(zero).(type) {
	case float32:
		return steps * peakFMAs * 2 * 8 / seconds(func() { peak32_AVX2(steps) })
	default:
		return steps * peakFMAs * 2 * 4 / seconds(func() { peak64_AVX2(steps) })
	}
}

const peakFMAs = 12 // in a step

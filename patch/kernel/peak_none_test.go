//go:build noasm || !amd64

package kernel

// peakFLOPS is never asked: only AVX2 has a loop for it.
func peakFLOPS[T Number]() float64 { return 0 }

//go:build noasm || !amd64

package gemm

// peakFLOPS is 0: there is no loop to measure it with.
func peakFLOPS[T number]() float64 { return 0 }

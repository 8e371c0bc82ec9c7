//go:build noasm || !amd64

package gemm

// engines32 and engines64 return what this processor can run, the fastest first.
func engines32() []*engine[float32] { return []*engine[float32]{portable[float32]()} }

func engines64() []*engine[float64] { return []*engine[float64]{portable[float64]()} }

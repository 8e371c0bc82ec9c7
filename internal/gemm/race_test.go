//go:build race

package gemm

const raceEnabled = true // and sync.Pool drops what it is given at random

//go:build noasm || !amd64

package kernel

// engines returns what this processor can run.
func engines() []engine { return []engine{reference} }

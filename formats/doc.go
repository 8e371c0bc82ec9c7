// Package formats holds what every file format shares: element types, tensors
// whose bytes are read only when asked for, and checkpoints made of them.
//
// A [Tensor] is a name, a dtype, a shape and an [io.ReaderAt] over its encoded
// bytes. Nothing is loaded until it is read, and reading is safe from many
// goroutines at once. A [Checkpoint] is an ordered, immutable list of tensors,
// grouped into the files they lie in (or will lie in), with the side files that
// belong to them. Readers make checkpoints, package patch makes new lazy ones
// from them, and writers pull blocks out of them. A change is always a new value.
//
// # How to choose
//
// To open whatever a user names, call open.Checkpoint or open.Adapter. To deal
// with one format, use its own package: formats/safetensors for files,
// formats/hf for model directories, formats/peft for adapters.
//
// # What is promised
//
// The package imports the standard library alone. Every count, length and offset
// that comes from a file is checked against [limits] before memory is taken for
// it. Errors are of type [*Error], one line each, and say whose fault it is, so
// that a program can turn them into an exit code.
//
// [limits]: the constants in limits.go
package formats

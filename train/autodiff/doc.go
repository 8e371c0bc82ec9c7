// Package autodiff differentiates float32 matrix programs in reverse, made for
// training low-rank adapters on frozen weights.
//
// A [Tape] runs operations at once and records what their derivatives need;
// [Tape.Backward] walks the record in reverse and adds to the gradients of the
// trainable leaves. The operations are those of decoders and encoders, each as
// one step with a hand-written derivative, so that a layer is a dozen records.
//
// # How to choose
//
// Weights that stay as they are come in with [Frozen]: they never get a gradient,
// neither a buffer nor a product. Factors that are trained come in with
// [Trainable], which takes the caller's gradient buffer. For evaluation set
// [Tape.NoGrad]: nothing is recorded, and [Tape.Scope] gives a layer's buffers back
// as soon as the layer is done.
//
// Products go through [gonum.org/v1/gonum/blas/blas32], whose implementation a
// program may replace with blas32.Use before it starts; this package never does.
//
// # What is promised
//
// Results are the same bits for every GOMAXPROCS. Work is split over outputs (rows,
// heads, columns) and never along a sum, in ways that depend on the shapes alone; a
// product is one call of blas32, which splits it itself. The promise holds for one CPU
// architecture, one implementation of blas32 that sums in an order that depends on its
// arguments alone, and leaves that begin on a 16-byte boundary, where [NewBuffer] and
// every Go slice of 8 elements or more begin (Gonum's dot product peels unaligned
// elements off first).
//
// Buffers come from an arena that belongs to the tape. After [Tape.Reset] a step of
// the same shapes takes no new memory for numbers.
//
// Sums that long rows make inexact (mean squares, softmax denominators, losses) are
// carried in float64. Shapes that do not fit are programming errors and panic;
// nothing else does.
//
// A tape, and all values made by it, belong to one goroutine at a time.
package autodiff

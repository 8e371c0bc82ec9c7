// Package gemm multiplies dense matrices: Gonum's BLAS with products that run close to what
// the processor can do, and products with weights that stay encoded as they are in a file.
//
// # How to choose
//
// A program calls blas32.Use and blas64.Use with an [Implementation] when it starts;
// packages call blas32.Gemm and blas64.Gemm, or what is built on them, such as
// gonum.org/v1/gonum/mat, and need not know. [MulEncoded] is for a frozen weight: it is
// widened piece by piece on its way into the multipliers and takes no more memory than its
// file does. [LAPACK] does the same service to QR factorisations of thin matrices.
//
// # What it promises
//
// Each element of the result is computed so, with the steps p cut in blocks of 256:
//
//	c = beta·c, or 0 for a beta of 0, whatever c was
//	for each block: s = 0; for p in order: s = fma(a[p], b[p], s)
//	                c = fma(s, alpha, c)
//
// Therefore its bits depend on the row of op(A) and the column of op(B) that meet in it, and
// on nothing else: not on the number of processors, nor on the sizes of the matrices, their
// strides and transposes, nor on which part of a larger product is asked for. With AVX2 and
// AVX-512 the bits are the same. The Go code for other processors, and of a build with the
// tag noasm, rounds products before it adds them, and differs from those in the last bits.
//
// Zeros are multiplied as all numbers are: 0·NaN and 0·∞ are NaN, where Gonum skips zeros of
// one operand. An alpha of 0 reads neither operand, as in the reference BLAS.
//
// Products use up to GOMAXPROCS goroutines and may be called from many. In a steady state
// they allocate nothing.
//
// # How it works
//
// The scheme is that of K. Goto and R. A. van de Geijn, Anatomy of High-Performance Matrix
// Multiplication, ACM Transactions on Mathematical Software 34 (3), 2008: a tile of C stays
// in registers, a panel of B in the first-level cache and a block of A in the second-level
// one, both packed in the order in which they are read. Products with few rows or columns,
// such as a low-rank adapter's, use operands in place instead. Where a sum has few steps, as
// in a product with the second factor of an adapter, most of the time goes into reading and
// writing C; there tiles go along the rows of C, past panels of B that stay in the
// second-level cache.
package gemm

//go:generate sh -c "cd asm && go run . -pkg gemm -out ../gemm_amd64.s -stubs ../stubs_amd64.go"

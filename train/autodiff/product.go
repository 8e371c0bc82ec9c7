package autodiff

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

type matrix = blas32.General

const (
	asIs    = blas.NoTrans
	flipped = blas.Trans
)

// Products are cut into output tiles of at most tileRows × tileCols. Gonum computes
// a product of fewer than four blocks of 64 × 64 outputs serially, with each output
// summed in one go, and larger ones in goroutines and channels of its own, with the
// sum cut every 64 terms. Either order is independent of GOMAXPROCS; the tiles stay
// in the serial path to have one order for all sizes, no allocation, and a packed
// implementation may still amortise its packing over them.
const (
	tileRows = 64
	tileCols = 192
)

// product computes c += alpha·op(a)·op(b), tiles in parallel.
func product(opA, opB blas.Transpose, alpha float32, a, b, c matrix) {
	down, across := (c.Rows+tileRows-1)/tileRows, (c.Cols+tileCols-1)/tileCols
	parallel(down*across, func(_, i int) {
		tile(opA, opB, alpha, a, b, c, i/across*tileRows, i%across*tileCols)
	})
}

// productSerial is product within one task.
func productSerial(opA, opB blas.Transpose, alpha float32, a, b, c matrix) {
	for i := 0; i < c.Rows; i += tileRows {
		for j := 0; j < c.Cols; j += tileCols {
			tile(opA, opB, alpha, a, b, c, i, j)
		}
	}
}

// tile computes the tile of c that begins at (i, j).
func tile(opA, opB blas.Transpose, alpha float32, a, b, c matrix, i, j int) {
	rows, cols := min(tileRows, c.Rows-i), min(tileCols, c.Cols-j)
	if opA == asIs {
		a = part(a, i, 0, rows, a.Cols)
	} else {
		a = part(a, 0, i, a.Rows, rows)
	}
	if opB == asIs {
		b = part(b, 0, j, b.Rows, cols)
	} else {
		b = part(b, j, 0, cols, b.Cols)
	}
	blas32.Gemm(opA, opB, alpha, a, b, 1, part(c, i, j, rows, cols))
}

// part returns the rows × cols matrix of m, neither zero, that begins at (i, j).
func part(m matrix, i, j, rows, cols int) matrix {
	return matrix{Rows: rows, Cols: cols, Stride: m.Stride,
		Data: m.Data[i*m.Stride+j : (i+rows-1)*m.Stride+j+cols]}
}

package adapter

import (
	"io"

	"github.com/seed-b982eded/graft/formats"
)

// Rows returns tensors of one type and row shape one below the other: along their first
// dimension.
func Rows(name string, parts ...formats.Tensor) formats.Tensor {
	out := formats.Tensor{Name: name, DType: parts[0].DType, Shape: append([]int64(nil), parts[0].Shape...)}
	out.Shape[0] = 0
	for _, t := range parts {
		out.Shape[0] += t.Shape[0]
	}
	if len(parts) == 1 {
		out.Data = parts[0].Data
		return out
	}
	out.Data = joined{parts, 1, out.Size()}
	return out
}

// Columns returns tensors of one type and number of rows side by side: along their second
// dimension, which is the last that is not 1.
func Columns(name string, parts ...formats.Tensor) formats.Tensor {
	out := formats.Tensor{Name: name, DType: parts[0].DType, Shape: append([]int64(nil), parts[0].Shape...)}
	out.Shape[1] = 0
	for _, t := range parts {
		out.Shape[1] += t.Shape[1]
	}
	if len(parts) == 1 {
		out.Data = parts[0].Data
		return out
	}
	out.Data = joined{parts, out.Shape[0], out.Size()}
	return out
}

// joined takes a piece of each part in turn, rows times.
type joined struct {
	parts []formats.Tensor
	rows  int64
	size  int64
}

func (j joined) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > j.size {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(want), j.size-off)]
	done := len(p)
	if len(p) > 0 {
		width := j.size / j.rows
		row, at := off/width, off%width
		for len(p) > 0 {
			for _, t := range j.parts {
				n := t.Size() / j.rows
				if at >= n {
					at -= n
					continue
				}
				piece := p[:min(int64(len(p)), n-at)]
				if len(piece) == 0 {
					break
				}
				if err := formats.ReadFullAt(t.Data, piece, row*n+at); err != nil {
					return 0, err
				}
				p, at = p[len(piece):], 0
			}
			row++
		}
	}
	if done < want {
		return done, io.EOF
	}
	return done, nil
}

// Zeros returns a tensor of zeros.
func Zeros(dtype formats.DType, shape ...int64) formats.Tensor {
	t := formats.Tensor{DType: dtype, Shape: shape}
	t.Data = zeros(t.Size())
	return t
}

type zeros int64 // bytes

func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(z) {
		return 0, io.EOF
	}
	n := min(int64(len(p)), int64(z)-off)
	clear(p[:n])
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

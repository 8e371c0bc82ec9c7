package formats

import "bytes"

// sameBlock is how much of each side [SameBytes] holds.
const sameBlock = 1 << 20

// SameBytes reports whether two tensors of one size in bytes have the same data, reading both
// up to the first difference. The files name them in errors. step, if not nil, is called
// after each block that is the same, with its bytes on one side; an error ends the comparison.
func SameBytes(fileX string, x Tensor, fileY string, y Tensor, step func(n int64) error) (bool, error) {
	size := x.Size()
	p, q := make([]byte, min(sameBlock, size)), make([]byte, min(sameBlock, size))
	for at := int64(0); at < size; at += sameBlock {
		n := min(sameBlock, size-at)
		if err := ReadFullAt(x.Data, p[:n], at); err != nil {
			return false, ReadError(fileX, x.Name, err)
		}
		if err := ReadFullAt(y.Data, q[:n], at); err != nil {
			return false, ReadError(fileY, y.Name, err)
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return false, nil
		}
		if step != nil {
			if err := step(n); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

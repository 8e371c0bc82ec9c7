package main

import (
	"crypto/sha256"
	"io"

	"github.com/seed-b982eded/graft/formats"
)

// sameHash compares the SHA-256 of two tensors' bytes.
func sameHash(a, b formats.Tensor) (bool, error) {
	if b.Data == nil || a.DType != b.DType {
		return false, nil
	}
	x, err := tensorHash(a)
	if err != nil {
		return false, err
	}
	y, err := tensorHash(b)
	return x == y, err
}

func tensorHash(t formats.Tensor) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(t.Data, 0, t.Size())); err != nil {
		return sum, &formats.Error{Class: formats.ErrInput, Tensor: t.Name, Err: err}
	}
	h.Sum(sum[:0])
	return sum, nil
}

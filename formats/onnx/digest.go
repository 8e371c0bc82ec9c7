package onnx

import (
	"cmp"
	"crypto/sha256"
	"io"
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

// SkeletonSHA256 returns the sum of all bytes of the model file that are no tensor data as
// they lie there: it identifies the model without reading its weights. Typed fields count
// as no data, unless they are packed floats.
func (m *Model) SkeletonSHA256() (sum [sha256.Size]byte, err error) {
	type span struct{ off, n int64 }
	var data []span
	for _, t := range m.checkpoint.Shards()[0].Tensors {
		if r, ok := t.Data.(formats.FileRanger); ok {
			if f, off, n, ok := r.FileRange(); ok && f == m.file {
				data = append(data, span{off, n})
			}
		}
	}
	slices.SortFunc(data, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	h := sha256.New()
	at := int64(0)
	for _, s := range append(data, span{m.file.Size(), 0}) {
		if s.off > at {
			if _, err := io.Copy(h, io.NewSectionReader(m.file, at, s.off-at)); err != nil {
				return sum, formats.ReadError(m.Path, "", err)
			}
		}
		at = max(at, s.off+s.n)
	}
	h.Sum(sum[:0])
	return sum, nil
}

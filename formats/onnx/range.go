package onnx

import (
	"io"

	"github.com/seed-b982eded/graft/formats"
)

// fileRange is data as it lies in a file.
type fileRange struct {
	f      formats.SourceFile
	off, n int64
	name   string // of the tensor, for messages
}

// ReadAt implements io.ReaderAt.
func (r *fileRange) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > r.n {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(want), r.n-off)]
	n, err := r.f.ReadAt(p, r.off+off)
	if n < len(p) {
		if err == nil || err == io.EOF { // the range was checked against the file's length
			err = io.ErrUnexpectedEOF
		}
		return n, readError(r.f.Name(), r.name, err)
	}
	if n < want {
		return n, io.EOF
	}
	return n, nil
}

// FileRange implements [formats.FileRanger].
func (r *fileRange) FileRange() (f formats.SourceFile, off, n int64, ok bool) {
	return r.f, r.off, r.n, true
}

package filecopy

import (
	"io"

	"github.com/seed-b982eded/graft/formats"
)

// Section is a tensor's data as they lie in a file, a range that was checked against the
// file's length. It implements io.ReaderAt and [formats.FileRanger].
type Section struct {
	File   formats.SourceFile
	Off, N int64
	Tensor string // for messages; may be empty
}

// ReadAt implements io.ReaderAt.
func (s *Section) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > s.N {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(want), s.N-off)]
	n, err := s.File.ReadAt(p, s.Off+off)
	if n < len(p) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return n, formats.ReadError(s.File.Name(), s.Tensor, err)
	}
	if n < want {
		return n, io.EOF
	}
	return n, nil
}

// FileRange implements [formats.FileRanger].
func (s *Section) FileRange() (f formats.SourceFile, off, n int64, ok bool) {
	return s.File, s.Off, s.N, true
}

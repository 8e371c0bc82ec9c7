// Package filecopy reads from input files that need not stay open, and copies ranges of
// them into outputs.
//
// A [Source] is a file that is opened when it is read from: a model of ten thousand
// shards can be read by a process that may have 256 files open. [Range] copies in the
// kernel where the platform can do that, else through a buffer.
package filecopy

import (
	"io"
	"os"

	"github.com/seed-b982eded/graft/internal/fault"
)

// Range copies n bytes from src at srcOff to dst at dstOff. Both files keep their own
// offsets, so many goroutines may copy between the same two. buf is scratch space
// for platforms and file systems that need it; it must not be empty. A src that is
// too short gives io.ErrUnexpectedEOF.
func Range(dst *os.File, dstOff int64, src *os.File, srcOff, n int64, buf []byte) error {
	if err := fault.Check(fault.OpRead, src.Name()); err != nil {
		return &ReadError{err}
	}
	if err := fault.Check(fault.OpWrite, dst.Name()); err != nil {
		return err
	}
	done, err := inKernel(dst, dstOff, src, srcOff, n)
	if err != nil {
		return err
	}
	dstOff, srcOff, n = dstOff+done, srcOff+done, n-done
	for n > 0 {
		p := buf[:min(int64(len(buf)), n)]
		m, err := src.ReadAt(p, srcOff)
		if m < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return &ReadError{err}
		}
		if _, err := dst.WriteAt(p, dstOff); err != nil {
			return err
		}
		dstOff, srcOff, n = dstOff+int64(m), srcOff+int64(m), n-int64(m)
	}
	return nil
}

// ReadError is a failure of the source; all others are failures of the destination.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return e.Err.Error() }
func (e *ReadError) Unwrap() error { return e.Err }

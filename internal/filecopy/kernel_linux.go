package filecopy

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// inKernel copies with copy_file_range as far as that works and returns how far it
// came. Where the kernel cannot (other file systems, old kernels, pseudo files), or does
// not say which of the files failed (EIO), it returns what is done without an error and
// the caller goes on with a buffer.
func inKernel(dst *os.File, dstOff int64, src *os.File, srcOff, n int64) (done int64, err error) {
	for done < n {
		from, to := srcOff+done, dstOff+done
		m, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(min(n-done, 1<<30)), 0)
		switch {
		case err == nil && m > 0:
			done += int64(m)
		case err == nil: // end of the source: let the buffered copy report it
			return done, nil
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG):
			return done, os.NewSyscallError("copy_file_range", err)
		default:
			return done, nil
		}
	}
	return done, nil
}

package atomicfile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/seed-b982eded/graft/internal/fault"
)

// renameNoReplace renames unless the new name exists, which is fs.ErrExist.
func renameNoReplace(from, to string) error {
	err := renameat2(from, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, errors.ErrUnsupported) {
		return checkedRename(from, to)
	}
	return err
}

// exchange swaps two names in one step, or fails with errors.ErrUnsupported.
func exchange(a, b string) error { return renameat2(a, b, unix.RENAME_EXCHANGE) }

func renameat2(from, to string, flags uint) error {
	if err := fault.Check(fault.OpRename, from); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	switch {
	case err == nil:
		return nil
	case unsupported(err):
		return errors.ErrUnsupported
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

// unsupported reports whether the file system lacks a flag of renameat2; it is no
// reason to give up, unlike a full disk.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, fs.ErrInvalid)
}

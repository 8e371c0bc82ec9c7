//go:build unix

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// lock opens path and takes an exclusive lock that lasts until the file is closed
// or the process ends. It fails with errInUse where another holds it, and with
// fs.ErrNotExist where path was removed or renamed meanwhile, whatever is there now.
func lock(path string) (*os.File, error) {
	f, err := fault.Open(path)
	if err != nil {
		return nil, formats.Cause(err)
	}
	if err := lockOpen(f, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lockOpen(f *os.File, path string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return errInUse
	case errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS):
		err = nil // a file system without locks
	}
	if err == nil && !isStill(f, path) {
		err = fs.ErrNotExist
	}
	return err
}

func isStill(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// isMountPoint reports whether a directory is on another file system than the one above.
func isMountPoint(dir string) bool {
	a, err := os.Stat(dir)
	if err != nil || !a.IsDir() {
		return false
	}
	b, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return false
	}
	x, ok1 := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && x.Dev != y.Dev
}

// renameOverEmpty replaces an empty directory, and fails if it is empty no more.
// os.Rename would refuse every directory.
func renameOverEmpty(from, to string) error {
	if err := fault.Check(fault.OpRename, from); err != nil {
		return err
	}
	if err := unix.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func syncFile(path string) error {
	f, err := fault.OpenFile(path, os.O_RDWR)
	if err != nil {
		return err
	}
	return closing(f, fault.Sync(f))
}

// syncDir makes the names in a directory durable. Some file systems cannot and say so.
func (s *Stage) syncDir(dir string) error {
	if s.opts.NoSync {
		return nil
	}
	f, err := fault.Open(dir)
	if err != nil {
		return err
	}
	err = fault.Sync(f)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return closing(f, err)
}

// FreeSpace returns the bytes that an ordinary user may still write where path, or
// the nearest parent that exists, lies.
func FreeSpace(path string) (int64, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil && st.Blocks == 0 {
			return 0, errors.New("the file system does not say how large it is")
		}
		if err == nil {
			return int64(st.Bavail) * int64(st.Bsize), nil
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, unix.ENOENT) || parent == path {
			return 0, err
		}
		path = parent
	}
}

package atomicfile

import (
	"os"

	"golang.org/x/sys/windows"

	"github.com/seed-b982eded/graft/internal/fault"
)

// lock does nothing here: Windows does not remove files that are open, so a stage in
// use defends itself.
func lock(path string) (*os.File, error) { return os.Open(os.DevNull) }

func isMountPoint(string) bool { return false }

// renameOverEmpty replaces an empty directory, and fails if it is empty no more.
func renameOverEmpty(from, to string) error {
	if err := os.Remove(to); err != nil {
		return err
	}
	return fault.Rename(from, to)
}

func syncFile(path string) error {
	f, err := fault.OpenFile(path, os.O_RDWR)
	if err != nil {
		return err
	}
	return closing(f, fault.Sync(f))
}

// syncDir does nothing: NTFS journals its names, and directories cannot be synced.
func (s *Stage) syncDir(string) error { return nil }

// FreeSpace returns the bytes that the user may still write on path's volume.
func FreeSpace(path string) (int64, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(p, &free, nil, nil)
	return int64(free), err
}

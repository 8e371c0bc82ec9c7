// Package fault stands between graft and the file system at the places where a disk
// can fail, so that a test can let any single operation fail and look at what is left.
// Without a test's hook every function does what its namesake in package os does.
//
// Looking at files (stat) and removing what is of no use any more do not go through
// it: nothing depends on their result.
package fault

import (
	"io/fs"
	"os"
	"sync/atomic"
)

// Op is a kind of operation.
type Op string

// The operations that can fail.
const (
	OpOpen     Op = "open" // of what exists; directories too
	OpCreate   Op = "create"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpClose    Op = "close" // of a file that was written
	OpRename   Op = "rename"
	OpMkdir    Op = "mkdir"
	OpLink     Op = "link"
)

// Hook is called before every operation, from several goroutines; path is the one that
// the operation was given. An error that it returns is the operation's.
type Hook func(op Op, path string) error

var hook atomic.Pointer[Hook]

// Set installs a hook until restore is called. It is for tests.
func Set(h Hook) (restore func()) {
	old := hook.Swap(&h)
	return func() { hook.Store(old) }
}

// Check gives the hook's word on an operation that has no function here.
func Check(op Op, path string) error {
	h := hook.Load()
	if h == nil {
		return nil
	}
	if err := (*h)(op, path); err != nil {
		return &fs.PathError{Op: string(op), Path: path, Err: err}
	}
	return nil
}

// Open opens a file or directory for reading.
func Open(path string) (*os.File, error) {
	if err := Check(OpOpen, path); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// OpenIn opens a file or directory below a root for reading.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	if err := Check(OpOpen, root.Name()+"/"+name); err != nil {
		return nil, err
	}
	return root.Open(name)
}

// ReadDir lists a directory.
func ReadDir(path string) ([]fs.DirEntry, error) {
	if err := Check(OpOpen, path); err != nil {
		return nil, err
	}
	return os.ReadDir(path)
}

// OpenFile is os.OpenFile for writing, with permissions that follow the umask. It is a
// creation where the flags allow one.
func OpenFile(path string, flag int) (*os.File, error) {
	op := OpOpen
	if flag&os.O_CREATE != 0 {
		op = OpCreate
	}
	if err := Check(op, path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag, 0o666)
}

// Mkdir makes a directory.
func Mkdir(path string) error {
	if err := Check(OpMkdir, path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o777)
}

// MkdirAll makes a directory and those above it.
func MkdirAll(path string) error {
	if err := Check(OpMkdir, path); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o777)
}

// ReadAt reads from a file.
func ReadAt(f *os.File, p []byte, off int64) (int, error) {
	if err := Check(OpRead, f.Name()); err != nil {
		return 0, err
	}
	return f.ReadAt(p, off)
}

// WriteAt writes to a file. One that a hook lets fail writes the first half, as a disk
// that fills up does.
func WriteAt(f *os.File, p []byte, off int64) (int, error) {
	if err := Check(OpWrite, f.Name()); err != nil {
		n, _ := f.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.WriteAt(p, off)
}

// Truncate gives a file a length.
func Truncate(f *os.File, size int64) error {
	if err := Check(OpTruncate, f.Name()); err != nil {
		return err
	}
	return f.Truncate(size)
}

// Sync makes a file's content, or the names in a directory, durable.
func Sync(f *os.File) error {
	if err := Check(OpSync, f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

// Close closes a file that was written. It is closed also where a hook lets it fail.
func Close(f *os.File) error {
	err := Check(OpClose, f.Name())
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return err
}

// Rename renames.
func Rename(from, to string) error {
	if err := Check(OpRename, from); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// Link gives a file a second name.
func Link(from, to string) error {
	if err := Check(OpLink, from); err != nil {
		return err
	}
	return os.Link(from, to)
}

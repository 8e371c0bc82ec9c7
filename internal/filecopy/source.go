package filecopy

import (
	"container/list"
	"io/fs"
	"os"
	"sync"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// maxOpen is how many sources stay open together when nobody is reading from them. It
// leaves most of the 256 descriptors that a process has at the least on systems in use;
// more would save nothing, as files are read one after another.
const maxOpen = 64

// pool knows which sources of the process are open. The limit on descriptors is the
// process's, so there is one for all checkpoints.
var pool struct {
	sync.Mutex
	open int       // of all sources
	idle list.List // of *Source that are open and not in use, the latest used first
}

// Source is an input file that is open only while it is in use, and a while after. It
// implements [formats.SourceFile] and is safe for concurrent use.
type Source struct {
	name string
	info fs.FileInfo
	open func() (*os.File, error)

	opening sync.Mutex // held while the file is opened, so that this happens once

	// What follows is guarded by the pool's lock.
	f      *os.File
	users  int
	spot   *list.Element // in pool.idle; nil while in use or not open
	closed bool
}

// NewSource returns a source. name is for messages; info says what the file was when it
// was looked at first; open opens it, any number of times. A file that is another by
// then, or has changed, is an error of the reader.
func NewSource(name string, info fs.FileInfo, open func() (*os.File, error)) *Source {
	return &Source{name: name, info: info, open: open}
}

// Name implements [formats.SourceFile].
func (s *Source) Name() string { return s.name }

// Size implements [formats.SourceFile].
func (s *Source) Size() int64 { return s.info.Size() }

// ReadAt implements io.ReaderAt.
func (s *Source) ReadAt(p []byte, off int64) (n int, err error) {
	f, err := s.take()
	if err != nil {
		return 0, err
	}
	defer s.give()
	return fault.ReadAt(f, p, off)
}

// Use implements [formats.SourceFile].
func (s *Source) Use(do func(*os.File) error) error {
	f, err := s.take()
	if err != nil {
		return err
	}
	defer s.give()
	return do(f)
}

// Close lets go of the file, at once or when the last user has done with it.
func (s *Source) Close() error {
	pool.Lock()
	s.closed = true
	f := s.letGo()
	pool.Unlock()
	if f == nil {
		return nil
	}
	return f.Close()
}

// take returns the open file and keeps it open until give is called.
func (s *Source) take() (*os.File, error) {
	if f, err := s.pin(nil); f != nil || err != nil {
		return f, err
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if f, err := s.pin(nil); f != nil || err != nil {
		return f, err // another opened it meanwhile
	}
	f, err := s.reopen()
	if err != nil {
		return nil, err
	}
	return s.pin(f)
}

// pin counts a user of the file if it is open, or if opened is given, which becomes it.
func (s *Source) pin(opened *os.File) (*os.File, error) {
	pool.Lock()
	defer pool.Unlock()
	if s.closed {
		if opened != nil {
			opened.Close()
		}
		return nil, &formats.Error{Class: formats.ErrInput, File: s.name, Err: fs.ErrClosed}
	}
	if opened != nil {
		s.f = opened
		pool.open++
		makeRoom()
	}
	if s.f == nil {
		return nil, nil
	}
	if s.spot != nil {
		pool.idle.Remove(s.spot)
		s.spot = nil
	}
	s.users++
	return s.f, nil
}

func (s *Source) give() {
	pool.Lock()
	defer pool.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	s.spot = pool.idle.PushFront(s)
	if s.closed {
		s.letGo().Close()
		return
	}
	makeRoom()
}

// makeRoom closes the files that were not used for longest until few enough are open.
// Files are read only, so closing them cannot fail in a way that matters.
func makeRoom() {
	for pool.open > maxOpen && pool.idle.Len() > 0 {
		pool.idle.Back().Value.(*Source).letGo().Close()
	}
}

// letGo takes an idle file out of the pool and returns it to be closed; nil if it is in
// use or not open.
func (s *Source) letGo() *os.File {
	if s.spot == nil {
		return nil
	}
	f := s.f
	pool.idle.Remove(s.spot)
	s.f, s.spot = nil, nil
	pool.open--
	return f
}

// reopen opens the file and makes sure that it is still what it was.
func (s *Source) reopen() (*os.File, error) {
	f, err := s.open()
	if err == nil {
		var now fs.FileInfo
		if now, err = f.Stat(); err == nil {
			if os.SameFile(s.info, now) && now.Size() == s.info.Size() && now.ModTime().Equal(s.info.ModTime()) {
				return f, nil
			}
			err = formats.Rejectf(s.name, "", "it was changed or replaced while it was in use")
		}
		f.Close()
	}
	return nil, formats.ReadError(s.name, "", err)
}

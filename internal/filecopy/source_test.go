package filecopy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// sources writes n files of ten bytes, "0000000003" in the one with the number 3, and
// returns sources for them. opened counts how often they are opened.
func sources(t testing.TB, n int) (list []*Source, opened *atomic.Int32) {
	t.Helper()
	dir := t.TempDir()
	opened = &atomic.Int32{}
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, fmt.Appendf(nil, "%010d", i), 0o666); err != nil {
			t.Fatal(err)
		}
		list = append(list, source(t, path, opened))
	}
	return list, opened
}

func source(t testing.TB, path string, opened *atomic.Int32) *Source {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSource(path, info, func() (*os.File, error) {
		opened.Add(1)
		return os.Open(path)
	})
	t.Cleanup(func() { s.Close() })
	return s
}

func openNow() int {
	pool.Lock()
	defer pool.Unlock()
	return pool.open
}

func checkInput(t testing.TB, err error, s *Source, want error) {
	t.Helper()
	var e *formats.Error
	if !errors.As(err, &e) || e.Class != formats.ErrInput || e.File != s.Name() || want != nil && !errors.Is(err, want) {
		t.Errorf("got %v, want an input error about %s", err, s.Name())
	}
}

func TestFewAreOpen(t *testing.T) {
	list, opened := sources(t, 3*maxOpen)
	if opened.Load() != 0 {
		t.Errorf("%d files were opened before anybody read", opened.Load())
	}
	p := make([]byte, 10)
	for range 2 {
		for i, s := range list {
			for range 3 {
				if n, err := s.ReadAt(p, 0); n != 10 || err != nil || string(p) != fmt.Sprintf("%010d", i) {
					t.Fatalf("%d: got %q, %v", i, p[:n], err)
				}
			}
			if n := openNow(); n > maxOpen {
				t.Fatalf("%d files are open, want at most %d", n, maxOpen)
			}
		}
	}
	if got, want := int(opened.Load()), 2*len(list); got != want {
		t.Errorf("%d files were opened, want %d", got, want)
	}
	// The ones used last are still open, and stay so when they are used.
	for range 3 {
		for _, s := range list[len(list)-maxOpen:] {
			if s.Size() != 10 {
				t.Errorf("size %d", s.Size())
			}
			if n, err := s.ReadAt(p, 4); n != 6 || err != io.EOF {
				t.Errorf("got %d, %v", n, err)
			}
		}
	}
	if got, want := int(opened.Load()), 2*len(list); got != want {
		t.Errorf("%d files were opened, want still %d", got, want)
	}
	for _, s := range list {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := openNow(); n != 0 {
		t.Errorf("%d files are open after Close", n)
	}
	_, err := list[0].ReadAt(p, 0)
	checkInput(t, err, list[0], fs.ErrClosed)
}

// TestInUseStaysOpen keeps a file in use while many others are read.
func TestInUseStaysOpen(t *testing.T) {
	list, opened := sources(t, 3*maxOpen)
	err := list[0].Use(func(f *os.File) error {
		for _, s := range list[1:] {
			if _, err := s.ReadAt(make([]byte, 10), 0); err != nil {
				t.Error(err)
			}
		}
		if err := list[0].Close(); err != nil {
			t.Error(err)
		}
		p := make([]byte, 10)
		if _, err := f.ReadAt(p, 0); err != nil || string(p) != "0000000000" {
			t.Errorf("got %q, %v", p, err)
		}
		return io.ErrNoProgress
	})
	if err != io.ErrNoProgress || int(opened.Load()) != len(list) {
		t.Errorf("%d opened, %v", opened.Load(), err)
	}
	err = list[0].Use(func(*os.File) error { t.Error("used after Close"); return nil })
	checkInput(t, err, list[0], fs.ErrClosed)
}

func TestManyReaders(t *testing.T) {
	list, _ := sources(t, 2*maxOpen)
	closed := make([]atomic.Bool, len(list))
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 0))
			p := make([]byte, 10)
			for range 2000 {
				i := r.IntN(len(list))
				if worker == 0 && r.IntN(50) == 0 {
					closed[i].Store(true)
					list[i].Close()
				}
				var err error
				if r.IntN(2) == 0 {
					_, err = list[i].ReadAt(p, 0)
				} else {
					err = list[i].Use(func(f *os.File) error { _, err := f.ReadAt(p, 0); return err })
				}
				if err != nil && !closed[i].Load() || err == nil && string(p) != fmt.Sprintf("%010d", i) {
					t.Errorf("%d: got %q, %v", i, p, err)
				}
				if n := openNow(); n > maxOpen+16 {
					t.Errorf("%d files are open", n)
				}
			}
		})
	}
	wg.Wait()
	for _, s := range list {
		s.Close()
	}
	if n := openNow(); n != 0 {
		t.Errorf("%d files are open", n)
	}
}

// TestOpenedOnceForAll lets many wait for the same file.
func TestOpenedOnceForAll(t *testing.T) {
	list, opened := sources(t, 1)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := list[0].ReadAt(make([]byte, 10), 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if opened.Load() != 1 {
		t.Errorf("opened %d times", opened.Load())
	}
}

// TestAnotherFile changes a file while it is not open.
func TestAnotherFile(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"cut short": func(path string) error { return os.Truncate(path, 9) },
		"longer":    func(path string) error { return os.Truncate(path, 11) },
		"rewritten": func(path string) error {
			if err := os.WriteFile(path, []byte("xxxxxxxxxx"), 0o666); err != nil {
				return err
			}
			return os.Chtimes(path, time.Time{}, time.Now().Add(time.Second))
		},
		"replaced": func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".new", []byte("yyyyyyyyyy"), 0o666); err != nil {
				return err
			}
			if err := os.Chtimes(path+".new", time.Time{}, info.ModTime()); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
		"removed": os.Remove,
	} {
		list, _ := sources(t, maxOpen+1)
		for _, s := range list {
			if _, err := s.ReadAt(make([]byte, 10), 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := change(list[0].Name()); err != nil {
			t.Fatal(err)
		}
		_, err := list[0].ReadAt(make([]byte, 10), 0)
		checkInput(t, err, list[0], nil)
		if err := list[0].Use(func(*os.File) error { return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
		if n := openNow(); n > maxOpen {
			t.Errorf("%s: %d files are open", name, n)
		}
		for _, s := range list {
			s.Close()
		}
	}
}

func TestFaults(t *testing.T) {
	list, _ := sources(t, 1)
	dst, err := os.Create(filepath.Join(t.TempDir(), "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	bad := errors.New("bad")
	for _, kind := range []fault.Op{fault.OpRead, fault.OpWrite} {
		restore := fault.Set(func(op fault.Op, path string) error {
			if op == kind {
				return bad
			}
			return nil
		})
		err := list[0].Use(func(f *os.File) error { return Range(dst, 0, f, 0, 10, make([]byte, 3)) })
		restore()
		var read *ReadError
		if !errors.Is(err, bad) || errors.As(err, &read) != (kind == fault.OpRead) {
			t.Errorf("%s: got %v", kind, err)
		}
	}
}

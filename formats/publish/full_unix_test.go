//go:build linux || darwin

package publish

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-b982eded/graft/formats"
)

// limitFiles lets this process write no file beyond n bytes until the returned function
// is called. A full disk fails in the same places.
func limitFiles(t testing.TB, n uint64) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Skip(err)
	}
	limit := old
	limit.Cur = n
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Skip(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoRoom lets writing fail at the start, and then on the way: in the block of a
// made tensor, and in a copy.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	in, _ := inFiles(t, inMemory("s", formats.U8, pattern(500_000, 1), 500_000))
	s := in[0]
	out := filepath.Join(dir, "x")

	restore := limitFiles(t, 1000)
	err := WriteFile(t.Context(), out, parts(s), BlockOptions{})
	restore()
	checkError(t, err, formats.ErrOutput, "writing "+formats.Quote(out), "file too large")

	for _, after := range []formats.Tensor{s, inMemory("m", formats.U8, pattern(500_000, 2), 500_000)} {
		restore := func() {}
		first := inMemory("first", formats.U8, pattern(100, 3), 100)
		data := first.Data
		first.Data = readerFunc(func(p []byte, off int64) (int, error) {
			restore = limitFiles(t, 2000)
			return data.ReadAt(p, off)
		})
		checkGoroutines(t, func() {
			err = WriteFile(t.Context(), out, parts(first, after), BlockOptions{Workers: 1, BlockBytes: 1000})
		})
		restore()
		checkError(t, err, formats.ErrOutput, "writing "+formats.Quote(out), "file too large")
		if !errors.Is(err, syscall.EFBIG) {
			t.Errorf("got %v, want EFBIG as its cause", err)
		}
		if err := os.Remove(out); err != nil {
			t.Error(err)
		}
	}
}

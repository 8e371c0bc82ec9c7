package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// TestFileResults compares what File is told with the files that are there.
func TestFileResults(t *testing.T) {
	for _, x := range []struct {
		layout Layout
		at     string // where the files are
		names  []string
	}{
		{Directory, "out", []string{"config.json", "sub/code.py", "w1", "w2", "w3", "w4", "index"}},
		{OneFile, ".", []string{"out"}},
		{Beside, ".", []string{"out.w1", "out.w2", "out.w3", "out.w4", "out"}},
	} {
		y := newYard(t, x.layout)
		for _, sha := range []bool{false, true} {
			var names []string
			var got []FileResult
			opts := Options{NoSync: true, Force: true, SHA256: sha, File: func(r FileResult) error {
				names, got = append(names, r.Name), append(got, r)
				return nil
			}}
			if err := y.job(opts).run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(names, x.names) {
				t.Errorf("told of %q, want %q", names, x.names)
			}
			for _, r := range got {
				data := load(t, filepath.Join(y.parent, x.at, r.Name))
				want := FileResult{Name: r.Name, Size: int64(len(data)), CRC32C: crc32.Checksum([]byte(data), crc32.MakeTable(crc32.Castagnoli))}
				if sha {
					want.SHA256 = fmt.Sprintf("%x", sha256.Sum256([]byte(data)))
				}
				if r != want {
					t.Errorf("got %+v, want %+v", r, want)
				}
			}
		}
	}
}

func TestCombineCRC(t *testing.T) {
	text := make([]byte, 5000)
	for i := range text {
		text[i] = byte(i*i>>3 + i)
	}
	sum := func(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }
	for _, at := range []int{0, 1, 2, 7, 8, 1000, 4096, 4999, 5000} {
		if got, want := combineCRC(sum(text[:at]), sum(text[at:]), int64(len(text)-at)), sum(text); got != want {
			t.Errorf("cut at %d: got %08x, want %08x", at, got, want)
		}
	}
	// 2⁴⁰ bytes of zeros in steps, and at once.
	zeros := sum(make([]byte, 1<<20))
	crc, n := zeros, int64(1<<20)
	for n < 1<<40 {
		crc, n = combineCRC(crc, crc, n), 2*n
	}
	if got := combineCRC(crc, zeros, 1<<20); got != combineCRC(zeros, crc, 1<<40) {
		t.Errorf("got %08x", got)
	}
}

// TestReadBackInSpans sums up a file that several workers share.
func TestReadBackInSpans(t *testing.T) {
	tempInMemory(t)
	data := make([]byte, 2*readBackSpan+12_345)
	for i := range data {
		data[i] = byte(i*i>>7 + i)
	}
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	want := FileResult{Size: int64(len(data)), CRC32C: crc32.Checksum(data, castagnoli)}
	for _, workers := range []int{0, 1, 2, 7} {
		var opts Options
		opts.Workers = workers
		if got, err := readBack(t.Context(), path, opts); err != nil || got != want {
			t.Errorf("%d workers: got %+v, %v, want %+v", workers, got, err, want)
		}
		for _, n := range []int{1, 70, 129} { // one read in each span fails
			restore := fault.Set((&nth{n: n, err: syscall.EIO, choose: func(op fault.Op, _ string) bool { return op == fault.OpRead }}).hook)
			_, err := readBack(t.Context(), path, opts)
			restore()
			checkError(t, err, formats.ErrOutput, "reading it back: input/output error")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := readBack(ctx, path, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

// TestNobodyAsks makes sure that an output is not read back for nothing.
func TestNobodyAsks(t *testing.T) {
	y := newYard(t, Directory)
	restore := fault.Set(func(op fault.Op, path string) error {
		if op == fault.OpRead && strings.Contains(path, ".graft-") {
			t.Errorf("%s is read", path)
		}
		return nil
	})
	defer restore()
	if err := y.job(Options{SHA256: true, NoSync: true}).run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFileStops(t *testing.T) {
	y := newYard(t, Directory)
	stop := errors.New("stop")
	told := 0
	err := y.job(Options{File: func(FileResult) error { told++; return stop }}).run(t.Context())
	if !errors.Is(err, stop) || told != 1 {
		t.Errorf("told %d times, %v", told, err)
	}
	y.checkUntouched(t, "stopped", "", err)
}

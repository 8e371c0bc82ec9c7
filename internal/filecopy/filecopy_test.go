package filecopy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestRange(t *testing.T) {
	dir := t.TempDir()
	data := make([]byte, 10_007)
	for i := range data {
		data[i] = byte(i * 31)
	}
	srcPath := filepath.Join(dir, "src")
	if err := os.WriteFile(srcPath, data, 0o666); err != nil {
		t.Fatal(err)
	}
	src, err := os.Open(srcPath)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(dir, "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	buf := make([]byte, 64)
	for _, c := range []struct{ dst, src, n int64 }{{0, 5, 1000}, {3001, 4000, 6007}, {1000, 1, 2001}, {9, 9, 0}} {
		if err := Range(dst, c.dst, src, c.src, c.n, buf); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, c.n)
		if _, err := dst.ReadAt(got, c.dst); err != nil && c.n > 0 {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data[c.src:c.src+c.n]) {
			t.Errorf("copy of %d bytes from %d to %d differs", c.n, c.src, c.dst)
		}
	}
	err = Range(dst, 0, src, 10_000, 8, buf)
	var read *ReadError
	if !errors.As(err, &read) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short source: got %v, want a ReadError of unexpected EOF", err)
	}
}

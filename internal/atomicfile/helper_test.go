package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// put writes a file, with the directories above it.
func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

// everything describes what lies below a directory, one line each.
func everything(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		out.WriteString(rel)
		switch {
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, "=%s", data)
		case d.IsDir():
			out.WriteByte('/')
		default:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&out, "->%s", target)
		}
		out.WriteByte(' ')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func checkTree(t testing.TB, dir, want string) {
	t.Helper()
	if got := everything(t, dir); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func checkOutput(t testing.TB, err error, want string) {
	t.Helper()
	var e *formats.Error
	if !errors.As(err, &e) || e.Class != formats.ErrOutput || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an output error with %q", err, want)
	}
}

func mustDir(t testing.TB, out string, opts Options) *Stage {
	t.Helper()
	s, err := NewDir(out, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustFile(t testing.TB, out string, opts Options) *Stage {
	t.Helper()
	s, err := NewFile(out, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

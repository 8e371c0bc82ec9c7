package atomicfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
)

// TestLongNames: every length that Check lets pass can be staged and published, old content
// put aside with it, and every other is refused by Check.
func TestLongNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	refused := 0
	for n := 200; n <= 260; n++ {
		out := filepath.Join(dir, strings.Repeat("n", n))
		err := Check(out, false, true)
		s, err2 := NewFile(out, Options{Force: true})
		if err != nil {
			refused++
			checkOutputError(t, err, "")
			if err2 == nil {
				s.Abort()
				t.Errorf("a name of %d bytes: Check said %v, and it can be staged", n, err)
			}
			continue
		}
		if err2 != nil {
			t.Errorf("a name of %d bytes: %v", n, err2)
			continue
		}
		if err := os.WriteFile(s.Path()+asideSuffix, nil, 0o666); err != nil {
			t.Errorf("a name of %d bytes: old content has no place: %v", n, err)
		}
		if err := s.Publish(); err != nil {
			t.Errorf("a name of %d bytes: %v", n, err)
		}
	}
	if refused == 0 || refused == 61 {
		t.Errorf("%d of 61 names were refused", refused)
	}
}

func TestLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if got := Left(out); len(got) > 0 {
		t.Errorf("got %q in an empty directory", got)
	}
	want := []string{filepath.Join(dir, ".out.graft-a"), filepath.Join(dir, ".out.graft-b.old")}
	for _, name := range append(want, filepath.Join(dir, ".out2.graft-a"), filepath.Join(dir, "out")) {
		if err := os.Mkdir(name, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, Left(out)); diff != "" {
		t.Errorf("(- want, + got):\n%s", diff)
	}
	if got := Left(filepath.Join(dir, "no", "out")); len(got) > 0 {
		t.Errorf("got %q where there is no directory", got)
	}
}

func checkOutputError(t *testing.T, err error, words string) {
	t.Helper()
	e, ok := err.(*formats.Error)
	if !ok || e.Class != formats.ErrOutput || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want an output error with %q", err, words)
	}
}

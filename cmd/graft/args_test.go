package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
)

func TestNormalize(t *testing.T) {
	for _, tt := range []struct {
		args string // split at spaces
		want string // "" for an error that begins with err
		err  string
	}{
		// Order: flags first, then paths, in the order given.
		{args: "inspect P", want: "inspect -- P"},
		{args: "inspect P --tensors", want: "inspect --tensors=true -- P"},
		{args: "inspect --tensors P --report F Q", want: "inspect --tensors=true --report=F -- P Q"},
		{args: "inspect -- --tensors", want: "inspect -- --tensors"},
		{args: "inspect P -- -x -- -y", want: "inspect -- P -x -- -y"},
		{args: "inspect - -1.5e3 -", want: "inspect -- - -1.5e3 -"},
		// Forms of a flag.
		{args: "inspect -tensors --quiet=false P", want: "inspect --tensors=true --quiet=false -- P"},
		{args: "init -r 4 --base=a=b --out P", want: "init --rank=4 --base=a=b --out=P --"},
		{args: "init --base -b --out --P", want: "init --base=-b --out=--P --"},
		{args: "init --base B --out=--force", want: "init --base=B --out=--force --"},
		{args: "init --base B --out P --alpha -3", want: "init --base=B --out=P --alpha=-3 --"},
		{args: "merge --base B --adapter a,b --adapter c=2 --out P", want: "merge --base=B --adapter=a,b --adapter=c=2 --out=P --"},
		// Numbers are decimal.
		{args: "init --base B --out P --rank 010 --seed 08", want: "init --base=B --out=P --rank=10 --seed=8 --"},
		{args: "init --base B --out P --rank +4", want: "init --base=B --out=P --rank=4 --"},
		{args: "init --base B --out P --alpha .5", want: "init --base=B --out=P --alpha=.5 --"},
		{args: "init --rank 4.0", err: `flag --rank: "4.0" is not a whole number`},
		{args: "init --rank 1_0", err: `flag --rank: "1_0" is not a whole number`},
		{args: "init --seed 18446744073709551616", err: `flag --seed: "18446744073709551616" is not a whole number from 0 up`},
		{args: "init --alpha +Inf", err: `flag --alpha: "+Inf" is not a number`},
		{args: "init --alpha 1e309", err: `flag --alpha: "1e309" is not a number`},
		// What is wrong is told before what is missing.
		{args: "merge --what", err: `unknown flag "--what" of merge`},
		{args: "merge --base", err: "flag --base needs a value"},
		{args: "merge --base -- P", err: "flag --base needs a value"},
		{args: "merge --base --out P", err: "flag --base needs a value (got flag --out)"},
		{args: "merge --base B --base B", err: "flag --base is given twice"},
		{args: "merge --base B", err: "--adapter, --out are missing"},
		{args: "version --json --json", err: "flag --json is given twice"},
		{args: "version --json=2", err: `flag --json: "2" is not true or false`},
		// Help and version.
		{args: "help", want: "--help"},
		{args: "-h", want: "--help"},
		{args: "--help merge", want: "merge --help"},
		{args: "help merge --what", want: "merge --help"},
		{args: "merge --base -h", err: "--adapter, --out are missing"},
		{args: "merge -h --what", want: "merge --help"},
		{args: "help what", err: `unknown command "what"`},
		{args: "--version", want: "version --"},
		{args: "--version --json", want: "version --json=true --"},
		{args: "Merge", err: `unknown command "Merge"`},
	} {
		got, err := normalize(newApp(), strings.Fields(tt.args))
		if tt.err != "" {
			if !errors.Is(err, formats.ErrUsage) || err.Error() != tt.err {
				t.Errorf("%s: error %v, want %s", tt.args, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		if diff := cmp.Diff(strings.Fields(tt.want), got); diff != "" {
			t.Errorf("%s: (- want, + got)\n%s", tt.args, diff)
		}
	}
}

func TestSplitWeight(t *testing.T) {
	for _, tt := range []struct {
		arg, path string
		weight    float64
	}{
		{"a", "a", 1},
		{"a=2", "a", 2},
		{"a=-0.5", "a", -0.5},
		{"a=0", "a", 0},
		{"a=1e-3", "a", 1e-3},
		{"a=b", "a=b", 1},
		{"a=b=3", "a=b", 3},
		{"a=1=b", "a=1=b", 1},
		{"a=1=2", "a=1", 2},
		{"a=", "a=", 1},
		{"=2", "=2", 1},
		{"a=NaN", "a=NaN", 1},
		{"a=Inf", "a=Inf", 1},
		{"a=1e999", "a=1e999", 1},
		{"a=0x10", "a=0x10", 1},
		{"a=1_000", "a=1_000", 1},
		{"a= 1", "a= 1", 1},
	} {
		path, weight := splitWeight(tt.arg)
		if path != tt.path || weight != tt.weight {
			t.Errorf("%q: got %q and %v, want %q and %v", tt.arg, path, weight, tt.path, tt.weight)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 1234: "1.23 kB", 9994: "9.99 kB", 9995: "10.0 kB", 12345: "12.3 kB",
		999_499: "999.5 kB", 999_500: "1.00 MB", 1_874_208: "1.87 MB", 70e9: "70.0 GB", 1.5e12: "1.50 TB", 2e16: "20000.0 TB",
	} {
		if got := sizeText(n); got != want {
			t.Errorf("sizeText(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 935_040: "935,040", 1_234_567: "1,234,567", -123: "-123", -1234: "-1,234",
	} {
		if got := countText(n); got != want {
			t.Errorf("countText(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int]string{0: "0 files", 1: "1 file", 2: "2 files", 1000: "1,000 files"} {
		if got := countOf(n, "file"); got != want {
			t.Errorf("countOf(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestNamesOrRegex(t *testing.T) {
	for _, tt := range []struct {
		arg   string
		names []string
		expr  string
	}{
		{"q_proj", []string{"q_proj"}, ""},
		{"q_proj, v_proj,", []string{"q_proj", "v_proj"}, ""},
		{"model.layers.0.q_proj", []string{"model.layers.0.q_proj"}, ""}, // a dot is part of a path
		{".*q_proj", nil, ".*q_proj"},
		{"a{1,2}", nil, "a{1,2}"},
		{`a\.b`, nil, `a\.b`},
	} {
		names, expr := namesOrRegex(tt.arg)
		if diff := cmp.Diff(tt.names, names); diff != "" || expr != tt.expr {
			t.Errorf("%q: got %q and %q, want %q and %q", tt.arg, names, expr, tt.names, tt.expr)
		}
	}
}

func TestPrintable(t *testing.T) {
	for name, want := range map[string]string{
		"model.norm.weight": "model.norm.weight", "größe": "größe", "a b": "a b",
		"\x1b[31m": `"\x1b[31m"`, "a\nb": `"a\nb"`, `a"b`: `"a\"b"`, "a ": `"a "`, "  ": `"  "`, "": "",
	} {
		if got := printable(name); got != want {
			t.Errorf("printable(%q) = %s, want %s", name, got, want)
		}
	}
	if got := printable(strings.Repeat("x", 300)); len(got) > 220 {
		t.Errorf("a long name is not cut: %d bytes", len(got))
	}
}

func TestExitCode(t *testing.T) {
	input := formats.Rejectf("f", "", "bad")
	for _, tt := range []struct {
		err  error
		want int
	}{
		{formats.Usagef("u"), 1},
		{differsf("d"), 3},
		{input, 4},
		{fmt.Errorf("wrapped: %w", input), 4},
		{formats.Unfitf("f", "", "u"), 5},
		{formats.Outputf("f", syscall.ENOSPC, ""), 6},
		{errors.New("of no class"), 6},
		{errors.Join(formats.Unfitf("f", "", "u"), input), 4}, // a damaged file may be why it does not fit
		{errors.Join(input, formats.Outputf("f", nil, "o")), 6},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: code %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestFinalName: an error about a staged file speaks of the final one, once.
func TestFinalName(t *testing.T) {
	staged := filepath.Join("dir", ".out.graft-1")
	write := &fs.PathError{Op: "write", Path: staged + "/base/x", Err: syscall.EFBIG}
	err := formats.Outputf(staged+"/base", &fs.PathError{Op: "Copy", Path: staged + "/base/x", Err: write}, "")
	if got, want := finalName(err, staged, "dir/out").Error(), `writing "dir/out/base": file too large`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	err = formats.Rejectf("base", "", "bad")
	if got, want := finalName(err, staged, "dir/out").Error(), `reading "base": bad`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOverlap(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true},
		{"a", "./a/", true},
		{"a/r", "a", true},
		{"a", "a/b/r", true},
		{"a", "ab", false},
		{"a/x", "a/y", false},
		{"new", "new/r", true},
		{"new", "new2", false},
		{"link/r", "a/r", true},
		{"link/b", "a/b/c", true},
	} {
		if got := overlap(filepath.Join(dir, tt.a), filepath.Join(dir, tt.b)); got != tt.want {
			t.Errorf("%s and %s: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// shortWriter takes some bytes and then no more.
type shortWriter struct{ left int }

func (w *shortWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return w.left, io.ErrShortWrite
	}
	w.left -= len(p)
	return len(p), nil
}

// TestCheckedWriter: what follows an error is not written, so a result has no hole.
func TestCheckedWriter(t *testing.T) {
	short := &shortWriter{left: 3}
	w := &checkedWriter{w: short}
	fmt.Fprint(w, "ab")
	fmt.Fprint(w, "cd")
	fmt.Fprint(w, "e")
	if w.err != io.ErrShortWrite || short.left != 1 {
		t.Errorf("error %v with %d bytes left", w.err, short.left)
	}
}

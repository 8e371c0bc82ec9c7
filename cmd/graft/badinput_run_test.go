package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/internal/fault"
)

// badInput is a row of the table: what is wrong, what is called, and what it must say.
//
// The command runs in a directory with a good model, base, and a good adapter for it, ad,
// after files has changed them. With an exit code other than 0 it must print nothing on
// stdout, exactly the given lines on stderr, and leave every file and name below the
// directory as it was: no output, no staging, no change of an input. If it names the
// output "out" it is run once more with --force over an old output, which must stay. With
// exit code 0 what was there must stay, no staging may be left, and check looks at the
// result.
type badInput struct {
	id     string // the row of the list of bad inputs, with a letter where it has several
	what   string
	files  change
	cmd    string // split at spaces
	code   int
	stderr string // without "graft: " before the first line and the newline at the end

	when   moment
	memory uint64 // MiB that may be allocated in all; 0 means 64
	stdout string // with exit code 0: a part of what is printed
	env    map[string]string
	fault  func() fault.Hook // lets operations on files fail
	via    runner            // how the command is run; nil: in this process
	check  func(t *testing.T)
}

// moment is when a command must notice.
type moment int

const (
	planning moment = iota // before it has made or changed a file
	usage                  // before it has opened a file
	writing                // any time before the publication
)

// runner runs a command in the current directory.
type runner func(t *testing.T, row *badInput, args []string) outcome

type outcome struct {
	code           int
	stdout, stderr string
}

const mib = 1 << 20

func (row *badInput) test(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, value := range row.env {
		t.Setenv(name, value)
	}
	all(fixtureAt("peft/linear-f32/base", "base"), fixtureAt("peft/linear-f32/adapter", "ad"))(t)
	if row.files != nil {
		row.files(t)
	}
	args := strings.Fields(row.cmd)
	row.try(t, args)
	if row.code == 0 || row.code == 130 || !strings.HasSuffix(row.cmd, " --out out") || t.Failed() {
		return
	}
	if _, err := os.Lstat("out"); err == nil {
		return
	}
	old := "out/old"
	if i := strings.Index(row.cmd, "--base "); i >= 0 {
		base, _, _ := strings.Cut(row.cmd[i+len("--base "):], " ")
		if info, err := os.Stat(base); err == nil && info.Mode().IsRegular() {
			old = "out"
		}
	}
	put(old, "old")(t)
	row.try(t, append(args, "--force"))
}

// seconds are the durations in a command's notes.
var seconds = regexp.MustCompile(`\b[0-9]+\.[0-9] s\b`)

func (row *badInput) try(t *testing.T, args []string) {
	t.Helper()
	before := tree(t)
	run := row.via
	if run == nil {
		run = inProcess
	}
	got := run(t, row, args)
	if got.code != row.code {
		t.Errorf("graft %q: exit code %d, want %d", args, got.code, row.code)
	}
	want := row.stderr
	if want != "" {
		want += "\n"
		if row.code != 0 {
			want = "graft: " + want
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	stderr := seconds.ReplaceAllString(strings.ReplaceAll(got.stderr, here, "$WORK"), "N s")
	if diff := cmp.Diff(want, stderr); diff != "" {
		t.Errorf("graft %q: stderr differs (- want, + got):\n%s", args, diff)
	}
	after := tree(t)
	if row.code != 0 {
		if got.stdout != "" {
			t.Errorf("graft %q: a failing command printed on stdout: %q", args, got.stdout)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("graft %q: a failing command changed files (- before, + after):\n%s", args, diff)
		}
		return
	}
	for name, what := range before {
		if name != "." && !strings.Contains(name, ".graft-") && after[name] != what {
			t.Errorf("graft %q: %s was %q and is %q", args, name, what, after[name])
		}
	}
	for name := range after {
		if strings.Contains(filepath.Base(name), ".graft-") && before[name] == "" {
			t.Errorf("graft %q: staging is left: %s", args, name)
		}
	}
	if !strings.Contains(got.stdout, row.stdout) {
		t.Errorf("graft %q: stdout is %q, want %q in it", args, got.stdout, row.stdout)
	}
	if row.check != nil {
		row.check(t)
	}
}

func tree(t *testing.T) map[string]string {
	t.Helper()
	files, err := describeTree(".")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// inProcess runs a command without a process of its own, which shows what it opens, what
// it allocates, and whether a goroutine is left.
func inProcess(t *testing.T, row *badInput, args []string) outcome {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0)) // --workers sets it
	var mu sync.Mutex
	var opened, changed []string
	fail := func(fault.Op, string) error { return nil }
	if row.fault != nil {
		fail = row.fault()
	}
	defer fault.Set(func(op fault.Op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		switch op {
		case fault.OpOpen, fault.OpRead:
			opened = append(opened, path)
		default:
			changed = append(changed, string(op)+" "+path)
		}
		return fail(op, path)
	})()
	goroutines := countGoroutines()
	var stdout, stderr bytes.Buffer
	var start, end runtime.MemStats
	runtime.ReadMemStats(&start)
	code := execute(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	runtime.ReadMemStats(&end)
	limit := row.memory
	if limit == 0 {
		limit = 64
	}
	if n := end.TotalAlloc - start.TotalAlloc; n > limit*mib {
		t.Errorf("graft %q: allocated %d MiB, want at most %d", args, n/mib, limit)
	}
	for range 1000 { // one that has been told to end may need a moment
		if countGoroutines() <= goroutines {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if n := countGoroutines(); n > goroutines {
		t.Errorf("graft %q: %d goroutines are left", args, n-goroutines)
	}
	if code != 0 && row.when != writing && len(changed) > 0 {
		t.Errorf("graft %q: it began to write: %q", args, changed)
	}
	if row.when == usage && len(opened) > 0 {
		t.Errorf("graft %q: it opened %q", args, opened)
	}
	return outcome{code, stdout.String(), stderr.String()}
}

// countGoroutines counts them, without the clock of the library for regular expressions,
// which runs a while longer.
func countGoroutines() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("\ngoroutine ")) - bytes.Count(stacks, []byte("\ncreated by github.com/dlclark/regexp2.extendClock "))
}

// same makes sure that two files are alike, or two directories with all in them.
func same(a, b string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		x, err := describeTree(a)
		if err != nil {
			t.Fatal(err)
		}
		y, err := describeTree(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x, y); diff != "" {
			t.Errorf("%s and %s differ (- the first, + the second):\n%s", a, b, diff)
		}
	}
}

// sameData makes sure that the tensors' bytes in two safetensors files are alike.
func sameData(a, b string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		var data [2][]byte
		for i, path := range []string{a, b} {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[i] = text[8+binary.LittleEndian.Uint64(text):]
		}
		if diff := cmp.Diff(data[0], data[1]); diff != "" {
			t.Errorf("the data of %s and %s differ (- the first, + the second):\n%s", a, b, diff)
		}
	}
}

// sameAs runs another command, and makes sure that what it made is the same.
func sameAs(cmd, a, b string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := execute(t.Context(), strings.Fields(cmd), strings.NewReader(""), &stdout, &stderr); code != 0 {
			t.Fatalf("graft %s: exit code %d:\n%s", cmd, code, stderr.String())
		}
		same(a, b)(t)
	}
}

// nth lets the n-th operation of a kind fail.
func nth(n int, op fault.Op, err error) func() fault.Hook {
	return func() fault.Hook {
		left := n
		return func(o fault.Op, _ string) error {
			if o == op {
				if left--; left == 0 {
					return err
				}
			}
			return nil
		}
	}
}

// every lets all operations of a kind fail.
func every(op fault.Op, err error) func() fault.Hook {
	return func() fault.Hook {
		return func(o fault.Op, _ string) error {
			if o == op {
				return err
			}
			return nil
		}
	}
}

// on lets an operation on files whose paths end so fail, once it was done n times.
func on(op fault.Op, end string, n int, err error) func() fault.Hook {
	return func() fault.Hook {
		done := 0
		return func(o fault.Op, path string) error {
			if o == op && strings.HasSuffix(filepath.ToSlash(path), end) {
				if done++; done > n {
					return err
				}
			}
			return nil
		}
	}
}

// syncOfParent lets making the names in the output's directory durable fail.
func syncOfParent(err error) func() fault.Hook {
	return func() fault.Hook {
		here, _ := os.Getwd()
		return func(o fault.Op, path string) error {
			if o == fault.OpSync && path == here {
				return err
			}
			return nil
		}
	}
}

// noneButInputs lets opening anything outside the test's directory fail.
func noneButInputs() fault.Hook {
	here, _ := os.Getwd()
	return func(o fault.Op, path string) error {
		abs, err := filepath.Abs(path)
		if rel, _ := filepath.Rel(here, abs); err != nil || !filepath.IsLocal(rel) {
			return fs.ErrPermission
		}
		return nil
	}
}

// mustExist fails unless a file is there.
func mustExist(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// mustNotExist fails if a file is there.
func mustNotExist(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v, want nothing there", path, err)
	}
}

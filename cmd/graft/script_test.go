package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this binary be graft where it is run under that name, in scripts and
// for exec.Command.
func TestMain(m *testing.M) {
	// The race detector sleeps for a second at the end of each process.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	testscript.Main(m, map[string]func(){"graft": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			// A home and a caller's settings would make results depend on the machine.
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GOMAXPROCS", "")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("ESC", "\x1b")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "race" {
				return raceDetector, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails":    func(ts *testscript.TestScript, neg bool, args []string) { cmdFails(ts, neg, args, false) },
			"problems": func(ts *testscript.TestScript, neg bool, args []string) { cmdFails(ts, neg, args, true) },
			"noleft":   cmdNoLeft,
			"fixture":  cmdFixture,
			"mkst":     cmdMkst,
			"poke":     cmdPoke,
			"resize":   cmdResize,
			"sub":      cmdSub,
			"same":     cmdSame,
			"json":     cmdJSON,
		},
	})
}

// cmdFails is
//
//	fails CODE MESSAGE COMMAND…
//
// The command must end with exactly that code, print nothing on stdout and one line
// "graft: MESSAGE" with at most a hint after it on stderr, and leave every file and
// name as it was: no output, no staging, no change of an input or an older output. In
// MESSAGE "…" stands for any text. As "problems", more lines of problems may follow.
func cmdFails(ts *testscript.TestScript, neg bool, args []string, many bool) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: fails CODE MESSAGE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	before := snapshot(ts)
	code := 0
	if err := ts.Exec(args[2], args[3:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("a failing command printed on stdout: %q", out)
	}
	if err := checkMessage(ts.ReadFile("stderr"), args[1], many); err != nil {
		ts.Fatalf("%v", err)
	}
	if diff := cmp.Diff(before, snapshot(ts)); diff != "" {
		ts.Fatalf("a failing command changed files (- before, + after):\n%s", diff)
	}
}

// checkMessage checks what a failing command says against the rules for messages.
func checkMessage(stderr, want string, many bool) error {
	_, text, ok := strings.Cut("\n"+stderr, "\ngraft: ")
	if !ok {
		return fmt.Errorf("no line begins with %q", "graft: ")
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*") + "$"
	if !regexp.MustCompile(pattern).MatchString(lines[0]) {
		return fmt.Errorf("message differs:\ngot  %s\nwant %s", lines[0], want)
	}
	if unicode.IsUpper([]rune(lines[0])[0]) || strings.HasSuffix(lines[0], ".") {
		return fmt.Errorf("not the style of a message: %s", lines[0])
	}
	rest := lines[1:]
	if n := len(rest); n > 0 && strings.HasPrefix(rest[n-1], "hint: ") {
		rest = rest[:n-1]
	}
	if len(rest) > 0 && !many {
		return fmt.Errorf("more than one line: %q", rest)
	}
	return nil
}

// snapshot describes every file under $WORK.
func snapshot(ts *testscript.TestScript) map[string]string {
	files, err := describeTree(ts.Getenv("WORK"))
	ts.Check(err)
	return files
}

// largeFile is the size above which a file's content is not read: that it was written to
// shows in its time.
const largeFile = 128 << 20

// describeTree maps names to kind, permissions and content's hash.
func describeTree(root string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		switch {
		case info.Size() > largeFile:
			what += fmt.Sprintf(" %d bytes at %d", info.Size(), info.ModTime().UnixNano())
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %d bytes %x", len(text), sha256.Sum256(text))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " to " + target
		}
		rel, err := filepath.Rel(root, path)
		files[rel] = what
		return err
	})
	return files, err
}

// cmdNoLeft fails when a staging place is left anywhere under $WORK.
func cmdNoLeft(ts *testscript.TestScript, neg bool, args []string) {
	for name := range snapshot(ts) {
		if strings.Contains(filepath.Base(name), ".graft-") {
			ts.Fatalf("staging is left: %s", name)
		}
	}
}

// testdataDir is the repository's, seen from this package's directory.
var testdataDir, _ = filepath.Abs("../../testdata")

// copyFixture copies the files that lie directly in testdata/from into a new directory.
func copyFixture(from, to string) error {
	entries, err := os.ReadDir(filepath.Join(testdataDir, filepath.FromSlash(from)))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o777); err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(testdataDir, filepath.FromSlash(from), e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), text, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// cmdFixture is "fixture FROM TO": see copyFixture.
func cmdFixture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fixture FROM TO")
	}
	ts.Check(copyFixture(args[0], ts.MkAbs(args[1])))
}

// encodeSafetensors puts a header's length before it and zeros after it.
func encodeSafetensors(header string, zeros int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, zeros)...)
}

// cmdMkst is "mkst FILE HEADER BYTES": a safetensors file with the header that lies in
// the file HEADER and so many zero bytes of data.
func cmdMkst(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: mkst FILE HEADER BYTES")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	header := strings.TrimSpace(ts.ReadFile(args[1]))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), encodeSafetensors(header, n), 0o666))
}

// cmdPoke is "poke FILE OFFSET HEX": it overwrites bytes. A negative offset counts from
// the end.
func cmdPoke(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: poke FILE OFFSET HEX")
	}
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	off, err := strconv.Atoi(args[1])
	ts.Check(err)
	raw, err := hex.DecodeString(args[2])
	ts.Check(err)
	if off < 0 {
		off += len(text)
	}
	copy(text[off:], raw)
	ts.Check(os.WriteFile(path, text, 0o666))
}

// cmdResize is "resize FILE N": -N cuts bytes off the end, +N adds zeros, N sets the size.
func cmdResize(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: resize FILE N")
	}
	path := ts.MkAbs(args[0])
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	if strings.ContainsAny(args[1][:1], "+-") {
		info, err := os.Stat(path)
		ts.Check(err)
		n += info.Size()
	}
	ts.Check(os.Truncate(path, n))
}

// cmdSub is "sub FILE OLD NEW": the one place of OLD becomes NEW.
func cmdSub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: sub FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if n := strings.Count(text, args[1]); n != 1 {
		ts.Fatalf("%s: %q is there %d times, want once", args[0], args[1], n)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o666))
}

// cmdSame is "same A B…": files, or directories with all in them, are alike byte for
// byte. Negated, each differs from A.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: same A B…")
	}
	a, err := describeTree(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, name := range args[1:] {
		b, err := describeTree(ts.MkAbs(name))
		ts.Check(err)
		diff := cmp.Diff(a, b)
		if neg && diff == "" {
			ts.Fatalf("%s is the same as %s", name, args[0])
		}
		if !neg && diff != "" {
			ts.Fatalf("%s differs from %s:\n%s", name, args[0], diff)
		}
	}
}

// cmdJSON is "json FILE PATH=VALUE…": the file is one JSON value, in which PATH, keys and
// indexes split by dots, leads to VALUE. "len" after a list counts it.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: json FILE PATH=VALUE…")
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	dec.UseNumber()
	var doc any
	ts.Check(dec.Decode(&doc))
	if dec.More() {
		ts.Fatalf("%s: more than one JSON value", args[0])
	}
	for _, arg := range args[1:] {
		path, want, ok := strings.Cut(arg, "=")
		if !ok {
			ts.Fatalf("%s is not PATH=VALUE", arg)
		}
		v, err := lookUp(doc, path)
		if err != nil {
			ts.Fatalf("%s: %v", args[0], err)
		}
		if got := plain(v); got != want {
			ts.Fatalf("%s: %s is %s, want %s", args[0], path, got, want)
		}
	}
}

func lookUp(v any, path string) (any, error) {
	for _, key := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			inner, ok := x[key]
			if !ok {
				return nil, fmt.Errorf("no %s in %s", key, path)
			}
			v = inner
		case []any:
			if key == "len" {
				return json.Number(strconv.Itoa(len(x))), nil
			}
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(x) {
				return nil, fmt.Errorf("no element %s in %s", key, path)
			}
			v = x[i]
		default:
			return nil, fmt.Errorf("%s leads nowhere at %s", path, key)
		}
	}
	return v, nil
}

func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// Package interop asks other programs what they make of graft's files, and graft what
// it makes of theirs: the real safetensors, tokenizers, PEFT, transformers and PyTorch.
//
// It holds tests only, and they run when they are asked to:
//
//	GRAFT_INTEROP=1     safetensors and tokenizers; GRAFT_INTEROP_PYTHON is a Python that
//	                    has testdata/gen/interop-requirements.txt
//	GRAFT_INTEROP=full  PyTorch, transformers and PEFT too, on fresh seeds;
//	                    GRAFT_GEN_PYTHON is a Python that has gen-requirements.txt
//	GRAFT_BIG=1         merges of gigabytes within a bound on memory; no Python
//
// The script .ci/run makes the Pythons and sets these. GRAFT_INTEROP_SEED repeats a run
// with the seed that it logged.
package interop

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

var (
	mode = os.Getenv("GRAFT_INTEROP")
	big  = os.Getenv("GRAFT_BIG")
	// root is the repository, graftPath the binary under test.
	root, graftPath string
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	switch mode {
	case "", "1", "full":
	default:
		return 0, fmt.Errorf("GRAFT_INTEROP is %q (want 1 or full)", mode)
	}
	if mode == "" && big == "" {
		return m.Run(), nil
	}
	var err error
	if root, err = filepath.Abs("../.."); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "graft-interop-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	graftPath = filepath.Join(dir, "graft")
	if runtime.GOOS == "windows" {
		graftPath += ".exe"
	}
	build := exec.Command("go", "build", "-o", graftPath, "./cmd/graft")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// light skips a test unless interop tests were asked for.
func light(t *testing.T) {
	t.Helper()
	if mode == "" {
		t.Skip("needs the real safetensors and tokenizers: set GRAFT_INTEROP=1, or run .ci/run")
	}
}

// full skips a test unless those that need PyTorch were asked for.
func full(t *testing.T) {
	t.Helper()
	if mode != "full" {
		t.Skip("needs PyTorch, transformers and PEFT: run GRAFT_INTEROP=full .ci/run")
	}
}

// seed returns the seed of everything random in a test, and logs it.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(rand.IntN(1_000_000)) + 2 // 1 is that of the committed fixtures
	if text := os.Getenv("GRAFT_INTEROP_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 32); err != nil {
			t.Fatalf("GRAFT_INTEROP_SEED: %v", err)
		}
	}
	t.Logf("seed %d (repeat with GRAFT_INTEROP_SEED=%d)", s, s)
	return s
}

func fixture(elem ...string) string {
	return filepath.Join(append([]string{root, "testdata"}, elem...)...)
}

// graft runs a command of graft and returns its stdout.
func graft(t *testing.T, args ...string) string {
	t.Helper()
	return execute(t, exec.Command(graftPath, args...))
}

// merge merges adapters into a base, with more flags, and returns where.
func merge(t *testing.T, base string, adapters []string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "merged")
	args := append([]string{"merge", "--quiet", "--base", base, "--out", out}, flags...)
	for _, a := range adapters {
		args = append(args, "--adapter", a)
	}
	graft(t, args...)
	return out
}

// python runs a script of testdata/gen with the Python that a variable names and returns
// its stdout.
func python(t *testing.T, variable string, stdin []byte, script string, args ...string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s names no Python; .ci/run sets it", variable)
	}
	cmd := exec.Command(path, append([]string{fixture("gen", script)}, args...)...)
	// Nothing is written beside the scripts, and nothing comes from the network.
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "HF_HUB_OFFLINE=1")
	cmd.Stdin = bytes.NewReader(stdin)
	return execute(t, cmd)
}

const (
	interopPython = "GRAFT_INTEROP_PYTHON"
	genPython     = "GRAFT_GEN_PYTHON"
)

func execute(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		var said string
		if errors.As(err, &exit) {
			said = string(exit.Stderr)
		}
		t.Fatalf("%s\n%v\n%s%s", strings.Join(cmd.Args, " "), err, out, said)
	}
	return string(out)
}

// lessons writes training data and returns the file.
func lessons(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i := range 12 {
		fmt.Fprintf(&b, `{"prompt": "The %d. scion", "completion": " is cut at dawn and kept in moss."}`+"\n", i+1)
	}
	path := filepath.Join(t.TempDir(), "data.jsonl")
	if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

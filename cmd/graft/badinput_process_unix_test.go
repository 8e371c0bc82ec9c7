//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipe makes a named pipe.
func pipe(path string) change { return try(func() error { return unix.Mkfifo(path, 0o666) }) }

// socket makes a Unix socket that nobody serves.
func socket(path string) change {
	return try(func() error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	})
}

// large makes a base and an adapter that take seconds to merge.
func large(t *testing.T) { largeMerge(t, ".") }

// manyLayers makes a base of 512 MiB whose tensors have 16 MiB.
func manyLayers(t *testing.T) { hollowModel(t, ".", 32, 2048, 4) }

// throughShell runs a command at the end of a shell's script, as "$@".
func throughShell(t *testing.T, args []string, shell ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return finish(t, exec.CommandContext(ctx, shell[0], slices.Concat(shell[1:], []string{shell[0]}, args)...))
}

// finish runs a process to its end.
func finish(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// onSmallDisk makes the directory disk a file system of 32 KiB.
func onSmallDisk(t *testing.T, _ *badInput, args []string) outcome {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's namespaces")
	}
	const script = `mount -t tmpfs -o size=32k tmpfs disk || exit 99
graft "$@"
code=$?
[ -z "$(ls -A disk)" ] || { echo "left: $(ls -A disk)" >&2; exit 98; }
exit $code`
	return throughShell(t, args, append(mountNamespace(t), "sh", "-c", script)...)
}

// withFileLimit lets no file become larger than 20 kB.
func withFileLimit(t *testing.T, _ *badInput, args []string) outcome {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash to set a limit with")
	}
	return throughShell(t, args, bash, "-c", `ulimit -f 20 && exec graft "$@"`)
}

// signalled sends a signal to a merge that has written a part of its output.
func signalled(sig syscall.Signal) runner {
	return func(t *testing.T, _ *badInput, args []string) outcome {
		t.Helper()
		p := startWriting(t, args)
		p.Process.Signal(sig)
		return p.outcome()
	}
}

// startWriting starts a merge to out, and waits until it has written something.
func startWriting(t *testing.T, args []string) *process {
	t.Helper()
	p := startGraft(t, ".", args...)
	p.until("it wrote", func() bool {
		for _, s := range staging(t, ".", "out") {
			if info, err := os.Stat(filepath.Join(s, "model.safetensors")); err == nil && info.Size() > 0 {
				return true
			}
		}
		return false
	})
	return p
}

// outcome waits for the end.
func (p *process) outcome() outcome {
	code := p.code()
	return outcome{code, p.stdout.String(), p.stderr.String()}
}

// signalledWaiting sends Ctrl-C to a command that reads its standard input.
func signalledWaiting(t *testing.T, _ *badInput, args []string) outcome {
	t.Helper()
	p, stdin := startWithInput(t, args)
	defer stdin.Close()
	// More than a pipe holds: the last of it goes in only when something has been read.
	if _, err := io.WriteString(stdin, strings.Repeat("word ", 1<<18)); err != nil {
		t.Fatal(err)
	}
	p.Process.Signal(os.Interrupt)
	return p.outcome()
}

// startWithInput starts a command whose standard input is a pipe.
func startWithInput(t *testing.T, args []string) (*process, io.WriteCloser) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	p := &process{Cmd: exec.CommandContext(ctx, "graft", args...), t: t, waited: make(chan error, 1)}
	p.Stdin = r
	p.Cmd.Stdout, p.Cmd.Stderr = &p.stdout, &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.waited <- p.Wait() }()
	return p, w
}

// signalledTwice sends Ctrl-C to a command that waits in a system call, until it ends: the
// first does not end it, and a later one does without its help.
func signalledTwice(t *testing.T, _ *badInput, args []string) outcome {
	t.Helper()
	p := startGraft(t, ".", args...)
	var writer *os.File
	p.until("it opened the pipe", func() bool {
		f, err := os.OpenFile("p", os.O_WRONLY|unix.O_NONBLOCK, 0)
		writer = f
		return err == nil
	})
	defer writer.Close()
	for ended := false; !ended; {
		p.Process.Signal(os.Interrupt)
		select {
		case err := <-p.waited:
			p.waited <- err
			ended = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	if got := p.ProcessState.Sys().(syscall.WaitStatus); !got.Signaled() || got.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want SIGINT", got)
	}
	return p.outcome()
}

// leftByRoot makes a directory for all with the staging of a run of root's in it.
func leftByRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to be two users")
	}
	put("shared/.out.graft-0123456789abcdef/model.safetensors", "half")(t)
	if err := os.Chmod("shared", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
}

// asNobody runs a command without root's rights.
func asNobody(t *testing.T, _ *badInput, args []string) outcome {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// The binary of the tests lies where only root may look.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	copyTo(self, filepath.Join(bin, "graft"))(t)
	for _, path := range []string{filepath.Join(bin, "graft"), bin, filepath.Dir(bin), here, filepath.Dir(here)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "graft"), args...)
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return finish(t, cmd)
}

// withLittleMemory gives the process less memory for data than manyLayers has, on
// systems that have such a limit. It takes a tenth, but Go reserves memory in large pieces.
func withLittleMemory(t *testing.T, _ *badInput, args []string) outcome {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil || raceDetector {
		t.Skip("no bash to set a limit with, or a race detector that needs more")
	}
	return throughShell(t, args, bash, "-c", `ulimit -d 262144 && exec graft "$@"`)
}

// whileMerging runs a command while another process merges the same model.
func whileMerging(t *testing.T, row *badInput, args []string) outcome {
	t.Helper()
	p := startWriting(t, strings.Fields("merge --base large --adapter adapter --out out --quiet"))
	p.Process.Signal(syscall.SIGSTOP)
	got := inProcess(t, row, args)
	p.Process.Kill()
	p.code()
	for _, s := range staging(t, ".", "out") {
		remove(s)(t)
	}
	return got
}

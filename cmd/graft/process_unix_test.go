//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience ends a process that does not stop by itself.
const patience = 2 * time.Minute

// process is a graft that runs in a directory.
type process struct {
	*exec.Cmd
	t              *testing.T
	stdout, stderr lockedBuffer
	waited         chan error
}

// lockedBuffer may be read while the process writes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func startGraft(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	p := &process{Cmd: exec.CommandContext(ctx, "graft", args...), t: t, waited: make(chan error, 1)}
	p.Dir = dir
	p.Cmd.Stdout, p.Cmd.Stderr = &p.stdout, &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.waited <- p.Wait() }()
	return p
}

// code waits for the end and returns the exit code, -1 after a signal.
func (p *process) code() int {
	p.t.Helper()
	err := <-p.waited
	p.waited <- err
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

// until waits for a condition, and fails when the process ends before it is true.
func (p *process) until(what string, ok func() bool) {
	p.t.Helper()
	for !ok() {
		select {
		case err := <-p.waited:
			p.t.Fatalf("it ended (%v) before %s:\n%s", err, what, p.stderr.String())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// staging returns the staging places of a name.
func staging(t *testing.T, dir, name string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "."+name+".graft-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func checkNothing(t *testing.T, dir, name string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s exists (%v)", name, err)
	}
	if left := staging(t, dir, name); len(left) > 0 {
		t.Errorf("staging is left: %q", left)
	}
}

func runGraft(t *testing.T, dir string, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	p := startGraft(t, dir, args...)
	if code := p.code(); code != want {
		t.Fatalf("graft %q: exit code %d, want %d:\n%s", args, code, want, p.stderr.String())
	}
	return p.stdout.String(), p.stderr.String()
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// tensors returns a safetensors header of F32 tensors, in the order of their names, and
// the bytes that they take.
func tensors(t *testing.T, shapes map[string][2]int) (header string, size int) {
	t.Helper()
	type entry struct {
		DType   string `json:"dtype"`
		Shape   [2]int `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	var names []string
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	all := map[string]entry{}
	for _, name := range names {
		s := shapes[name]
		end := size + 4*s[0]*s[1]
		all[name] = entry{"F32", s, [2]int{size, end}}
		size = end
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), size
}

// largeMerge makes a base that takes seconds to merge, and its adapter.
func largeMerge(t *testing.T, dir string) {
	t.Helper()
	hollowModel(t, dir, 2, 8192, 64)
}

// hollowModel makes a base of so many square layers that is a hole in the disk, and an
// adapter for all of them.
func hollowModel(t *testing.T, dir string, layers, width, rank int) {
	t.Helper()
	weights, factors := map[string][2]int{}, map[string][2]int{}
	for i := range layers {
		module := fmt.Sprintf("model.layers.%d.self_attn.q_proj", i)
		weights[module+".weight"] = [2]int{width, width}
		factors["base_model.model."+module+".lora_A.weight"] = [2]int{rank, width}
		factors["base_model.model."+module+".lora_B.weight"] = [2]int{width, rank}
	}
	header, size := tensors(t, weights)
	writeFile(t, filepath.Join(dir, "large/model.safetensors"), encodeSafetensors(header, 0))
	if err := os.Truncate(filepath.Join(dir, "large/model.safetensors"), int64(8+len(header)+size)); err != nil {
		t.Fatal(err)
	}
	header, size = tensors(t, factors)
	text := encodeSafetensors(header, size)
	for i := 8 + len(header); i < len(text); i += 4 {
		copy(text[i:], "\x00\x00\x80\x3e") // 0.25
	}
	writeFile(t, filepath.Join(dir, "adapter/adapter_model.safetensors"), text)
	writeFile(t, filepath.Join(dir, "adapter/adapter_config.json"),
		fmt.Appendf(nil, `{"peft_type": "LORA", "r": %d, "lora_alpha": 32, "target_modules": ["q_proj"]}`, rank))
}

// startLargeMerge returns a merge that has written a part of its output.
func startLargeMerge(t *testing.T, dir string) *process {
	t.Helper()
	p := startGraft(t, dir, "merge", "--base", "large", "--adapter", "adapter", "--out", "out", "--quiet")
	p.until("it wrote", func() bool {
		for _, s := range staging(t, dir, "out") {
			if info, err := os.Stat(filepath.Join(s, "model.safetensors")); err == nil && info.Size() > 0 {
				return true
			}
		}
		return false
	})
	return p
}

// TestInterruptedMerge: Ctrl-C and SIGTERM in the middle leave nothing.
func TestInterruptedMerge(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir()
			largeMerge(t, dir)
			before, err := describeNames(dir)
			if err != nil {
				t.Fatal(err)
			}
			p := startLargeMerge(t, dir)
			p.Process.Signal(sig)
			if code := p.code(); code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
			if got, want := p.stderr.String(), "graft: interrupted; nothing was written\n"; got != want {
				t.Errorf("stderr is %q, want %q", got, want)
			}
			if p.stdout.String() != "" {
				t.Errorf("stdout is %q", p.stdout.String())
			}
			checkNothing(t, dir, "out")
			after, err := describeNames(dir)
			if err != nil || !slices.Equal(before, after) {
				t.Errorf("files are %q (%v), want %q", after, err, before)
			}
		})
	}
}

// describeNames lists the files below a directory.
func describeNames(dir string) ([]string, error) {
	var names []string
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		names = append(names, path)
		return err
	})
	return names, err
}

// TestKilledMerge: SIGKILL leaves no output, and the next run removes its staging.
func TestKilledMerge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	largeMerge(t, dir)
	if err := copyFixture("odd-llama", filepath.Join(dir, "small")); err != nil {
		t.Fatal(err)
	}
	if err := copyFixture("odd-llama/reference/mixed-r5/trained", filepath.Join(dir, "small-adapter")); err != nil {
		t.Fatal(err)
	}
	p := startLargeMerge(t, dir)

	// Meanwhile nobody else may write there. It stands still so that it cannot finish.
	p.Process.Signal(syscall.SIGSTOP)
	_, stderr := runGraft(t, dir, 6, "merge", "--base", "small", "--adapter", "small-adapter", "--out", "out")
	if !strings.HasPrefix(stderr, `graft: writing "out": another graft is writing it`) {
		t.Errorf("stderr is %q", stderr)
	}

	p.Process.Kill()
	if code := p.code(); code != -1 {
		t.Errorf("exit code %d of a killed process", code)
	}
	if left := staging(t, dir, "out"); len(left) != 1 {
		t.Errorf("staging is %q, want one that was left", left)
	}
	if _, err := os.Lstat(filepath.Join(dir, "out")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the output exists (%v)", err)
	}

	runGraft(t, dir, 0, "merge", "--base", "small", "--adapter", "small-adapter", "--out", "out")
	if left := staging(t, dir, "out"); len(left) > 0 {
		t.Errorf("staging is left: %q", left)
	}
	runGraft(t, dir, 0, "inspect", "out")
}

// tinyModel puts the small model and a line of data into a directory.
func tinyModel(t *testing.T, dir string) {
	t.Helper()
	if err := copyFixture("tiny-llama", filepath.Join(dir, "base")); err != nil {
		t.Fatal(err)
	}
	if err := copyFixture("tiny-llama/reference/qv-r8/trained", filepath.Join(dir, "adapter")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "d.jsonl"), []byte(`{"text":"the cat sat on the mat"}`+"\n"))
}

// TestInterruptedTrain: Ctrl-C leaves what was learned as a checkpoint, and says where.
func TestInterruptedTrain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tinyModel(t, dir)
	p := startGraft(t, dir, "train", "--base", "base", "--target-modules", "q_proj", "--data", "d.jsonl", "--max-steps", "1000000", "--out", "out")
	p.until("training began", func() bool { return strings.Contains(p.stderr.String(), "training 8,192 parameters") })
	time.Sleep(time.Second) // a step takes milliseconds, and nothing tells when one is done
	p.Process.Signal(os.Interrupt)
	if code := p.code(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	found, err := filepath.Glob(filepath.Join(dir, "out/checkpoint-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("checkpoints are %q (%v), want one", found, err)
	}
	name, err := filepath.Rel(dir, found[0])
	if err != nil {
		t.Fatal(err)
	}
	line := lastLine(p.stderr.String())
	if !strings.HasPrefix(line, "graft: interrupted; what was learned in ") || !strings.HasSuffix(line, " is in "+name+", from where --resume goes on") {
		t.Errorf("stderr ends in %q", line)
	}
	if left := staging(t, dir, "out"); len(left) > 0 {
		t.Errorf("staging is left: %q", left)
	}
	runGraft(t, dir, 0, "inspect", name)
	runGraft(t, dir, 0, "train", "--base", "base", "--adapter", name, "--data", "d.jsonl", "--max-steps", "1", "--out", "more")
}

// TestInterruptedQuickstart: what quickstart has made so far goes whole, and it does not
// speak of a checkpoint that went with it.
func TestInterruptedQuickstart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startGraft(t, dir, "quickstart", "--out", "out")
	p.until("training began", func() bool { return strings.Contains(p.stderr.String(), "training 74,752 parameters") })
	time.Sleep(500 * time.Millisecond)
	p.Process.Signal(os.Interrupt)
	if code := p.code(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	if got, want := lastLine(p.stderr.String()), "graft: interrupted; nothing was written"; got != want {
		t.Errorf("stderr ends in %q, want %q", got, want)
	}
	checkNothing(t, dir, "out")
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	return lines[len(lines)-1]
}

// limited are commands whose output is larger than the limits of the tests below.
var limited = [][]string{
	{"merge", "--base", "base", "--adapter", "adapter"},
	{"merge", "--base", "base/model.safetensors", "--adapter", "adapter"},
	{"init", "--base", "base", "--target-modules", "all-linear", "--rank", "60"},
	{"train", "--base", "base", "--target-modules", "all-linear", "--rank", "60", "--data", "d.jsonl", "--max-steps", "1"},
	{"quickstart"},
}

// TestFileTooLarge: a write that fails in the middle is exit 6 and leaves nothing.
func TestFileTooLarge(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash to set a limit with")
	}
	dir := t.TempDir()
	tinyModel(t, dir)
	for _, args := range limited {
		cmd := exec.Command(bash, append([]string{"-c", `ulimit -f 1000 && exec graft "$@" --out out`, "bash"}, args...)...)
		checkFull(t, dir, cmd, args, "file too large")
		checkNothing(t, dir, "out")
	}
	// The old output stays.
	writeFile(t, filepath.Join(dir, "out/keep"), []byte("old"))
	cmd := exec.Command(bash, append([]string{"-c", `ulimit -f 1000 && exec graft "$@" --out out --force`, "bash"}, limited[0]...)...)
	checkFull(t, dir, cmd, limited[0], "file too large")
	if text, err := os.ReadFile(filepath.Join(dir, "out/keep")); err != nil || string(text) != "old" {
		t.Errorf("the old output is %q (%v)", text, err)
	}
	if left := staging(t, dir, "out"); len(left) > 0 {
		t.Errorf("staging is left: %q", left)
	}
}

// TestDiskFull: the same on a file system of 1 MiB, in a mount namespace of its own.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's namespaces")
	}
	enter := mountNamespace(t)
	dir := t.TempDir()
	tinyModel(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "disk"), 0o777); err != nil {
		t.Fatal(err)
	}
	const script = `mount -t tmpfs -o size=1m tmpfs disk || exit 99
graft "$@" --out disk/out
code=$?
left=$(ls -A disk)
[ -z "$left" ] || { echo "left: $left" >&2; exit 98; }
exit $code`
	for _, args := range limited {
		cmd := exec.Command(enter[0], slices.Concat(enter[1:], []string{"sh", "-c", script, "sh"}, args)...)
		checkFull(t, dir, cmd, args, "no space left on device")
	}
	// The output is the mount point itself: its own free space counts.
	const inside = `mount -t tmpfs -o size=1m tmpfs disk && exec graft "$@" --out disk`
	cmd := exec.Command(enter[0], slices.Concat(enter[1:], []string{"sh", "-c", inside, "sh"}, limited[0])...)
	checkFull(t, dir, cmd, limited[0], `graft: writing "disk": no space left on device (got 1048576 bytes free, want `)
}

// mountNamespace returns a command that runs another where it may mount.
func mountNamespace(t *testing.T) []string {
	t.Helper()
	var why []string
	for _, enter := range [][]string{{"unshare", "-rm"}, {"unshare", "-m"}} {
		dir := t.TempDir()
		cmd := exec.Command(enter[0], append(enter[1:], "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir)...)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return enter
		}
		why = append(why, fmt.Sprintf("%s: %v %s", strings.Join(enter, " "), err, bytes.TrimSpace(out)))
	}
	t.Skipf("mounting is not permitted: %s", strings.Join(why, "; "))
	return nil
}

// checkFull runs a command that must fail with exit 6 and one line with the given words.
func checkFull(t *testing.T, dir string, cmd *exec.Cmd, args []string, words string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 6 {
		t.Fatalf("graft %q: exit code %d (%v), want 6:\n%s", args, code, err, stderr.String())
	}
	line := lastLine(stderr.String())
	if !strings.HasPrefix(line, "graft: writing ") || !strings.Contains(line, words) || strings.Contains(line, ".graft-") {
		t.Errorf("graft %q: stderr is %q", args, stderr.String())
	}
}

//go:build unix

package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// endless are the flags of a run that ends late enough to be stopped on the way.
func endless(more ...string) []string {
	return append([]string{
		"train", "--base", "base", "--target-modules", "q_proj,v_proj", "--rank", "3", "--data", "d.jsonl", "--eval-data", "d.jsonl",
		"--max-steps", "150", "--eval-steps", "20", "--logging-steps", "7", "--lora-dropout", "0.1", "--learning-rate", "1e-2",
		"--load-best-model-at-end", "--save-steps", "10", "--save-total-limit", "3", "--out", "out", "--quiet",
	}, more...)
}

// sameTree fails unless two directories hold the same files with the same bytes.
func sameTree(t *testing.T, got, want string) {
	t.Helper()
	list := func(dir string) []string {
		names, err := describeNames(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i := range names {
			names[i] = strings.TrimPrefix(names[i], dir)
		}
		return names
	}
	a, b := list(got), list(want)
	if !slices.Equal(a, b) {
		t.Fatalf("files are %q, want %q", a, b)
	}
	for _, name := range a {
		if info, err := os.Stat(filepath.Join(want, name)); err == nil && info.IsDir() {
			continue
		}
		x, err := os.ReadFile(filepath.Join(got, name))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(want, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(x) != string(y) {
			t.Errorf("%s differs", name)
		}
	}
}

// TestStoppedTrainingResumes kills a run again and again, wherever it is, or asks it to
// stop. What comes out at the end is what an undisturbed run writes, checkpoints included.
func TestStoppedTrainingResumes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tinyModel(t, dir)
	writeFile(t, filepath.Join(dir, "d.jsonl"), []byte(`{"text":"the cat sat on the mat"}`+"\n"+`{"text":"a dog sat on a log"}`+"\n"+`{"text":"graft the scion to the stock"}`+"\n"))
	began := time.Now()
	runGraft(t, dir, 0, endless()...)
	whole := time.Since(began)
	if err := os.Rename(filepath.Join(dir, "out"), filepath.Join(dir, "whole")); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"killed", "both"} {
		stops := 0
		for try := 0; ; try++ {
			p := startGraft(t, dir, endless("--resume")...)
			sig := syscall.SIGKILL
			if how == "both" {
				sig = []syscall.Signal{syscall.SIGINT, syscall.SIGKILL, syscall.SIGTERM}[try%3]
			}
			if try < 6 { // later ones come to their end
				time.Sleep(time.Duration(rand.Int64N(int64(whole)/2 + 1)))
				p.Process.Signal(sig)
			}
			code := p.code()
			if code == 0 {
				break
			}
			if _, err := os.Stat(filepath.Join(dir, "out", "adapter_config.json")); err == nil {
				// It was killed between its last act and its end. The next run of the name
				// removes what it had no time for.
				runGraft(t, dir, 0, endless("--force")...)
				break
			}
			if code != -1 && code != 130 {
				t.Fatalf("%s: exit code %d:\n%s", how, code, p.stderr.String())
			}
			stops++
		}
		t.Logf("%s %d times", how, stops)
		sameTree(t, filepath.Join(dir, "out"), filepath.Join(dir, "whole"))
		if left := staging(t, dir, "out"); len(left) > 0 {
			t.Errorf("%s: staging is left: %q", how, left)
		}
		if err := os.RemoveAll(filepath.Join(dir, "out")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTwoTrainings: the output of a run that writes checkpoints is nobody else's.
func TestTwoTrainings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tinyModel(t, dir)
	args := []string{"train", "--base", "base", "--target-modules", "q_proj", "--data", "d.jsonl", "--max-steps", "1000000", "--save-steps", "5", "--save-total-limit", "1", "--out", "out"}
	p := startGraft(t, dir, args...)
	p.until("a checkpoint is there", func() bool {
		steps, _ := stepsIn(filepath.Join(dir, "out"))
		return len(steps) > 0
	})
	_, stderr := runGraft(t, dir, 6, append(slices.Clone(args), "--resume")...)
	if !strings.Contains(stderr, `graft: writing "out": another graft is writing it`) {
		t.Errorf("stderr is %q", stderr)
	}
	p.Process.Signal(os.Interrupt)
	if code := p.code(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	steps, alone := stepsIn(filepath.Join(dir, "out"))
	if !alone || len(steps) == 0 {
		t.Errorf("OUT holds steps %v", steps)
	}
	if left := staging(t, dir, "out"); len(left) > 0 {
		t.Errorf("staging is left: %q", left)
	}
}

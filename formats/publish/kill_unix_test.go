//go:build unix

package publish

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// childJob is what a child process is told through the environment, as JSON.
type childJob struct {
	Parent string
	Layout Layout
	Pause  time.Duration // for each block that is made
	ID     string
	Resume bool
	Force  bool
	Hold   bool // wait before the publication until standard input is closed
	KillAt int  // kill itself before this operation, counted from the first
	Names  bool // count only operations on names
}

const childEnv = "GRAFT_PUBLISH_TEST_CHILD"

// TestChild is no test: it is what a child process does.
func TestChild(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		t.Skip("not a child")
	}
	var c childJob
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	y := &yard{parent: c.Parent, layout: c.Layout}
	j := y.job(Options{ID: c.ID, Resume: c.Resume, Force: c.Force})
	j.pause = c.Pause
	if c.Hold {
		j.opts.Check = func() error {
			fmt.Println("holding")
			io.Copy(io.Discard, os.Stdin)
			return nil
		}
	}
	if c.KillAt > 0 {
		count := nth{n: c.KillAt, err: errors.New("killed")}
		if c.Names {
			count.choose = func(op fault.Op, _ string) bool {
				return op == fault.OpRename || op == fault.OpLink || op == fault.OpMkdir || op == fault.OpSync
			}
		}
		fault.Set(func(op fault.Op, path string) error {
			if count.hook(op, path) != nil {
				self, _ := os.FindProcess(os.Getpid())
				self.Kill()
				select {}
			}
			return nil
		})
	}
	fmt.Println("begin")
	if err := j.run(t.Context()); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

// child is a running child process.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	stdin io.WriteCloser
}

// start starts a child and waits for its first line.
func (c childJob) start(t testing.TB) *child {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	x := &child{cmd: exec.Command(os.Args[0], "-test.run=^TestChild$")}
	// A process with the race detector sleeps a second before it ends, if it is not told otherwise.
	x.cmd.Env = append(os.Environ(), childEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	x.cmd.Stderr = os.Stderr
	stdout, err := x.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if x.stdin, err = x.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x.lines = bufio.NewScanner(stdout)
	x.expect(t, "begin")
	return x
}

func (x *child) expect(t testing.TB, want string) {
	t.Helper()
	if !x.lines.Scan() || x.lines.Text() != want {
		t.Fatalf("the child says %q, want %q", x.lines.Text(), want)
	}
}

// end waits for the child to end and reports whether it said that it was done.
func (x *child) end() (done bool) {
	for x.lines.Scan() {
		done = done || x.lines.Text() == "done"
	}
	x.cmd.Wait()
	return done
}

// checkKilled checks what a killed child left, with two more runs: the same one with
// Resume, or one that knows nothing of it. The first fails at its end, and leaves what was
// there before the child began.
func checkKilled(t testing.TB, y *yard, what, before string, c childJob) (state string) {
	t.Helper()
	after := y.state(t)
	switch {
	case after == y.want:
		state, before = "complete", y.want
	case after == before && before == "":
		state = "absent"
	case after == before:
		state = "old"
	case y.layout == Beside && y.absent():
		state = "on the way"
	default:
		t.Errorf("%s: the output is\n%s", what, after)
	}
	names := y.beside(t)
	if len(names) > 1 || len(names) == 1 && names[0] != ".out.graft-"+c.ID {
		t.Errorf("%s: left %q", what, names)
	}
	stop := errors.New("stop")
	opts := Options{ID: "another", Force: c.Force || state == "complete", Check: func() error { return stop }}
	if c.Resume {
		opts.ID, opts.Resume = c.ID, true
	}
	if err := y.job(opts).run(t.Context()); !errors.Is(err, stop) {
		t.Errorf("%s: a run that is to fail: %v", what, err)
	}
	if got := y.state(t); got != before {
		t.Errorf("%s: a run that failed left\n%swant\n%s", what, got, before)
	}
	opts.Check = nil
	if err := y.job(opts).run(t.Context()); err != nil {
		t.Errorf("%s: the next run: %v", what, err)
	}
	y.checkComplete(t, what+", the next run")
	return state
}

// TestKilledAtEveryOperation kills a writing process before its first operation on a
// file, its second, and so on; of files beside one another, before those that change names.
func TestKilledAtEveryOperation(t *testing.T) {
	kills, seen := 0, map[string]int{}
	for _, layout := range layouts {
		y := newYard(t, layout)
		step := 4
		if slow() || layout == Beside {
			step = 1
		}
		for i, c := range []childJob{{ID: "plan"}, {ID: "plan", Force: true}, {ID: "plan", Resume: true}, {ID: "plan", Resume: true, Force: true}} {
			c.Layout, c.Parent, c.Names = layout, y.parent, layout == Beside && !slow()
			for n := 1 + i%step; ; n += step {
				y.reset(t, c.Force)
				before := y.state(t)
				c.KillAt = n
				if c.start(t).end() {
					y.checkComplete(t, "not killed")
					break
				}
				kills++
				seen[checkKilled(t, y, fmt.Sprintf("%+v", c), before, c)]++
			}
		}
	}
	t.Logf("%d kills: %v", kills, seen)
}

// TestKilledAtRandom kills a writing process at random moments.
func TestKilledAtRandom(t *testing.T) {
	for _, layout := range layouts {
		killedAtRandom(t, newYard(t, layout))
	}
}

func killedAtRandom(t *testing.T, y *yard) {
	kills := 20
	if slow() {
		kills = 500
	}
	const pause = 2 * time.Millisecond
	x := childJob{Parent: y.parent, Layout: y.layout, ID: "plan", Pause: pause}.start(t)
	began := time.Now()
	if !x.end() {
		t.Fatal("it fails undisturbed")
	}
	whole := time.Since(began)
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	seen := map[string]int{}
	for i := range kills {
		c := childJob{Parent: y.parent, Layout: y.layout, ID: "plan", Pause: pause, Force: i%2 == 0, Resume: i%4 < 2}
		y.reset(t, c.Force)
		before := y.state(t)
		x := c.start(t)
		time.Sleep(time.Duration(r.Int64N(int64(whole))))
		x.cmd.Process.Kill()
		x.end()
		seen[checkKilled(t, y, fmt.Sprintf("seed %d, kill %d, %+v", seed, i, c), before, c)]++
	}
	t.Logf("%d kills within %v: %v", kills, whole, seen)
}

// TestTwoProcesses has one process at work, and tries to write the same output from
// another, with and without a plan of the same identity.
func TestTwoProcesses(t *testing.T) {
	for _, layout := range layouts {
		twoProcesses(t, newYard(t, layout))
	}
}

func twoProcesses(t *testing.T, y *yard) {
	for _, old := range []bool{false, true} {
		y.reset(t, old)
		first := childJob{Layout: y.layout, Parent: y.parent, ID: "plan", Resume: true, Force: old, Hold: true}.start(t)
		first.expect(t, "holding")
		before := everything(t, y.parent)
		for _, opts := range []Options{{Force: true}, {Force: true, ID: "plan"}, {Force: true, ID: "plan", Resume: true}, {Force: true, ID: "other", Resume: true}} {
			err := y.job(opts).run(t.Context())
			checkError(t, err, formats.ErrOutput, "writing "+formats.Quote(filepath.Join(y.parent, "out")), "another graft is writing it")
			if errors.As(err, new(*ResumableError)) {
				t.Errorf("%v claims what is another's", err)
			}
			if after := everything(t, y.parent); after != before {
				t.Errorf("before\n%safter\n%s", before, after)
			}
		}
		first.stdin.Close()
		if !first.end() {
			t.Error("the first process failed")
		}
		y.checkComplete(t, "the first process's output")
	}
}

// TestManyProcesses lets several processes loose on one output at once: one or more
// succeed, one after another, and whoever fails says that it is in use or exists.
func TestManyProcesses(t *testing.T) {
	y := newYard(t, Beside)
	for round := range 5 {
		y.reset(t, round%2 == 0)
		var all []*child
		for range 4 {
			all = append(all, childJob{Parent: y.parent, Layout: y.layout, ID: "plan", Resume: round%2 == 0, Force: round%2 == 0, Pause: time.Millisecond}.start(t))
		}
		done := 0
		for _, x := range all {
			for x.lines.Scan() {
				switch s := x.lines.Text(); {
				case s == "done":
					done++
				case !strings.Contains(s, "another graft is writing it") && !strings.Contains(s, "it exists"):
					t.Errorf("the child says %q", s)
				}
			}
			x.cmd.Wait()
		}
		if done == 0 {
			t.Error("none succeeded")
		}
		y.checkComplete(t, "after all")
	}
}

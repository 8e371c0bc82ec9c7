package publish

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// TestEveryOperationFails lets the first operation of opening inputs and writing fail,
// then the second, until none is left: the output stays as it was, the error has the
// right class, nothing is left beside the output but what a resumable run keeps, and the
// next run succeeds.
func TestEveryOperationFails(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) { everyOperationFails(t, newYard(t, layout)) })
	}
}

func everyOperationFails(t *testing.T, y *yard) {
	total, tolerated := 0, map[string]int{}
	for _, d := range disturbances {
		for _, old := range []bool{false, true} {
			for _, resume := range []bool{false, true} {
				what := fmt.Sprintf("%s, old output %v, resume %v", d.name, old, resume)
				opts := Options{Force: old, Resume: resume, ID: "plan", File: func(FileResult) error { return nil }}
				for n := 1; ; n++ {
					y.reset(t, old)
					before := y.state(t)
					f := &nth{n: n, err: d.err, forever: d.forever, choose: d.choose}
					restore := fault.Set(f.hook)
					err := y.job(opts).run(t.Context())
					restore()
					if f.op == "" {
						if err != nil {
							t.Errorf("%s: without a fault: %v", what, err)
						}
						y.checkComplete(t, what)
						t.Logf("%s: %d operations", what, n-1)
						break
					}
					total++
					step := fmt.Sprintf("%s, operation %d (%s of %s)", what, n, f.op, strings.TrimPrefix(f.path, y.parent))
					if err == nil {
						tolerated[string(f.op)+" "+strings.TrimPrefix(f.path, y.parent)]++
						y.checkComplete(t, step)
						continue
					}
					checkFaultError(t, y, step, f, err)
					y.checkUntouched(t, step, before, err)
					if err := y.job(opts).run(t.Context()); err != nil {
						t.Errorf("%s: the next run: %v", step, err)
					}
					y.checkComplete(t, step+", the next run")
				}
			}
		}
	}
	t.Logf("%d faults", total)
	// The old content is locked against others if it can be opened at all.
	delete(tolerated, "open /out")
	for op := range tolerated {
		if strings.HasPrefix(op, "link ") { // a file that cannot have two names is moved
			delete(tolerated, op)
		}
	}
	if len(tolerated) > 0 {
		t.Errorf("these failed and nobody noticed: %v", tolerated)
	}
}

func checkFaultError(t testing.TB, y *yard, step string, f *nth, err error) {
	t.Helper()
	class := formats.ErrOutput
	if strings.HasPrefix(f.path, filepath.Join(y.parent, "model")) {
		class = formats.ErrInput
	}
	var e *formats.Error
	if !errors.As(err, &e) || e.Class != class || !errors.Is(err, f.err) {
		t.Errorf("%s: got %v (class %v), want the class %v and %v", step, err, e, class, f.err)
	}
	if s := err.Error(); strings.Contains(s, "\n") || strings.Contains(s, ".graft-") && !strings.Contains(s, journalName) {
		t.Errorf("%s: not a line for users: %q", step, s)
	}
}

// TestEveryOperationFailsWhileResuming does the same to a run that finds two shards of
// four finished. Shards that cannot be read back are made again, so reading may fail.
func TestEveryOperationFailsWhileResuming(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) { everyOperationFailsWhileResuming(t, newYard(t, layout)) })
	}
}

func everyOperationFailsWhileResuming(t *testing.T, y *yard) {
	for _, d := range disturbances {
		what := d.name + " while resuming"
		for n := 1; ; n++ {
			y.reset(t, true)
			interrupt(t, y, 2)
			before := y.state(t)
			f := &nth{n: n, err: d.err, forever: d.forever, choose: d.choose}
			restore := fault.Set(f.hook)
			opts := Options{Force: true, Resume: true, ID: "plan"}
			err := y.job(opts).run(t.Context())
			restore()
			if f.op == "" {
				if err != nil {
					t.Errorf("%s: without a fault: %v", what, err)
				}
				y.checkComplete(t, what)
				t.Logf("%s: %d operations", what, n-1)
				break
			}
			step := fmt.Sprintf("%s, operation %d (%s of %s)", what, n, f.op, strings.TrimPrefix(f.path, y.parent))
			if err == nil {
				if f.op != fault.OpRead && f.op != fault.OpOpen && f.op != fault.OpLink {
					t.Errorf("%s: nobody noticed", step)
				}
				y.checkComplete(t, step)
				continue
			}
			checkFaultError(t, y, step, f, err)
			y.checkResumableState(t, step, before, err)
			if err := y.job(opts).run(t.Context()); err != nil {
				t.Errorf("%s: the next run: %v", step, err)
			}
			y.checkComplete(t, step+", the next run")
		}
	}
}

// checkResumableState is checkUntouched for a run that may have failed before it looked
// at the staging of the run before, which then stays as it is.
func (y *yard) checkResumableState(t testing.TB, step, before string, err error) {
	t.Helper()
	var r *ResumableError
	if errors.As(err, &r) && r.Finished > 0 {
		y.checkUntouched(t, step, before, err)
		return
	}
	if got := y.state(t); got != before {
		t.Errorf("%s: the output is\n%swant\n%s", step, got, before)
	}
	if names := y.beside(t); !slices.Equal(names, []string{".out.graft-plan"}) {
		t.Errorf("%s: after %v there is %q", step, err, names)
	}
}

// isWeights reports whether a file of a yard's output holds weights.
func isWeights(name string) bool {
	name = strings.TrimPrefix(filepath.Base(name), "out.")
	return len(name) == 2 && name[0] == 'w'
}

// interrupt runs a resumable job up to the n-th finished shard.
func interrupt(t testing.TB, y *yard, n int) {
	t.Helper()
	stop := errors.New("stop")
	shards := 0
	opts := Options{Force: true, Resume: true, ID: "plan", NoSync: true, File: func(r FileResult) error {
		if isWeights(r.Name) {
			shards++
		}
		if shards == n {
			return stop
		}
		return nil
	}}
	opts.Workers = 1 // one file at a time: then it is certain how many are finished
	err := y.job(opts).run(t.Context())
	var r *ResumableError
	if !errors.As(err, &r) || !errors.Is(err, stop) || r.Finished != n || r.Shards != 4 || r.Dir != filepath.Join(y.parent, ".out.graft-plan") {
		t.Fatalf("got %+v", err)
	}
}

// TestFaultsOfOneFile is TestEveryOperationFails for an output that is one file.
func TestFaultsOfOneFile(t *testing.T) {
	y := newYard(t, OneFile)
	for _, d := range disturbances {
		for _, old := range []bool{false, true} {
			for n := 1; ; n++ {
				y.reset(t, old)
				before := y.state(t)
				f := &nth{n: n, err: d.err, forever: d.forever, choose: func(op fault.Op, path string) bool {
					return !strings.HasPrefix(path, filepath.Join(y.parent, "model")) && (d.choose == nil || d.choose(op, path))
				}}
				restore := fault.Set(f.hook)
				err := y.job(Options{Force: old, File: func(FileResult) error { return nil }}).run(t.Context())
				restore()
				if f.op == "" {
					if err != nil || y.state(t) == before {
						t.Errorf("without a fault: %v", err)
					}
					break
				}
				step := fmt.Sprintf("%s, old output %v, operation %d (%s of %s)", d.name, old, n, f.op, f.path)
				if err == nil {
					if f.op != fault.OpOpen || f.path != filepath.Join(y.parent, "out") {
						t.Errorf("%s: nobody noticed", step)
					}
					continue
				}
				checkFaultError(t, y, step, f, err)
				y.checkUntouched(t, step, before, err)
			}
		}
	}
}

// TestDiskFailsForGood lets everything fail from some operation on. Where that is the
// way back from a publication too, the new output is in place, and is whole; of files
// beside one another there is no output then, and the next run puts the old back.
func TestDiskFailsForGood(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) { diskFailsForGood(t, newYard(t, layout)) })
	}
}

func diskFailsForGood(t *testing.T, y *yard) {
	stop := errors.New("stop")
	for _, old := range []bool{false, true} {
		for n := 1; ; n++ {
			y.reset(t, old)
			before := y.state(t)
			f := &nth{n: n, err: syscall.EIO, forever: true}
			restore := fault.Set(f.hook)
			err := y.job(Options{Force: old}).run(t.Context())
			restore()
			if f.op == "" {
				break
			}
			step := fmt.Sprintf("old output %v, from operation %d on (%s of %s)", old, n, f.op, f.path)
			got := y.state(t)
			torn := y.layout == Beside && y.absent()
			if err == nil || got != before && got != y.want && !torn {
				t.Errorf("%s: after %v the output is\n%s", step, err, got)
			}
			if !torn {
				continue
			}
			err = y.job(Options{Force: old, Check: func() error { return stop }}).run(t.Context())
			if got := y.state(t); !errors.Is(err, stop) || got != before {
				t.Errorf("%s: the next run, %v, leaves\n%s", step, err, got)
			}
		}
	}
}

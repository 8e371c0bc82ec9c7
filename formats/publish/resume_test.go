package publish

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// seen records what Observe is shown.
type seen struct {
	mu     sync.Mutex
	blocks []string
}

func (s *seen) observe(t formats.Tensor, off int64, block []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = append(s.blocks, fmt.Sprintf("%s at %d: %x", t.Name, off, block))
	return nil
}

// sorted returns the blocks in order; equal ones stay.
func (s *seen) sorted() []string { return slices.Sorted(slices.Values(s.blocks)) }

// TestResume interrupts after each number of shards, and resumes: the finished ones are
// not made again, everything is observed and told once, and the bytes are the same.
func TestResume(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) { resume(t, newYard(t, layout)) })
	}
}

func resume(t *testing.T, y *yard) {
	var whole seen
	var wholeFiles []FileResult
	var wholeBytes int64
	opts := Options{NoSync: true, SHA256: true, File: func(r FileResult) error { wholeFiles = append(wholeFiles, r); return nil }}
	opts.Observe, opts.Workers = whole.observe, 1
	opts.Progress = func(n int64) { wholeBytes += n }
	if err := y.job(opts).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 4; n++ {
		y.reset(t, true)
		interrupt(t, y, n)
		var again seen
		var files []FileResult
		var bytes int64
		opts := Options{Force: true, Resume: true, ID: "plan", SHA256: true, File: func(r FileResult) error { files = append(files, r); return nil }}
		opts.Observe, opts.Workers = again.observe, 1
		opts.Progress = func(n int64) { bytes += n }
		written := map[string]bool{}
		restore := fault.Set(func(op fault.Op, path string) error {
			if op == fault.OpWrite && isWeights(path) {
				written[strings.TrimPrefix(filepath.Base(path), "out.")] = true
			}
			return nil
		})
		err := y.job(opts).run(t.Context())
		restore()
		if err != nil {
			t.Fatal(err)
		}
		y.checkComplete(t, fmt.Sprintf("resumed after %d", n))
		for i := range 4 {
			name := fmt.Sprintf("w%d", i+1)
			if written[name] != (i >= n) {
				t.Errorf("resumed after %d: %s was written: %v", n, name, written[name])
			}
		}
		if !slices.Equal(again.sorted(), whole.sorted()) {
			t.Errorf("resumed after %d: %d blocks were observed, want %d", n, len(again.blocks), len(whole.blocks))
		}
		if !slices.Equal(files, wholeFiles) {
			t.Errorf("resumed after %d: told of\n%v\nwant\n%v", n, files, wholeFiles)
		}
		if bytes != wholeBytes {
			t.Errorf("resumed after %d: progress of %d bytes, want %d", n, bytes, wholeBytes)
		}
	}
}

// TestDoubtfulStaging damages what an interrupted run left: what cannot be trusted is
// made again.
func TestDoubtfulStaging(t *testing.T) {
	y := newYard(t, Directory)
	staging := filepath.Join(y.parent, ".out.graft-plan")
	shard := func(i int) string { return filepath.Join(staging, fmt.Sprintf("w%d", i)) }
	journal := filepath.Join(staging, journalName)
	edit := func(path string, f func(string) string) {
		if err := os.WriteFile(path, []byte(f(load(t, path))), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		damage  func()
		trusted int
	}{
		"nothing":             {func() {}, 2},
		"a bit of a shard":    {func() { edit(shard(1), func(s string) string { return s[:5000] + "x" + s[5001:] }) }, 1},
		"a shard cut short":   {func() { os.Truncate(shard(2), 5000) }, 1},
		"a shard longer":      {func() { edit(shard(2), func(s string) string { return s + "x" }) }, 1},
		"a shard gone":        {func() { os.Remove(shard(1)) }, 1},
		"a shard elsewhere":   {func() { os.Rename(shard(1), shard(1)+"x"); os.Symlink(shard(1)+"x", shard(1)) }, 1},
		"a shard a directory": {func() { os.Remove(shard(1)); os.MkdirAll(shard(1)+"/x", 0o777) }, 1},
		"shards exchanged": {func() {
			os.Rename(shard(1), shard(3))
			os.Rename(shard(2), shard(1))
			os.Rename(shard(3), shard(2))
		}, 0},
		"journal torn":       {func() { edit(journal, func(s string) string { return s[:len(s)-1] }) }, 1},
		"journal torn early": {func() { edit(journal, func(s string) string { return s[:10] }) }, 0},
		"journal gone":       {func() { os.Remove(journal) }, 0},
		"journal empty":      {func() { os.Truncate(journal, 0) }, 0},
		"journal of zeros":   {func() { edit(journal, func(s string) string { return s + strings.Repeat("\x00", 100) }) }, 2},
		"journal of another": {func() { edit(journal, func(s string) string { return strings.Replace(s, "plan", "plan2", 1) }) }, 0},
		"journal of the future": {func() {
			edit(journal, func(s string) string { return strings.Replace(s, "journal 1", "journal 2", 1) })
		}, 0},
		"journal a directory":    {func() { os.Remove(journal); os.MkdirAll(journal+"/x", 0o777) }, 0},
		"journal a link":         {func() { os.Remove(journal); os.Symlink(filepath.Join(y.parent, "model", "config.json"), journal) }, 0},
		"more files":             {func() { grow(t, staging, map[string]string{"x": "", "sub/y": "", ".hidden": "", "link": "->/etc"}) }, 2},
		"a shard not in journal": {func() { grow(t, staging, map[string]string{"w3": "half"}) }, 2},
	} {
		y.reset(t, true)
		interrupt(t, y, 2)
		c.damage()
		wrote := map[string]bool{}
		restore := fault.Set(func(op fault.Op, path string) error {
			if op == fault.OpWrite && isWeights(path) {
				wrote[path] = true
			}
			return nil
		})
		opts := Options{Force: true, Resume: true, ID: "plan"}
		opts.Workers = 1
		err := y.job(opts).run(t.Context())
		restore()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		y.checkComplete(t, name)
		if got := 4 - len(wrote); got != c.trusted {
			t.Errorf("%s: %d shards were trusted, want %d", name, got, c.trusted)
		}
	}
}

// TestStagingOfAnotherPlan resumes what was another plan's, and starts without resuming.
// Neither takes anything over.
func TestStagingOfAnotherPlan(t *testing.T) {
	y := newYard(t, Directory)
	for _, opts := range []Options{{Resume: true, ID: "plan2"}, {ID: "plan"}, {}} {
		y.reset(t, true)
		interrupt(t, y, 3)
		opts.Force = true
		wrote := map[string]bool{}
		restore := fault.Set(func(op fault.Op, path string) error {
			if op == fault.OpWrite && isWeights(path) {
				wrote[path] = true
			}
			return nil
		})
		opts.Workers = 1
		err := y.job(opts).run(t.Context())
		restore()
		if err != nil || len(wrote) != 4 {
			t.Errorf("%d shards were written, %v", len(wrote), err)
		}
		y.checkComplete(t, fmt.Sprintf("%+v", opts))
	}
}

func TestWhatCannotBeResumed(t *testing.T) {
	y := newYard(t, OneFile)
	checkError(t, y.job(Options{Resume: true, ID: "x"}).run(t.Context()), formats.ErrUsage, "a single file cannot be resumed")
	for _, y.layout = range layouts {
		checkError(t, y.job(Options{Resume: true}).run(t.Context()), formats.ErrUsage, "resuming needs an ID")
		checkError(t, y.job(Options{Resume: true, ID: "a/b"}).run(t.Context()), formats.ErrUsage, `staging ID "a/b"`)
	}
	if got, names := y.state(t), y.beside(t); got != "" || len(names) > 0 {
		t.Errorf("there is\n%s%q", got, names)
	}
}

// TestNothingFinishedNothingKept fails before the first shard is finished, and in the
// check after the last.
func TestNothingFinishedNothingKept(t *testing.T) {
	y := newYard(t, Directory)
	stop := errors.New("stop")
	opts := Options{Resume: true, ID: "plan"}
	opts.Observe = func(formats.Tensor, int64, []byte) error { return stop }
	err := y.job(opts).run(t.Context())
	if !errors.Is(err, stop) || errors.As(err, new(*ResumableError)) {
		t.Errorf("got %v", err)
	}
	y.checkUntouched(t, "nothing finished", "", err)

	checked := 0
	opts = Options{Resume: true, ID: "plan", Check: func() error {
		checked++
		return formats.Unfitf("", "", "lost")
	}}
	for range 2 {
		err = y.job(opts).run(t.Context())
		var r *ResumableError
		if !errors.Is(err, formats.ErrUnfit) || !errors.As(err, &r) || r.Finished != 4 || err.Error() != "lost" {
			t.Errorf("got %v", err)
		}
		y.checkUntouched(t, "all finished", "", err)
	}
	if checked != 2 {
		t.Errorf("checked %d times", checked)
	}
}

func TestFinishedFilesNeedNoRoom(t *testing.T) {
	y := newYard(t, Directory)
	interrupt(t, y, 2)
	dir := filepath.Join(y.parent, ".out.graft-plan")
	set, err := y.job(Options{}).set(func(name string) (*filecopy.Source, error) { return openSource(filepath.Join(y.parent, "model", name)) })
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	for _, name := range []string{"w1", "w2"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want += info.Size()
	}
	if got := finishedSize(dir, "plan", set.Files); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	if err := os.Truncate(filepath.Join(dir, "w1"), 1); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"plan", "other"} {
		if got := finishedSize(dir, id, set.Files); got >= want {
			t.Errorf("%s: got %d", id, got)
		}
	}
}

// TestParseJournal cuts a journal at every length and puts odd lines into it.
func TestParseJournal(t *testing.T) {
	lines := []string{
		journalHead + "id\n",
		entry{"a", 1, 2}.String(),
		entry{"b c\n\"é\\", 1 << 40, 0xffffffff}.String(),
		entry{"a", 3, 4}.String(),
	}
	text := strings.Join(lines, "")
	for n := range len(text) + 1 {
		done, end := parseJournal([]byte(text[:n]), "id")
		whole, count := 0, 0
		for _, l := range lines {
			if whole+len(l) > n {
				break
			}
			whole += len(l)
			count++
		}
		if end != int64(whole) || len(done) != min(max(count-1, 0), 2) {
			t.Errorf("cut at %d: got %v, %d", n, done, end)
		}
		if want := uint32(4); n == len(text) && done["a"].crc != want {
			t.Errorf("the later line does not count: %v", done)
		}
	}
	for _, line := range []string{
		"\n", "x\n", "00000002 1\n", "2 1 \"a\"\n", "00000002 01 \"a\"\n", "00000002 1 a\n", "00000002 1 `a`\n",
		"0000000002 1 \"a\"\n", "00000002 1 \"a\" \n", "00000002 1  \"a\"\n", "00000002 99999999999999999999 \"a\"\n", "00000002 1 \"a\"\r\n", "0000000G 1 \"a\"\n",
	} {
		if done, end := parseJournal([]byte(lines[0]+line+lines[1]), "id"); len(done) != 0 || end != int64(len(lines[0])) {
			t.Errorf("%q: got %v, %d", line, done, end)
		}
	}
}

// TestJournalBegins opens a journal over what is none of the plan's, twice: nothing of
// the old text may come to count when the first line is right.
func TestJournalBegins(t *testing.T) {
	line := entry{"a", 1, 2}.String()
	for _, old := range []string{journalHead + "plan1\n" + line, journalHead + "plan2\n" + "torn" + line, "x\n" + line, strings.Repeat("\x00", 50) + "\n" + line} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, journalName), []byte(old), 0o666); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			j, err := openJournal(dir, "plan2", true)
			if err != nil {
				t.Fatal(err)
			}
			if j.finished() != 0 {
				t.Errorf("%q: %v counts", old, j.done)
			}
			if err := j.close(); err != nil {
				t.Error(err)
			}
		}
		if got, want := load(t, filepath.Join(dir, journalName)), journalHead+"plan2\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

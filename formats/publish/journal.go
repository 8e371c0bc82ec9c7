package publish

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// journalName is the journal's name in the staging directory. No file of a set may have it.
const journalName = stagingPrefix + "journal"

// journalHead begins the first line of a journal, which ends with the plan's ID.
const journalHead = "graft journal 1 "

// entry is a line of the journal: a weight file that is finished and, unless that is left out,
// durable.
type entry struct {
	name string
	size int64
	crc  uint32 // CRC-32C of the whole file
}

func (e entry) String() string { return fmt.Sprintf("%08x %d %q\n", e.crc, e.size, e.name) }

// journal lists the finished weight files of a staging directory, one a line. Only whole lines
// count: the last one may be torn by a crash. Of two for a name the later one counts. A
// nil journal is one that nobody keeps.
type journal struct {
	path   string
	id     string
	noSync bool
	f      *os.File // nil when closed
	end    int64    // of the lines that count
	done   map[string]entry
}

// parseJournal returns the files that a journal lists and where the part of it that
// counts ends: at 0 where it is no journal of the plan.
func parseJournal(text []byte, id string) (done map[string]entry, end int64) {
	done = map[string]entry{}
	for line := range bytes.Lines(text) {
		if end == 0 {
			if string(line) != journalHead+id+"\n" {
				return done, 0
			}
		} else if e, ok := parseEntry(string(line)); ok {
			done[e.name] = e
		} else {
			return done, end
		}
		end += int64(len(line))
	}
	return done, end
}

// parseEntry reads a line. One that is not written exactly as it should be does not count.
func parseEntry(line string) (entry, bool) {
	fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
	if len(fields) != 3 {
		return entry{}, false
	}
	crc, err1 := strconv.ParseUint(fields[0], 16, 32)
	size, err2 := strconv.ParseInt(fields[1], 10, 64)
	name, err3 := strconv.Unquote(fields[2])
	e := entry{name, size, uint32(crc)}
	return e, err1 == nil && err2 == nil && err3 == nil && e.String() == line
}

// openJournal opens the journal of a staging directory, or begins one.
func openJournal(dir, id string, noSync bool) (*journal, error) {
	j := &journal{path: filepath.Join(dir, journalName), id: id, noSync: noSync, done: map[string]entry{}}
	if info, err := os.Lstat(j.path); err == nil && (!info.Mode().IsRegular() || info.Size() > formats.MaxIndexBytes) {
		if err := os.RemoveAll(j.path); err != nil {
			return nil, j.failed(err)
		}
	}
	var err error
	if j.f, err = fault.OpenFile(j.path, os.O_CREATE|os.O_RDWR); err != nil {
		return nil, j.failed(err)
	}
	if err := j.begin(); err != nil {
		j.f.Close()
		return nil, j.failed(err)
	}
	return j, nil
}

func (j *journal) begin() error {
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	if size := info.Size(); size > 0 {
		text := make([]byte, size)
		if err := formats.ReadFullAt(own{j.f}, text, 0); err != nil {
			return err
		}
		if j.done, j.end = parseJournal(text, j.id); j.end < size {
			if err := fault.Truncate(j.f, j.end); err != nil {
				return err
			}
		}
	}
	if j.end == 0 {
		return j.append(journalHead + j.id + "\n")
	}
	return nil
}

func (j *journal) append(line string) error {
	if _, err := fault.WriteAt(j.f, []byte(line), j.end); err != nil {
		return err
	}
	j.end += int64(len(line))
	if j.noSync {
		return nil
	}
	return fault.Sync(j.f)
}

// add records that a file is finished.
func (j *journal) add(e entry) error {
	if j == nil {
		return nil
	}
	if err := j.append(e.String()); err != nil {
		return j.failed(err)
	}
	j.done[e.name] = e
	return nil
}

// finished returns how many files are.
func (j *journal) finished() int {
	if j == nil {
		return 0
	}
	return len(j.done)
}

// close closes the file. The journal's list stays.
func (j *journal) close() error {
	if j == nil || j.f == nil {
		return nil
	}
	err := fault.Close(j.f)
	j.f = nil
	if err != nil {
		return j.failed(err)
	}
	return nil
}

// restore writes the journal again where it was removed for a publication that failed.
// What it cannot write down is not finished any more.
func (j *journal) restore() {
	if _, err := os.Lstat(j.path); err == nil {
		return // it failed before that
	}
	done := j.done
	j.done = nil
	fresh, err := openJournal(filepath.Dir(j.path), j.id, j.noSync)
	if err != nil {
		return
	}
	*j = *fresh
	for _, e := range done {
		if j.add(e) != nil {
			return
		}
	}
}

func (j *journal) failed(err error) error { return formats.Outputf(j.path, formats.Cause(err), "") }

// finishedSize returns the bytes of the weight files that a journal lists and that are
// there: what resuming does not need room for.
func finishedSize(dir, id string, files []File) int64 {
	text, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		return 0
	}
	done, _ := parseJournal(text, id)
	var n int64
	for _, f := range files {
		e, ok := done[f.Name]
		info, err := os.Lstat(filepath.Join(dir, f.Name))
		if ok && err == nil && f.Weights && info.Size() == e.size && f.Size == e.size {
			n += f.Size
		}
	}
	return n
}

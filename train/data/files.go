package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/seed-b982eded/graft/formats"
)

// maxUnpacked bounds what is read of a compressed file: a small one can hold any amount of
// nothing.
const maxUnpacked = 64 << 30

// maxFiles bounds the files that patterns stand for.
const maxFiles = 100_000

// Expand replaces patterns (*, ? and […], as [filepath.Match] has them) by the files that
// they stand for, in order of name. A path that exists is taken as it is. It is an error if a
// pattern matches nothing.
func Expand(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		_, err := os.Stat(path)
		if err == nil || !strings.ContainsAny(path, "*?[") {
			out = append(out, path)
			continue
		}
		matches, err := filepath.Glob(path)
		if err != nil {
			return nil, formats.Usagef("pattern %s: %v", formats.Quote(path), err)
		}
		if len(matches) == 0 {
			return nil, formats.Rejectf(path, "", "no file matches")
		}
		slices.Sort(matches)
		out = append(out, matches...)
	}
	if len(out) > maxFiles {
		return nil, formats.Usagef("%d data files (want at most %d)", len(out), maxFiles)
	}
	return out, nil
}

// ReadFiles reads files in order, of which each may be JSON Lines, a JSON array, Parquet
// (both told by their content), CSV or TSV (told by the ending of the name), and all but
// Parquet compressed by gzip. Paths may be patterns, see [Expand]. An error is a
// [formats.ErrInput] and lists the first 20 faults of the first file that has any, by line,
// or by row in Parquet.
func ReadFiles(paths []string, opt ReadOptions) ([]Record, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	files, err := Expand(paths)
	if err != nil {
		return nil, err
	}
	var all []Record
	for _, path := range files {
		records, err := readFile(path, opt)
		if err != nil {
			return nil, err
		}
		all = append(all, records...)
	}
	return all, nil
}

func readFile(path string, opt ReadOptions) ([]Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, ioError(path, err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<16)
	head, err := in.Peek(512)
	if err != nil && err != io.EOF {
		return nil, ioError(path, err)
	}
	name := strings.ToLower(path)
	if bytes.HasPrefix(head, []byte("PAR1")) {
		return readParquet(path, f, opt)
	}
	if bytes.HasPrefix(head, []byte("\x1f\x8b")) {
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return nil, ioError(path, err)
		}
		name = strings.TrimSuffix(name, ".gz")
		in = bufio.NewReaderSize(&limited{unpacked, maxUnpacked}, 1<<16)
		if head, err = in.Peek(512); err != nil && err != io.EOF {
			return nil, ioError(path, err)
		}
	}
	first := bytes.TrimLeftFunc(bytes.TrimPrefix(head, utf8BOM), unicode.IsSpace)
	switch {
	case strings.HasSuffix(name, ".csv"):
		return readTable(path, in, ',', opt)
	case strings.HasSuffix(name, ".tsv"):
		return readTable(path, in, '\t', opt)
	case bytes.HasPrefix(first, []byte("[")):
		return readArray(path, in, opt)
	}
	return readLines(path, in, opt)
}

// limited fails, and does not end, after n bytes.
type limited struct {
	r io.Reader
	n int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.n -= int64(n); l.n < 0 {
		return 0, formats.Rejectf("", "", "more than %d bytes when unpacked", int64(maxUnpacked))
	}
	return n, err
}

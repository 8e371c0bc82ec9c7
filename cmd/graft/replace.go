package main

import (
	"errors"
	"io"
	"os"
	"regexp"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

// ownWriting is how a report of graft begins, as JSON and as a page.
var ownWriting = regexp.MustCompile(`^(\{\s*"schema":\s*"graft\.|<!DOCTYPE html>[^"]*<html lang="en">\s*<head>\s*<meta charset="utf-8">\s*<meta name="generator" content="graft )`)

// ownWritingBytes is enough of a file to see that.
const ownWritingBytes = 512

// checkReplace refuses to write a report where another file is: only one that graft wrote, or
// an empty one, is replaced without a word.
func checkReplace(path string) error {
	if err := atomicfile.Check(path, false, true); err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return formats.Outputf(path, formats.Cause(err), "")
	}
	defer f.Close()
	head := make([]byte, ownWritingBytes)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return formats.Outputf(path, formats.Cause(err), "")
	}
	if n == 0 || ownWriting.Match(head[:n]) {
		return nil
	}
	return formats.Outputf(path, nil, "it exists, and is no report or page that graft wrote").WithHint("choose another name, or remove it")
}

// checkNotStdout refuses -, by which other programs mean stdout.
func checkNotStdout(flag, path string) error {
	if path != "-" {
		return nil
	}
	e := formats.Usagef("--%s writes a file, and not to stdout (got %s)", flag, formats.Quote(path))
	return e.WithHint("./- is a file of that name; --json prints the report")
}

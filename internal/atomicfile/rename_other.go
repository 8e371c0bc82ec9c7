//go:build !linux

package atomicfile

func renameNoReplace(from, to string) error { return checkedRename(from, to) }

func exchange(from, to string) error { return replaceDir(from, to) }

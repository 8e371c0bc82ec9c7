package atomicfile

import (
	"io/fs"
	"os"
)

// checkedRename is renameNoReplace for systems that cannot do it in one step.
func checkedRename(from, to string) error {
	if exists(to) {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// asideSuffix marks old content that replaceDir has put aside.
const asideSuffix = ".old"

// replaceDir is exchange for systems that cannot swap names: the old directory
// goes aside, the new one comes in, the old one is removed. If the second step
// fails the old one comes back.
func replaceDir(from, to string) error {
	aside := from + asideSuffix
	if err := os.Rename(to, aside); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		os.Rename(aside, to)
		return err
	}
	return os.RemoveAll(aside)
}

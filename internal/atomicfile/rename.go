package atomicfile

import (
	"io/fs"
	"os"

	"github.com/seed-b982eded/graft/internal/fault"
)

// checkedRename is renameNoReplace for systems that cannot do it in one step.
func checkedRename(from, to string) error {
	if exists(to) {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return fault.Rename(from, to)
}

// asideSuffix marks old content that replace has put aside.
const asideSuffix = ".old"

// replace is exchange for systems that cannot swap names. The old content goes aside and
// the new one comes in; if the second step fails the old one comes back. A file's old
// content gets a second name instead, so that the first is never missing.
func replace(from, to string, dir bool) (swapped, error) {
	aside := from + asideSuffix
	if dir {
		if err := fault.Rename(to, aside); err != nil {
			return swapped{}, err
		}
		if err := fault.Rename(from, to); err != nil {
			os.Rename(aside, to)
			return swapped{}, err
		}
		return swapped{drop: aside, undo: func() error {
			if err := fault.Rename(to, from); err != nil {
				return err
			}
			return fault.Rename(aside, to)
		}}, nil
	}
	if err := os.Link(to, aside); err != nil {
		return swapped{undo: func() error { return err }}, fault.Rename(from, to) // no links here
	}
	if err := fault.Rename(from, to); err != nil {
		os.Remove(aside)
		return swapped{}, err
	}
	return swapped{drop: aside, undo: func() error {
		if err := os.Link(to, from); err != nil {
			return err
		}
		return fault.Rename(aside, to)
	}}, nil
}

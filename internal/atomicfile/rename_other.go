//go:build !linux

package atomicfile

import "errors"

func renameNoReplace(from, to string) error { return checkedRename(from, to) }

func exchange(a, b string) error { return errors.ErrUnsupported }

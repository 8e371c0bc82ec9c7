package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

// usualID has the length of the IDs that [NewDir] and [NewFile] choose.
const usualID = "0123456789abcdef"

// checkName refuses a name that the file system takes, but not with what a staging place
// adds to it. Only the file system knows its limit, so it is asked for such a place.
func checkName(out string) error {
	staging := Path(out, usualID) + asideSuffix
	_, err := os.Lstat(staging)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if _, err := os.Lstat(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // it is not the staging that is wrong
	}
	more := len(filepath.Base(staging)) - len(filepath.Base(out))
	return formats.Outputf(out, nil, "the name is too long (got %d bytes, and the staging beside it needs %d more)", len(filepath.Base(out)), more).
		WithHint("choose a shorter name")
}

// Left returns the staging places of a name that are there. Beside a result that has just
// been published they are what could not be removed, for another user left it.
func Left(out string) []string {
	prefix := Path(out, "")
	entries, err := os.ReadDir(filepath.Dir(prefix))
	if err != nil {
		return nil
	}
	var left []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(prefix)) {
			left = append(left, filepath.Join(filepath.Dir(out), e.Name()))
		}
	}
	return left
}

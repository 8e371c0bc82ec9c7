package onnx

import (
	"cmp"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// externalFile is a file of external data.
type externalFile struct {
	location string // as a clean path
	file     formats.SourceFile
	tensors  []*Tensor // in the order of their bytes
}

// checkLocation refuses a location that is not a path below the model's directory, by the
// rules of every system that graft runs on.
func checkLocation(location string) error {
	switch {
	case location == "":
		return errors.New("there is none")
	case len(location) > formats.MaxNameBytes:
		return errors.New("too long")
	case strings.ContainsAny(location, "\\\x00") || strings.Contains(location, "://"):
		return errors.New("not a plain relative path")
	case strings.HasPrefix(location, "/"):
		return errors.New("it leads out of the model's directory")
	}
	for part := range strings.SplitSeq(location, "/") {
		if part == ".." {
			return errors.New("it leads out of the model's directory")
		}
	}
	if clean := path.Clean(location); clean == "." || !filepath.IsLocal(filepath.FromSlash(clean)) {
		return errors.New("not a plain relative path")
	}
	return nil
}

// opener opens a file of external data by its clean path.
type opener func(location string) (formats.SourceFile, error)

// openExternals finds the files of external data, in order of first use, and gives the
// tensors their data.
func (m *Model) openExternals(open opener) error {
	byLocation := map[string]*externalFile{}
	for _, t := range m.tensors {
		e := t.External
		if e == nil {
			continue
		}
		clean := path.Clean(e.Location)
		x := byLocation[clean]
		if x == nil {
			if len(byLocation) >= formats.MaxShards {
				return formats.Rejectf(m.Path, t.Key, "more than %d files of external data", formats.MaxShards)
			}
			f, err := open(clean)
			if err != nil {
				var known *formats.Error
				if errors.As(err, &known) && known.Tensor == "" {
					known.Tensor = t.Key
				}
				return err
			}
			x = &externalFile{location: clean, file: f}
			byLocation[clean] = x
			m.externals = append(m.externals, x)
		}
		if size := x.file.Size(); e.Length > size || e.Offset > size-e.Length {
			return formats.Rejectf(m.Path, t.Key, "external_data: it ends past the end of %s (offset %d, length %d, the file has %d bytes)", formats.Quote(e.Location), e.Offset, e.Length, size)
		}
		e.file = x
		x.tensors = append(x.tensors, t)
		t.setData(&filecopy.Section{File: x.file, Off: e.Offset, N: e.Length, Tensor: t.Key}, e.Length)
		t.Data.Name = t.Key
	}
	for _, x := range m.externals {
		if err := x.order(m.Path); err != nil {
			return err
		}
	}
	return nil
}

// order sorts the tensors by their bytes, and refuses those that share some of them.
// Several tensors may lie at one place: that is how equal weights are stored once.
func (x *externalFile) order(file string) error {
	slices.SortStableFunc(x.tensors, func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(a.External.Offset, b.External.Offset), cmp.Compare(a.External.Length, b.External.Length))
	})
	var last *Tensor
	for _, t := range x.tensors {
		e := t.External
		if e.Length == 0 {
			continue
		}
		if last != nil && e.Offset < last.External.Offset+last.External.Length && !sameRange(last, t) {
			return formats.Rejectf(file, t.Key, "external_data: it overlaps that of %s in %s (bytes %d to %d, and %d to %d)", formats.Quote(last.Key), formats.Quote(x.location),
				e.Offset, e.Offset+e.Length, last.External.Offset, last.External.Offset+last.External.Length)
		}
		last = t
	}
	return nil
}

// sameRange reports whether two external tensors have the same bytes of the same file.
func sameRange(a, b *Tensor) bool {
	return a.External.file == b.External.file && a.External.Offset == b.External.Offset && a.External.Length == b.External.Length
}

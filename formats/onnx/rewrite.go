package onnx

import (
	"slices"

	"github.com/seed-b982eded/graft/internal/filecopy"
)

// tensor edits a TensorProto: its data, where that lies, and what follows from it. In
// changed are the files of external data that get other bytes.
func (s *splicer) tensor(it *item, changed map[*externalFile]bool) error {
	t := it.old
	was := t.External
	dims, typ := !slices.Equal(it.dims, t.Dims), it.typ != t.DataType
	moves := false
	if it.external != nil {
		moves = was == nil || *it.external != place{was.Location, was.Offset, was.Length}
	}
	inside := it.external == nil && (it.edited || was != nil)
	checksum := was != nil && was.checksum && changed[was.file]
	if !dims && !typ && !moves && !inside && !checksum {
		return nil
	}
	if r, ok := t.Data.Data.(*filecopy.Section); ok && inside && was == nil && !dims && !typ {
		var c content
		c.tensor(it.data)
		s.list = append(s.list, splice{t.msg, r.Off, r.N, c})
		return nil
	}
	at := t.msg.end // where new fields go: to the place of the first that goes
	drop := func(f field) {
		at = min(at, f.start)
		if n := len(s.list); n > 0 {
			if last := &s.list[n-1]; last.in == t.msg && last.at+last.remove == f.start {
				last.remove += f.end - f.start // values in fields of their own are many
				return
			}
		}
		s.replace(t.msg, f, content{})
	}
	err := s.s.fields(t.msg, func(f field) error {
		switch f.num {
		case tensorDims:
			if dims {
				drop(f)
			}
		case tensorDataType:
			if typ {
				drop(f)
			}
		case tensorFloatData, tensorInt32Data, tensorInt64Data, tensorRawData, tensorDoubleData, tensorUint64Data:
			if inside || moves {
				drop(f)
			}
		case tensorExternalData:
			key, err := s.entryKey(t.msg, f)
			if err != nil {
				return err
			}
			switch key {
			case "checksum":
				if inside || moves || checksum {
					drop(f)
				}
			case "location", "offset", "length":
				if inside || moves {
					drop(f)
				}
			default: // others are kept with the place that they speak of
				if inside {
					drop(f)
				}
			}
		case tensorLocation:
			if inside || moves {
				drop(f)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var c content
	if dims {
		c.add(dimsFields(it.dims))
	}
	if typ {
		c.integer(tensorDataType, int64(it.typ))
	}
	switch {
	case inside:
		c.add(rawField(it.data))
	case moves:
		c.add(externalFields(*it.external))
		c.integer(tensorLocation, 1)
	}
	s.insert(t.msg, at, c)
	return nil
}

// entryKey reads the key of an entry of external_data.
func (s *splicer) entryKey(parent *message, f field) (key string, err error) {
	entry := &message{parent: parent, depth: parent.depth + 1, begin: f.begin, end: f.end}
	return key, s.s.fields(entry, func(f field) error {
		if f.num != pairKey {
			return nil
		}
		b, err := s.s.read(f)
		key = string(b)
		return err
	})
}

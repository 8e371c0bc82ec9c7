package onnx

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// splice puts bytes in the place of others in a message. The bytes are of whole fields, or
// of one field's value when their number stays.
type splice struct {
	in         *message
	at, remove int64
	with       content
}

// splicer collects splices of a model file.
type splicer struct {
	m    *Model
	s    scanner // to find fields again
	list []splice
}

func newSplicer(m *Model) *splicer {
	return &splicer{m: m, s: scanner{r: m.file, size: m.file.Size(), path: m.Path}}
}

func (s *splicer) replace(in *message, f field, with content) {
	s.list = append(s.list, splice{in, f.start, f.end - f.start, with})
}

func (s *splicer) insert(in *message, at int64, with content) {
	if with.size > 0 {
		s.list = append(s.list, splice{in: in, at: at, with: with})
	}
}

// assemble returns the changed file. It changes the length prefixes around the splices,
// from the inside out.
func (s *splicer) assemble() (content, error) {
	grown := map[*message]int64{}
	var touched [][]*message // by depth
	touch := func(m *message) {
		if _, ok := grown[m]; ok {
			return
		}
		grown[m] = 0
		for len(touched) <= m.depth {
			touched = append(touched, nil)
		}
		touched[m.depth] = append(touched[m.depth], m)
	}
	all := slices.Clone(s.list)
	for _, x := range all {
		for m := x.in; m != nil; m = m.parent {
			touch(m)
		}
		grown[x.in] += x.with.size - x.remove
	}
	for depth := len(touched) - 1; depth > 0; depth-- {
		for _, m := range touched[depth] {
			if grown[m] == 0 {
				continue
			}
			var prefix content
			prefix.literal(protowire.AppendVarint(nil, uint64(m.end-m.begin+grown[m])))
			all = append(all, splice{m.parent, m.length, m.begin - m.length, prefix})
			grown[m.parent] += grown[m] + prefix.size - (m.begin - m.length)
		}
	}
	// What is inserted at the end of a message comes before what follows the message, and
	// what is inserted before a field comes before what replaces it.
	slices.SortStableFunc(all, func(a, b splice) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.in.depth, a.in.depth), cmp.Compare(min(a.remove, 1), min(b.remove, 1)))
	})
	var out content
	at := int64(0)
	for _, x := range all {
		if x.at < at {
			return content{}, s.s.rejectAt(x.at, "two edits of the same bytes")
		}
		out.fileRange(s.m.file, at, x.at-at)
		out.add(x.with)
		at = x.at + x.remove
	}
	out.fileRange(s.m.file, at, s.m.file.Size()-at)
	return out, nil
}

// after returns where the last field of a number in a message ends; without one, where
// the message does.
func (s *splicer) after(m *message, num number) (int64, error) {
	at := m.end
	err := s.s.fields(m, func(f field) error {
		if f.num == num {
			at = f.end
		}
		return nil
	})
	return at, err
}

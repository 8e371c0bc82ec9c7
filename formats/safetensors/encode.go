package safetensors

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/seed-b982eded/graft/formats"
)

// encodeHeader returns the length, the header and its padding for a shard, as the
// Rust library writes them: compact, metadata first, padded with spaces so that
// tensor bytes start at a multiple of 8.
func encodeHeader(s formats.Shard) ([]byte, error) {
	out := make([]byte, 8, 8+128*(len(s.Tensors)+1))
	out = append(out, `{"__metadata__":{`...)
	hasFormat := false
	for i, m := range s.Metadata {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(out, m.Key)
		out = append(out, ':')
		out = appendString(out, m.Value)
		hasFormat = hasFormat || m.Key == "format"
	}
	if !hasFormat { // transformers refuses a file without it
		if len(s.Metadata) > 0 {
			out = append(out, ',')
		}
		out = append(out, `"format":"pt"`...)
	}
	out = append(out, '}')
	var at int64
	for _, t := range s.Tensors {
		out = append(out, ',')
		out = appendString(out, t.Name)
		out = append(out, `:{"dtype":"`...)
		out = append(out, t.DType.String()...)
		out = append(out, `","shape":[`...)
		for i, d := range t.Shape {
			if i > 0 {
				out = append(out, ',')
			}
			out = strconv.AppendInt(out, d, 10)
		}
		out = append(out, `],"data_offsets":[`...)
		out = strconv.AppendInt(out, at, 10)
		out = append(out, ',')
		at += t.Size()
		out = strconv.AppendInt(out, at, 10)
		out = append(out, `]}`...)
	}
	out = append(out, '}')
	for len(out)%8 != 0 {
		out = append(out, ' ')
	}
	if n := len(out) - 8; n > formats.MaxHeaderBytes {
		return nil, fmt.Errorf("header would be too large (got %d bytes, want at most %d)", n, formats.MaxHeaderBytes)
	}
	binary.LittleEndian.PutUint64(out, uint64(len(out)-8))
	return out, nil
}

// appendString appends s as a JSON string with the escapes that JSON demands and no
// others, as the Rust library does.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\n':
			out = append(out, `\n`...)
		case '\r':
			out = append(out, `\r`...)
		case '\t':
			out = append(out, `\t`...)
		case '\b':
			out = append(out, `\b`...)
		case '\f':
			out = append(out, `\f`...)
		default:
			if c < 0x20 {
				out = fmt.Appendf(out, `\u%04x`, c)
			} else {
				out = append(out, c)
			}
		}
	}
	return append(out, '"')
}

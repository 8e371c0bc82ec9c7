package formats

import (
	"math"
	"strings"
	"testing"
)

// spec lists the element types of the safetensors library, version 0.8.0, in its order,
// with their widths in bits.
var spec = []struct {
	dtype DType
	name  string
	bits  int64
}{
	{Bool, "BOOL", 8}, {F4, "F4", 4}, {F6E2M3, "F6_E2M3", 6}, {F6E3M2, "F6_E3M2", 6}, {U8, "U8", 8}, {I8, "I8", 8},
	{F8E5M2, "F8_E5M2", 8}, {F8E4M3, "F8_E4M3", 8}, {F8E8M0, "F8_E8M0", 8}, {F8E4M3FNUZ, "F8_E4M3FNUZ", 8}, {F8E5M2FNUZ, "F8_E5M2FNUZ", 8},
	{I16, "I16", 16}, {U16, "U16", 16}, {F16, "F16", 16}, {BF16, "BF16", 16}, {I32, "I32", 32}, {U32, "U32", 32}, {F32, "F32", 32},
	{C64, "C64", 64}, {F64, "F64", 64}, {I64, "I64", 64}, {U64, "U64", 64},
}

func TestDTypes(t *testing.T) {
	if len(spec) != len(dtypes)-1 {
		t.Errorf("got %d types, want %d", len(dtypes)-1, len(spec))
	}
	for i, s := range spec {
		if int(s.dtype) != i+1 || s.dtype.String() != s.name || s.dtype.Bits() != s.bits {
			t.Errorf("type %d: got %d %s of %d bits, want %s of %d", i+1, s.dtype, s.dtype, s.dtype.Bits(), s.name, s.bits)
		}
		if d, err := ParseDType(s.name); d != s.dtype || err != nil {
			t.Errorf("%s: parsed as %v, %v", s.name, d, err)
		}
		float := s.name == "F64" || s.name == "F32" || s.name == "F16" || s.name == "BF16"
		if s.dtype.IsFloat() != float {
			t.Errorf("%s: IsFloat is %v", s.name, s.dtype.IsFloat())
		}
	}
	for _, name := range []string{"", "F7", "f32", "F32 ", "invalid", "FLOAT", "F8", "BOOL\n", strings.Repeat("F", 1000)} {
		d, err := ParseDType(name)
		if err == nil || d != InvalidDType {
			t.Errorf("%.20q: parsed as %v", name, d)
			continue
		}
		if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, "F8_E4M3,") || len(text) > 600 {
			t.Errorf("%.20q: error %q", name, text)
		}
	}
	for _, d := range []DType{InvalidDType, 200} {
		if d.Bits() != 0 || d.IsFloat() || d.String() == "" {
			t.Errorf("%v has %d bits", d, d.Bits())
		}
	}
}

func TestByteSize(t *testing.T) {
	for _, c := range []struct {
		dtype DType
		shape []int64
		want  int64 // −1: refused
	}{
		{F32, nil, 4},
		{F32, []int64{}, 4},
		{U8, []int64{7}, 7},
		{F32, []int64{3, 5, 7}, 420},
		{F32, []int64{0}, 0},
		{F32, []int64{3, 0, 5}, 0},
		{F4, []int64{2}, 1},
		{F4, []int64{3}, -1},
		{F4, nil, -1},
		{F4, []int64{3, 2}, 3},
		{F6E2M3, []int64{4}, 3},
		{F6E3M2, []int64{5}, -1},
		{F6E3M2, []int64{2, 3}, -1},
		{C64, []int64{3}, 24},
		{InvalidDType, []int64{1}, -1},
		{F32, []int64{-1}, -1},
		{F32, []int64{0, -1}, -1},
		{F32, []int64{-2, -3}, -1},
		{F32, []int64{math.MinInt64, 2}, -1},
		{U8, []int64{1 << 62, 4}, -1},
		{U8, []int64{1 << 32, 1 << 32}, -1},
		{U8, []int64{1 << 32, 1 << 32, 0}, -1}, // overflow counts even beside a zero
		{U8, []int64{0, 1 << 32, 1 << 32}, 0},
		{U8, []int64{1 << 60}, 1 << 60},
		{U8, []int64{1 << 61}, -1}, // its bits overflow
		{F64, []int64{1 << 57}, 1 << 60},
		{F64, []int64{1 << 58}, -1},
		{F4, []int64{1 << 62}, -1},
		{F4, []int64{1 << 61}, 1 << 60},
		{U8, []int64{math.MaxInt64}, -1},
		{U8, []int64{math.MaxInt64, math.MaxInt64}, -1},
	} {
		got, err := ByteSize(c.dtype, c.shape)
		if c.want < 0 && err == nil || c.want >= 0 && (err != nil || got != c.want) {
			t.Errorf("%s %v: got %d, %v; want %d", c.dtype, c.shape, got, err, c.want)
		}
	}
}

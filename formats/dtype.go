package formats

import (
	"fmt"
	"strings"
)

// DType is the type of a tensor's elements as they are encoded: little-endian,
// packed without padding. Its order is the one that the safetensors library sorts
// tensors by (growing alignment).
type DType uint8

// The element types of safetensors 0.8, the widest set in use.
const (
	InvalidDType DType = iota
	Bool
	F4 // two elements a byte
	F6E2M3
	F6E3M2
	U8
	I8
	F8E5M2
	F8E4M3
	F8E8M0
	F8E4M3FNUZ
	F8E5M2FNUZ
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	C64 // two float32: real, imaginary
	F64
	I64
	U64
)

var dtypes = [...]struct {
	name string
	bits int64
}{
	InvalidDType: {"invalid", 0},
	Bool:         {"BOOL", 8}, F4: {"F4", 4}, F6E2M3: {"F6_E2M3", 6}, F6E3M2: {"F6_E3M2", 6},
	U8: {"U8", 8}, I8: {"I8", 8}, F8E5M2: {"F8_E5M2", 8}, F8E4M3: {"F8_E4M3", 8}, F8E8M0: {"F8_E8M0", 8},
	F8E4M3FNUZ: {"F8_E4M3FNUZ", 8}, F8E5M2FNUZ: {"F8_E5M2FNUZ", 8},
	I16: {"I16", 16}, U16: {"U16", 16}, F16: {"F16", 16}, BF16: {"BF16", 16},
	I32: {"I32", 32}, U32: {"U32", 32}, F32: {"F32", 32},
	C64: {"C64", 64}, F64: {"F64", 64}, I64: {"I64", 64}, U64: {"U64", 64},
}

// String returns the name that safetensors headers use, such as "BF16".
func (d DType) String() string {
	if int(d) < len(dtypes) {
		return dtypes[d].name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Bits returns the size of one element in bits; 4 and 6 for the packed types.
func (d DType) Bits() int64 {
	if int(d) < len(dtypes) {
		return dtypes[d].bits
	}
	return 0
}

// IsFloat reports whether the type is one of the four that graft computes with:
// F64, F32, F16 and BF16.
func (d DType) IsFloat() bool { return d == F64 || d == F32 || d == F16 || d == BF16 }

// ParseDType returns the type with the given safetensors name. Names are
// case-sensitive, as in the format.
func ParseDType(name string) (DType, error) {
	for d, t := range dtypes {
		if d != 0 && t.name == name {
			return DType(d), nil
		}
	}
	return InvalidDType, fmt.Errorf("unknown dtype %s (known: %s)", Quote(name), strings.Join(dtypeNames(), ", "))
}

func dtypeNames() []string {
	var names []string
	for _, t := range dtypes[1:] {
		names = append(names, t.name)
	}
	return names
}

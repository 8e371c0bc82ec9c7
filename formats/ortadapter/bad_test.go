package ortadapter

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/seed-b982eded/graft/formats"
)

// small is a file made by hand. Both tables share a vtable.
func small() []byte {
	b := make([]byte, 111)
	put := func(off int, values ...uint32) {
		for i, v := range values {
			binary.LittleEndian.PutUint32(b[off+4*i:], v)
		}
	}
	put(0, 32)
	copy(b[4:], "TORT")
	for i, v := range []uint16{12, 20, 4, 8, 12, 16} { // at 8
		binary.LittleEndian.PutUint16(b[8+2*i:], v)
	}
	put(32, 32-8, 1, 5, 0xfffffffa, 4) // the root table: vtable, versions, parameters
	put(52, 1, 4)                      // parameters
	put(60, 60-8, 16, 24, 2, 28)       // the parameter: vtable, name, dims, data_type, raw_data
	put(80, 1)                         // its name
	b[84] = 'w'
	put(92, 1, 3, 0) // dims
	put(104, 3)      // raw_data
	copy(b[108:], []byte{7, 8, 9})
	return b
}

func TestSmall(t *testing.T) {
	f, err := readBytes(small())
	if err != nil {
		t.Fatal(err)
	}
	x := f.Parameters[0]
	if f.AdapterVersion != 5 || f.ModelVersion != -6 || len(f.Parameters) != 1 || x.Name != "w" || x.DType != formats.U8 ||
		x.Size() != 3 || len(x.Shape) != 1 || string(bytesOf(t, x)) != "\x07\x08\x09" {
		t.Errorf("got %+v", f)
	}
}

// change is a place of small and what is put there.
type change struct {
	off  int
	text string
}

func u32(off int, v uint32) change {
	return change{off, string(binary.LittleEndian.AppendUint32(nil, v))}
}

func u16(off int, v uint16) change {
	return change{off, string(binary.LittleEndian.AppendUint16(nil, v))}
}

var bad = []struct {
	name    string
	want    string
	changes []change
}{
	{"another identifier", `got identifier "TORU", want "TORT"`, []change{{4, "TORU"}}},
	{"safetensors", `no adapter file`, []change{{0, "\x20\x00\x00\x00\x00\x00\x00\x00{\"a\""}}},
	{"no root", "the root table lies outside the file (offset 0 from 0", []change{u32(0, 0)}},
	{"root at the end", "the root table lies outside the file (offset 111 from 0", []change{u32(0, 111)}},
	{"root far away", "the root table lies outside the file (offset 4294967292", []change{u32(0, 0xfffffffc)}},
	{"root not aligned", "the root table is not aligned", []change{u32(0, 33)}},
	{"vtable before the file", "the vtable of the root table lies outside the file", []change{u32(32, 1000)}},
	{"vtable behind the file", "the vtable of the root table lies outside the file", []change{u32(32, 0xffffff00)}},
	{"vtable far away", "the vtable of the root table lies outside the file", []change{u32(32, 0x80000000)}},
	{"vtable not aligned", "the vtable of the root table is not aligned", []change{u32(32, 23)}},
	{"vtable of odd length", "malformed (got 11 bytes", []change{u16(8, 11)}},
	{"vtable too short", "malformed (got 2 bytes", []change{u16(8, 2)}},
	{"vtable with unknown fields", "the root table has fields that are not known (got 5, want at most 4)", []change{u16(8, 14)}},
	{"vtable ends behind the file", "the vtable of parameter 0 lies outside the file", []change{u32(60, 0xffffffff-47), u16(108, 12)}},
	{"table ends behind the file", "the root table lies outside the file (80 bytes at 32", []change{u16(10, 80)}},
	{"table too short", "the root table lies outside the file (3 bytes", []change{u16(10, 3)}},
	{"field outside its table", "format_version lies outside the root table (offset 17, the table has 20 bytes)", []change{u16(12, 17)}},
	{"field over the vtable's offset", "format_version lies outside the root table (offset 2", []change{u16(12, 2)}},
	{"field not aligned", "format_version is not aligned", []change{u16(12, 6)}},
	{"version 0", "format_version 0 is not supported (want 1)", []change{u32(36, 0)}},
	{"version 2", "format_version 2 is not supported (want 1)", []change{u32(36, 2)}},
	{"no version", "format_version 0 is not supported", []change{u16(12, 0)}},
	{"no parameters", "parameters is missing in the root table", []change{u16(18, 0)}},
	{"parameters behind the file", "parameters lies outside the file", []change{u32(48, 63)}},
	{"parameters not aligned", "the length of parameters is not aligned", []change{u32(48, 6)}},
	{"too many parameters for the file", "parameters ends behind the file (1000000000 elements", []change{u32(52, 1_000_000_000)}},
	{"parameter nowhere", "parameter 0 lies outside the file (offset 0 from 56", []change{u32(56, 0)}},
	{"parameter behind the file", "parameter 0 lies outside the file", []change{u32(56, 55)}},
	{"parameter not aligned", "parameter 0 is not aligned", []change{u32(56, 5)}},
	{"name nowhere", "name lies outside the file (offset 0", []change{u32(64, 0)}},
	{"name behind the file", "name lies outside the file", []change{u32(64, 0x7fffffff)}},
	{"name too long for the file", "the name of parameter 0 ends behind the file (28 elements", []change{u32(80, 28)}},
	{"name without its zero", "the name of parameter 0 does not end with a zero byte", []change{{85, "x"}}},
	{"name up to the end", "with its final zero lies outside the file", []change{u32(80, 27)}},
	{"name empty", "the name is empty", []change{u32(80, 0), {84, "\x00"}}},
	{"name with a control character", `name "\n" has a control character`, []change{{84, "\n"}}},
	{"name not UTF-8", `name "\xff" is not UTF-8`, []change{{84, "\xff"}}},
	{"dims nowhere", "dims lies outside the file", []change{u32(68, 0)}},
	{"dims not aligned", "the length of dims is not aligned", []change{u32(68, 25)}},
	{"too many dims for the file", "dims ends behind the file (2 elements of 8 bytes", []change{u32(92, 2)}},
	{"no dims", "dims are empty", []change{u32(92, 0)}},
	{"negative dim", "negative dimension", []change{{96, "\xff\xff\xff\xff\xff\xff\xff\xff"}}},
	{"large dim", "raw_data has 3 bytes, but dims [1152921504606846975] of U8", []change{{96, "\xff\xff\xff\xff\xff\xff\xff\x0f"}}},
	{"overflow", "overflows 64 bits", []change{{96, "\xff\xff\xff\xff\xff\xff\xff\x0f"}, u32(72, 1)}},
	{"no type", "data_type 0 is not supported", []change{u32(72, 0)}},
	{"string", "data_type 8 is not supported", []change{u32(72, 8)}},
	{"bool", "data_type 9 is not supported", []change{u32(72, 9)}},
	{"complex", "data_type 14 is not supported", []change{u32(72, 14)}},
	{"uint4", "data_type 21 is not supported", []change{u32(72, 21)}},
	{"negative type", "data_type -1 is not supported", []change{u32(72, 0xffffffff)}},
	{"wider type", "raw_data has 3 bytes, but dims [3] of F32 take 12", []change{u32(72, 1)}},
	{"data nowhere", "raw_data lies outside the file", []change{u32(76, 0)}},
	{"data not aligned", "the length of raw_data is not aligned", []change{u32(76, 29)}},
	{"data too long for the file", "raw_data ends behind the file (4 elements", []change{u32(104, 4)}},
	{"data too short", "raw_data has 2 bytes, but dims [3] of U8 take 3", []change{u32(104, 2)}},
	{"data of 4 GiB", "raw_data ends behind the file", []change{u32(104, 0xffffffff)}},
}

func TestBad(t *testing.T) {
	for _, c := range bad {
		t.Run(c.name, func(t *testing.T) {
			_, err := readBytes(changed(c.changes))
			checkError(t, err, formats.ErrInput, c.want, `reading "f"`)
		})
	}
}

func changed(changes []change) []byte {
	b := small()
	for _, x := range changes {
		copy(b[x.off:], x.text)
	}
	return b
}

// TestCut: no beginning of a file is one.
func TestCut(t *testing.T) {
	for n := range small() {
		_, err := readBytes(small()[:n])
		checkError(t, err, formats.ErrInput, `reading "f"`)
		_, err = Open(save(t, small()[:n]))
		checkError(t, err, formats.ErrInput, "x.onnx_adapter")
	}
	if _, err := readBytes(append(small(), 0)); err != nil {
		t.Errorf("bytes behind the last part are nobody's: %v", err)
	}
}

// TestMissingFields takes one field after the other out of a parameter with a vtable of
// its own.
func TestMissingFields(t *testing.T) {
	for slot, want := range []string{"name is missing in parameter 0", "dims is missing in parameter 0", "data_type 0 is not supported", "raw_data is missing in parameter 0"} {
		b := append(small(), 0)
		at := len(b)
		for i := range uint16(6) {
			b = binary.LittleEndian.AppendUint16(b, []uint16{12, 20, 4, 8, 12, 16}[i])
		}
		binary.LittleEndian.PutUint16(b[at+4+2*slot:], 0)
		binary.LittleEndian.PutUint32(b[60:], uint32(60-at))
		_, err := readBytes(b)
		checkError(t, err, formats.ErrInput, want)
	}
}

// fieldAt returns where a field of a parameter lies in a good file.
func fieldAt(content []byte, parameter, slot int) int {
	root := flatbuffers.Table{Bytes: content, Pos: flatbuffers.GetUOffsetT(content)}
	list := root.Vector(flatbuffers.UOffsetT(root.Offset(4 + 2*slotParameters)))
	p := flatbuffers.Table{Bytes: content, Pos: root.Indirect(list + flatbuffers.UOffsetT(4*parameter))}
	return int(p.Pos) + int(p.Offset(flatbuffers.VOffsetT(4+2*slot)))
}

// TestSharedParts: FlatBuffers may share what is the same. Data may be shared; a name used
// twice is one parameter too many.
func TestSharedParts(t *testing.T) {
	content := encode(t, inMemory("a", formats.U8, []byte{1, 2, 3, 4}, 4), inMemory("b", formats.U8, []byte{5, 6, 7, 8}, 2, 2))
	share := func(slot int) []byte {
		b := append([]byte{}, content...)
		first, second := fieldAt(b, 0, slot), fieldAt(b, 1, slot)
		to := first + int(binary.LittleEndian.Uint32(b[first:]))
		binary.LittleEndian.PutUint32(b[second:], uint32(to-second))
		return b
	}
	f, err := readBytes(share(slotRawData))
	if err != nil {
		t.Fatal(err)
	}
	if got := bytesOf(t, f.Parameters[1]); string(got) != "\x01\x02\x03\x04" {
		t.Errorf("got %v", got)
	}
	// Here the first's name lies behind the second's field or before it.
	from, to := share(slotName), append([]byte{}, content...)
	first, second := fieldAt(to, 0, slotName), fieldAt(to, 1, slotName)
	if at := second + int(binary.LittleEndian.Uint32(to[second:])); first < second {
		binary.LittleEndian.PutUint32(to[first:], uint32(at-first)) // offsets lead forward
		from = to
	}
	_, err = readBytes(from)
	checkError(t, err, formats.ErrInput, `tensor "b": duplicate name`)
}

// TestHeaderIsBounded: a file whose parameters share their dimensions cannot make the
// reader hold much more than it has.
func TestHeaderIsBounded(t *testing.T) {
	const n = 250_000
	tables := 56 + 4*n
	names := tables + 20*n
	dims := names + 12*n
	data := dims + 4 + 8*formats.MaxRank
	b := small()[:52]
	b = binary.LittleEndian.AppendUint32(b, n)
	for i := range n {
		b = binary.LittleEndian.AppendUint32(b, uint32(tables+20*i-(56+4*i)))
	}
	for i := range n {
		at := tables + 20*i
		for _, v := range []int{at - 8, names + 12*i - (at + 4), dims - (at + 8), 2, data - (at + 16)} {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
	}
	for i := range n {
		b = binary.LittleEndian.AppendUint32(b, 7)
		b = fmt.Appendf(b, "%07d\x00", i)
	}
	b = binary.LittleEndian.AppendUint32(b, formats.MaxRank)
	b = append(b, make([]byte, 8*formats.MaxRank+4)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readBytes(b)
	runtime.ReadMemStats(&after)
	checkError(t, err, formats.ErrInput, "names and dimensions take more than 100000000 bytes")
	if got := after.TotalAlloc - before.TotalAlloc; got > 4*formats.MaxHeaderBytes {
		t.Errorf("%d bytes were taken for a file of %d", got, len(b))
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "none"))
	checkError(t, err, formats.ErrInput, "no such file")
	_, err = Open(dir)
	checkError(t, err, formats.ErrInput, "not a regular file")
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, small(), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<31); err != nil {
		t.Skip("no file of 2 GiB here: ", err)
	}
	_, err = Open(large)
	checkError(t, err, formats.ErrInput, "too large for an adapter file (got 2147483648 bytes, want at most 2147483647)")
	if err := os.Truncate(large, 1<<31-1); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, large)
}

// TestChangedFile: a file that is not what it was when it was opened.
func TestChangedFile(t *testing.T) {
	path := save(t, small())
	f := mustOpen(t, path)
	if err := os.Truncate(path, 109); err != nil {
		t.Fatal(err)
	}
	_, err := f.Parameters[0].ReadAll()
	checkError(t, err, formats.ErrInput, path)
	f.Close()
	_, err = f.Parameters[0].ReadAll()
	checkError(t, err, formats.ErrInput, path)
}

func TestIs(t *testing.T) {
	for head, want := range map[string]bool{"": false, "\x08\x00\x00\x00TOR": false, "TORT\x00\x00\x00\x00": false, string(small()): true, "????TORT": true} {
		if Is([]byte(head)) != want {
			t.Errorf("%s: want %v", formats.Quote(strings.Clone(head)), want)
		}
	}
}

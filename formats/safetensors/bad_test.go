package safetensors

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// one is a header with one tensor of 4 bytes.
const one = `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`

// entry4 is one with a part of the entry replaced.
func entry4(fields string) string { return `{"w":{` + fields + `}}` }

// badFiles are files that must be refused, each with what the line must say. The Rust
// library (0.8.0) refuses them too, except for: names that come twice (8), white space
// before the object and a newline behind it (9), unknown fields (10), more than 64
// dimensions and 2^63 beside a zero (12), empty names and control characters (17).
var badFiles = []struct {
	name    string
	content []byte
	want    []string
}{
	// 1–6: lengths
	{"1 empty", nil, []string{"too short (got 0 bytes, want at least 8)"}},
	{"2 seven bytes", []byte("1234567"), []string{"too short (got 7 bytes, want at least 8)"}},
	{"2 no header", make([]byte, 8), []string{"empty header"}},
	{"2 no header, with data", make([]byte, 64), []string{"empty header"}},
	{"3 all ones", withLength(1<<64-1, "{}"), []string{"header is too large (got 18446744073709551615 bytes, want at most 100000000)"}},
	{"3 sign bit", withLength(1<<63, "{}"), []string{"header is too large (got 9223372036854775808"}},
	{"3 overflows with 8", withLength(1<<64-8, "{}"), []string{"header is too large"}},
	{"3 one above the limit", withLength(100_000_001, "{}"), []string{"header is too large (got 100000001 bytes, want at most 100000000)"}},
	{"3 at the limit", withLength(100_000_000, "{}"), []string{"header is larger than the file (got 2 bytes after the length, header wants 100000000)"}},
	{"4 cut in the header", withLength(uint64(len(one))+1, one), []string{"header is larger than the file (got 54 bytes after the length, header wants 55)", "truncated"}},
	{"5 one byte short", file(one, "abc"), []string{"truncated: 1 bytes are missing (got 3 bytes of tensor data, header wants 4)"}},
	{"5 no data", file(one, ""), []string{"truncated: 4 bytes are missing"}},
	{"6 one byte more", file(one, "abcde"), []string{"1 bytes after the last tensor (got 5 bytes of tensor data, header wants 4)"}},
	{"6 a zip behind it", file(one, "abcdPK\x03\x04"), []string{"4 bytes after the last tensor"}},
	{"6 data of no tensor", file("{}", "x"), []string{"1 bytes after the last tensor"}},

	// 7–8: names
	{"7 not UTF-8", file(`{"`+"\xff"+`":{},"`+"\xfe"+`":{}}`, ""), []string{"invalid UTF-8 at byte 2"}},
	{"7 lone surrogates", file(`{"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\ud801":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), []string{`bad \u escape`}},
	{"8 twice", file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, "abcd"), []string{`duplicate name "w"`}},
	{"8 twice, escaped", file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0077":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, "abcd"), []string{`duplicate name "w"`}},
	{"8 a field twice", file(entry4(`"dtype":"F32","dtype":"U8","shape":[4],"data_offsets":[0,4]`), "abcd"), []string{`tensor "w"`, `duplicate name "dtype"`}},
	{"8 metadata twice", file(`{"__metadata__":{},"__metadata__":{}}`, ""), []string{`duplicate name "__metadata__"`}},
	{"8 a metadata key twice", file(`{"__metadata__":{"a":"1","a":"2"}}`, ""), []string{`duplicate name "a"`}},

	// 9: what is no object
	{"9 space first", file(" "+one, "abcd"), []string{"must be an object starting with '{' (got ' ')"}},
	{"9 newline first", file("\n"+one, "abcd"), []string{`(got '\n')`}},
	{"9 BOM first", file("\xef\xbb\xbf"+one, "abcd"), []string{"must be an object starting with '{'"}},
	{"9 null", file("null", ""), []string{"(got 'n')"}},
	{"9 array", file("[]", ""), []string{"(got '[')"}},
	{"9 number", file("1", ""), []string{"(got '1')"}},
	{"9 newline behind", file(one+"\n", "abcd"), []string{"1 bytes after the object (only spaces may follow)"}},
	{"9 NUL behind", file(one+"\x00", "abcd"), []string{"after the object"}},
	{"9 a second object", file(one+"{}", "abcd"), []string{"2 bytes after the object"}},
	{"9 open object", file(`{"w":{"dtype":"F32"`, ""), []string{"unexpected end"}},
	{"9 spaces for an end", file(`{        `, ""), []string{"unexpected end"}},

	// 10: offsets
	{"10 end before start", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[4,0]`), "abcd"), []string{`tensor "w"`, "data_offsets [4 0]: end before start"}},
	{"10 negative", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[-4,0]`), "abcd"), []string{`tensor "w"`, "data_offsets", "whole number"}},
	{"10 1.0", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[0,4.0]`), "abcd"), []string{`tensor "w"`, `data_offsets: "4.0" is not a whole number`}},
	{"10 1e3", file(entry4(`"dtype":"U8","shape":[1000],"data_offsets":[0,1e3]`), strings.Repeat("x", 1000)), []string{`tensor "w"`, `data_offsets: "1e3"`}},
	{"10 text", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":["0","4"]`), "abcd"), []string{`tensor "w"`, "data_offsets"}},
	{"10 2^64", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551616]`), "abcd"), []string{`tensor "w"`, "18446744073709551616"}},
	{"10 2^63", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775808]`), "abcd"), []string{`tensor "w"`, "below 2^63"}},
	{"10 one number", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[0]`), "abcd"), []string{`tensor "w"`, "data_offsets has 1 numbers (want 2)"}},
	{"10 no number", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[]`), "abcd"), []string{`tensor "w"`, "data_offsets has 0 numbers (want 2)"}},
	{"10 three numbers", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[0,4,8]`), "abcd"), []string{`tensor "w"`, "more than 2"}},
	{"10 null", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":null`), "abcd"), []string{`tensor "w"`}},
	{"10 missing", file(entry4(`"dtype":"F32","shape":[1]`), "abcd"), []string{`tensor "w"`, "data_offsets is missing"}},
	{"10 shape missing", file(entry4(`"dtype":"F32","data_offsets":[0,4]`), "abcd"), []string{`tensor "w"`, "shape is missing"}},
	{"10 dtype missing", file(entry4(`"shape":[1],"data_offsets":[0,4]`), "abcd"), []string{`tensor "w"`, "dtype is missing"}},
	{"10 unknown field", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1`), "abcd"), []string{`tensor "w"`, `unknown field "x"`}},
	{"10 no entry", file(`{"w":1}`, ""), []string{`tensor "w"`, "want '{'"}},
	{"10 past the end", file(entry4(`"dtype":"F32","shape":[1],"data_offsets":[9223372036854775800,9223372036854775804]`), "abcd"), []string{`tensor "w"`, "hole"}},

	// 11: the layout
	{"11 overlap", file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}`, "abcdefg"), []string{`tensor "b"`, `[3, 7) overlap those of "a", which end at 4`}},
	{"11 the same bytes", file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, "abcd"), []string{`tensor "b"`, `overlap those of "a"`}},
	{"11 empty inside", file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}`, "abcd"), []string{`tensor "b"`, `overlap those of "a"`}},
	{"11 hole at the start", file(entry4(`"dtype":"U8","shape":[4],"data_offsets":[1,5]`), "abcde"), []string{`tensor "w"`, "hole of 1 bytes between the header and its bytes [1, 5)"}},
	{"11 hole inside", file(`{"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "abcdef"), []string{`tensor "b"`, `hole of 2 bytes between "a" and its bytes [4, 6)`}},
	{"11 empty beyond the end", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[5,5]}}`, "ab"), []string{`tensor "b"`, "hole of 3 bytes"}},

	// 12–14: shapes and types
	{"12 product overflows", file(entry4(`"dtype":"U8","shape":[4611686018427387904,4],"data_offsets":[0,0]`), ""), []string{`tensor "w"`, "overflows 64 bits"}},
	{"12 bits overflow", file(entry4(`"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]`), ""), []string{`tensor "w"`, "overflows 64 bits"}},
	{"12 overflow before a zero", file(entry4(`"dtype":"U8","shape":[4611686018427387904,4,0],"data_offsets":[0,0]`), ""), []string{`tensor "w"`, "overflows 64 bits"}},
	{"12 2^63 and a zero", file(entry4(`"dtype":"U8","shape":[0,9223372036854775808,2],"data_offsets":[0,0]`), ""), []string{`tensor "w"`, "shape", "below 2^63"}},
	{"12 negative", file(entry4(`"dtype":"U8","shape":[-1],"data_offsets":[0,0]`), ""), []string{`tensor "w"`, "shape", "whole number"}},
	{"12 text", file(entry4(`"dtype":"U8","shape":"[1]","data_offsets":[0,1]`), "a"), []string{`tensor "w"`, "want '['"}},
	{"12 65 dimensions", file(entry4(`"dtype":"U8","shape":[1`+strings.Repeat(",1", 64)+`],"data_offsets":[0,1]`), "a"), []string{`tensor "w"`, "more than 64 dimensions"}},
	{"13 too small a range", file(entry4(`"dtype":"F32","shape":[2,3],"data_offsets":[0,23]`), strings.Repeat("x", 23)), []string{`tensor "w"`, "data_offsets span 23 bytes, but shape [2 3] of F32 takes 24"}},
	{"13 too large a range", file(entry4(`"dtype":"F32","shape":[],"data_offsets":[0,5]`), "abcde"), []string{`tensor "w"`, "span 5 bytes, but shape [] of F32 takes 4"}},
	{"14 unknown dtype", file(entry4(`"dtype":"F7","shape":[1],"data_offsets":[0,1]`), "a"), []string{`tensor "w"`, `unknown dtype "F7"`, "BOOL", "F8_E4M3", "U64"}},
	{"14 lower case", file(entry4(`"dtype":"f32","shape":[1],"data_offsets":[0,4]`), "abcd"), []string{`tensor "w"`, `unknown dtype "f32"`}},
	{"14 no text", file(entry4(`"dtype":1,"shape":[1],"data_offsets":[0,4]`), "abcd"), []string{`tensor "w"`, "dtype"}},
	{"14 odd count of F4", file(entry4(`"dtype":"F4","shape":[3],"data_offsets":[0,2]`), "ab"), []string{`tensor "w"`, "does not fill whole bytes"}},

	// 15: metadata
	{"15 number", file(`{"__metadata__":{"a":1}}`, ""), []string{`__metadata__ "a"`, "want a string"}},
	{"15 object", file(`{"__metadata__":{"a":{}}}`, ""), []string{`__metadata__ "a"`}},
	{"15 null value", file(`{"__metadata__":{"a":null}}`, ""), []string{`__metadata__ "a"`}},
	{"15 array", file(`{"__metadata__":[]}`, ""), []string{"want '{'"}},
	{"15 text", file(`{"__metadata__":"a"}`, ""), []string{"want '{'"}},
	{"15 too much", file(`{"__metadata__":{"a":"`+strings.Repeat("x", 16<<20)+`"}}`, ""), []string{"__metadata__ is too large (want at most 16777216 bytes)"}},

	// 16–17: depth and names
	{"16 deep", file(`{"w":`+strings.Repeat("[", 5_000_000), ""), []string{`tensor "w"`}},
	{"16 deep objects", file(strings.Repeat(`{"w":`, 1_000_000), ""), []string{`tensor "w"`}},
	{"17 empty", file(`{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), []string{"a tensor without a name"}},
	{"17 escape sequence", file(`{"\u001b[31m":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), []string{`"\x1b[31m" has a control character`}},
	{"17 newline", file(`{"a\nb":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), []string{`"a\nb" has a control character`}},
	{"17 C1 control", file(`{"a\u009bb":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), []string{"control character"}},
	{"17 a megabyte", file(`{"`+strings.Repeat("n", 1<<20)+`":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), []string{"too long (got 1048576 bytes, want at most 4096)"}},

	// 19: other things under the name
	{"19 LFS pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 1234\n"), []string{"a Git LFS pointer", "git lfs pull"}},
	{"19 HTML", []byte("<!DOCTYPE html><html><body>404</body></html>"), []string{"an HTML or XML page"}},
	{"19 gzip", gzipped(100), []string{"a gzip archive"}},
	{"19 large gzip", gzipped(1_000_000), []string{"a gzip archive"}},
	{"19 GGUF", []byte("GGUF\x03\x00\x00\x00" + strings.Repeat("\x00", 64)), []string{"a GGUF file"}},
	{"19 zip", []byte("PK\x03\x04\x14\x00\x00\x00" + strings.Repeat("\x00", 64)), []string{"a zip archive (PyTorch .bin or .npz)"}},
	{"19 pickle", []byte("\x80\x02}q\x00X\x05\x00\x00\x00hello."), []string{"a Python pickle"}},
	{"19 JSON", []byte(`{"weight_map": {}}`), []string{"JSON text"}},
	{"19 zeros", make([]byte, 4096), []string{"empty header"}},
}

// gzipped returns a gzip file of at least n bytes.
func gzipped(n int) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	rng := rand.New(rand.NewPCG(1, 1))
	for range n / 8 {
		fmt.Fprintf(w, "%x", rng.Uint64())
	}
	w.Close()
	return out.Bytes()
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	for i, c := range badFiles {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, fmt.Sprintf("%d.safetensors", i))
			if err := os.WriteFile(path, c.content, 0o666); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			checkError(t, err, formats.ErrInput, append(c.want, formats.Quote(path))...)
			os.Remove(path)
		})
	}
}

// TestBadSizesAllocateNothing claims more than the file has; nothing may be allocated
// for the claim.
func TestBadSizesAllocateNothing(t *testing.T) {
	for _, n := range []uint64{1<<64 - 1, 1 << 63, 100_000_001, 99_999_999} {
		content := withLength(n, "{}")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := readHeader(bytes.NewReader(content), int64(len(content)), "f"); err == nil {
			t.Errorf("a header of %d bytes was accepted", n)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
			t.Errorf("a header of %d bytes: %d bytes were allocated", n, got)
		}
	}
}

func TestNotRegular(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir)
	checkError(t, err, formats.ErrInput, "not a regular file", formats.Quote(dir))
	_, err = Open(filepath.Join(dir, "none"))
	checkError(t, err, formats.ErrInput, "no such file")
	_, err = Open("/dev/null")
	if _, statErr := os.Stat("/dev/null"); statErr == nil {
		checkError(t, err, formats.ErrInput, "not a regular file")
	}
}

// goodFiles are odd and yet right.
var goodFiles = []struct {
	name, header, data string
	tensors            int
}{
	{"no tensors", `{}`, "", 0},
	{"no tensors, with metadata", `{"__metadata__":{"a":"b","":""}}`, "", 0},
	{"15 metadata null", `{"__metadata__":null}`, "", 0},
	{"18 scalar", `{"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, "abcd", 1},
	{"18 empty", `{"e":{"dtype":"F64","shape":[3,0,5],"data_offsets":[0,0]}}`, "", 1},
	{"18 empty ones around", `{"e":{"dtype":"F64","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"f":{"dtype":"F64","shape":[0],"data_offsets":[2,2]}}`, "ab", 3},
	{"12 zero first", `{"e":{"dtype":"U8","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}}`, "", 1},
	{"17 path for a name", `{"../../x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"/":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "ab", 2},
	{"17 4096 bytes of name", `{"` + strings.Repeat("n", 4096) + `":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, "", 1},
	{"64 dimensions", `{"w":{"dtype":"U8","shape":[1` + strings.Repeat(",1", 63) + `],"data_offsets":[0,1]}}`, "a", 1},
	{"white space inside", "{ \"w\" :\n{\t\"data_offsets\" : [ 0 , 4 ], \"shape\":[ 1 ],\"dtype\":\"F32\" } }   ", "abcd", 1},
	{"escapes in names", `{"\u0061\/b":{"dtype":"F\u00332","shape":[1],"data_offsets":[0,4]}}`, "abcd", 1},
	{"even count of F4", `{"w":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]}}`, "abc", 1},
}

func TestGoodFiles(t *testing.T) {
	for _, c := range goodFiles {
		for padding := range 8 { // 20: tensor bytes may start anywhere
			content := file(c.header+strings.Repeat(" ", padding), c.data)
			h, err := readHeader(bytes.NewReader(content), int64(len(content)), "f")
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				break
			}
			if len(h.entries) != c.tensors || h.start != int64(len(content)-len(c.data)) {
				t.Errorf("%s: got %d tensors from %d on", c.name, len(h.entries), h.start)
			}
		}
	}
}

package onnx

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats"
)

// nested is a model with an If in an If in an If …
func nested(depth int) string {
	// Lengths are written from the inside out, so that this is quick for any depth.
	var back []byte
	prefix := func(num number) {
		head := long(uint64(len(back)), 4)
		head = string(protowire.AppendTag(nil, num, protowire.BytesType)) + head
		for i := len(head) - 1; i >= 0; i-- {
			back = append(back, head[i])
		}
	}
	for range depth {
		prefix(attributeG)
		prefix(nodeAttribute)
		back = append(back, "fI\x02\x22"...) // op_type "If", backwards
		prefix(graphNode)
	}
	prefix(modelGraph)
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	return string(back)
}

func TestRejected(t *testing.T) {
	one := str(tensorRawData, "\x00\x00\x80\x3f")
	x := func(fields ...string) string { return model(initializer("x", Float, []int64{1}, fields...)) }
	for _, c := range []struct {
		name, content string
		want          []string
	}{
		{"39 empty", "", []string{`reading "m": 0 bytes: not an ONNX model`}},
		{"39 no graph", vi(modelIRVersion, 8), []string{"there is no graph"}},
		{"39 varint of 11 bytes", "\x08" + strings.Repeat("\xff", 10) + "\x01", []string{"at byte 1", "does not fit 64 bits"}},
		{"39 tag of 11 bytes", strings.Repeat("\x80", 10) + "\x01", []string{"at byte 0", "does not fit 64 bits"}},
		{"39 length past the end", "\x3a\x05abcd", []string{"at byte 0", "field 7 goes past the end of its message (got 5 bytes, 4 are left)"}},
		{"39 huge length", "\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abcd", []string{"at byte 0", "goes past the end"}},
		{"39 past the end of the graph", str(modelGraph, "\x0a\x7f") + strings.Repeat("a", 200), []string{"at byte 2", "field 1 goes past the end"}},
		{"39 wire type 3", "\x0b\x0c", []string{"at byte 0", "wire type 3"}},
		{"39 wire type 4", "\x0c", []string{"at byte 0", "wire type 4"}},
		{"39 wire type 6", str(modelGraph, "\x0e"), []string{"at byte 2", "wire type 6"}},
		{"39 wire type 7", str(modelGraph, "\x0f"), []string{"at byte 2", "wire type 7"}},
		{"39 field 0", "\x02\x00", []string{"at byte 0", "field number 0"}},
		{"39 large field", "\xfa\xff\xff\xff\x7f\x00", []string{"at byte 0", "field number 4294967295"}},
		{"39 ends in a fixed number", str(modelGraph, "\x0d\x00\x00\x00"), []string{"at byte 3", "ends within a number"}},
		{"39 wrong type of a graph", vi(modelGraph, 1), []string{"at byte 0", "a graph has wire type 0 (want 2)"}},
		{"39 wrong type of a name", model(str(graphNode, vi(nodeOpType, 1))), []string{"op_type has wire type 0 (want 2)"}},
		{"39 wrong type of a version", str(modelIRVersion, "x"), []string{"ir_version has wire type 2 (want 0)"}},
		{"39 a text", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", []string{"a Git LFS pointer"}},
		{"39 safetensors", "\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":1}", []string{"safetensors"}},
		{"40 nested 300000 deep", nested(300_000), []string{"nested too deeply"}},
		{"42 negative dims", model(initializer("x", Float, []int64{-1}, one)), []string{`tensor "x"`, "negative dimension"}},
		{"42 negative dims outside", model(initializer("x", Float, []int64{-1}, outside("w", "0", "4"))), []string{`tensor "x"`, "negative dimension"}},
		{"42 huge dims", model(initializer("x", Float, []int64{1 << 62, 1 << 62}, one)), []string{`tensor "x"`, "overflows"}},
		{"42 huge bytes", model(initializer("x", Complex128, []int64{1 << 60}, one)), []string{`tensor "x"`, "overflows"}},
		{"42 many dims", model(initializer("x", Float, make([]int64, 65), one)), []string{"more than 64 dimensions"}},
		{"42 raw_data short", x(str(tensorRawData, "abc")), []string{`tensor "x"`, "raw_data does not fit (got 3 bytes, want 4: FLOAT of shape [1])"}},
		{"42 raw_data long", x(str(tensorRawData, "abcde")), []string{`tensor "x"`, "got 5 bytes, want 4"}},
		{"42 no data", x(), []string{`tensor "x"`, "no data (want 4 bytes"}},
		{"42 raw_data and float_data", x(one, f32(tensorFloatData, 1)), []string{`tensor "x"`, "two places: raw_data and float_data"}},
		{"42 float_data and raw_data", x(str(tensorFloatData, "abcd"), one), []string{"two places: raw_data and float_data"}},
		{"42 two typed fields", x(str(tensorFloatData, "abcd"), vi(tensorInt32Data, 1)), []string{"two places: float_data and int32_data"}},
		{"42 raw_data and external", x(one, outside("w", "0", "4")), []string{"two places: raw_data and external_data"}},
		{"42 raw_data and entries", x(one, entry("location", "w")), []string{"two places: raw_data and external_data"}},
		{"42 float_data and external", x(f32(tensorFloatData, 1), outside("w", "0", "4")), []string{"two places: float_data and external_data"}},
		{"42 external without entries", x(vi(tensorLocation, 1)), []string{"external_data is missing"}},
		{"42 unknown place", x(one, vi(tensorLocation, 2)), []string{"unknown data_location 2"}},
		{"42 wrong typed field", x(vi(tensorInt32Data, 1)), []string{"FLOAT elements in int32_data (want float_data)"}},
		{"42 too few floats", model(initializer("x", Float, []int64{2}, f32(tensorFloatData, 1))), []string{"got 1 values, want 2"}},
		{"42 too many floats", x(str(tensorFloatData, "abcdefgh")), []string{"got 2 values, want 1"}},
		{"42 half a float", x(str(tensorFloatData, "abcde")), []string{"typed data of 5 bytes (want a multiple of 4)"}},
		{"42 too few varints", model(initializer("x", Int64, []int64{9}, str(tensorInt64Data, "\x00\x00"))), []string{"got at most 2 values, want 9"}},
		{"42 varints of nothing", model(initializer("x", Int64, []int64{0}, str(tensorInt64Data, "\x00\x00"))), []string{"want 0"}},
		{"42 strings in raw_data", model(initializer("x", String, []int64{1}, str(tensorRawData, "abc"))), []string{"STRING elements cannot be in raw"}},
		{"42 strings in floats", x(one, str(tensorStringData, "a")), []string{"string_data in a tensor of FLOAT"}},
		{"42 segment", x(one, str(tensorSegment)), []string{"a tensor in segments"}},
		{"42 unnamed in a node", model(node("C", str(nodeAttribute, str(attributeT, tensorBody("", Float, []int64{1}))))), []string{"at byte 11", "an unnamed tensor: no data"}},
		{"43 duplicate", model(initializer("x", Float, []int64{1}, one), initializer("x", Float, []int64{1}, one)), []string{`tensor "x"`, "two initializers of a graph have this name"}},
		{"43 duplicate in pieces", model(initializer("x", Float, []int64{1}, one)) + model(initializer("x", Float, []int64{1}, one)), []string{"two initializers"}},
		{"43 duplicate sparse", model(initializer("x", Float, []int64{1}, one), str(graphSparseInitializer, str(sparseValues, tensorBody("x", Float, []int64{1}, one)))), []string{"two initializers"}},
		{"43 unnamed", model(initializer("", Float, []int64{1}, one)), []string{"an initializer without a name"}},
		{"43 long name", model(initializer(strings.Repeat("n", 4097), Float, []int64{1}, one)), []string{"a tensor's name of 4097 bytes"}},
		{"43 node without a kind", model(str(graphNode, str(nodeName, "n"))), []string{"a node without an op_type"}},
		{"44 tensor in pieces", model(node("C", str(nodeAttribute, str(attributeT, tensorBody("", Float, nil, one)), str(attributeT, tensorBody("", Float, nil, one))))), []string{"an attribute's tensor is given twice"}},
		{"44 subgraph in pieces", model(node("C", str(nodeAttribute, str(attributeG), str(attributeG)))), []string{"an attribute's graph is given twice"}},
		{"44 type in pieces", model(str(graphInput, str(valueType), str(valueType))), []string{"a value's type is given twice"}},
		{"44 floats in pieces of bytes", model(node("C", str(nodeAttribute, str(attributeFloats, "abc")))), []string{"3 bytes (want a multiple of 4)"}},
		{"46 no location", x(entry("offset", "0"), vi(tensorLocation, 1)), []string{`tensor "x"`, `location ""`}},
		{"46 empty", x(outside("", "0", "4")), []string{`tensor "x"`, `location ""`}},
		{"46 absolute", x(outside("/etc/passwd", "0", "4")), []string{`tensor "x"`, "leads out"}},
		{"46 up", x(outside("../w", "0", "4")), []string{`tensor "x"`, "leads out"}},
		{"46 up again", x(outside("a/../../w", "0", "4")), []string{`tensor "x"`, "leads out"}},
		{"46 dots", x(outside("..", "0", "4")), []string{"leads out"}},
		{"46 here", x(outside(".", "0", "4")), []string{"not a plain relative path"}},
		{"46 backslash", x(outside(`..\w`, "0", "4")), []string{"not a plain relative path"}},
		{"46 URL", x(outside("http://w", "0", "4")), []string{"not a plain relative path"}},
		{"46 NUL", x(outside("w\x00", "0", "4")), []string{"not a plain relative path"}},
		{"46 very long", x(outside(strings.Repeat("w", 5000), "0", "4")), []string{"too long"}},
		{"46 missing", x(outside("nothing", "0", "4")), []string{`"nothing"`, `tensor "x"`, "no such file"}},
		{"47 negative offset", x(outside("w", "-1", "4")), []string{`tensor "x"`, `offset "-1" is not a whole number`}},
		{"47 offset with a sign", x(outside("w", "+1", "4")), []string{`offset "+1"`}},
		{"47 offset in words", x(outside("w", "one", "4")), []string{`offset "one"`}},
		{"47 offset with an exponent", x(outside("w", "1e0", "4")), []string{`offset "1e0"`}},
		{"47 hexadecimal", x(outside("w", "0x1", "4")), []string{`offset "0x1"`}},
		{"47 2^64", x(outside("w", "18446744073709551616", "4")), []string{`offset "18446744073709551616"`}},
		{"47 2^63", x(outside("w", "9223372036854775808", "4")), []string{`offset "9223372036854775808"`}},
		{"47 empty offset", x(entry("location", "w"), entry("offset", ""), vi(tensorLocation, 1)), []string{`offset ""`}},
		{"47 negative length", x(outside("w", "0", "-4")), []string{`length "-4"`}},
		{"47 past the end", x(outside("w", "61", "4")), []string{`tensor "x"`, "offset 61, length 4, the file has 64 bytes"}},
		{"47 far past the end", x(outside("w", fmt.Sprint(int64(math.MaxInt64)), "4")), []string{"the file has 64 bytes"}},
		{"47 wrong length", x(outside("w", "0", "8")), []string{`tensor "x"`, "got 8 bytes, want 4"}},
		{"47 no length, and too little", model(initializer("x", Float, []int64{17}, outside("w", "", ""))), []string{"offset 0, length 68, the file has 64 bytes"}},
		{"47 no length of an unknown type", model(initializer("x", 99, []int64{1}, outside("w", "", ""))), []string{"no length"}},
		{"47 twice", x(outside("w", "0", "4"), entry("offset", "4")), []string{`external_data has "offset" twice`}},
		{"47 overlap", model(initializer("x", Float, []int64{2}, outside("w", "0", "8")), initializer("y", Float, []int64{1}, outside("./w", "4", "4"))), []string{`tensor "y"`, `overlaps that of "x" in "w" (bytes 4 to 8, and 0 to 8)`}},
		{"48 a petabyte", model(initializer("x", Uint8, []int64{1 << 50}, outside("w", "0", ""))), []string{"length 1125899906842624, the file has 64 bytes"}},
	} {
		m, err := inMemory(c.content)
		if err == nil {
			t.Errorf("%s: accepted: %+v", c.name, m.Graph)
			continue
		}
		checkError(t, err, formats.ErrInput, c.want...)
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
}

// TestNestingIsCounted accepts as much nesting as protobuf does, and no more.
func TestNestingIsCounted(t *testing.T) {
	if _, err := inMemory(nested(33)); err != nil { // 1 + 3 × 33 = 100 messages
		t.Error(err)
	}
	_, err := inMemory(nested(34))
	checkError(t, err, formats.ErrInput, "nested too deeply (want at most 100 levels)")
}

// TestBadValues reads typed data that turns out to be wrong when it is counted.
func TestBadValues(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"too many":      {model(initializer("x", Int64, []int64{2}, str(tensorInt64Data, "\x00\x00\x00"))), "got 3 values, want 2"},
		"too few":       {model(initializer("x", Int64, []int64{2}, str(tensorInt64Data, "\x80\x00"))), "got 1 values, want 2"},
		"too large":     {model(initializer("x", Uint8, []int64{1}, vi(tensorInt32Data, 256))), "a value of 256, which an element of 1 bytes does not hold"},
		"too small":     {model(initializer("x", Int8, []int64{1}, vi(tensorInt32Data, -129))), "a value of -129"},
		"too wide":      {model(initializer("x", Uint32, []int64{1}, vi(tensorUint64Data, 1<<32))), "a value of 4294967296"},
		"cut":           {model(initializer("x", Int64, []int64{1}, str(tensorInt64Data, "\x80"))), "ends within a number"},
		"over 64 bits":  {model(initializer("x", Int64, []int64{1}, str(tensorInt64Data, strings.Repeat("\xff", 11)))), "does not fit 64 bits"},
		"half an int16": {model(initializer("x", Float16, []int64{1}, vi(tensorInt32Data, 65536))), "a value of 65536"},
	} {
		m, err := inMemory(c.content)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		x, _ := m.Checkpoint().Tensor("x")
		_, err = x.ReadAll()
		checkError(t, err, formats.ErrInput, c.want)
		checkError(t, x.Data.(formats.Preparer).Prepare(t.Context()), formats.ErrInput, c.want)
	}
}

// TestTruncated cuts a model at every byte: what is left is refused, unless it ends
// after a field of the model.
func TestTruncated(t *testing.T) {
	content := model(node("Op", str(nodeInput, "a"), str(nodeAttribute, str(attributeName, "k"), vi(attributeI, 300))),
		initializer("x", Int64, []int64{2, 1}, vi(tensorInt64Data, 1), vi(tensorInt64Data, 1000)),
		initializer("y", Float, []int64{1}, str(tensorRawData, "abcd")), str(graphInput, str(valueName, "a")))
	ends := map[int]bool{len(content): true, len(content) - len(str(modelOpsetImport, str(opsetDomain), vi(opsetVersion, 17))): true}
	for n := range len(content) + 1 {
		_, err := inMemory(content[:n])
		if ends[n] != (err == nil) {
			t.Errorf("cut after %d of %d bytes: got %v", n, len(content), err)
		}
		if err != nil {
			var e *formats.Error
			if !errors.As(err, &e) || e.Class != formats.ErrInput || e.File != "m" {
				t.Errorf("cut after %d bytes: got %#v", n, err)
			}
		}
	}
}

// TestSkeletonIsBounded refuses a graph whose parts take far more memory than their bytes.
func TestSkeletonIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a quarter of a gigabyte")
	}
	tiny := strings.Repeat(node("A"), 1_500_000) // 5 bytes each
	_, err := inMemory(str(modelGraph, tiny))
	checkError(t, err, formats.ErrInput, "takes too much memory")
}

// TestLongNames reads nodes whose long names would make every name below them long.
func TestLongNames(t *testing.T) {
	name := str(nodeName, strings.Repeat("n", 1<<20))
	// Half a million attributes have no name of their own.
	if _, err := inMemory(model(node("A", name, strings.Repeat(str(nodeAttribute), 500_000)))); err != nil {
		t.Error(err)
	}
	// Graphs and tensors have one, with the node's in it.
	for _, in := range []string{str(attributeG), str(attributeT, tensorBody("", Uint8, []int64{0}))} {
		_, err := inMemory(model(node("A", name, strings.Repeat(str(nodeAttribute, in), 1000))))
		checkError(t, err, formats.ErrInput, "takes too much memory")
	}
}

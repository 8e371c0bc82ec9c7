package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/seed-b982eded/graft/internal/fault"
)

// badInputs is the table of all that is known to go wrong outside graft, by the numbers of
// one list: files (1–52), command lines (53–55), disks and signals (56–61), concurrency
// (62–63). Rows with exit code 0 look like damage and are none.
//
// What the rows decide, where more than one answer makes sense:
//
//   - 12: sides are whole numbers below 2^63, and their product is taken from the left, so
//     that a 0 makes what follows harmless and not what precedes.
//   - 17: a tensor's name is a name. One that looks like a path is kept, and never used as
//     one; one that could change a terminal is refused.
//   - 24: a total_size that is wrong is put right without a word: nothing depends on it.
//   - 27: a lora_alpha of 0 is told in the summary ("zero delta"). A negative one is taken
//     as it is, like PEFT: it subtracts.
//   - 34: there is no way to leave out what does not fit: an adapter is merged whole.
//   - 40: a graph's parts are counted by what they take in memory, which is eighty times the
//     bytes of the smallest ones; the sums that rows 40b and 40c allow are of all that
//     was ever allocated, about twice what is held at a time.
//   - 43: an initializer that is an input too is a default that a caller may replace, and is
//     merged into. A sparse weight is none that an adapter finds.
//   - 44: what is not known is kept byte for byte, and an operator set that is not known is
//     no reason to refuse: only operators that are known are changed.
//   - 45: how a weight is stored follows from the operator, never from a shape. A weight that
//     is computed from more than one tensor is no layer's.
//   - 46: a file with several names (hard links) is read like any other: every name is as
//     good as the next, and nothing is written in place.
//   - 49: that the data of the output would take the place of data that is read is refused as
//     any other overlap is.
//   - 50–52: pickles are never read, so nothing in them runs; the content of a file
//     decides what it is, not the ending of its name.
//   - 54: a weight that is none is refused where the adapter is there; else the text could
//     be part of its path.
//   - 55: that the output overlaps an input shows once the inputs' headers are read.
//   - 57: a disk that fails under an input is that input's failure, exit 4.
//   - 58: graft does not write in place, so it says that the file system may be to blame.
//   - 59: where graft sits in a system call that nothing can end, as opening a pipe that
//     nobody writes to, the second Ctrl-C ends it.
//   - 60: the staging of a run that was killed goes with the next run for that name. What
//     belongs to another user and cannot go is told, and in nobody's way.
//
// Some rows stand for many, which other tests go through: a file cut at every length
// (TestTruncatedAnywhere, and TestTruncated of ONNX files), every byte of a header changed (TestFlippedHeader), every
// operation of a disk failing (TestEveryOperationFails, TestDiskFailsForGood) or being the
// last before an interruption or a kill (TestCancelledAtEveryOperation,
// TestKilledAtEveryOperation, TestKilledAtRandom, TestKilledMerge), many readers and
// processes (TestManyReaders, TestManyProcesses), and models larger than the memory
// (TestBigMerge).
func badInputs() []badInput {
	return []badInput{
		// safetensors: the length
		{id: "1", what: "an empty file", files: base(""), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: too short (got 0 bytes, want at least 8)`},
		{id: "2a", what: "seven bytes", files: base("1234567"), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: too short (got 7 bytes, want at least 8)`},
		{id: "2b", what: "a header of no length", files: length(0, ""), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: empty header`},
		{id: "3a", what: "a header of 2^64-1 bytes", files: length(1<<64-1, "{}"), cmd: mergeCmd, code: 4, memory: 1, stderr: `reading "base/model.safetensors": header is too large (got 18446744073709551615 bytes, want at most 100000000)`},
		{id: "3b", what: "a header of 2^63 bytes", files: length(1<<63, "{}"), cmd: mergeCmd, code: 4, memory: 1, stderr: `reading "base/model.safetensors": header is too large (got 9223372036854775808 bytes, want at most 100000000)`},
		{id: "3c", what: "a header one byte above the limit", files: length(100_000_001, "{}"), cmd: mergeCmd, code: 4, memory: 1, stderr: `reading "base/model.safetensors": header is too large (got 100000001 bytes, want at most 100000000)`},
		{id: "3d", what: "a header at the limit in a small file", files: length(100_000_000, "{}"), cmd: mergeCmd, code: 4, memory: 1, stderr: `reading "base/model.safetensors": header is larger than the file (got 2 bytes after the length, header wants 100000000): truncated or no safetensors file`},
		{id: "4a", what: "a file that ends one byte before its header", files: length(3, "{}"), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header is larger than the file (got 2 bytes after the length, header wants 3): truncated or no safetensors file`},
		{id: "4b", what: "a file that ends in its header", files: size(weights, 1000), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header is larger than the file (got 992 bytes after the length, header wants 2088): truncated or no safetensors file`},
		{id: "5a", what: "one byte of data is missing", files: size(weights, -1), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": truncated: 1 bytes are missing (got 36707 bytes of tensor data, header wants 36708)`},
		{id: "5b", what: "all data is missing", files: size(weights, 8+2088), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": truncated: 36708 bytes are missing (got 0 bytes of tensor data, header wants 36708)`},
		{id: "5c", what: "one byte of an adapter's data is missing", files: size(factors, -1), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_model.safetensors": truncated: 1 bytes are missing (got 3695 bytes of tensor data, header wants 3696)`},
		{id: "6a", what: "one byte more", files: more(weights, "x"), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": 1 bytes after the last tensor (got 36709 bytes of tensor data, header wants 36708)`},
		{id: "6b", what: "a zip archive behind the data", files: more(weights, "PK\x03\x04\x14\x00"), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": 6 bytes after the last tensor (got 36714 bytes of tensor data, header wants 36708)`},
		{id: "6c", what: "a pickle behind the data", files: more(weights, "\x80\x04cos\nsystem\n."), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": 14 bytes after the last tensor (got 36722 bytes of tensor data, header wants 36708)`},

		// safetensors: names
		{id: "7a", what: "names that differ in invalid UTF-8 alone", files: header(`{"`+"\xff"+`":{},"`+"\xfe"+`":{}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: invalid UTF-8 at byte 2`},
		{id: "7b", what: "names that differ in lone surrogates alone", files: header(`{"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\ud801":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: bad \u escape at byte 2`},
		{id: "8a", what: "one name for two types of the same bytes", files: header(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: duplicate name "w" at byte 57`},
		{id: "8b", what: "one name, escaped the second time", files: header(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0077":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: duplicate name "w" at byte 62`},
		{id: "8c", what: "a field twice", files: entry(`"dtype":"F32","dtype":"U8","shape":[4],"data_offsets":[0,4]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: duplicate name "dtype" at byte 27`},

		// safetensors: no object
		{id: "9a", what: "a space before the object", files: header(` {}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: must be an object starting with '{' (got ' ')`},
		{id: "9b", what: "a byte order mark", files: header("\ufeff{}", 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: must be an object starting with '{' (got byte 0xef)`},
		{id: "9c", what: "a newline before the object", files: header("\n{}", 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: must be an object starting with '{' (got '\n')`},
		{id: "9d", what: "null", files: header("null", 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: must be an object starting with '{' (got 'n')`},
		{id: "9e", what: "an array", files: header("[]", 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: must be an object starting with '{' (got '[')`},
		{id: "9f", what: "a number", files: header("1", 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: must be an object starting with '{' (got '1')`},
		{id: "9g", what: "a second object", files: header("{}{}", 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: 2 bytes after the object (only spaces may follow)`},

		// safetensors: offsets
		{id: "10a", what: "the end before the start", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[4,0]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets [4 0]: end before start`},
		{id: "10b", what: "a negative offset", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[-4,0]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets: unexpected '-' (want a whole number) at byte 48`},
		{id: "10c", what: "an offset of 4.0", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[0,4.0]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets: "4.0" is not a whole number below 2^63 at byte 53`},
		{id: "10d", what: "an offset of 1e3", files: entry(`"dtype":"U8","shape":[1000],"data_offsets":[0,1e3]`, 1000), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets: "1e3" is not a whole number below 2^63 at byte 55`},
		{id: "10e", what: "an offset that is a string", files: entry(`"dtype":"F32","shape":[1],"data_offsets":["0",4]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets: unexpected '"' (want a whole number) at byte 48`},
		{id: "10f", what: "an offset of 2^64", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551616]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets: "18446744073709551616" is not a whole number below 2^63 at byte 70`},
		{id: "10g", what: "an offset of a million digits", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[0,`+manyNines+`]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets: "` + nines + `"… is not a whole number below 2^63 at byte 1000050`},
		{id: "10h", what: "one offset", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[0]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets has 1 numbers (want 2)`},
		{id: "10i", what: "three offsets", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[0,4,4]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets has more than 2 numbers`},
		{id: "10j", what: "no offsets", files: entry(`"dtype":"F32","shape":[1]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets is missing`},

		// safetensors: the layout
		{id: "11a", what: "tensors that overlap", files: header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`, 6), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "b": its bytes [2, 6) overlap those of "a", which end at 4`},
		{id: "11b", what: "a hole at the start", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[1,5]`, 5), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": hole of 1 bytes between the header and its bytes [1, 5)`},
		{id: "11c", what: "a hole in the middle", files: header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "b": hole of 4 bytes between "a" and its bytes [8, 12)`},
		{id: "11d", what: "a hole at the end", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[0,4]`, 8), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": 4 bytes after the last tensor (got 8 bytes of tensor data, header wants 4)`},
		{id: "11e", what: "bytes beyond the file", files: entry(`"dtype":"F32","shape":[1],"data_offsets":[9223372036854775800,9223372036854775804]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": hole of 9223372036854775800 bytes between the header and its bytes [9223372036854775800, 9223372036854775804)`},

		// safetensors: shapes and types
		{id: "12a", what: "a shape whose product overflows", files: entry(`"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,4]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: shape [4611686018427387904 4611686018427387904] overflows 64 bits`},
		{id: "12b", what: "a shape of 2^63, 2 and 0", files: entry(`"dtype":"F32","shape":[9223372036854775808,2,0],"data_offsets":[0,0]`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: shape: "9223372036854775808" is not a whole number below 2^63 at byte 48`},
		{id: "12c", what: "a shape of 0, 2^63 and 2", files: entry(`"dtype":"F32","shape":[0,9223372036854775808,2],"data_offsets":[0,0]`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: shape: "9223372036854775808" is not a whole number below 2^63 at byte 50`},
		{id: "12d", what: "a shape of 0 and sides whose product overflows", files: entry(`"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]`, 0), cmd: "inspect base", code: 0},
		{id: "12e", what: "a side of a million digits", files: entry(`"dtype":"F32","shape":[`+manyNines+`],"data_offsets":[0,4]`, 4), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: shape: "` + nines + `"… is not a whole number below 2^63 at byte 1000029`},
		{id: "12f", what: "65 dimensions", files: entry(`"dtype":"U8","shape":[1`+strings.Repeat(",1", 64)+`],"data_offsets":[0,1]`, 1), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: shape has more than 64 dimensions`},
		{id: "13a", what: "fewer bytes than the shape takes", files: entry(`"dtype":"F32","shape":[3],"data_offsets":[0,8]`, 8), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets span 8 bytes, but shape [3] of F32 takes 12`},
		{id: "13b", what: "more bytes than a scalar takes", files: entry(`"dtype":"F32","shape":[],"data_offsets":[0,5]`, 5), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: data_offsets span 5 bytes, but shape [] of F32 takes 4`},
		{id: "14a", what: "an unknown dtype", files: entry(`"dtype":"F7","shape":[2],"data_offsets":[0,8]`, 8), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: unknown dtype "F7" (known: BOOL, F4, F6_E2M3, F6_E3M2, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64)`},
		{id: "14b", what: "a dtype in lower case", files: entry(`"dtype":"f32","shape":[2],"data_offsets":[0,8]`, 8), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: unknown dtype "f32" (known: BOOL, F4, F6_E2M3, F6_E3M2, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64)`},
		{id: "14c", what: "an odd number of half bytes", files: entry(`"dtype":"F4","shape":[3],"data_offsets":[0,2]`, 2), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: shape [3] of F4 does not fill whole bytes`},
		{id: "14d", what: "dtypes that graft does not compute with, looked at", files: base(zeros([]string{"a F8_E4M3 [2]", "b F4 [2,2]", "c C64 [1]"})), cmd: "inspect base", code: 0},
		{
			id: "14e", what: "dtypes that graft does not compute with, beside the target", cmd: mergeCmd + " --quiet", code: 0,
			files: all(model([]string{"q.weight F32 [4,4]", "a F8_E4M3 [2]", "b F4 [2,2]", "c C64 [1]"}, []string{"base_model.model.q.lora_A.weight F32 [2,4]", "base_model.model.q.lora_B.weight F32 [4,2]"}, `["q"]`), poke(weights, -12, "0102030405060708090a0b0c")),
			check: sameData(weights, "out/model.safetensors"),
		},
		{
			id: "14f", what: "a target of a dtype that graft does not compute with", cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.q.lora_A.weight": cannot merge into "q.weight": its weight is F8_E4M3 (want F64, F32, F16 or BF16)`,
			files: model([]string{"q.weight F8_E4M3 [4,4]"}, []string{"base_model.model.q.lora_A.weight F32 [2,4]", "base_model.model.q.lora_B.weight F32 [4,2]"}, `["q"]`),
		},

		// safetensors: metadata, depth, names
		{id: "15a", what: "metadata that is a number", files: header(`{"__metadata__":{"a":1}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: __metadata__ "a": unexpected '1' (want a string) at byte 21`},
		{id: "15b", what: "metadata that is an object", files: header(`{"__metadata__":{"a":{}}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: __metadata__ "a": unexpected '{' (want a string) at byte 21`},
		{id: "15c", what: "metadata that is null", files: header(`{"__metadata__":{"a":null}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: __metadata__ "a": unexpected 'n' (want a string) at byte 21`},
		{id: "15d", what: "no metadata at all, said with null", files: header(`{"__metadata__":null}`, 0), cmd: "inspect base", code: 0},
		{id: "16a", what: "five million nested arrays", files: header(`{"w":`+strings.Repeat("[", 5_000_000), 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: unexpected '[' (want '{') at byte 5`},
		{id: "16b", what: "five million nested arrays where a field is", files: entry(`"shape":`+strings.Repeat("[", 5_000_000), 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": tensor "w": header: shape: unexpected '[' (want a whole number) at byte 15`},
		{id: "17a", what: "a tensor without a name", files: header(`{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: a tensor without a name`},
		{id: "17b", what: "a name with a terminal's escape sequence", files: header(`{"\u001b[31m":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: tensor name "\x1b[31m" has a control character`},
		{id: "17c", what: "a name with a newline", files: header(`{"a\nb":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: tensor name "a\nb" has a control character`},
		{id: "17d", what: "a name of a megabyte", files: header(`{"`+strings.Repeat("n", 1<<20)+`":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": header: tensor name "` + ens + `"… is too long (got 1048576 bytes, want at most 4096)`},
		{id: "17e", what: "names that are paths are only names", files: base(zeros([]string{"../x F32 [1,1]", "/ F32 [1]"})), cmd: "inspect base --tensors", code: 0, stdout: "\n../x  "},

		// safetensors: little in it, and something else under its name
		{id: "18a", what: "no tensors, looked at", files: header("{}", 0), cmd: "inspect base", code: 0},
		{id: "18b", what: "a scalar and a side of 0, looked at", files: base(zeros([]string{"s F32 []", "e F64 [3,0,5]"})), cmd: "inspect base", code: 0},
		{id: "18c", what: "no tensors, merged into", files: header("{}", 0), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": the base "base" has no module "model.layers.0.mlp.up_proj"` + "\n" + `reading "ad": tensor "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight": the base "base" has no module "model.layers.0.self_attn.o_proj"` + "\n" + `reading "ad": tensor "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": the base "base" has no module "model.layers.0.self_attn.q_proj"` + "\n" + `reading "ad": tensor "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight": the base "base" has no module "model.layers.1.mlp.up_proj"` + "\n" + `reading "ad": tensor "base_model.model.model.layers.1.self_attn.o_proj.lora_A.weight": the base "base" has no module "model.layers.1.self_attn.o_proj"` + "\n" + `reading "ad": tensor "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight": the base "base" has no module "model.layers.1.self_attn.q_proj"`},
		{id: "18d", what: "no tensors in the adapter", files: put(factors, zeros(nil)), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": it holds no tensors`},
		{id: "19a", what: "a Git LFS pointer", files: base("version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 1234\n"), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: it looks like a Git LFS pointer: run "git lfs pull" to get the file itself`},
		{id: "19b", what: "an HTML page", files: base("<!DOCTYPE html><html><body>404</body></html>"), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: it looks like an HTML or XML page`},
		{id: "19c", what: "a gzip archive", files: base("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + strings.Repeat("x", 50)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: it looks like a gzip archive`},
		{id: "19d", what: "a GGUF file", files: base("GGUF\x03\x00\x00\x00" + strings.Repeat("\x00", 64)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: it looks like a GGUF file`},
		{id: "19e", what: "a JSON text", files: base(`{"weight_map": {}}`), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: it looks like JSON text`},
		{id: "20", what: "tensors at an odd place of the file", files: all(copyTo(weights, "aligned"), unalign), cmd: mergeCmd + " --quiet", code: 0, check: sameAs("merge --base aligned --adapter ad --out two --quiet", "out/model.safetensors", "two")},

		// index and shards
		{id: "21a", what: "a shard's name that leads out", files: shardName(`"../x"`), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": shard name "../x": not a plain file name`},
		{id: "21b", what: "a shard's name that is absolute", files: shardName(`"/etc/passwd"`), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": shard name "/etc/passwd": not a plain file name`},
		{id: "21c", what: "a shard's name of Windows", files: shardName(`"C:\\x"`), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": shard name "C:\\x": not a plain file name`},
		{id: "21d", what: "a shard's name in a folder", files: shardName(`"a/b"`), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": shard name "a/b": not a plain file name`},
		{id: "21e", what: "no shard's name", files: shardName(`""`), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": shard name "": not a plain file name`},
		{id: "21f", what: "a shard's name that is a dot", files: shardName(`"."`), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": shard name ".": not a plain file name`},
		{id: "21g", what: "a shard's name with NUL", files: shardName(`"a\u0000b"`), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": shard name "a\x00b": not a plain file name`},
		{id: "21h", what: "a shard's name that is a number of a million digits", files: shardName(manyNines), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": weight_map must name a file (got a number)`},
		{id: "22a", what: "a shard is missing", files: shardIs(remove(second)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00002-of-00002.safetensors": no such file`},
		{id: "22b", what: "a shard is a directory", files: shardIs(mkdir(second)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00002-of-00002.safetensors": not a regular file`},
		{id: "22c", what: "a shard is a pipe", files: shardIs(pipe(second)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00002-of-00002.safetensors": not a regular file`},
		{id: "22d", what: "a shard is a link to a device", files: shardIs(link("/dev/zero", second)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00002-of-00002.safetensors": a link that leads out of the model's directory` + "\n" + `hint: cp -rL makes a copy with the files themselves`},
		{id: "22e", what: "a shard is a socket", files: shardIs(socket(second)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00002-of-00002.safetensors": not a regular file`},
		{id: "22f", what: "the base is a pipe", files: pipe("p"), cmd: "merge --base p --adapter ad --out out", code: 4, stderr: `reading "p": not a regular file`},
		{id: "22g", what: "the base is a device", files: device, cmd: "merge --base /dev/zero --adapter ad --out out", code: 4, stderr: `reading "/dev/zero": not a regular file`},
		{id: "22h", what: "the adapter's factors are a pipe", files: all(remove(factors), pipe(factors)), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_model.safetensors": not a regular file`},
		{id: "22i", what: "the index is a pipe", files: all(sharded, remove(index), pipe(index)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": not a regular file`},
		{id: "23a", what: "a shard is a link that leads out", files: shardIs(link("../second", second)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00002-of-00002.safetensors": a link that leads out of the model's directory` + "\n" + `hint: cp -rL makes a copy with the files themselves`},
		{id: "23b", what: "a shard is a link that leads nowhere", files: shardIs(link("gone", second)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00002-of-00002.safetensors": a link that leads nowhere`},
		{id: "23c", what: "a shard is a link to itself", files: shardIs(link("model-00002-of-00002.safetensors", second)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00002-of-00002.safetensors": a link that leads nowhere`},
		{id: "23d", what: "the links of a Hugging Face cache", files: all(copyTo(weights, "plain"), cache), cmd: "merge --base hub/models--a--b --adapter ad --out out --quiet", code: 0, check: sameAs("merge --base plain --adapter ad --out two --quiet", "out/model.safetensors", "two")},
		{id: "24a", what: "a total_size that is wrong", files: all(sharded, copyTo(index, "right"), sub(index, "195708", "195709")), cmd: "merge --base base --adapter ad=0 --out out --quiet", code: 0, check: same("right", "out/model.safetensors.index.json")},
		{id: "24b", what: "an index cut short", files: all(sharded, size(index, 100)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": unexpected end (want a string) at byte 100`},
		{id: "24c", what: "an index with a name twice", files: all(sharded, sub(index, `"weight_map": {`, `"weight_map": {"embed_tokens.weight": "x",`)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": duplicate name "embed_tokens.weight" at byte 149`},
		{id: "24d", what: "an index that is an array", files: all(sharded, put(index, "[]")), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": must be an object (got an array)`},
		{id: "24e", what: "an index of 65 MiB", files: all(sharded, size(index, 65*mib)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": too large (got 68157440 bytes, want at most 67108864)`},
		{id: "24f", what: "an index without a weight_map", files: all(sharded, put(index, "{}")), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": weight_map must be an object (got null)`},
		{id: "24g", what: "a tensor that the index does not list", files: all(sharded, sub(index, `"embed_tokens.weight"`, `"embed_tokens.wait"`)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors.index.json": tensor "embed_tokens.weight": it is in "model-00001-of-00002.safetensors", but the index does not list it` + "\n" + `reading "base/model.safetensors.index.json": tensor "embed_tokens.wait": the index says it is in "model-00001-of-00002.safetensors", but it is not there`},
		{id: "25", what: "one shard of a hundred is cut short", files: all(hundredShards, size("base/model-00073-of-00100.safetensors", -1)), cmd: mergeCmd, code: 4, stderr: `reading "base/model-00073-of-00100.safetensors": truncated: 1 bytes are missing (got 63 bytes of tensor data, header wants 64)`},

		// adapter_config.json
		{id: "26a", what: "no config", files: remove(config), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": no such file or directory`},
		{id: "26b", what: "a config cut short", files: size(config, 100), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": unexpected end (want ':') at byte 100`},
		{id: "26c", what: "NaN", files: option(`"lora_alpha": 7`, `"lora_alpha": NaN`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": unexpected 'N' (want a value) at byte 503`},
		{id: "26d", what: "a config that is an array", files: put(config, "[]"), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": must be an object (got an array)`},
		{id: "26e", what: "a config of 9 MiB", files: size(config, 9*mib), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": too large (want at most 8388608 bytes)`},
		{id: "26f", what: "a key twice", files: with(`"r": 3`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": duplicate name "r" at byte 787`},
		{id: "26g", what: "a million nested arrays", files: with(`"x": ` + strings.Repeat("[", 1_000_000)), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": nested deeper than 64 at byte 575`},
		{id: "26h", what: "a config that is a directory", files: all(remove(config), mkdir(config)), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": not a regular file`},
		{id: "26i", what: "a config of no bytes", files: size(config, 0), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": unexpected end (want a value) at byte 0`},
		{id: "27a", what: "r is 0", files: option(`"r": 3`, `"r": 0`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": r must be a whole number from 1 to 1048576 (got "0")`},
		{id: "27b", what: "r is -1", files: option(`"r": 3`, `"r": -1`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": r must be a whole number from 1 to 1048576 (got "-1")`},
		{id: "27c", what: "r is 1.5", files: option(`"r": 3`, `"r": 1.5`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": r must be a whole number from 1 to 1048576 (got "1.5")`},
		{id: "27d", what: "r is a string", files: option(`"r": 3`, `"r": "8"`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": r must be a whole number (got a string)`},
		{id: "27e", what: "r is 2^31", files: option(`"r": 3`, `"r": 2147483648`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": r must be a whole number from 1 to 1048576 (got "2147483648")`},
		{id: "27f", what: "r of a million digits", files: option(`"r": 3`, `"r": `+manyNines), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": r must be a whole number from 1 to 1048576 (got "` + nines + `"…)`},
		{id: "27g", what: "r is null", files: option(`"r": 3`, `"r": null`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": r must be a whole number (got null)`},
		{id: "27h", what: "lora_alpha is a string", files: option(`"lora_alpha": 7`, `"lora_alpha": "7"`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": lora_alpha must be a number (got a string)`},
		{id: "27i", what: "lora_alpha is too large", files: option(`"lora_alpha": 7`, `"lora_alpha": 1e999`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": lora_alpha: number "1e999" is out of range`},
		{id: "27j", what: "lora_alpha of a million digits", files: option(`"lora_alpha": 7`, `"lora_alpha": `+manyNines), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": lora_alpha: number "` + nines + `"… is out of range`},
		{id: "27k", what: "lora_alpha is 0", files: option(`"lora_alpha": 7`, `"lora_alpha": 0`), cmd: mergeCmd, code: 0, stderr: `merged 38.8 kB in N s`, stdout: "6 zero delta", check: same(weights, "out/model.safetensors")},
		{id: "27l", what: "lora_alpha is negative", files: option(`"lora_alpha": 7`, `"lora_alpha": -7`), cmd: mergeCmd, code: 0, stderr: `merged 38.8 kB in N s`, check: sameAs("merge --base base --adapter ad --out two --rounding peft --quiet", "out", "two")},
		{id: "27m", what: "a number of a million digits in the model's config", files: all(learner, sub("base/config.json", `"rms_norm_eps": `, `"rms_norm_eps": `+manyNines)), cmd: trainCmd + " --max-steps 1 --out out", code: 4, stderr: `reading "base": config.json: rms_norm_eps must be a positive number (got a number)`},
		{id: "27n", what: "a width of a million digits in the model's config", files: all(learner, sub("base/config.json", `"hidden_size": `, `"hidden_size": `+manyNines)), cmd: trainCmd + " --max-steps 1 --out out", code: 4, stderr: `reading "base": config.json: hidden_size must be a whole number from 1 to 1073741824 (got a number)`},
		{id: "27o", what: "a width of a million digits, merged", files: sub("base/config.json", `"hidden_size": `, `"hidden_size": `+manyNines), cmd: mergeCmd + " --quiet", code: 0},
		{id: "27p", what: "a token's number of a million digits", files: all(learner, sub("base/tokenizer.json", `"id": 0,`, `"id": `+manyNines+`,`)), cmd: trainCmd + " --max-steps 1 --out out", code: 4, stderr: `reading "base/tokenizer.json": added_tokens[0]: id is "` + nines + `"… (want 0 to 16777215)`},
		{id: "27q", what: "a number of a million digits in the data", files: all(learner, put("d.jsonl", `{"text":`+manyNines+`}`)), cmd: trainCmd + " --max-steps 1 --out out", code: 4, stderr: `reading "d.jsonl": line 1: field "text": got number, want a string`},
		{id: "28a", what: "another method", files: option(`"peft_type": "LORA"`, `"peft_type": "IA3"`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_config.json": peft_type "IA3" is not supported (want "LORA")`},
		{id: "28b", what: "a method that nobody knows", files: option(`"peft_type": "LORA"`, `"peft_type": "\u001b[31m"`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_config.json": peft_type "\x1b[31m" is not supported (want "LORA")`},
		{id: "28c", what: "use_dora without magnitudes", files: option(`"use_dora": false`, `"use_dora": true`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": use_dora is set and its magnitude is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight": use_dora is set and its magnitude is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": use_dora is set and its magnitude is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight": use_dora is set and its magnitude is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.self_attn.o_proj.lora_A.weight": use_dora is set and its magnitude is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight": use_dora is set and its magnitude is missing`},
		{id: "28d", what: "modules_to_save without their weights", files: option(`"modules_to_save": null`, `"modules_to_save": ["lm_head"]`), cmd: mergeCmd, code: 5, stderr: `reading "ad": weights are missing for modules that the config's modules_to_save names: "lm_head"`},
		{id: "28e", what: "lora_bias without biases", files: option(`"lora_bias": false`, `"lora_bias": true`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight": lora_bias is set and its bias is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight": lora_bias is set and its bias is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": lora_bias is set and its bias is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight": lora_bias is set and its bias is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight": lora_bias is set and its bias is missing` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight": lora_bias is set and its bias is missing`},
		{id: "28f", what: "bias", files: option(`"bias": "none"`, `"bias": "boft_only"`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_config.json": bias "boft_only" is not supported (want "none", "all" or "lora_only")`},
		{id: "28g", what: "target_parameters", files: option(`"target_parameters": null`, `"target_parameters": ["mlp.experts"]`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_config.json": target_parameters (adapters of raw parameters) is not supported`},
		{id: "28h", what: "megatron_config", files: option(`"megatron_config": null`, `"megatron_config": {"a": 1}`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_config.json": megatron_config (Megatron layers) is not supported`},
		{id: "28i", what: "activated LoRA", files: option(`"alora_invocation_tokens": null`, `"alora_invocation_tokens": [1]`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_config.json": alora_invocation_tokens (activated LoRA) is not supported`},
		{id: "28j", what: "an option that nobody knows", files: with(`"use_magic": true`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_config.json": unknown option "use_magic" with value "true": what it changes is not known`},
		{id: "28k", what: "an option of a million digits that nobody knows", files: with(`"magic": ` + manyNines), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_config.json": unknown option "magic" with value "` + nines + `"…: what it changes is not known`},
		{id: "28l", what: "an option that nobody knows, switched off", files: with(`"use_magic": false`), cmd: mergeCmd + " --quiet", code: 0},
		{id: "28m", what: "fan_in_fan_out on layers that are stored the other way", files: all(right, option(`"fan_in_fan_out": false`, `"fan_in_fan_out": true`)), cmd: mergeCmd + " --quiet", code: 0, check: sameAs("merge --base base --adapter right --out two --quiet", "out", "two")},
		{
			id: "29", what: "paths, addresses and modules in the config are never opened", cmd: mergeCmd + " --quiet", code: 0,
			files: all(right, option(`"auto_mapping": null`, `"auto_mapping": {"base_model_class": "os.system", "parent_library": "../evil"}`), option(`"base_model_name_or_path": "linear-f32"`, `"base_model_name_or_path": "https://example.com/../../etc/passwd"`)),
			fault: noneButInputs, check: sameAs("merge --base base --adapter right --out two --quiet", "out", "two"),
		},
		{id: "30a", what: "target_modules is null", files: setTargets(`null`), cmd: mergeCmd + " --quiet", code: 0},
		{id: "30b", what: "target_modules is empty", files: setTargets(`""`), cmd: mergeCmd + " --quiet", code: 0},
		{id: "30c", what: "target_modules is a regular expression", files: setTargets(`".*\\.(up|o|q)_proj"`), cmd: mergeCmd + " --quiet", code: 0},
		{id: "30d", what: "target_modules names one twice", files: setTargets(`["q_proj", "q_proj", "o_proj", "up_proj"]`), cmd: mergeCmd + " --quiet", code: 0},
		{id: "30e", what: "target_modules selects nothing", files: setTargets(`["zz"]`), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": the config's target_modules do not select module "model.layers.0.mlp.up_proj"` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight": the config's target_modules do not select module "model.layers.0.self_attn.o_proj"` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": the config's target_modules do not select module "model.layers.0.self_attn.q_proj"` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight": the config's target_modules do not select module "model.layers.1.mlp.up_proj"` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.self_attn.o_proj.lora_A.weight": the config's target_modules do not select module "model.layers.1.self_attn.o_proj"` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight": the config's target_modules do not select module "model.layers.1.self_attn.q_proj"`},
		{id: "30f", what: "target_modules is no regular expression", files: setTargets(`"("`), cmd: mergeCmd, code: 4, stderr: "reading \"ad/adapter_config.json\": target_modules: bad regular expression \"(\": error parsing regexp: missing closing ) in `(`"},
		{id: "30g", what: "target_modules is a number", files: setTargets(`1`), cmd: mergeCmd, code: 4, stderr: `reading "ad/adapter_config.json": target_modules must be an array of strings (got a number)`},

		// adapter and base
		{id: "31a", what: "A without B", files: pairOf("q.lora_A F32 [2,4]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_A.weight": its B is missing`},
		{id: "31b", what: "B without A", files: pairOf("q.lora_B F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_B.weight": its A is missing`},
		{id: "32a", what: "A of another width", files: pairOf("q.lora_A F32 [2,5]", "q.lora_B F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.q.lora_A.weight": shapes do not fit "q.weight": ΔW would be [4 5] (got A [2 5], B [4 2], want [4 4])`},
		{id: "32b", what: "B of another height", files: pairOf("q.lora_A F32 [2,4]", "q.lora_B F32 [5,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.q.lora_A.weight": shapes do not fit "q.weight": ΔW would be [5 4] (got A [2 4], B [5 2], want [4 4])`},
		{id: "32c", what: "A and B swapped", files: pairOf("q.lora_A F32 [4,2]", "q.lora_B F32 [2,4]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_A.weight": rank does not match the config (got A [4 2], want 2 rows)` + "\n" + `hint: A and B look transposed or swapped`},
		{id: "32d", what: "A transposed", files: pairOf("q.lora_A F32 [4,2]", "q.lora_B F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_A.weight": factors A and B disagree on the rank (A is [4 2], B is [4 2])` + "\n" + `hint: A and B look transposed or swapped`},
		{id: "32e", what: "A and B of different ranks", files: pairOf("q.lora_A F32 [2,4]", "q.lora_B F32 [4,3]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_A.weight": factors A and B disagree on the rank (A is [2 4], B is [4 3])`},
		{id: "32f", what: "an adapter for the layer the other way round", files: pairOf("v.lora_A F32 [2,6]", "v.lora_B F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.v.lora_A.weight": shapes do not fit "v.weight": ΔW would be [4 6] (got A [2 6], B [4 2], want [6 4])` + "\n" + `hint: A and B look transposed, or the base stores this layer the other way round (fan_in_fan_out)`},
		{id: "32g", what: "factors that are no matrices", files: pairOf("q.lora_A F32 [8]", "q.lora_B F32 [8]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_A.weight": factors must be matrices (A is [8], B is [8])`},
		{id: "32h", what: "factors of rank 0", files: pairOf("q.lora_A F32 [0,4]", "q.lora_B F32 [4,0]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_A.weight": factors of rank 0 (A is [0 4], B is [4 0])`},
		{id: "33a", what: "factors for a module that is not there", files: pairOf("q.lora_A F32 [2,4]", "q.lora_B F32 [4,2]", "k.q.lora_A F32 [2,4]", "k.q.lora_B F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.k.q.lora_A.weight": the base "base" has no module "k.q"` + "\n" + `hint: nearest: "q"`},
		{id: "33b", what: "two sets of factors for one module", files: pairOf("q.lora_A F32 [2,4]", "q.lora_B F32 [4,2]", "_orig_mod.q.lora_A F32 [2,4]", "_orig_mod.q.lora_B F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model._orig_mod.q.lora_A.weight": a second factor for the same place: "base_model.model.q.lora_A.weight" is there too` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model._orig_mod.q.lora_B.weight": a second factor for the same place: "base_model.model.q.lora_B.weight" is there too`},
		{id: "33c", what: "modules that fit in two ways", files: twoWays, cmd: mergeCmd, code: 5, stderr: `reading "ad": its modules are found in the base in 2 ways, for example with "q" as "model.q"`},
		{id: "34", what: "one of two hundred pairs does not fit", files: twoHundred, cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.layers.1000.q.lora_A.weight": the base "base" has no module "model.layers.1000.q"` + "\n" + `reading "ad": factors are missing for modules that the config targets: "layers.137.q"` + "\n" + `hint: nearest: "model.layers.100.q", "model.layers.101.q", "model.layers.102.q"`},
		{id: "35a", what: "factors of I8", files: pairOf("q.lora_A I8 [2,4]", "q.lora_B F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_A.weight": factors must be F64, F32, F16 or BF16 (got I8)`},
		{id: "35b", what: "factors of BOOL", files: pairOf("q.lora_A F32 [2,4]", "q.lora_B BOOL [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.lora_B.weight": factors must be F64, F32, F16 or BF16 (got BOOL)`},
		{id: "35c", what: "factors of F64 and F16", files: pairOf("q.lora_A F64 [2,4]", "q.lora_B F16 [4,2]"), cmd: mergeCmd + " --quiet", code: 0},
		{id: "35d", what: "a base of I8", files: model([]string{"q.weight I8 [4,4]"}, []string{"base_model.model.q.lora_A.weight F32 [2,4]", "base_model.model.q.lora_B.weight F32 [4,2]"}, `["q"]`), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.q.lora_A.weight": cannot merge into "q.weight": its weight is I8 (want F64, F32, F16 or BF16)`},
		{id: "35e", what: "a base that says that it is quantised", files: all(model([]string{"q.weight I8 [4,4]"}, []string{"base_model.model.q.lora_A.weight F32 [2,4]", "base_model.model.q.lora_B.weight F32 [4,2]"}, `["q"]`), sub("base/config.json", `"model_type"`, `"quantization_config": {"quant_method": "gptq"}, "model_type"`)), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.q.lora_A.weight": cannot merge into "q.weight": its weight is I8 (want F64, F32, F16 or BF16)` + "\n" + `hint: the base is quantised (gptq): merge into the model it was made from`},
		{id: "36a", what: "NaN in B", files: poke(factors, -4, "0000c07f"), cmd: mergeCmd, code: 5, when: writing, stderr: `reading "ad": tensor "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight": 1 values are NaN or infinite, the first at row 29, column 2`},
		{id: "36b", what: "infinity in A", files: poke(factors, -608, "0000807f"), cmd: mergeCmd, code: 5, when: writing, stderr: `reading "ad": tensor "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight": 1 values are NaN or infinite, the first at row 0, column 1`},
		{id: "36c", what: "a sum too large for F16", files: half, cmd: "merge --base base --adapter ad=1e6 --out out --workers 1", code: 5, when: writing, stderr: `reading "ad": tensor "model.layers.0.mlp.up_proj.weight": the merged weight is not finite in F16 at row 0, column 0`},
		{id: "36d", what: "NaN in the base's weight", files: poke(weights, -940, "0000c07f"), cmd: mergeCmd, code: 4, when: writing, stderr: `reading "base": tensor "model.layers.1.self_attn.q_proj.weight": the base's weight is NaN at row 29, column 17`},
		{id: "36e", what: "NaN in B, looked for", files: poke(factors, -4, "0000c07f"), cmd: "inspect ad --check", code: 0, stdout: "lora_B.weight  1 NaN among its elements of shape [30 3], the first at row 29, column 2"},
		{id: "36f", what: "the same, to be slimmed", files: poke(factors, -4, "0000c07f"), cmd: "resize --adapter ad --slim --out out", code: 5, stderr: `reading "ad": tensor "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight": 1 values are NaN or infinite, the first at row 29, column 2`},
		{id: "36g", what: "NaN in the base's weight, compared with", files: poke(weights, -940, "0000c07f"), cmd: "inspect ad --check --base base", code: 4, stderr: `reading "base": tensor "model.layers.1.self_attn.q_proj.weight": it has NaN or infinite elements, the first at row 29, column 17`},
		{id: "36h", what: "the same, decomposed", files: poke(weights, -940, "0000c07f"), cmd: "inspect base --spectrum", code: 4, stderr: `reading "base": tensor "model.layers.1.self_attn.q_proj.weight": it has elements that are NaN or infinite, one at row 29, column 17` + "\n" + `hint: --only chooses other layers`},
		{id: "37a", what: "a bias is no layer", files: model([]string{"q.weight F32 [4]"}, []string{"base_model.model.q.lora_A.weight F32 [2,4]", "base_model.model.q.lora_B.weight F32 [4,2]"}, `["q"]`), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.q.lora_A.weight": shapes do not fit "q.weight": ΔW would be [4 4] (got A [2 4], B [4 2], want [4])`},
		{id: "37b", what: "stacked experts", files: model([]string{"mlp.experts.gate_up_proj F32 [2,4,4]"}, []string{"base_model.model.mlp.experts.lora_A.weight F32 [2,4]", "base_model.model.mlp.experts.lora_B.weight F32 [4,2]"}, `["experts"]`), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.mlp.experts.lora_A.weight": the base "base" has no module "mlp.experts"`},
		{id: "37c", what: "a convolution of another kernel", files: model([]string{"conv.weight F32 [4,3,3,3]"}, []string{"base_model.model.conv.lora_A.weight F32 [2,3,1,1]", "base_model.model.conv.lora_B.weight F32 [4,2,1,1]"}, `["conv"]`), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.conv.lora_A.weight": shapes do not fit "conv.weight": ΔW would be [4 3 1 1] (got A [2 3 1 1], B [4 2 1 1], want [4 3 3 3])`},
		{id: "37d", what: "an embedding's factors for a linear layer", files: pairOf("v.lora_embedding_A F32 [2,4]", "v.lora_embedding_B F32 [6,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.v.lora_embedding_A": shapes do not fit "v.weight": ΔW would be [6 4] (got A [2 4], B [6 2], want [4 6])` + "\n" + `hint: A and B look transposed, or the base stores this layer the other way round (fan_in_fan_out)`},
		{id: "37e", what: "a weight that two layers share", files: all(remove("base"), remove("ad"), fixtureAt("peft/embedding-tied/base", "base"), fixtureAt("peft/embedding-tied/adapter", "ad")), cmd: mergeCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.model.embed_tokens.lora_embedding_A": module "model.embed_tokens" shares its weight with another (tie_word_embeddings): changing one would change both` + "\n" + `hint: untie the base first: save it with tie_word_embeddings false and both weights`},
		{id: "38a", what: "keys of kohya's scripts", files: pairOf("lora_unet_q.lora_down F32 [2,4]", "lora_unet_q.lora_up F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "lora_unet_q.lora_down.weight": a key as kohya's scripts write it (want PEFT's lora_A and lora_B)` + "\n" + `reading "ad/adapter_model.safetensors": tensor "lora_unet_q.lora_up.weight": a key as kohya's scripts write it (want PEFT's lora_A and lora_B)`},
		{id: "38b", what: "a scale stored as a tensor", files: pairOf("q.lora_A F32 [2,4]", "q.lora_B F32 [4,2]", "q.alpha F32 []"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.q.alpha": a key as kohya's scripts write it (want PEFT's lora_A and lora_B)`},
		{id: "38c", what: "keys without PEFT's prefix", files: model([]string{"q.weight F32 [4,4]"}, []string{"q.lora_A.weight F32 [2,4]", "q.lora_B.weight F32 [4,2]"}, `["q"]`), cmd: mergeCmd + " --quiet", code: 0},
		{id: "38d", what: "keys of older versions of diffusers", files: pairOf("attn1.processor.to_q_lora.down.weight F32 [2,4]", "attn1.processor.to_q_lora.up.weight F32 [4,2]"), cmd: mergeCmd, code: 5, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.attn1.processor.to_q_lora.down.weight": a key as older versions of diffusers write it (want PEFT's lora_A and lora_B)` + "\n" + `reading "ad/adapter_model.safetensors": tensor "base_model.model.attn1.processor.to_q_lora.up.weight": a key as older versions of diffusers write it (want PEFT's lora_A and lora_B)`},
		{id: "38e", what: "one file of kohya's scripts", files: put("k.safetensors", zeros([]string{"lora_unet_q.lora_down.weight F32 [2,4]"})), cmd: "merge --base base --adapter k.safetensors --out out", code: 4, stderr: `reading "k.safetensors": an adapter is a directory with adapter_config.json and adapter_model.safetensors, or an .onnx_adapter file` + "\n" + `hint: if it is a file of such a directory, name the directory`},

		// ONNX: the wire
		{id: "39a", what: "an empty file", files: onnxBytes(""), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": 0 bytes: not an ONNX model`},
		{id: "39b", what: "the last byte is missing", files: all(good, size("m.onnx", -1)), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 114: field 8 goes past the end of its message (got 4 bytes, 3 are left)`},
		{id: "39c", what: "a varint of eleven bytes", files: onnxBytes("\x08" + strings.Repeat("\xff", 10) + "\x01"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 1: a number does not fit 64 bits`},
		{id: "39d", what: "a length past the end", files: onnxBytes("\x3a\x05abcd"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 0: field 7 goes past the end of its message (got 5 bytes, 4 are left)`},
		{id: "39e", what: "a length of 2^64-1", files: onnxBytes("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abcd"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 0: field 7 goes past the end of its message (got 18446744073709551615 bytes, 4 are left)`},
		{id: "39f", what: "wire type 3", files: onnxBytes(pbInt(1, 8) + "\x3b"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 2: field 7 has wire type 3, which ONNX does not use: not an ONNX model, or damaged`},
		{id: "39g", what: "wire type 4", files: onnxBytes(pbInt(1, 8) + "\x3c"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 2: field 7 has wire type 4, which ONNX does not use: not an ONNX model, or damaged`},
		{id: "39h", what: "wire type 6", files: onnxBytes(pbInt(1, 8) + "\x3e"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 2: field 7 has wire type 6, which ONNX does not use: not an ONNX model, or damaged`},
		{id: "39i", what: "wire type 7", files: onnxBytes(pbInt(1, 8) + "\x3f"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 2: field 7 has wire type 7, which ONNX does not use: not an ONNX model, or damaged`},
		{id: "39j", what: "field 0", files: onnxBytes(pbInt(1, 8) + "\x02\x00"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 2: field number 0 (want 1 to 536870911)`},
		{id: "39k", what: "a file that ends in a number", files: onnxBytes(pbInt(1, 8) + pb(7, "\x0d\x00\x00\x00")), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 5: the message ends within a number`},
		{id: "39l", what: "a graph that is a number", files: onnxBytes(pbInt(1, 8) + pbInt(7, 1)), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 2: a graph has wire type 0 (want 2)`},
		{id: "39m", what: "no graph", files: onnxBytes(pbInt(1, 8)), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": there is no graph in it: not an ONNX model`},
		{id: "39n", what: "a Git LFS pointer", files: onnxBytes("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": not an ONNX model: a Git LFS pointer: run "git lfs pull" to get the file itself`},
		{id: "39o", what: "a web page", files: onnxBytes("<!DOCTYPE html><html></html>"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": not an ONNX model: a web page`},
		{id: "39p", what: "a safetensors file that is called so", files: copyTo(weights, "m.onnx"), cmd: "inspect m.onnx", code: 0, stdout: `"m.onnx": checkpoint`},
		{id: "39q", what: "a model that is not called so", files: all(good, move("m.onnx", "m.safetensors")), cmd: "inspect m.safetensors", code: 0, stdout: `"m.safetensors": ONNX model`},

		// ONNX: what a small file may cost
		{id: "40a", what: "300,000 graphs in one another", files: onnxBytes(nestedGraphs(300_000)), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 632: messages are nested too deeply (want at most 100 levels)`},
		{id: "40b", what: "a graph of nothing but tiny nodes", files: onnxModel(strings.Repeat(pb(1, pb(4, "A")), 1_500_000)), cmd: onnxCmd, code: 4, memory: 400, stderr: `reading "m.onnx": at byte 3043487: the graph takes too much memory (want at most 256 MiB without weights)`},
		{id: "40c", what: "one node of nothing but inputs", files: onnxModel(pb(1, pb(4, "A"), strings.Repeat(pb(1), 9_000_000))), cmd: onnxCmd, code: 4, memory: 700, stderr: `reading "m.onnx": at byte 13421745: the graph takes too much memory (want at most 256 MiB without weights)`},
		{id: "40d", what: "a function that calls itself", files: onnxBytes(calls(2, true)), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": functions call each other more than 100 deep, at node ""`},
		{id: "40e", what: "functions that call each other 2^26 times", files: onnxBytes(calls(26, false)), cmd: onnxCmd, code: 4, memory: 160, stderr: `reading "m.onnx": functions call each other more than 1000000 times`},

		// ONNX: 2 GiB
		{id: "41a", what: "a file of 2 GiB", files: sparseFile("m.onnx", 1<<31), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": 2147483648 bytes (want at most 2147483647, which is all that protobuf allows)` + "\n" + `hint: larger models keep their weights in external data`},
		{id: "41b", what: "weights of 2 GiB that are to go into the file", files: all(unit, sparseFile("w", 1<<31), onnxModel(product("MatMul", "q.weight"), weight([]int64{4, 4}, raw(64)), pb(5, pbInt(1, 1<<29), pbInt(2, 1), pb(8, "big"), outside("w")))), cmd: "merge --base m.onnx --adapter ad --external never --out out", code: 5, memory: 8, stderr: `writing "out": the model file gets too large (got 2147483797 bytes, want at most 2147483647)` + "\n" + `hint: external data has no such limit`},

		// ONNX: shapes and data
		{id: "42a", what: "a negative dimension", files: onnxModel(weight([]int64{-1}, raw(4))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": shape [-1] has a negative dimension`},
		{id: "42b", what: "a shape whose product overflows", files: onnxModel(weight([]int64{1 << 62, 1 << 62}, raw(4))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": shape [4611686018427387904 4611686018427387904] overflows 64 bits`},
		{id: "42c", what: "a shape whose bytes overflow", files: onnxModel(weight([]int64{1 << 59}, raw(4))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": shape [576460752303423488] of FLOAT overflows 64 bits`},
		{id: "42d", what: "a dimension of 0", files: onnxModel(weight([]int64{0, 4}, raw(0))), cmd: "inspect m.onnx", code: 0, stdout: "0 parameters in 1 tensors"},
		{id: "42e", what: "raw_data that is too short", files: onnxModel(weight([]int64{4, 4}, raw(63))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": raw_data does not fit (got 63 bytes, want 64: FLOAT of shape [4 4])`},
		{id: "42f", what: "raw_data that is too long", files: onnxModel(weight([]int64{4, 4}, raw(65))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": raw_data does not fit (got 65 bytes, want 64: FLOAT of shape [4 4])`},
		{id: "42g", what: "no data", files: onnxModel(weight([]int64{4, 4})), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": no data (want 64 bytes: FLOAT of shape [4 4])`},
		{id: "42h", what: "raw_data and float_data", files: onnxModel(weight([]int64{1}, raw(4), pb(4, "abcd"))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": data in two places: raw_data and float_data`},
		{id: "42i", what: "raw_data and external data", files: onnxModel(weight([]int64{1}, raw(4), outside("w"))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": data in two places: raw_data and external_data`},
		{id: "42j", what: "too few floats", files: onnxModel(weight([]int64{2}, pb(4, "abcd"))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": float_data does not fit (got 1 values, want 2: FLOAT of shape [2])`},
		{id: "42k", what: "floats as whole numbers", files: onnxModel(weight([]int64{1}, pbInt(5, 1))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": FLOAT elements in int32_data (want float_data)`},
		{id: "42l", what: "65 dimensions", files: onnxModel(weight(make([]int64, 65), raw(0))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 136: a tensor of more than 64 dimensions`},
		{id: "42m", what: "a tensor in segments", files: onnxModel(weight([]int64{1}, raw(4), pb(3))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 26: a tensor in segments, which nobody reads`},
		{id: "42n", what: "external data of which nothing is said", files: onnxModel(weight([]int64{1}, pbInt(14, 1))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": its data is external, and external_data is missing`},

		// ONNX: names
		{id: "43a", what: "two initializers of one name", files: onnxModel(weight([]int64{1}, raw(4)), weight([]int64{1}, raw(4))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": two initializers of a graph have this name`},
		{id: "43b", what: "an initializer without a name", files: onnxModel(pb(5, tensorFields("", []int64{1}, raw(4)))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 4: an initializer without a name`},
		{id: "43c", what: "a name of a million bytes", files: onnxModel(pb(5, tensorFields(manyNines, []int64{1}, raw(4)))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 6: a tensor's name of 1000000 bytes (want at most 4096)`},
		{id: "43d", what: "an initializer that is an input too", files: all(unit, onnxModel(product("MatMul", "q.weight"), weight([]int64{4, 4}, raw(64)), pb(11, pb(1, "q.weight")))), cmd: onnxCmd + " --quiet", code: 0, check: onlyOne("q.weight", 6)},
		{id: "43e", what: "a sparse weight", files: all(unit, onnxModel(product("MatMul", "q.weight"), pb(15, pb(1, tensorFields("q.weight", []int64{1}, raw(4))), pb(2, pbInt(1, 1), pbInt(2, 7), raw(8)), pbInt(3, 4), pbInt(3, 4)))), cmd: onnxCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.q.lora_A.weight": the base "m.onnx" has no module "q"` + "\n" + `hint: no layer of the graph has a name that tells its module: --weights finds them by the numbers of the checkpoint that it was exported from`},
		{id: "43f", what: "a name that a terminal must not see", files: onnxModel(pb(5, tensorFields("\x1b[31mq", []int64{1}, raw(3)))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "\x1b[31mq": raw_data does not fit (got 3 bytes, want 4: FLOAT of shape [1])`},

		// ONNX: what is not known stays as it is
		{id: "44a", what: "unknown fields, long varints, fields in another order", files: all(unit, onnxBytes(pb(8, pb(1, ""), pbInt(2, 9999))+pb(99, "later")+pb(7, weight([]int64{4, 4}, raw(64), pb(77, "inner")), product("MatMul", "q.weight", pbInt(55, 5)))+"\x08\x88\x80\x00")), cmd: "merge --base m.onnx --adapter ad=0 --out out --quiet", code: 0, check: same("m.onnx", "out")},
		{id: "44b", what: "the same, with a change", files: all(unit, onnxBytes(pb(8, pb(1, ""), pbInt(2, 9999))+pb(99, "later")+pb(7, weight([]int64{4, 4}, raw(64), pb(77, "inner")), product("MatMul", "q.weight", pbInt(55, 5)))+"\x08\x88\x80\x00")), cmd: onnxCmd + " --quiet", code: 0, check: differsIn("m.onnx", "out", 1)},
		{id: "44c", what: "a node without a kind", files: onnxModel(pb(1, pb(3, "n"))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 4: a node without an op_type`},
		{id: "44d", what: "a tensor in two pieces", files: onnxModel(pb(1, pb(4, "C"), pb(5, pb(5, pbInt(2, 1), raw(4)), pb(5, pbInt(2, 1), raw(4))))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": at byte 21: an attribute's tensor is given twice; messages in pieces are not read here`},
		{id: "44e", what: "an operator set that is too old to add to", files: all(unit, onnxBytes(pbInt(1, 3)+pb(7, product("MatMul", "q.weight"), weight([]int64{4, 4}, raw(64)))+pb(8, pbInt(2, 6)))), cmd: "inject --base m.onnx --adapter ad --mode baked --out out", code: 5, stderr: `reading "m.onnx": operator set 6 is too old to add to (want 7 or newer)`},

		// ONNX: how a weight is stored
		{id: "45a", what: "MatMul: as (in, out)", files: all(unit, good), cmd: onnxCmd + " --quiet", code: 0, check: onlyOne("q.weight", 6)},
		{id: "45b", what: "Gemm with transB: as (out, in)", files: all(unit, onnxModel(product("Gemm", "q.weight", pb(5, pb(1, "transB"), pbInt(3, 1), pbInt(20, 2))), weight([]int64{4, 4}, raw(64)))), cmd: onnxCmd + " --quiet", code: 0, check: onlyOne("q.weight", 9)},
		{id: "45c", what: "a Transpose before MatMul: as (out, in)", files: all(unit, onnxModel(pb(1, pb(1, "q.weight"), pb(2, "t"), pb(4, "Transpose")), product("MatMul", "t"), weight([]int64{4, 4}, raw(64)))), cmd: onnxCmd + " --quiet", code: 0, check: onlyOne("q.weight", 9)},
		{id: "45d", what: "a DequantizeLinear before MatMul", files: all(unit, onnxModel(pb(1, pb(1, "q.weight"), pb(1, "s"), pb(2, "t"), pb(4, "DequantizeLinear")), product("MatMul", "t"), pb(5, pbInt(1, 4), pbInt(1, 4), pbInt(2, 3), pb(8, "q.weight"), raw(16)), pb(5, tensorFields("s", nil, raw(4))))), cmd: onnxCmd, code: 5, stderr: `reading "m.onnx": tensor "q.weight": cannot merge into the weight of module "q": it is quantised (DequantizeLinear)` + "\n" + `hint: graft inject adds the adapter to the graph beside it`},
		{id: "45e", what: "a weight that is a sum", files: all(unit, onnxModel(pb(1, pb(1, "q.weight"), pb(1, "s"), pb(2, "t"), pb(4, "Add")), product("MatMul", "t"), weight([]int64{4, 4}, raw(64)), pb(5, tensorFields("s", []int64{4, 4}, raw(64))))), cmd: onnxCmd, code: 5, stderr: `reading "ad": tensor "base_model.model.q.lora_A.weight": the base "m.onnx" has no module "q"` + "\n" + `hint: no layer of the graph has a name that tells its module: --weights finds them by the numbers of the checkpoint that it was exported from`},
		{id: "45f", what: "a weight of whole numbers", files: all(unit, onnxModel(product("MatMul", "q.weight"), pb(5, pbInt(1, 4), pbInt(1, 4), pbInt(2, 7), pb(8, "q.weight"), raw(128)))), cmd: onnxCmd, code: 5, stderr: `reading "m.onnx": tensor "q.weight": cannot merge into the weight of module "q": it is INT64 (want floats)`},

		// ONNX: places of external data
		{id: "46a", what: "no place", files: located(""), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location "": there is none`},
		{id: "46b", what: "an absolute path", files: located("/etc/passwd"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location "/etc/passwd": it leads out of the model's directory`},
		{id: "46c", what: "the directory above", files: located("../w"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location "../w": it leads out of the model's directory`},
		{id: "46d", what: "the directory above, later", files: located("a/../../w"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location "a/../../w": it leads out of the model's directory`},
		{id: "46e", what: "a backslash", files: located(`..\w`), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location "..\\w": not a plain relative path`},
		{id: "46f", what: "a URL", files: located("https://a/w"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location "https://a/w": not a plain relative path`},
		{id: "46g", what: "NUL", files: located("w\x00"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location "w\x00": not a plain relative path`},
		{id: "46h", what: "a million bytes", files: located(manyNines), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location "` + nines + `"…: too long`},
		{id: "46i", what: "the directory itself", files: located("."), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: location ".": not a plain relative path`},
		{id: "46j", what: "no such file", files: located("none"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "none": tensor "q.weight": no such file`},
		{id: "46k", what: "the model itself", files: located("m.onnx"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": the model file itself as external data`},
		{id: "46l", what: "a directory", files: located("base"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "base": tensor "q.weight": not a regular file`},
		{id: "46m", what: "a link out of the directory", files: all(mkdir("d"), located("l"), move("m.onnx", "d/m.onnx"), link("../w", "d/l")), cmd: "merge --base d/m.onnx --adapter ad --out out", code: 4, memory: 8, stderr: `reading "d/l": tensor "q.weight": a link that leads out of the model's directory` + "\n" + `hint: cp -rL makes a copy with the files themselves`},
		{id: "46n", what: "a directory that is a link out of it", files: all(mkdir("d"), located("l/w"), move("m.onnx", "d/m.onnx"), link("..", "d/l")), cmd: "merge --base d/m.onnx --adapter ad --out out", code: 4, memory: 8, stderr: `reading "d/l/w": tensor "q.weight": path escapes from parent`},
		{id: "46o", what: "a pipe", files: all(located("p"), pipe("p")), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "p": tensor "q.weight": not a regular file`},
		{id: "46p", what: "a file of two names", files: all(unit, located("w"), hardLink("w", "w2")), cmd: onnxCmd + " --quiet", code: 0, check: onlyOne("q.weight", 6)},
		{id: "46q", what: "a link within the directory", files: all(unit, located("l"), link("w", "l")), cmd: onnxCmd + " --quiet", code: 0, check: onlyOne("q.weight", 6)},

		// ONNX: ranges of external data
		{id: "47a", what: "a negative offset", files: located("w", "offset", "-4"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: offset "-4" is not a whole number from 0 to 9223372036854775807`},
		{id: "47b", what: "an offset of 1e0", files: located("w", "offset", "1e0"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: offset "1e0" is not a whole number from 0 to 9223372036854775807`},
		{id: "47c", what: "a hexadecimal offset", files: located("w", "offset", "0x4"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: offset "0x4" is not a whole number from 0 to 9223372036854775807`},
		{id: "47d", what: "an offset of 2^64", files: located("w", "offset", "18446744073709551616"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: offset "18446744073709551616" is not a whole number from 0 to 9223372036854775807`},
		{id: "47e", what: "an offset of a million digits", files: located("w", "offset", manyNines), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: offset "` + nines + `"… is not a whole number from 0 to 9223372036854775807`},
		{id: "47f", what: "an offset past the end", files: located("w", "offset", "4"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: it ends past the end of "w" (offset 4, length 64, the file has 64 bytes)`},
		{id: "47g", what: "an offset far past the end", files: located("w", "offset", "9223372036854775807"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: it ends past the end of "w" (offset 9223372036854775807, length 64, the file has 64 bytes)`},
		{id: "47h", what: "a negative length", files: located("w", "length", "-64"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: length "-64" is not a whole number from 0 to 9223372036854775807`},
		{id: "47i", what: "a length that is not the shape's", files: located("w", "length", "60"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: the length does not fit (got 60 bytes, want 64: FLOAT of shape [4 4])`},
		{id: "47j", what: "an offset twice", files: located("w", "offset", "0", "offset", "0"), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data has "offset" twice`},
		{id: "47k", what: "no length, and too little", files: onnxModelAndW(weight([]int64{17}, outside("w"))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: it ends past the end of "w" (offset 0, length 68, the file has 64 bytes)`},
		{id: "47l", what: "tensors that overlap", files: onnxModelAndW(weight([]int64{4}, outside("w", "offset", "0")), pb(5, tensorFields("b", []int64{4}, outside("w", "offset", "8")))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "b": external_data: it overlaps that of "q.weight" in "w" (bytes 8 to 24, and 0 to 16)`},
		{id: "47m", what: "tensors in one place", files: all(unit, onnxModelAndW(product("MatMul", "q.weight"), weight([]int64{4, 4}, outside("w")), pb(5, tensorFields("b", []int64{4, 4}, outside("w"))))), cmd: onnxCmd + " --quiet", code: 0, check: twoOf},

		// ONNX: sizes of external data
		{id: "48a", what: "a petabyte in a kilobyte", files: onnxModelAndW(weight([]int64{1 << 48}, outside("w"))), cmd: onnxCmd, code: 4, memory: 8, stderr: `reading "m.onnx": tensor "q.weight": external_data: it ends past the end of "w" (offset 0, length 1125899906842624, the file has 64 bytes)`},
		{id: "48b", what: "64 bytes at the end of eight tebibytes", files: all(unit, located("big", "offset", "8796093022144"), sparseFile("big", 8<<40)), cmd: onnxCmd + " --quiet", code: 0, memory: 8, check: onlyOne("q.weight", 6)},

		// ONNX: outputs over external data
		{id: "49a", what: "the output's data is the input's", files: all(unit, located("out.data"), move("w", "out.data")), cmd: onnxCmd, code: 1, stderr: `output "out.data" overlaps input "out.data"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "49b", what: "the output is the input's data", files: all(unit, located("out"), move("w", "out")), cmd: onnxCmd + " --force", code: 1, stderr: `output "out" overlaps input "out"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "49c", what: "the output's data is another name of the input's", files: all(unit, located("w"), hardLink("w", "out.data")), cmd: onnxCmd + " --force", code: 1, stderr: `output "out.data" overlaps input "w"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "49d", what: "the output's data is a link to the input's", files: all(unit, located("w"), link("w", "out.data")), cmd: onnxCmd + " --force", code: 1, stderr: `output "out.data" overlaps input "w"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "49e", what: "an adapter file of the output is the input's data", files: all(unit, located("out.ad.onnx_adapter"), move("w", "out.ad.onnx_adapter")), cmd: "inject --base m.onnx --adapter ad --mode inputs --out out --force", code: 1, stderr: `output "out.ad.onnx_adapter" overlaps input "out.ad.onnx_adapter"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "49f", what: "the output lies where a link leads to the input's directory", files: all(unit, located("out.data"), move("w", "out.data"), link(".", "l")), cmd: "merge --base m.onnx --adapter ad --force --out l/out", code: 1, stderr: `output "l/out.data" overlaps input "out.data"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},

		// pickles, which are not read
		{id: "50a", what: "a base of pickles", files: all(move(weights, "base/pytorch_model.bin")), cmd: mergeCmd, code: 4, stderr: `reading "base": no safetensors file in it` + "\n" + `hint: it has PyTorch .bin files: convert them with safetensors' convert script first`},
		{id: "50b", what: "an adapter of pickles", files: put("ad/adapter_model.bin", canary), cmd: mergeCmd + " --dry-run", code: 0},
		{id: "50c", what: "an adapter of pickles alone", files: all(remove(factors), put("ad/adapter_model.bin", canary)), cmd: mergeCmd, code: 4, stderr: `reading "ad": it has adapter_model.bin, a PyTorch pickle, and no adapter_model.safetensors` + "\n" + `hint: load it with PEFT and save it with safe_serialization=True`},
		{id: "50d", what: "a pickle under a safetensors name runs nothing", files: base(canary), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: it looks like a Python pickle`},
		{id: "51", what: "an empty .bin", files: all(remove(factors), put("ad/adapter_model.bin", "")), cmd: mergeCmd, code: 4, stderr: `reading "ad": it has adapter_model.bin, a PyTorch pickle, and no adapter_model.safetensors` + "\n" + `hint: load it with PEFT and save it with safe_serialization=True`},
		{id: "52a", what: "a PyTorch archive under a safetensors name", files: base("PK\x03\x04\x14\x00\x00\x00" + strings.Repeat("\x00", 64)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: it looks like a zip archive (PyTorch .bin or .npz)`},
		{id: "52b", what: "a safetensors file under a .bin name, named itself", files: move(weights, "model.bin"), cmd: "merge --base model.bin --adapter ad --out out --quiet", code: 0},
		{id: "52c", what: "pickles beside safetensors", files: put("base/pytorch_model.bin", canary), cmd: mergeCmd, code: 0, stderr: `note: not carried to the output: pytorch_model.bin` + "\n" + `merged 38.8 kB in N s`, check: func(t *testing.T) { mustNotExist(t, "out/pytorch_model.bin"); mustNotExist(t, "canary") }},
		{id: "52d", what: "a broken safetensors file beside pickles", files: all(base(""), put("base/pytorch_model.bin", canary)), cmd: mergeCmd, code: 4, stderr: `reading "base/model.safetensors": not a safetensors file: too short (got 0 bytes, want at least 8)`},

		// the command line
		{id: "53a", what: "no arguments", cmd: "", code: 1, when: usage, stderr: `no command given` + "\n" + `hint: run "graft --help", or begin with "graft quickstart"`},
		{id: "53b", what: "an unknown command", cmd: "mergee --base base", code: 1, when: usage, stderr: `unknown command "mergee"` + "\n" + `hint: did you mean "merge"?`},
		{id: "53c", what: "an unknown flag", cmd: mergeCmd + " --scale 2", code: 1, when: usage, stderr: `unknown flag "--scale" of merge` + "\n" + `hint: run "graft merge --help"`},
		{id: "53d", what: "flags after a path", cmd: "inspect base --tensors --quiet", code: 0},
		{id: "53e", what: "a path that belongs to no flag", cmd: "merge left --base base --adapter ad --out out", code: 1, when: usage, stderr: `unexpected argument "left"` + "\n" + `hint: run "graft merge --help"`},
		{id: "53f", what: "an empty value", cmd: "merge --base base --adapter ad --out=", code: 1, when: usage, stderr: `flag --out has an empty value`},
		{id: "53g", what: "a flag twice", cmd: mergeCmd + " --base base", code: 1, when: usage, stderr: `flag --base is given twice`},
		{id: "53h", what: "a flag without its value", cmd: "merge --base base --adapter ad --out", code: 1, when: usage, stderr: `flag --out needs a value`},
		{id: "53i", what: "an unknown command with an escape sequence", cmd: "\x1b[31m", code: 1, when: usage, stderr: `unknown command "\x1b[31m"` + "\n" + `hint: run "graft --help" for the commands`},
		{id: "54a", what: "a weight of NaN", cmd: "merge --base base --adapter ad=NaN --out out", code: 1, when: usage, stderr: `flag --adapter: weight "NaN" is not a finite number`},
		{id: "54b", what: "a weight of infinity", cmd: "merge --base base --adapter ad=Inf --out out", code: 1, when: usage, stderr: `flag --adapter: weight "Inf" is not a finite number`},
		{id: "54c", what: "a weight that is too large", cmd: "merge --base base --adapter ad=1e999 --out out", code: 1, when: usage, stderr: `flag --adapter: weight "1e999" is not a finite number`},
		{id: "54d", what: "no weight", cmd: "merge --base base --adapter ad= --out out", code: 1, when: usage, stderr: `flag --adapter: weight "" is not a finite number`},
		{id: "54e", what: "a weight with a comma", cmd: "merge --base base --adapter ad=1,5 --out out", code: 1, when: usage, stderr: `flag --adapter: weight "1,5" is not a finite number`},
		{id: "54f", what: "a weight of a million digits", cmd: "merge --base base --adapter ad=" + manyNines + " --out out", code: 1, when: usage, stderr: `flag --adapter: weight "` + nines + `"… is not a finite number`},
		{id: "54g", what: "a number that is none", cmd: "init --base base --target-modules q_proj --alpha NaN --out out", code: 1, when: usage, stderr: `flag --alpha: "NaN" is not a number`},
		{id: "54h", what: "a number of a million digits", cmd: "init --base base --target-modules q_proj --rank " + manyNines + " --out out", code: 1, when: usage, stderr: `flag --rank: "` + nines + `"… is not a whole number`},
		{id: "54i", what: "a weight of 0", cmd: "merge --base base --adapter ad=0 --out out", code: 0, stderr: `merged 38.8 kB in N s`, stdout: "6 zero delta", check: same(weights, "out/model.safetensors")},
		{id: "54j", what: "no output", cmd: "merge --base base --adapter ad", code: 1, when: usage, stderr: `--out is missing` + "\n" + `hint: usage: graft merge --base B --adapter A[=W]... --out P`},
		{id: "54k", what: "a warm-up longer than the training", files: learner, cmd: trainCmd + " --max-steps 3 --warmup-steps 4 --out out", code: 1, stderr: `warm-up steps (got 4, want at most the run's 3)`},
		{id: "54l", what: "the same, planned", files: learner, cmd: trainCmd + " --max-steps 3 --warmup-steps 4 --dry-run --out out", code: 1, stderr: `warm-up steps (got 4, want at most the run's 3)`},

		// the output
		{id: "55a", what: "the output is the base", cmd: "merge --base base --adapter ad --out base --force", code: 1, stderr: `output "base" overlaps input "base"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55b", what: "the output is the adapter", cmd: "merge --base base --adapter ad --out ad --force", code: 1, stderr: `output "ad" overlaps input "ad"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55c", what: "the output is the base by way of ./", cmd: "merge --base base --adapter ad --out ./ad/../base/ --force", code: 1, stderr: `output "base" overlaps input "base"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55d", what: "the output is a link to the base", files: link("base", "to"), cmd: "merge --base base --adapter ad --out to --force", code: 1, stderr: `output "to" overlaps input "base"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55e", what: "the base is a link to the output", files: link("base", "to"), cmd: "merge --base to --adapter ad --out base --force", code: 1, stderr: `output "base" overlaps input "to"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55f", what: "the output is another name of the base's file", files: hardLink(weights, "hard"), cmd: "merge --base base/model.safetensors --adapter ad --out hard --force", code: 1, stderr: `output "hard" overlaps input "base/model.safetensors"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55g", what: "the output lies in the base", cmd: "merge --base base --adapter ad --out base/out", code: 1, stderr: `output "base/out" overlaps input "base"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55h", what: "the output holds the inputs", cmd: "merge --base base --adapter ad --out . --force", code: 1, stderr: `output "." overlaps input "base"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55i", what: "the output exists", files: put("out/old", "old"), cmd: mergeCmd, code: 6, stderr: `writing "out": it exists` + "\n" + `hint: use --force to replace it`},
		{id: "55j", what: "the output is a file where a directory is to be", files: put("out", "old"), cmd: mergeCmd + " --force", code: 6, stderr: `writing "out": it exists and is no directory`},
		{id: "55k", what: "the output is a directory where a file is to be", files: put("out/old", "old"), cmd: "merge --base base/model.safetensors --adapter ad --out out --force", code: 6, stderr: `writing "out": it exists and is no regular file`},
		{id: "55l", what: "the output is a pipe", files: pipe("out"), cmd: "merge --base base/model.safetensors --adapter ad --out out --force", code: 6, stderr: `writing "out": it exists and is no regular file`},
		{id: "55m", what: "the output is a device", files: device, cmd: "merge --base base/model.safetensors --adapter ad --out /dev/full --force", code: 6, stderr: `writing "/dev/full": it exists and is no regular file`},
		{id: "55n", what: "the output is a link to another directory", files: all(put("old/old", "old"), link("old", "out")), cmd: mergeCmd + " --force", code: 6, stderr: `writing "out": it is a symbolic link, and graft does not write through links` + "\n" + `hint: name the place that it points to`},
		{id: "55o", what: "there is no directory for the output", cmd: "merge --base base --adapter ad --out no/out", code: 6, stderr: `writing "no/out": directory "no": no such file or directory`},
		{id: "55p", what: "the output's name leaves no room for that of its staging", cmd: "merge --base base --adapter ad --out " + strings.Repeat("n", 240), code: 6, stderr: `writing "` + ens + `"…: the name is too long (got 240 bytes, and the staging beside it needs 28 more)` + "\n" + `hint: choose a shorter name`},
		{id: "55q", what: "the same of an adapter to be trained", files: learner, cmd: trainCmd + " --max-steps 1 --out " + strings.Repeat("n", 240), code: 6, stderr: `writing "` + ens + `"…: the name is too long (got 240 bytes, and the staging beside it needs 28 more)` + "\n" + `hint: choose a shorter name`},
		{id: "55r", what: "the same of a report", cmd: mergeCmd + " --report " + strings.Repeat("n", 240), code: 6, stderr: `writing "` + ens + `"…: the name is too long (got 240 bytes, and the staging beside it needs 28 more)` + "\n" + `hint: choose a shorter name`},
		{id: "55s", what: "the output's name is too long for any file", cmd: "merge --base base --adapter ad --out " + strings.Repeat("n", 300), code: 6, stderr: `writing "` + ens + `"…: file name too long`},
		{id: "55t", what: "the output in another case", files: foldedCase, cmd: "merge --base base --adapter ad --out BASE --force", code: 1, stderr: `output "BASE" overlaps input "base"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},
		{id: "55u", what: "the report is an input", cmd: mergeCmd + " --report ad/adapter_config.json", code: 1, stderr: `output "ad/adapter_config.json" overlaps input "ad"` + "\n" + `hint: choose another place for the output: graft never changes its inputs`},

		// disk and process
		{id: "56a", what: "the output does not fit on the disk", via: onSmallDisk, files: mkdir("disk"), cmd: "merge --base base --adapter ad --out disk/out", code: 6, stderr: `writing "disk/out": no space left on device (got 32768 bytes free, want 39515)`},
		{id: "56b", what: "the disk is full at the first write", fault: nth(1, fault.OpWrite, syscall.ENOSPC), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "out/config.json": no space left on device`},
		{id: "56c", what: "the disk is full at the second write", fault: nth(2, fault.OpWrite, syscall.ENOSPC), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "out/model.safetensors": no space left on device`},
		{id: "56d", what: "the disk is full while the file is given its length", fault: on(fault.OpTruncate, "/model.safetensors", 0, syscall.ENOSPC), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "out/model.safetensors": no space left on device`},
		{id: "56e", what: "the disk is full while an adapter is written", via: onSmallDisk, files: mkdir("disk"), cmd: "init --base base --target-modules all-linear --rank 20 --out disk/out", code: 6, stderr: `writing "disk/out/adapter_model.safetensors": no space left on device`},
		{id: "57a", what: "a file may not become so large", via: withFileLimit, cmd: mergeCmd, code: 6, when: writing, stderr: `writing "out/model.safetensors": file too large`},
		{id: "57b", what: "the base cannot be read", fault: nth(1, fault.OpRead, syscall.EIO), cmd: mergeCmd, code: 4, when: writing, stderr: `reading "base/model.safetensors": input/output error`},
		{id: "57c", what: "a file cannot be made durable", fault: nth(1, fault.OpSync, syscall.EIO), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "$WORK/out": publishing: input/output error`},
		{id: "57d", what: "a file cannot be closed", fault: nth(1, fault.OpClose, syscall.EIO), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "out/config.json": input/output error`},
		{id: "57e", what: "the output cannot be given its name", fault: nth(1, fault.OpRename, syscall.EIO), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "$WORK/out": publishing: input/output error`},
		{id: "57f", what: "the directory above the output cannot be made durable", fault: syncOfParent(syscall.EIO), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "$WORK/out": publishing: input/output error`},
		{id: "57g", what: "no directory can be made", fault: nth(1, fault.OpMkdir, syscall.EACCES), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "out": staging: permission denied`},
		{id: "57h", what: "the factors cannot be read", fault: on(fault.OpRead, factors, 2, syscall.EIO), cmd: mergeCmd, code: 4, when: writing, stderr: `reading "ad/adapter_model.safetensors": tensor "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": input/output error`},
		{id: "58a", what: "the file system cannot rename: not implemented", fault: every(fault.OpRename, syscall.ENOSYS), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "$WORK/out": publishing: function not implemented` + "\n" + `hint: the file system may not be able to rename: write to another one, and copy the result`},
		{id: "58b", what: "the file system cannot rename: not permitted", fault: every(fault.OpRename, syscall.EPERM), cmd: mergeCmd, code: 6, when: writing, stderr: `writing "$WORK/out": publishing: operation not permitted` + "\n" + `hint: the file system may not be able to rename: write to another one, and copy the result`},
		{id: "59a", what: "Ctrl-C in the middle", via: signalled(syscall.SIGINT), files: large, cmd: "merge --base large --adapter adapter --out out", code: 130, stderr: `interrupted; nothing was written`},
		{id: "59b", what: "SIGTERM in the middle", via: signalled(syscall.SIGTERM), files: large, cmd: "merge --base large --adapter adapter --out out", code: 130, stderr: `interrupted; nothing was written`},
		{id: "59c", what: "Ctrl-C while a prompt is waited for", via: signalledWaiting, files: learner, cmd: "generate --base base --prompt -", code: 130, stderr: `interrupted; nothing was written`},
		{id: "59d", what: "Ctrl-C twice where nothing can look at the first", via: signalledTwice, files: all(learner, pipe("p")), cmd: "train --base base --target-modules q_proj --data p --max-steps 1 --out out", code: -1, stderr: ""},
		{id: "60a", what: "the staging of a killed run", files: put(".out.graft-0123456789abcdef/model.safetensors", "half"), cmd: mergeCmd + " --quiet", code: 0, check: func(t *testing.T) { mustNotExist(t, ".out.graft-0123456789abcdef") }},
		{id: "60b", what: "the staging of another user's killed run", via: asNobody, files: leftByRoot, cmd: "merge --base base --adapter ad --out shared/out", code: 0, stderr: `note: "shared/.out.graft-0123456789abcdef" of an earlier run is not yours to remove, and stays` + "\n" + `merged 38.8 kB in N s`, check: func(t *testing.T) { mustExist(t, "shared/out/model.safetensors") }},
		{id: "61", what: "a memory smaller than the model", via: withLittleMemory, env: map[string]string{"GOMAXPROCS": "2"}, files: manyLayers, cmd: "merge --base large --adapter adapter --out out --quiet", code: 0},

		// concurrency
		{id: "62a", what: "one worker", cmd: mergeCmd + " --workers 1 --quiet", code: 0, check: sameAs("merge --base base --adapter ad --out two --workers 2 --quiet", "out", "two")},
		{id: "62b", what: "sixty-four workers", cmd: mergeCmd + " --workers 64 --quiet", code: 0, check: sameAs("merge --base base --adapter ad --out two --workers 2 --quiet", "out", "two")},
		{id: "62c", what: "two errors and one worker", files: twoNaNs, cmd: mergeCmd + " --workers 1", code: 5, when: writing, stderr: `reading "ad": tensor "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight": 1 values are NaN or infinite, the first at row 21, column 2`},
		{id: "62d", what: "two errors and many workers", files: twoNaNs, cmd: mergeCmd + " --workers 32", code: 5, when: writing, stderr: `reading "ad": tensor "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight": 1 values are NaN or infinite, the first at row 21, column 2`},
		{id: "63", what: "a model is looked at while it is merged", via: whileMerging, files: large, cmd: "inspect large", code: 0},
	}
}

// nines and ens are as much of a long number and a long name as a message shows.
var (
	nines     = strings.Repeat("9", 200)
	ens       = strings.Repeat("n", 200)
	manyNines = strings.Repeat("9", 1_000_000)
)

const (
	onnxCmd  = "merge --base m.onnx --adapter ad --out out"
	mergeCmd = "merge --base base --adapter ad --out out"
	trainCmd = "train --base base --target-modules q_proj --data d.jsonl --quiet"
)

func TestBadInputs(t *testing.T) {
	ids := map[string]bool{}
	for _, row := range badInputs() {
		if ids[row.id] {
			t.Errorf("two rows are called %s", row.id)
		}
		ids[row.id] = true
		t.Run(row.id, row.test)
	}
}

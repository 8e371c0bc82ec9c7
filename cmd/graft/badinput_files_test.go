package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// change makes or changes files in the current directory.
type change func(t *testing.T)

// all makes changes one after another.
func all(changes ...change) change {
	return func(t *testing.T) {
		t.Helper()
		for _, c := range changes {
			c(t)
		}
	}
}

// try makes a change of what may fail.
func try(do func() error) change {
	return func(t *testing.T) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
}

// put writes a file, and the directories above it.
func put(path, content string) change {
	return try(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(content), 0o666)
	})
}

func fixtureAt(from, to string) change { return try(func() error { return copyFixture(from, to) }) }
func remove(path string) change        { return try(func() error { return os.RemoveAll(path) }) }
func move(from, to string) change      { return try(func() error { return os.Rename(from, to) }) }
func mkdir(path string) change         { return try(func() error { return os.MkdirAll(path, 0o777) }) }
func hardLink(from, to string) change  { return try(func() error { return os.Link(from, to) }) }

// link makes a symbolic link at path. Where that is not permitted the row is skipped.
func link(target, path string) change {
	return func(t *testing.T) {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Skip(err)
		}
	}
}

// copyTo copies a file.
func copyTo(from, to string) change {
	return func(t *testing.T) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(to, string(text))(t)
	}
}

// size cuts a file to n bytes, or by −n, or makes it longer with zeros that take no room.
func size(path string, n int64) change {
	return try(func() error {
		if n < 0 {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			n += info.Size()
		}
		return os.Truncate(path, n)
	})
}

// more appends to a file.
func more(path, tail string) change {
	return try(func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, append(text, tail...), 0o666)
	})
}

// sub puts something in the one place of old.
func sub(path, old, with string) change {
	return try(func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := strings.Count(string(text), old); n != 1 {
			return fmt.Errorf("%s: %q is there %d times, want once", path, old, n)
		}
		return os.WriteFile(path, []byte(strings.Replace(string(text), old, with, 1)), 0o666)
	})
}

// poke overwrites bytes at an offset, which counts from the end if it is negative.
func poke(path string, off int, digits string) change {
	return try(func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		raw, err := hex.DecodeString(digits)
		if err != nil {
			return err
		}
		if off < 0 {
			off += len(text)
		}
		copy(text[off:], raw)
		return os.WriteFile(path, text, 0o666)
	})
}

// The files of the good base and adapter.
const (
	weights = "base/model.safetensors"
	factors = "ad/adapter_model.safetensors"
	config  = "ad/adapter_config.json"
	index   = "base/model.safetensors.index.json"
)

// base makes the base's weights a file with the given bytes.
func base(content string) change { return put(weights, content) }

// header makes the base's weights a file with a header and n zero bytes of data.
func header(text string, n int) change { return base(string(encodeSafetensors(text, n))) }

// entry makes the base's weights a file with one tensor "w" of the given fields and n
// zero bytes of data.
func entry(fields string, n int) change { return header(`{"w":{`+fields+`}}`, n) }

// length makes the base's weights a file that claims a header of n bytes.
func length(n uint64, header string) change {
	return base(string(binary.LittleEndian.AppendUint64(nil, n)) + header)
}

// option changes a member of the adapter's config.
func option(old, with string) change { return sub(config, old, with) }

// with adds a member to the adapter's config.
func with(member string) change { return sub(config, `"lora_alpha": 7`, `"lora_alpha": 7, `+member) }

// sharded makes the base a model of two shards, and the adapter one for it.
func sharded(t *testing.T) {
	t.Helper()
	all(remove("base"), remove("ad"), fixtureAt("odd-llama", "base"), fixtureAt("odd-llama/reference/mixed-r5/trained", "ad"))(t)
}

const first, second = "base/model-00001-of-00002.safetensors", "base/model-00002-of-00002.safetensors"

// shardName makes the index name a file for one tensor, given as JSON.
func shardName(value string) change {
	return all(sharded, sub(index, `"embed_tokens.weight": "model-00001-of-00002.safetensors"`, `"embed_tokens.weight": `+value))
}

// shardIs puts something in the place of the second shard.
func shardIs(c change) change { return all(sharded, move(second, "second"), c) }

// hundredShards makes the base a model of a hundred shards, one tensor each.
func hundredShards(t *testing.T) {
	t.Helper()
	remove("base")(t)
	var entries []string
	for i := 1; i <= 100; i++ {
		name := fmt.Sprintf("model-%05d-of-00100.safetensors", i)
		put("base/"+name, string(encodeSafetensors(fmt.Sprintf(`{"t%d":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}`, i), 64)))(t)
		entries = append(entries, fmt.Sprintf(`"t%d":%q`, i, name))
	}
	put(index, `{"metadata":{"total_size":6400},"weight_map":{`+strings.Join(entries, ",")+`}}`)(t)
}

// cache makes a Hugging Face cache folder of the good base, whose snapshot links to blobs.
func cache(t *testing.T) {
	t.Helper()
	all(put("hub/models--a--b/refs/main", "0123abcd"), mkdir("hub/models--a--b/blobs"), mkdir("hub/models--a--b/snapshots/0123abcd"))(t)
	for i, name := range []string{"config.json", "model.safetensors"} {
		blob := fmt.Sprintf("%064d", i)
		all(move("base/"+name, "hub/models--a--b/blobs/"+blob), link("../../blobs/"+blob, "hub/models--a--b/snapshots/0123abcd/"+name))(t)
	}
}

// half makes base and adapter ones of F16.
func half(t *testing.T) {
	t.Helper()
	all(remove("base"), remove("ad"), fixtureAt("peft/linear-f16/base", "base"), fixtureAt("peft/linear-f16/adapter", "ad"))(t)
}

// model makes the base a file of the given tensors of zeros, "NAME DTYPE [SHAPE]" each,
// and the adapter one of rank 2 with the given ones.
func model(baseTensors, adapterTensors []string, targets string) change {
	return all(
		base(zeros(baseTensors)),
		put(factors, zeros(adapterTensors)),
		put(config, `{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": `+targets+`}`),
	)
}

// zeros returns a safetensors file of tensors of zeros, each given as "NAME DTYPE SHAPE".
func zeros(tensors []string) string {
	bits := map[string]int{"F64": 64, "F32": 32, "F16": 16, "F8_E4M3": 8, "F4": 4, "I8": 8, "BOOL": 8, "C64": 64}
	var entries []string
	at := 0
	for _, s := range tensors {
		f := strings.Fields(s)
		n := bits[f[1]]
		for _, d := range strings.FieldsFunc(f[2], func(r rune) bool { return strings.ContainsRune("[],", r) }) {
			x, err := strconv.Atoi(d)
			if err != nil {
				panic(err)
			}
			n *= x
		}
		entries = append(entries, fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, f[0], f[1], f[2], at, at+n/8))
		at += n / 8
	}
	return string(encodeSafetensors("{"+strings.Join(entries, ",")+"}", at))
}

// right keeps the good adapter beside the one that is changed.
func right(t *testing.T) { fixtureAt("peft/linear-f32/adapter", "right")(t) }

// unalign puts a space behind the base's header, so that no tensor lies at a multiple of 2.
func unalign(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(text)
	out := binary.LittleEndian.AppendUint64(nil, n+1)
	out = append(append(append(out, text[8:8+n]...), ' '), text[8+n:]...)
	base(string(out))(t)
}

// setTargets gives the adapter's config another choice of layers.
func setTargets(value string) change {
	return try(func() error {
		text, err := os.ReadFile(config)
		if err != nil {
			return err
		}
		before, rest, _ := strings.Cut(string(text), `"target_modules": [`)
		_, after, ok := strings.Cut(rest, "]")
		if !ok {
			return fmt.Errorf("%s: no list of target_modules", config)
		}
		return os.WriteFile(config, []byte(before+`"target_modules": `+value+after), 0o666)
	})
}

// pairOf makes the base layers q (4, 4) and v (6, 4), and the adapter one of the given
// tensors, "MODULE.lora_A DTYPE SHAPE" and so on.
func pairOf(tensors ...string) change {
	target := `["q"]`
	var keys []string
	for _, s := range tensors {
		name, rest, _ := strings.Cut(s, " ")
		switch {
		case strings.HasPrefix(name, "lora_unet"):
			name += ".weight"
		case strings.HasSuffix(name, "lora_A") || strings.HasSuffix(name, "lora_B"):
			name = "base_model.model." + name + ".weight"
		default:
			name = "base_model.model." + name
		}
		if strings.HasPrefix(s, "v.") {
			target = `["v"]`
		}
		keys = append(keys, name+" "+rest)
	}
	return model([]string{"q.weight F32 [4,4]", "v.weight F32 [6,4]"}, keys, target)
}

// twoWays makes a base in which an adapter's module is found under two names.
func twoWays(t *testing.T) {
	t.Helper()
	model([]string{"model.q.weight F32 [4,4]", "transformer.q.weight F32 [4,4]"},
		[]string{"base_model.model.q.lora_A.weight F32 [2,4]", "base_model.model.q.lora_B.weight F32 [4,2]"}, `["q"]`)(t)
}

// twoHundred makes an adapter of two hundred pairs, one of which is for a layer that is
// not there.
func twoHundred(t *testing.T) {
	t.Helper()
	var layers, pairs []string
	for i := range 200 {
		layers = append(layers, fmt.Sprintf("layers.%d.q.weight F32 [4,4]", i))
		if i == 137 {
			i = 1000
		}
		pairs = append(pairs, fmt.Sprintf("base_model.model.layers.%d.q.lora_A.weight F32 [2,4]", i), fmt.Sprintf("base_model.model.layers.%d.q.lora_B.weight F32 [4,2]", i))
	}
	model(layers, pairs, `["q"]`)(t)
}

// twoNaNs puts NaN into factors of two layers.
func twoNaNs(t *testing.T) {
	t.Helper()
	all(poke(factors, -4, "0000c07f"), poke(factors, 2000, "0000c07f"))(t)
}

// canary is a pickle that makes a file when it is loaded.
const canary = "\x80\x02cposix\nsystem\n(S'touch canary'\ntR."

// learner makes the base a model that can be trained, with data.
func learner(t *testing.T) {
	t.Helper()
	all(remove("base"), fixtureAt("tiny-llama", "base"), put("d.jsonl", `{"text":"the cat sat on the mat"}`+"\n"))(t)
}

// device skips the row where /dev is not what it is on Unix.
func device(t *testing.T) {
	t.Helper()
	if info, err := os.Stat("/dev/full"); err != nil || info.Mode()&os.ModeDevice == 0 {
		t.Skip("no /dev/full")
	}
}

// foldedCase skips the row where names differ by case.
func foldedCase(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("BASE"); err != nil {
		t.Skip("names differ by case here")
	}
}

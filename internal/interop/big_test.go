//go:build unix

package interop

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
)

// maxResident bounds the memory of a merge by two workers, whatever the size of model
// and adapter.
const maxResident = 300_000_000

// The big model is a Llama of 1.08e9 parameters with one key-value head: a skinny k_proj
// and v_proj can carry a gigabyte of factors that take seconds to multiply, where
// factors of that size on square layers would take many minutes.
const (
	bigLayers = 22
	bigHidden = 2048
	bigInner  = 5632
	bigKV     = 64
	bigVocab  = 32000
	bigShards = 5
)

// bigTensor is a tensor to be made up.
type bigTensor struct {
	name  string
	shape [2]int64
}

func (t bigTensor) elements() int64 { return t.shape[0] * t.shape[1] }

// bigLinears are the linear layers: module and shape.
func bigLinears() []bigTensor {
	var all []bigTensor
	for i := range bigLayers {
		for _, l := range []bigTensor{
			{"self_attn.q_proj", [2]int64{bigHidden, bigHidden}}, {"self_attn.k_proj", [2]int64{bigKV, bigHidden}},
			{"self_attn.v_proj", [2]int64{bigKV, bigHidden}}, {"self_attn.o_proj", [2]int64{bigHidden, bigHidden}},
			{"mlp.gate_proj", [2]int64{bigInner, bigHidden}}, {"mlp.up_proj", [2]int64{bigInner, bigHidden}},
			{"mlp.down_proj", [2]int64{bigHidden, bigInner}},
		} {
			all = append(all, bigTensor{fmt.Sprintf("model.layers.%d.%s", i, l.name), l.shape})
		}
	}
	return all
}

// makeUp writes a safetensors file of pseudo-random numbers in ±[2^-7, 2^-5) as BF16, or
// ±[2^-9, 2^-7) as F32: every byte is random but that of the exponent's upper bits. It does not
// use graft's writer, and holds no tensor.
func makeUp(t *testing.T, path string, dtype string, tensors []bigTensor, rng *rand.ChaCha8) {
	t.Helper()
	size, top := int64(2), byte(0x3c)
	if dtype == "F32" {
		size, top = 4, 0x3b
	}
	header, offset := map[string]any{"__metadata__": map[string]string{"format": "pt"}}, int64(0)
	for _, x := range tensors {
		n := x.elements() * size
		header[x.name] = map[string]any{"dtype": dtype, "shape": x.shape, "data_offsets": [2]int64{offset, offset + n}}
		offset += n
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
	w.Write(text)
	block := make([]byte, 1<<20)
	for left := offset; left > 0; left -= int64(len(block)) {
		block = block[:min(left, int64(len(block)))]
		rng.Read(block)
		for i := size - 1; i < int64(len(block)); i += size {
			block[i] = block[i]&0x80 | top
		}
		w.Write(block)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(path, text, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// makeBigModel writes a sharded checkpoint of 2.2 GB.
func makeBigModel(t *testing.T, dir string, rng *rand.ChaCha8) {
	t.Helper()
	tensors := []bigTensor{{"model.embed_tokens.weight", [2]int64{bigVocab, bigHidden}}, {"lm_head.weight", [2]int64{bigVocab, bigHidden}}}
	for _, l := range bigLinears() {
		tensors = append(tensors, bigTensor{l.name + ".weight", l.shape})
	}
	weights, total := map[string]string{}, int64(0)
	per := (len(tensors) + bigShards - 1) / bigShards
	for i := range bigShards {
		file := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, bigShards)
		part := tensors[i*per : min((i+1)*per, len(tensors))]
		makeUp(t, filepath.Join(dir, file), "BF16", part, rng)
		for _, x := range part {
			weights[x.name] = file
			total += x.elements() * 2
		}
	}
	writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": weights})
	writeJSON(t, filepath.Join(dir, "config.json"), map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "dtype": "bfloat16",
		"hidden_size": bigHidden, "intermediate_size": bigInner, "num_hidden_layers": bigLayers, "vocab_size": bigVocab,
		"num_attention_heads": bigHidden / bigKV, "num_key_value_heads": 1, "head_dim": bigKV,
		"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": false,
	})
}

// makeBigAdapter writes an F32 adapter on all linear layers with some names and returns
// the size of its weights.
func makeBigAdapter(t *testing.T, dir string, rank int64, names []string, rng *rand.ChaCha8) int64 {
	t.Helper()
	var tensors []bigTensor
	var size int64
	for _, l := range bigLinears() {
		if !slices.Contains(names, l.name[strings.LastIndexByte(l.name, '.')+1:]) {
			continue
		}
		a := bigTensor{"base_model.model." + l.name + ".lora_A.weight", [2]int64{rank, l.shape[1]}}
		b := bigTensor{"base_model.model." + l.name + ".lora_B.weight", [2]int64{l.shape[0], rank}}
		tensors = append(tensors, a, b)
		size += 4 * (a.elements() + b.elements())
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	makeUp(t, filepath.Join(dir, "adapter_model.safetensors"), "F32", tensors, rng)
	writeJSON(t, filepath.Join(dir, "adapter_config.json"), map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "target_modules": names, "bias": "none",
	})
	return size
}

// TestBigMerge merges into a model of 2.2 GB: a normal adapter, and one of a gigabyte.
// It needs 6 GB in TMPDIR.
func TestBigMerge(t *testing.T) {
	if big == "" {
		t.Skip("makes and merges 6 GB: set GRAFT_BIG=1")
	}
	s := seed(t)
	rng := rand.NewChaCha8([32]byte{byte(s), byte(s >> 8), byte(s >> 16), byte(s >> 24)})
	base := t.TempDir()
	makeBigModel(t, base, rng)
	for _, x := range []struct {
		name  string
		rank  int64
		names []string
	}{
		{"rank 16 on all linear layers", 16, []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}},
		{"a gigabyte of factors", 2700, []string{"k_proj", "v_proj"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			factors, out := filepath.Join(dir, "adapter"), filepath.Join(dir, "merged")
			size := makeBigAdapter(t, factors, x.rank, x.names, rng)
			// A worker holds the factors of the target it is on, so the bound is for a number of them.
			cmd := exec.Command(graftPath, "merge", "--workers", "2", "--quiet", "--base", base, "--adapter", factors, "--out", out)
			began := time.Now()
			t.Log(strings.TrimSpace(execute(t, cmd)))
			seconds := time.Since(began).Seconds()
			resident := peak(cmd.ProcessState)
			bytes := compareBig(t, base, factors, out)
			t.Logf("merged %.2f GB with an adapter of %.0f MB in %.1f s, %.0f MB/s, by two workers; at most %.0f MB resident",
				float64(bytes)/1e9, float64(size)/1e6, seconds, float64(bytes)/1e6/seconds, float64(resident)/1e6)
			if resident > maxResident {
				t.Errorf("%d bytes resident, more than %d", resident, int64(maxResident))
			}
		})
	}
}

// peak returns the largest resident size of a process that ended. Linux counts this
// process's own size into it if that is larger, so the tests here hold nothing large.
func peak(p *os.ProcessState) int64 {
	n := int64(p.SysUsage().(*syscall.Rusage).Maxrss)
	if runtime.GOOS != "darwin" {
		n *= 1024
	}
	return n
}

// compareBig looks at samples of the merged model: some elements of every target,
// computed in float64 from base and factors, and the ends of every other tensor. It returns the
// model's size.
func compareBig(t *testing.T, base, factors, out string) int64 {
	t.Helper()
	was, err := open.Checkpoint(base)
	if err != nil {
		t.Fatal(err)
	}
	defer was.Close()
	is, err := open.Checkpoint(out)
	if err != nil {
		t.Fatal(err)
	}
	defer is.Close()
	a, err := open.Adapter(factors)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	updates := map[string]*adapter.LowRank{}
	for _, e := range a.Entries {
		updates[e.Module+".weight"] = e.Update.(*adapter.LowRank)
	}
	if is.Len() != was.Len() || len(updates) == 0 {
		t.Fatalf("%d tensors, want %d; %d updates", is.Len(), was.Len(), len(updates))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for before := range was.Tensors() {
		after, ok := is.Tensor(before.Name)
		if !ok || after.DType != before.DType || !slices.Equal(after.Shape, before.Shape) {
			t.Fatalf("%s: got %s %v, want %s %v", before.Name, after.DType, after.Shape, before.DType, before.Shape)
		}
		rows, cols := before.Matrix()
		u := updates[before.Name]
		for n := range 5 {
			row, col := rng.Int64N(rows), rng.Int64N(cols)
			switch n {
			case 0:
				row, col = 0, 0
			case 1:
				row, col = rows-1, cols-1
			}
			want := element(t, before, row*cols+col, 1, 1)[0]
			bound := 0.0
			if u != nil {
				left := element(t, u.B, row*u.Rank(), 1, u.Rank())
				right := element(t, u.A, col, cols, u.Rank())
				var sum, size float64
				for k := range left {
					sum += left[k] * right[k]
					size += math.Abs(left[k] * right[k])
				}
				want += u.Scale * sum
				// Half a unit of BF16, and the rounding of a float32 sum of so many terms.
				bound = math.Abs(want)*0x1p-8 + float64(len(left))*0x1p-24*u.Scale*size
			}
			if got := element(t, after, row*cols+col, 1, 1)[0]; !(math.Abs(got-want) <= bound) {
				t.Fatalf("%s[%d,%d]: got %v, want %v within %g", before.Name, row, col, got, want, bound)
			}
		}
	}
	return is.Size()
}

// element reads n elements of a tensor from index first on, stride apart.
func element(t *testing.T, x formats.Tensor, first, stride, n int64) []float64 {
	t.Helper()
	size := x.DType.Bits() / 8
	v := make([]float64, n)
	raw := make([]byte, size)
	for k := range n {
		if err := formats.ReadFullAt(x.Data, raw, (first+k*stride)*size); err != nil {
			t.Fatal(err)
		}
		formats.DecodeFloat64(v[k:k+1], raw, x.DType)
	}
	return v
}

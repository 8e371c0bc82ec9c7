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

// maxResident bounds the memory of merging and converting, whatever the size of model and
// adapter, for up to 16 workers.
const maxResident = 256_000_000

// bigModel is the shape of a Llama, and how its weights are stored.
type bigModel struct {
	dtype                            string
	layers, hidden, inner, kv, vocab int64
}

// bigTensor is a tensor to be made up.
type bigTensor struct {
	name  string
	shape [2]int64
}

func (t bigTensor) elements() int64 { return t.shape[0] * t.shape[1] }

// linears are the linear layers: module and shape.
func (m bigModel) linears() []bigTensor {
	var all []bigTensor
	for i := range m.layers {
		for _, l := range []bigTensor{
			{"self_attn.q_proj", [2]int64{m.hidden, m.hidden}}, {"self_attn.k_proj", [2]int64{m.kv, m.hidden}},
			{"self_attn.v_proj", [2]int64{m.kv, m.hidden}}, {"self_attn.o_proj", [2]int64{m.hidden, m.hidden}},
			{"mlp.gate_proj", [2]int64{m.inner, m.hidden}}, {"mlp.up_proj", [2]int64{m.inner, m.hidden}},
			{"mlp.down_proj", [2]int64{m.hidden, m.inner}},
		} {
			all = append(all, bigTensor{fmt.Sprintf("model.layers.%d.%s", i, l.name), l.shape})
		}
	}
	return all
}

// makeUp writes a safetensors file. With rng its numbers are pseudo-random: ±[2^-7, 2^-5)
// as BF16, or ±[2^-9, 2^-7) as F32, every byte random but that of the exponent's upper bits.
// Without, they are zeros that take no room on the disk. It does not use graft's writer, and
// holds no tensor.
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
	if rng == nil {
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(int64(8+len(text)) + offset); err != nil {
			t.Fatal(err)
		}
		return
	}
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

// bigShards is the number of a big model's files.
const bigShards = 5

// makeBigModel writes a sharded checkpoint of zeros.
//
// Zeros that take no room are fair: what graft holds does not depend on the values. It reads a hole
// like any other bytes, multiplies the factors, which are random, all the same, and writes every
// byte of the result.
func makeBigModel(t *testing.T, dir string, m bigModel) {
	t.Helper()
	tensors := []bigTensor{{"model.embed_tokens.weight", [2]int64{m.vocab, m.hidden}}, {"lm_head.weight", [2]int64{m.vocab, m.hidden}}}
	for _, l := range m.linears() {
		tensors = append(tensors, bigTensor{l.name + ".weight", l.shape})
	}
	weights, total := map[string]string{}, int64(0)
	per := (len(tensors) + bigShards - 1) / bigShards
	for i := range bigShards {
		file := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, bigShards)
		part := tensors[i*per : min((i+1)*per, len(tensors))]
		makeUp(t, filepath.Join(dir, file), m.dtype, part, nil)
		for _, x := range part {
			weights[x.name] = file
			total += x.elements() * 2
			if m.dtype == "F32" {
				total += x.elements() * 2
			}
		}
	}
	writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": weights})
	writeJSON(t, filepath.Join(dir, "config.json"), map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "dtype": "bfloat16",
		"hidden_size": m.hidden, "intermediate_size": m.inner, "num_hidden_layers": m.layers, "vocab_size": m.vocab,
		"num_attention_heads": m.hidden / 128, "num_key_value_heads": m.kv / 128, "head_dim": 128,
		"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": false,
	})
}

// makeBigAdapter writes an F32 adapter on all linear layers and returns the size of its
// weights.
func makeBigAdapter(t *testing.T, dir string, m bigModel, rank int64, rng *rand.ChaCha8) int64 {
	t.Helper()
	var tensors []bigTensor
	var size int64
	for _, l := range m.linears() {
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
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none",
		"target_modules": []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
	})
	return size
}

// bigWorkers are the arguments that the big tests run with: as many workers as the
// machine has processors, and more.
var bigWorkers = [][]string{nil, {"--workers", "16"}}

// TestBigMerge merges into models of 1, 4 and 8 GB: a normal adapter, and one of 4 GB. It
// needs 9 GB in TMPDIR.
func TestBigMerge(t *testing.T) {
	if big == "" {
		t.Skip("writes 33 GB, 9 GB at a time: set GRAFT_BIG=1")
	}
	s := seed(t)
	rng := rand.NewChaCha8([32]byte{byte(s), byte(s >> 8), byte(s >> 16), byte(s >> 24)})
	for _, x := range []struct {
		name  string
		model bigModel
		rank  int64
	}{
		{"1 GB, rank 64", bigModel{"BF16", 8, 2048, 5632, 256, 32000}, 64},
		{"4 GB, rank 64", bigModel{"BF16", 9, 4096, 11008, 4096, 32000}, 64},
		{"8 GB, rank 64", bigModel{"BF16", 19, 4096, 11008, 4096, 32000}, 64},
		{"4 GB, 4 GB of factors", bigModel{"BF16", 7, 4096, 11008, 4096, 64000}, 2000},
	} {
		t.Run(x.name, func(t *testing.T) {
			base, dir := t.TempDir(), t.TempDir()
			makeBigModel(t, base, x.model)
			factors, out := filepath.Join(dir, "adapter"), filepath.Join(dir, "merged")
			size := makeBigAdapter(t, factors, x.model, x.rank, rng)
			for _, workers := range bigWorkers {
				args := append([]string{"merge", "--quiet", "--no-fsync", "--base", base, "--adapter", factors, "--out", out}, workers...)
				what := runBig(t, args)
				bytes := compareBig(t, base, factors, out)
				t.Logf("merged %.2f GB with an adapter of %.0f MB: %s", float64(bytes)/1e9, float64(size)/1e6, what)
				if err := os.RemoveAll(out); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestBigConvert narrows a model of 4 GB. It needs 2 GB in TMPDIR.
func TestBigConvert(t *testing.T) {
	if big == "" {
		t.Skip("writes 4 GB, 2 GB at a time: set GRAFT_BIG=1")
	}
	base, out := t.TempDir(), filepath.Join(t.TempDir(), "converted")
	makeBigModel(t, base, bigModel{"F32", 20, 2048, 5632, 256, 32000})
	for _, workers := range bigWorkers {
		args := append([]string{"convert", base, "--to", "safetensors", "--dtype", "bf16", "--quiet", "--no-fsync", "--out", out}, workers...)
		t.Logf("converted: %s", runBig(t, args))
		c, err := open.Checkpoint(out)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := c.Size(), int64(2_020_000_000); got < want*9/10 || got > want*11/10 {
			t.Errorf("%d bytes, want about %d", got, want)
		}
		c.Close()
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
	}
}

// runBig runs graft, checks that its memory stayed in the bound, and says what it took.
func runBig(t *testing.T, args []string) string {
	t.Helper()
	cmd := exec.Command(graftPath, args...)
	began := time.Now()
	if said := strings.TrimSpace(execute(t, cmd)); said != "" {
		t.Log(said)
	}
	seconds := time.Since(began).Seconds()
	resident := peak(cmd.ProcessState)
	if resident > maxResident {
		t.Errorf("%s: %d bytes resident, more than %d", strings.Join(args, " "), resident, int64(maxResident))
	}
	workers := "default workers"
	if i := slices.Index(args, "--workers"); i >= 0 {
		workers = args[i+1] + " workers"
	}
	return fmt.Sprintf("%.1f s, %s, at most %.0f MB resident", seconds, workers, float64(resident)/1e6)
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

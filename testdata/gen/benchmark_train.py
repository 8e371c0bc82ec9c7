"""The section of benchmarks.py on training: tokens a second and memory, beside PyTorch with PEFT."""

import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

RANK, ROWS, COLS, STEPS = 8, 4, 256, 4
PEERS = Path(__file__).resolve().with_name("benchmarks.py")
LAYERS = {
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}


def configs():
    """GPT-2 small, and the sizes of JackFram/llama-160m."""
    from transformers import GPT2Config, LlamaConfig

    llama = LlamaConfig(
        vocab_size=32000, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=2048, rms_norm_eps=1e-6, bos_token_id=0, eos_token_id=2, pad_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    return {"GPT-2 small": GPT2Config(), "Llama 160M": llama}


def make_models(work, rng):
    """Writes each model with random weights in both dtypes, with a tokenizer that knows numbers as words, and random data."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM

    torch.manual_seed(int(rng.integers(1 << 31)))
    made = {}
    for name, config in configs().items():
        model = AutoModelForCausalLM.from_config(config)
        vocab = {str(n): n for n in range(config.vocab_size)}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="0"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        for label, dtype in (("F32", torch.float32), ("BF16", torch.bfloat16)):
            path = work / f"{config.model_type}-{label}"
            model.to(dtype).save_pretrained(path)
            tokenizer.save(str(path / "tokenizer.json"))
            made[name, label] = path
        lines = rng.integers(3, config.vocab_size - 1, (ROWS * STEPS, COLS - 1))  # and an end token
        data = work / f"{config.model_type}.jsonl"
        data.write_text("".join(json.dumps({"text": " ".join(map(str, line))}) + "\n" for line in lines))
    return made


def peer(base, data, report):
    """Trains with PEFT, and writes the tokens a second of all steps, loading not included."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    kind = model.config.model_type
    conv1d = {"fan_in_fan_out": True} if kind == "gpt2" else {}
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LAYERS[kind], task_type="CAUSAL_LM", **conv1d))
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):  # as graft, which applies no dropout of the config's
            module.p = 0.0
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    end = model.config.eos_token_id
    rows = torch.tensor([[*map(int, json.loads(line)["text"].split()), end] for line in data.read_text().splitlines()])
    began, losses = time.perf_counter(), []
    for batch in rows.split(ROWS):
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - began
    report.write_text(json.dumps({"seconds": seconds, "tokens": rows.numel(), "loss": losses[-1]}))


def section(args, work, rng, run):
    made = make_models(work, rng)
    report, out = work / "report.json", work / "adapter"

    def graft(base, data):
        targets = ",".join(LAYERS[base.name.split("-")[0]])
        return [args.graft, "train", "--base", base, "--data", data, "--out", out, "--force", "--quiet", "--report", report, "--target-modules", targets,
                "--rank", RANK, "--batch-size", ROWS, "--max-steps", STEPS, "--learning-rate", "2e-4", "--lr-scheduler-type", "constant"]  # fmt: skip

    def torch(base, data):
        return [sys.executable, PEERS, "--run", "lora", base, data, report]

    lines = [
        f"Steps of {ROWS} × {COLS} tokens in float32, rank {RANK} on all linear layers of the blocks, AdamW, files in memory. Tokens a second are those of {STEPS} steps,",
        "the first included and loading not; peak memory is the whole process's. Both compute in float32; \"BF16\" is a checkpoint of that type, which both",
        "widen when they load it, as PyTorch would otherwise round every product to BF16. Weights and tokens are random.", "",
        "| model | weights | what | fastest tokens/s | median | × PyTorch | peak MB |", "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for name, label in made:
        base, kind = made[name, label], made[name, label].name.split("-")[0]
        data = work / f"{kind}.jsonl"
        contenders = {
            "PyTorch and PEFT": torch(base, data),
            "`graft train`": graft(base, data),
        }
        speeds, peaks = {what: [] for what in contenders}, dict.fromkeys(contenders, 0.0)
        for _ in range(args.rounds):
            for what, command in contenders.items():
                peaks[what] = max(peaks[what], run(command)[1])
                got = json.loads(report.read_text())
                report.unlink()  # graft replaces its own alone
                speeds[what].append(got["tokens"] / got["seconds"])
                shutil.rmtree(out, ignore_errors=True)
        best = max(speeds["PyTorch and PEFT"])
        for what, s in speeds.items():
            lines.append(f"| {name} | {label} | {what} | {max(s):.0f} | {statistics.median(s):.0f} | {max(s) / best:.2f} | {peaks[what]:.0f} |")
    return lines

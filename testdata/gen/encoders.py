"""Makes tiny random encoders and GPT-2s of every architecture and option, and what transformers and PEFT compute with them.

    python encoders.py --seed 1 --out testdata/models

OUT/NAME/ is a model directory (BF16), or a sentence-transformers directory. Weights are random, with norms and biases far from 1 and 0.
OUT/NAME/reference/RUN/ is one task on it:
  init/             the adapter that training starts from, by PEFT: rank 3, alpha 5, B nonzero, a head of its own where the task has one
  run.json          the task and its options, and the loss of 20 AdamW steps; step t trains on batch t % 5
  golden.safetensors
    ids [batch, row, token], lens [batch, row], types, labels, targets     the batches; token −1 where a row is at its end
    base, adapter   what the model gives for batch 0 without the adapter (where it has a head) and with it: logits or embeddings
    grad.NAME       gradients before the first step
    trained.NAME    parameters after the last

All is computed in float64 with eager attention and without dropout. sentence-transformers is not needed: its pooling and its losses
(MultipleNegativesRankingLoss, CosineSimilarityLoss) are written out here.
"""

import argparse
import json
import shutil
import warnings
from pathlib import Path

from common import begin, check, save_adapter, save_json, save_tensors

STEPS, BATCHES, VOCABULARY, PAD = 20, 5, 47, 1
HYPER = {"lr": 4e-3, "weight_decay": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}

BERT = {
    "vocab_size": VOCABULARY, "hidden_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37,
    "max_position_embeddings": 19, "type_vocab_size": 3, "layer_norm_eps": 0.05, "pad_token_id": PAD,
}  # fmt: skip
GPT2 = {
    "vocab_size": VOCABULARY, "n_embd": 20, "n_layer": 2, "n_head": 4, "n_positions": 19, "layer_norm_epsilon": 0.05,
    "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": PAD,
}  # fmt: skip
LINEARS = ["query", "key", "value", "dense"]

MODELS = {
    # As the first GPT-2 was saved: no prefix, and the masks are there.
    "gpt2": {
        "class": "GPT2LMHeadModel", "config": GPT2, "old_gpt2": True,
        "runs": {"lm": {"task": "lm", "targets": ["c_attn", "c_fc"], "save": ["ln_f", "mlp.c_proj"]}},
    },
    "gpt2-odd": {
        "class": "GPT2LMHeadModel",
        "config": {
            **GPT2, "n_inner": 37, "activation_function": "relu", "scale_attn_weights": False,
            "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True, "tie_word_embeddings": False,
        },
        "runs": {"lm": {"task": "lm", "targets": ["c_attn", "c_fc", "c_proj", "lm_head"]}},
    },
    "gpt2-score": {
        "class": "GPT2ForSequenceClassification",
        "config": {**GPT2, "n_inner": 33, "activation_function": "gelu", "num_labels": 3},
        "runs": {"classes": {"task": "classes", "targets": ["c_attn", "c_proj"]}},
    },
    "bert": {
        "class": "BertForSequenceClassification", "config": {**BERT, "hidden_act": "gelu", "num_labels": 3},
        "runs": {"classes": {"task": "classes", "targets": LINEARS, "ignored": True}},
    },
    # As the first BERTs were saved: gamma and beta, a body alone; the head is new.
    "bert-old": {
        "class": "BertModel", "config": {**BERT, "hidden_act": "gelu_new"}, "old_bert": True,
        "runs": {"multi-label": {"task": "multi-label", "targets": ["query", "value", "output.dense"], "outputs": 4}},
    },
    "roberta": {
        "class": "RobertaForSequenceClassification",
        "config": {**BERT, "type_vocab_size": 1, "hidden_act": "gelu", "num_labels": 1, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2},
        "runs": {"regression": {"task": "regression", "targets": ["query", "key", "value", "output.dense"]}},
    },
    "distilbert": {
        "class": "DistilBertForSequenceClassification",
        "config": {
            "vocab_size": VOCABULARY, "dim": 20, "n_layers": 2, "n_heads": 4, "hidden_dim": 37, "max_position_embeddings": 19,
            "activation": "relu", "pad_token_id": PAD, "num_labels": 2, "problem_type": "regression",
        },
        "runs": {"regression": {"task": "regression", "targets": ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"]}},
    },
    "minilm": {
        "class": "BertModel", "config": {**BERT, "type_vocab_size": 2, "hidden_act": "gelu"}, "sentences": True,
        "runs": {
            "pairs": {"task": "contrastive", "targets": ["query", "value"], "texts": 2, "scale": 20},
            "triples": {"task": "contrastive", "targets": ["intermediate.dense"], "texts": 3, "scale": 7, "pooling": "cls", "normalize": False},
            "cosine": {"task": "cosine", "targets": ["key", "output.dense"], "texts": 2, "pooling": "max", "normalize": False},
        },
    },
}  # fmt: skip


def randomize(model, torch):
    """Weights at which every option matters: activations of more than 1, no bias at 0, no norm at 1."""
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape)
            if "norm" in name.lower() or ".ln_" in name:
                p.copy_((1 if name.endswith("weight") else 0) + 0.4 * noise)
            elif name.endswith(".bias"):
                p.copy_(0.4 * noise)
            elif "embeddings" in name or ".wte" in name or ".wpe" in name or name == "lm_head.weight":
                p.copy_(0.5 * noise)
            else:
                p.copy_(0.3 * noise)


def write_model(out, spec, torch):
    import transformers

    cls = getattr(transformers, spec["class"])
    model = cls(cls.config_class(**spec["config"]))
    randomize(model, torch)
    model.to(torch.bfloat16).save_pretrained(out)
    if spec.get("old_gpt2") or spec.get("old_bert"):
        tensors = {}
        for name, value in model.state_dict().items():
            if name == "lm_head.weight":
                continue
            name = name.removeprefix("transformer.")
            if spec.get("old_bert"):
                name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[name] = value
            if name.endswith("attn.c_attn.weight"):
                n = spec["config"]["n_positions"]
                tensors[name.replace("c_attn.weight", "bias")] = torch.ones(n, n, dtype=torch.uint8).tril()[None, None]
        save_tensors(out / "model.safetensors", tensors)
    if spec.get("sentences"):
        kind = "sentence_transformers.models."
        save_json(
            out / "modules.json",
            [
                {"idx": 0, "name": "0", "path": "", "type": kind + "Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": kind + "Pooling"},
                {"idx": 2, "name": "2", "path": "2_Normalize", "type": kind + "Normalize"},
            ],
        )
        save_json(out / "sentence_bert_config.json", {"max_seq_length": 15, "do_lower_case": False})
        modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
        save_json(
            out / "1_Pooling" / "config.json",
            {"word_embedding_dimension": spec["config"]["hidden_size"], **{f"pooling_mode_{m}": m == "mean_tokens" for m in modes}, "include_prompt": True},
        )


def make_batches(spec, run, torch):
    """Rows of 1 to 13 tokens, padded with −1."""
    config = spec["config"]
    rows = {"contrastive": 3 * run.get("texts", 0), "cosine": 3 * run.get("texts", 0)}.get(run["task"], 4)
    outputs = run.get("outputs", config.get("num_labels", 0))
    pad = config.get("pad_token_id")
    out = {"ids": torch.full((BATCHES, rows, 13), -1), "lens": torch.randint(2, 13, (BATCHES, rows))}
    out["lens"][:, 0] = 13
    for b in range(BATCHES):
        for r in range(rows):
            n = out["lens"][b, r]
            ids = torch.randint(4, VOCABULARY, (n,))
            if spec["class"].startswith("Roberta") and n > 4:
                ids[2] = pad  # the padding token inside a text has a position of its own
            out["ids"][b, r, :n] = ids
    kinds = config.get("type_vocab_size", 0)
    if kinds > 1:
        cut = (out["lens"][..., None] * torch.rand(BATCHES, rows, 1)).long()
        at = torch.arange(13)[None, None]
        out["types"] = (at >= cut).long() + ((at > cut + 2).long() if kinds > 2 else 0)
    if run["task"] == "lm":
        labels = torch.full_like(out["ids"], -100)
        labels[..., :-1] = torch.where(out["ids"][..., 1:] >= 0, out["ids"][..., 1:], -100)
        labels[:, 1, 0] = -100
        out["labels"] = labels
    elif run["task"] == "classes":
        out["labels"] = torch.randint(0, outputs, (BATCHES, rows))
        if run.get("ignored"):
            out["labels"][:, 2] = -100
    elif run["task"] == "multi-label":
        out["targets"] = torch.randint(0, 2, (BATCHES, rows, outputs)).float()
    elif run["task"] == "regression":
        out["targets"] = torch.randn(BATCHES, rows, outputs)
    elif run["task"] == "cosine":
        out["targets"] = torch.rand(BATCHES, rows // run["texts"])
    return out


def outputs_of(model, batch, spec, run, torch):
    ids = batch["ids"]
    mask = (ids >= 0).long()
    pad = spec["config"]["pad_token_id"]
    inputs = {"input_ids": torch.where(mask == 1, ids, pad), "attention_mask": mask}
    if "types" in batch:
        inputs["token_type_ids"] = torch.where(mask == 1, batch["types"], 0)
    if run["task"] not in ("contrastive", "cosine"):
        return model(**inputs).logits
    hidden = model(**inputs).last_hidden_state
    real = mask[..., None].double()
    pooling = run.get("pooling", "mean")
    if pooling == "mean":
        y = (hidden * real).sum(1) / real.sum(1).clamp(min=1e-9)
    elif pooling == "cls":
        y = hidden[:, 0]
    else:
        y = torch.where(real == 1, hidden, -1e9).max(1).values
    return torch.nn.functional.normalize(y, dim=1) if run.get("normalize", True) else y


def loss_of(model, batch, spec, run, torch):
    F = torch.nn.functional
    y = outputs_of(model, batch, spec, run, torch)
    if run["task"] == "lm":
        return F.cross_entropy(y.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
    if run["task"] == "classes":
        return F.cross_entropy(y, batch["labels"], ignore_index=-100)
    if run["task"] == "multi-label":
        return F.binary_cross_entropy_with_logits(y, batch["targets"].double())
    if run["task"] == "regression":
        return F.mse_loss(y, batch["targets"].double())
    texts = y.chunk(run["texts"])
    if run["task"] == "cosine":
        return F.mse_loss(torch.cosine_similarity(texts[0], texts[1]), batch["targets"].double())
    a, b = F.normalize(texts[0], dim=1), F.normalize(torch.cat(texts[1:]), dim=1)
    return F.cross_entropy(run["scale"] * a @ b.T, torch.arange(len(a)))


def plain(name):
    """PEFT's name of a trained parameter in its files, without the wrapper's prefix."""
    return name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".").replace(".default.", ".")


def write_run(base, out, spec, run, torch):
    import transformers
    from peft import LoraConfig, PeftModel, get_peft_model

    kind, options = spec["class"], {}
    task = {"lm": "CAUSAL_LM", "contrastive": "FEATURE_EXTRACTION", "cosine": "FEATURE_EXTRACTION"}.get(run["task"], "SEQ_CLS")
    if "outputs" in run:
        kind = "BertForSequenceClassification"
        options = {"num_labels": run["outputs"], "problem_type": "multi_label_classification"}
    if "reorder_and_upcast_attn" in spec["config"]:
        options["reorder_and_upcast_attn"] = False  # it computes the same and knows float32 only

    def load():
        model = getattr(transformers, kind).from_pretrained(base, dtype=torch.float64, attn_implementation="eager", **options)
        return model.eval()

    save = run.get("save")
    if spec["class"].startswith("DistilBert"):
        save = ["pre_classifier"]  # PEFT adds the classifier itself
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=run["targets"], modules_to_save=save, task_type=task,
        fan_in_fan_out=spec["class"].startswith("GPT2"), exclude_modules=r".*(classifier|pooler|score).*",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(load(), config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                p.copy_((p if "modules_to_save" in name and not run.get("outputs") else 0) + 0.3 * torch.randn(p.shape))
    save_adapter(model.float(), out / "init", save_embedding_layers=False)
    model = PeftModel.from_pretrained(load(), out / "init", is_trainable=True).double().eval()

    data = make_batches(spec, run, torch)
    batches = [{k: v[i] for k, v in data.items()} for i in range(BATCHES)]
    golden = dict(data)
    with torch.no_grad():
        golden["adapter"] = outputs_of(model, batches[0], spec, run, torch)
        if "outputs" not in run:
            golden["base"] = outputs_of(load(), batches[0], spec, run, torch)
            moved = (golden["adapter"] - golden["base"]).abs().max() / golden["base"].std()
            check(moved > 0.1, out, "the adapter moves the outputs by", moved, "only")
    params = [(plain(n), p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [p for _, p in params], lr=HYPER["lr"], betas=HYPER["betas"], eps=HYPER["eps"], weight_decay=HYPER["weight_decay"]
    )
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, batches[step % BATCHES], spec, run, torch)
        loss.backward()
        if step == 0:
            for name, p in params:
                golden["grad." + name] = p.grad
        optimizer.step()
        losses.append(loss.item())
    for name, p in params:
        golden["trained." + name] = p.data
    golden = {k: v.float() if v.is_floating_point() else v.to(torch.int64) for k, v in golden.items()}
    save_tensors(out / "golden.safetensors", golden)
    keys = ("task", "texts", "scale", "pooling", "normalize", "outputs")
    save_json(out / "run.json", {**{k: run[k] for k in keys if k in run}, **HYPER, "loss": losses})
    print(out, [round(x, 4) for x in losses[:: STEPS - 1]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="one model")
    args = parser.parse_args()
    torch = begin(args.seed)
    for number, (name, spec) in enumerate(MODELS.items()):
        if args.only not in (None, name):
            continue
        torch.manual_seed(args.seed * 1000 + number)
        out = args.out / name
        if out.exists():
            shutil.rmtree(out)
        write_model(out, spec, torch)
        for run_name, run in spec["runs"].items():
            write_run(out, out / "reference" / run_name, spec, run, torch)


if __name__ == "__main__":
    main()

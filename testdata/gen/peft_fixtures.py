"""Makes small PEFT adapters and what PEFT merges them into: golden inputs for a reader, a selector and a merger.

    python peft_fixtures.py --seed 1 --out testdata/peft

OUT/cases.json            every case: what it is about, per target the rank, alpha, scaling and the tensor it changes;
                          `off_the_rule` is how many elements of merged.safetensors differ from by_the_rule below
OUT/NAME/base/            model.safetensors, and config.json where the model is a transformers one
OUT/NAME/adapter/         as PEFT's save_pretrained wrote it, random factors (model card removed)
OUT/NAME/merged.safetensors             PeftModel.from_pretrained(base, adapter).merge_and_unload(), names as in base/
OUT/NAME/merged_safe.safetensors        the same with safe_merge=True, where the two rounding orders differ
OUT/NAME/merged_no_autocast.safetensors the same with the adapter kept in its 16-bit dtype while merging
OUT/refuse/NAME/          adapters that are not plain LoRA (or need more than the adapter to be read right)
OUT/selection.json        which modules PEFT wraps for many configs, with rank and scaling of each
OUT/config/NAME/          adapter_config.json of PEFT's own making, for its text

The same seed gives the same bits on one machine.
"""

import argparse
import copy
import json
import shutil
import warnings
from pathlib import Path

from common import begin, check, save_adapter, save_json, save_tensors

torch = begin(0)  # main seeds again

import numpy as np  # noqa: E402
import peft  # noqa: E402
import transformers  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from peft.tuners.lora import LoraLayer  # noqa: E402
from peft.utils.other import ModulesToSaveWrapper  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

SHORT = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


# Models. All sizes are odd or at least unequal, unless a case is about equal ones.


def llama(dtype=torch.float32, head="CausalLM", **changes):
    values = {
        "vocab_size": 43,
        "hidden_size": 21,
        "intermediate_size": 31,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 10,
        "max_position_embeddings": 32,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    config = transformers.LlamaConfig(**{**values, **changes})
    return prepared(getattr(transformers, "LlamaFor" + head)(config), dtype)


def gpt2(dtype=torch.float32, **changes):
    values = {
        "vocab_size": 43,
        "n_embd": 21,
        "n_head": 3,
        "n_layer": 2,
        "n_inner": 38,
        "n_positions": 16,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return prepared(transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**values, **changes})), dtype)


def bert(dtype=torch.float32, **changes):
    values = {
        "vocab_size": 53,
        "hidden_size": 22,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "max_position_embeddings": 16,
        "num_labels": 3,
    }
    return prepared(transformers.BertForSequenceClassification(transformers.BertConfig(**{**values, **changes})), dtype)


class Convs(nn.Module):
    """Convolutions of every shape that matters, one linear layer, no config.

    With fewer than 16 input channels, and for the smallest products, PyTorch multiplies and adds in two roundings.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(17, 19, 3, stride=2, padding=1)
        self.point = nn.Conv2d(19, 18, 1, bias=False)
        self.flat = nn.Conv2d(18, 11, (3, 2))
        self.line = nn.Conv1d(21, 17, 5)
        self.head = nn.Linear(17, 10)


class Block(nn.Module):
    def __init__(self, experts=0):
        super().__init__()
        self.fc = nn.Linear(11, 7)
        self.proj = nn.Linear(7, 11)
        if experts:
            self.experts = nn.ModuleList(Block() for _ in range(experts))


class Tiny(nn.Module):
    """Two linear layers and an embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(13, 11)
        self.layers = nn.ModuleList([Block()])


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.empty(2, 9, 7))


class Moe(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = Experts()


class Nested(nn.Module):
    """Layer lists at the root and below, experts inside layers, heads with names that end alike."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(3))
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList(Block(experts=2) for _ in range(3))
        self.encoder = nn.Module()
        self.encoder.h = nn.ModuleList(Block() for _ in range(2))
        self.score = nn.Linear(11, 2)
        self.my_score = nn.Linear(11, 2)


def prepared(model, dtype):
    model.config.architectures = [type(model).__name__]
    return model.to(dtype).eval()


def randomize(parameters, std):
    with torch.no_grad():
        for _, p in sorted(parameters):
            p.copy_((std * torch.randn(p.shape)).to(p.dtype))


# Cases with a base and a merged model.


class Case:
    def __init__(self, name, note, base, *configs, strip="", safe=False, autocast=True, save_embeddings=False, tied_twice=False):
        self.name, self.note, self.base, self.configs = name, note, base, configs
        self.strip = strip  # what the names in the files lack
        self.safe = safe
        self.autocast = autocast
        self.save_embeddings = save_embeddings
        self.tied_twice = tied_twice  # PEFT merges what a tied weight gets twice


LINEAR = {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "o_proj", "up_proj"], "task_type": "CAUSAL_LM"}
DORA = {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "v_proj", "down_proj"], "use_dora": True, "task_type": "CAUSAL_LM"}

CASES = [
    Case("linear-f32", "plain LoRA on an F32 Llama", lambda: llama(), LINEAR),
    Case("linear-f16", "plain LoRA on an F16 Llama, F32 factors", lambda: llama(torch.float16), LINEAR, safe=True),
    Case(
        "linear-bf16",
        "plain LoRA on a BF16 Llama, F32 factors; merged rounds W + Δ once, merged_safe rounds Δ first",
        lambda: llama(torch.bfloat16),
        LINEAR,
        safe=True,
    ),
    Case(
        "linear-f64",
        "F64 base: PEFT makes and keeps F64 factors and merges in float64",
        lambda: llama(torch.float64),
        LINEAR,
    ),
    Case(
        "rslora",
        "use_rslora: scaling is alpha/sqrt(r); alpha is a float",
        lambda: llama(),
        {"r": 5, "lora_alpha": 1.5, "target_modules": ["k_proj", "down_proj"], "use_rslora": True, "task_type": "CAUSAL_LM"},
    ),
    Case(
        "alpha-negative",
        "PEFT allows a negative alpha",
        lambda: llama(),
        {"r": 2, "lora_alpha": -3, "target_modules": ["v_proj"], "task_type": "CAUSAL_LM"},
    ),
    Case(
        "alpha-zero",
        "PEFT allows alpha 0: the merged model is the base",
        lambda: llama(),
        {"r": 2, "lora_alpha": 0, "target_modules": ["v_proj"], "task_type": "CAUSAL_LM"},
    ),
    Case(
        "gpt2-conv1d",
        "GPT-2: Conv1D weights are (in, out); tied head, excluded by exclude_modules; the files lack `transformer.` as"
        " GPT-2's own do",
        lambda: gpt2(),
        {
            "r": 3,
            "lora_alpha": 5,
            "target_modules": ["c_attn", "c_proj", "lm_head"],
            "exclude_modules": ["lm_head"],
            "fan_in_fan_out": True,
            "task_type": "CAUSAL_LM",
        },
        strip="transformer.",
    ),
    Case(
        "gpt2-square",
        "Conv1D weights that are square (c_proj of attention, and the MLP's, n_inner = n_embd): the shapes do not tell the"
        " orientation, fan_in_fan_out does",
        lambda: gpt2(n_inner=21, tie_word_embeddings=False),
        {
            "r": 3,
            "lora_alpha": 5,
            "target_modules": ["c_proj", "c_fc"],
            "fan_in_fan_out": True,
            "task_type": "CAUSAL_LM",
        },
    ),
    Case(
        "gpt2-square-mixed",
        "square Conv1D and an nn.Linear head in one adapter: PEFT corrects fan_in_fan_out module by module and saves the last"
        " value, false; the Conv1D deltas are transposed all the same, so only the model type tells",
        lambda: gpt2(n_inner=21, tie_word_embeddings=False),
        {
            "r": 2,
            "lora_alpha": 3,
            "target_modules": ["c_proj", "lm_head"],
            "fan_in_fan_out": True,
            "task_type": "CAUSAL_LM",
        },
    ),
    Case(
        "patterns",
        "rank_pattern and alpha_pattern: anchored with ^, regexes, overlapping keys of which the first wins, an unescaped dot",
        lambda: llama(num_hidden_layers=3),
        {
            "r": 4,
            "lora_alpha": 6,
            "target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"],
            "rank_pattern": {
                "^model\\.layers\\.0\\.self_attn\\.q_proj": 2,
                "layers.1.self_attn..*": 5,
                "self_attn\\.(q|k)_proj": 3,
            },
            "alpha_pattern": {
                "(k|v)_proj": 2.5,
                "^model\\.layers\\.2\\..*": 11,
                "mlp.down_proj": 1,
            },
            "task_type": "CAUSAL_LM",
        },
    ),
    Case(
        "save-lm-head",
        "modules_to_save: the head is saved whole and replaces the base's (BF16)",
        lambda: llama(torch.bfloat16),
        {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "task_type": "CAUSAL_LM"},
    ),
    Case(
        "save-score",
        "Llama for sequence classification: PEFT adds `classifier` and `score` to modules_to_save by itself",
        lambda: llama(head="SequenceClassification", num_labels=3),
        {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"], "task_type": "SEQ_CLS"},
    ),
    Case(
        "save-classifier",
        "BERT for sequence classification: classifier with a bias saved whole; `dense` hits four kinds of module",
        lambda: bert(),
        {"r": 2, "lora_alpha": 3, "target_modules": ["query", "dense"], "task_type": "SEQ_CLS"},
    ),
    Case(
        "embedding",
        "Embedding target, BF16: PEFT rounds the embedding's Δ to the base dtype before adding, unlike the linear layer's",
        lambda: llama(torch.bfloat16),
        {"r": 3, "lora_alpha": 4, "target_modules": ["embed_tokens", "q_proj"], "task_type": "CAUSAL_LM"},
        safe=True,
    ),
    Case(
        "embedding-saved",
        "the same as PEFT saves it by default: the adapter also holds embed_tokens.base_layer.weight, equal to the base's",
        lambda: llama(torch.bfloat16),
        {"r": 3, "lora_alpha": 4, "target_modules": ["embed_tokens", "q_proj"], "task_type": "CAUSAL_LM"},
        save_embeddings="auto",
    ),
    Case(
        "embedding-tied",
        "Embedding target with a tied head (no lm_head in the files): PEFT merges into the shared matrix, so the head changes too",
        lambda: llama(tie_word_embeddings=True),
        {"r": 3, "lora_alpha": 4, "target_modules": ["embed_tokens"], "task_type": "CAUSAL_LM"},
    ),
    Case(
        "conv2d",
        "Conv2d 3x3 with stride and padding, 1x1 without bias, 3x2, and a linear layer; no config.json, auto_mapping set",
        Convs,
        {"r": 3, "lora_alpha": 4, "target_modules": ["stem", "point", "flat", "head"]},
    ),
    Case("conv1d", "Conv1d with kernel 5 (nn.Conv1d, not GPT-2's Conv1D)", Convs, {"r": 3, "lora_alpha": 4, "target_modules": ["line"]}),
    Case(
        "layers",
        "exclude_modules, layers_to_transform and layers_pattern together",
        lambda: llama(num_hidden_layers=3),
        {
            "r": 2,
            "lora_alpha": 3,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "exclude_modules": ["layers.2.self_attn.v_proj"],
            "layers_to_transform": [0, 2],
            "layers_pattern": ["layers"],
            "task_type": "CAUSAL_LM",
        },
    ),
    Case(
        "all-linear",
        "target_modules all-linear: 21 modules, which PEFT writes as 7 suffixes; the head is left out",
        lambda: llama(num_hidden_layers=3),
        {"r": 2, "lora_alpha": 3, "target_modules": "all-linear", "task_type": "CAUSAL_LM"},
    ),
    Case(
        "regex",
        "target_modules is a regex with a look-ahead, matched whole",
        lambda: llama(),
        {
            "r": 2,
            "lora_alpha": 3,
            "target_modules": r"model\.layers\.(?!0)\d+\.(self_attn|mlp)\.(q|gate)_proj",
            "task_type": "CAUSAL_LM",
        },
    ),
    Case(
        "adapter-bf16",
        "BF16 factors (autocast_adapter_dtype=False); PEFT widens them on loading, so merged rounds once;"
        " merged_no_autocast rounds Δ to BF16 first",
        lambda: llama(torch.bfloat16),
        LINEAR,
        autocast=False,
    ),
    Case(
        "two-adapters",
        "adapter/ and then adapter2/ merged one after the other, rounded to BF16 each time",
        lambda: llama(torch.bfloat16),
        LINEAR,
        {"r": 2, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"},
    ),
    Case("dora-f32", "DoRA on an F32 Llama", lambda: llama(), DORA),
    Case("dora-f16", "DoRA on an F16 Llama", lambda: llama(torch.float16), DORA),
    Case("dora-bf16", "DoRA on a BF16 Llama", lambda: llama(torch.bfloat16), DORA),
    Case("dora-f64", "DoRA on an F64 Llama", lambda: llama(torch.float64), DORA),
    Case(
        "dora-gpt2",
        "DoRA on Conv1D: norms go by column of the stored (in, out) weight",
        lambda: gpt2(torch.bfloat16, n_inner=21, tie_word_embeddings=False),
        {
            "r": 3,
            "lora_alpha": 5,
            "target_modules": ["c_attn", "c_proj"],
            "fan_in_fan_out": True,
            "use_dora": True,
            "task_type": "CAUSAL_LM",
        },
    ),
    Case(
        "dora-embedding",
        "DoRA on an embedding: one norm for each embedding dimension, over the vocabulary",
        lambda: llama(),
        {"r": 3, "lora_alpha": 4, "target_modules": ["embed_tokens", "q_proj"], "use_dora": True, "task_type": "CAUSAL_LM"},
    ),
    Case(
        "dora-conv2d",
        "DoRA on convolutions: one norm for each output channel",
        Convs,
        {"r": 3, "lora_alpha": 4, "target_modules": ["stem", "point"], "use_dora": True},
    ),
    Case(
        "dora-two",
        "a LoRA and then two DoRA adapters merged one after the other: norms are those of the unmerged weight",
        lambda: llama(torch.bfloat16),
        LINEAR,
        DORA,
        {**DORA, "r": 2, "target_modules": ["q_proj"]},
    ),
    Case(
        "lora-bias",
        "lora_bias: B has a bias, which goes to the layer's; it is never rounded before it is added",
        lambda: llama(torch.bfloat16, attention_bias=True, mlp_bias=True),
        {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "down_proj"], "lora_bias": True, "task_type": "CAUSAL_LM"},
        safe=True,
    ),
    Case(
        "tied-lora",
        "ensure_weight_tying: factors of a tied embedding and, the other way round, of the head; PEFT itself merges both into"
        " the one matrix, merged has what its forward pass has: one of them",
        lambda: llama(tie_word_embeddings=True),
        {"r": 3, "lora_alpha": 4, "target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True, "task_type": "CAUSAL_LM"},
        tied_twice=True,
    ),
    Case(
        "tied-saved",
        "ensure_weight_tying: a tied embedding and its head saved whole",
        lambda: llama(torch.bfloat16, tie_word_embeddings=True),
        {
            "r": 2,
            "lora_alpha": 3,
            "target_modules": ["v_proj"],
            "modules_to_save": ["embed_tokens"],
            "ensure_weight_tying": True,
            "task_type": "CAUSAL_LM",
        },
    ),
    Case(
        "biases",
        "bias all: every bias saved whole, those of targets under the wrapper's name; that of the classifier, which is saved whole too,"
        " is there three times",
        lambda: bert(),
        {"r": 2, "lora_alpha": 3, "target_modules": ["query", "output.dense"], "bias": "all", "task_type": "SEQ_CLS"},
    ),
    Case(
        "biases-of-targets",
        "bias lora_only: the targets' biases saved whole, with DoRA",
        lambda: gpt2(tie_word_embeddings=False),
        {"r": 3, "lora_alpha": 5, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "use_dora": True, "bias": "lora_only", "task_type": "CAUSAL_LM"},
    ),
]


def adapter_parameters(model):
    """What training would have changed."""
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def lora_layers(model):
    return {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if isinstance(m, LoraLayer)}


def wrap(model, config, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, LoraConfig(**copy.deepcopy(config)), **options)


def merge(base, adapters, autocast=True, safe=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(copy.deepcopy(base), adapters[0], autocast_adapter_dtype=autocast)
        names = ["default"]
        for number, adapter in enumerate(adapters[1:], 2):
            names.append(f"adapter{number}")
            model.load_adapter(adapter, names[-1], autocast_adapter_dtype=autocast)
        merged = model.merge_and_unload(safe_merge=safe, adapter_names=names)
        return merged.state_dict()


def by_the_rule(before, adapters, targets, replaced):
    """The merge as one writes it down: acc = fma(B[o,k], A[k,i], acc) in float32, times s, added and rounded once; an
    embedding's Δ is rounded to the base dtype first; adapters one after the other. Not the oracle: cases.json says how
    many elements of PEFT's differ from it (0 means that bit equality can be asked for)."""
    state = {k: v.clone() for k, v in before.items()}
    for adapter, entry in zip(adapters, targets):
        factors = load_file(adapter / "adapter_model.safetensors")
        for module, target in entry.items():
            stem = f"base_model.model.{module}.lora_"
            if target["tensor"] not in before:  # the head's copy of what is done to the embedding
                continue
            if stem + "B.bias" in factors:
                bias = state[target["bias"]]
                added = factors[stem + "B.bias"].float() * np.float32(target["scaling"])
                state[target["bias"]] = (bias.float() + added).to(bias.dtype)
            kind = ("embedding_A", "embedding_B") if target["kind"] == "Embedding" else ("A.weight", "B.weight")
            a, b = (factors[stem + k].flatten(1) for k in kind)
            a, b = (x.numpy() if x.dtype == torch.float64 else x.float().numpy() for x in (a, b))
            wide = a.dtype.type
            acc = np.zeros((b.shape[0], a.shape[1]), wide)
            for k in range(a.shape[0]):
                # The product is exact in long double and the sum nearly so: a float32 fma but for double rounding.
                acc = (np.multiply.outer(b[:, k].astype(np.longdouble), a[k].astype(np.longdouble)) + acc).astype(wide)
            delta = torch.from_numpy(acc * wide(target["scaling"]))
            w = state[target["tensor"]]
            if target["in_out"] or target["kind"] == "Embedding":
                delta = delta.T
            delta = delta.reshape(w.shape)
            magnitude = factors.get(stem + "magnitude_vector")
            if magnitude is not None:
                state[target["tensor"]] = scaled(w, before[target["tensor"]], delta, magnitude, target).to(w.dtype)
                continue
            if target["kind"] == "Embedding":
                delta = delta.to(w.dtype)
            state[target["tensor"]] = (w.to(delta.dtype) + delta if delta.dtype != w.dtype else w + delta).to(w.dtype)
        for name in replaced:
            key = "base_model.model." + name
            state[name] = factors.get(key, factors.get(key.removesuffix("bias") + "base_layer.bias")).to(before[name].dtype)
    return state


def scaled(weight, unmerged, delta, magnitude, target):
    """DoRA: m/n · (W + Δ), with n the norm of the unmerged weight's W + Δ for each output, summed in float64."""
    by_column = target["in_out"] or target["kind"] == "Embedding"
    v = (unmerged + delta).double()
    norm = (v**2).sum(0) if by_column else (v.flatten(1) ** 2).sum(1)
    factor = magnitude.flatten().to(delta.dtype) / norm.sqrt().to(delta.dtype)
    shape = [1, -1] if by_column else [-1] + [1] * (weight.dim() - 1)
    return factor.view(shape) * (weight + delta)


def merged_once(base, adapter, before, twice):
    """What PEFT merges, but for the tied embedding: it gets the change once, as the forward pass has it in both places."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(copy.deepcopy(base), adapter).eval()
    name = next(k for k in before if k.endswith("embed_tokens.weight"))
    delta = lora_layers(model)[name.removesuffix(".weight")].get_delta_weight("default")
    check(torch.allclose(twice[name], before[name] + 2 * delta, atol=1e-6), adapter, "PEFT does not merge a tied weight twice")
    after = {**twice, name: before[name] + delta}
    plain = copy.deepcopy(base)
    plain.load_state_dict({**after, "lm_head.weight": after[name]})
    ids = torch.arange(11)[None]
    with torch.no_grad():
        got, want = plain(input_ids=ids).logits, model(input_ids=ids).logits
    check(torch.allclose(got, want, rtol=1e-4, atol=1e-4), adapter, "merged once is not what PEFT computes", (got - want).abs().max())
    return after


def write_case(case, out):
    base = case.base()
    randomize(base.named_parameters(), 0.2)
    is_hf = hasattr(base, "config")
    if is_hf:
        base.name_or_path = base.config._name_or_path = case.name
        base.config.dtype = next(base.parameters()).dtype
        base.config.save_pretrained(out / "base")

    tied = is_hf and base.config.tie_word_embeddings and hasattr(base, "lm_head")
    if tied:
        check(base.lm_head.weight.data_ptr() == base.get_input_embeddings().weight.data_ptr(), "the head is not tied")

    def named(state):
        return {k.removeprefix(case.strip): v for k, v in state.items() if not (tied and k == "lm_head.weight")}

    before = named(base.state_dict())
    save_tensors(out / "base" / "model.safetensors", before)

    adapters, targets = [], []
    for number, config in enumerate(case.configs, 1):
        model = wrap(copy.deepcopy(base), config, autocast_adapter_dtype=case.autocast)
        randomize(adapter_parameters(model), 0.3)
        adapter = out / ("adapter" if number == 1 else f"adapter{number}")
        save_adapter(model, adapter, save_embedding_layers=case.save_embeddings)
        adapters.append(adapter)
        entry = {}
        for name, layer in sorted(lora_layers(model).items()):
            inner = layer.get_base_layer()
            entry[name] = {
                "tensor": f"{name}.weight".removeprefix(case.strip),
                "kind": type(inner).__name__,
                "in_out": isinstance(inner, transformers.pytorch_utils.Conv1D),
                "r": layer.r["default"],
                "alpha": layer.lora_alpha["default"],
                "scaling": layer.scaling["default"],
            }
            if layer.lora_bias.get("default"):
                entry[name]["bias"] = f"{name}.bias".removeprefix(case.strip)
        targets.append(entry)

    after = named(merge(base, adapters))
    if case.tied_twice:
        after = merged_once(base, adapters[0], before, after)
    check(list(after) == list(before), case.name, "has other tensors after merging")
    save_tensors(out / "merged.safetensors", after)
    changed = sorted(k for k in after if not torch.equal(after[k], before[k]))
    wanted = {t[k] for entry in targets for t in entry.values() for k in ("tensor", "bias") if t["scaling"] != 0 and k in t}
    wanted &= set(before)
    check(wanted <= set(changed), case.name, "did not change", wanted - set(changed))
    replaced = sorted(set(changed) - wanted)
    rule = by_the_rule(before, adapters, targets, replaced)
    record = {
        "name": case.name,
        "note": case.note,
        "dtype": SHORT[next(base.parameters()).dtype],
        "adapters": [a.name for a in adapters],
        "changed": changed,
        "replaced": replaced,
        "off_the_rule": sum(int((rule[k] != after[k]).sum()) for k in after),
        "targets": targets,
    }
    if case.safe:
        safe = named(merge(base, adapters, safe=True))
        check(any(not torch.equal(safe[k], after[k]) for k in after), case.name, "shows no difference in safe_merge")
        save_tensors(out / "merged_safe.safetensors", safe)
    if not case.autocast:
        kept = named(merge(base, adapters, autocast=False))
        check(any(not torch.equal(kept[k], after[k]) for k in after), case.name, "shows no difference without autocast")
        save_tensors(out / "merged_no_autocast.safetensors", kept)
    return record


# Adapters to refuse.


def refusals():
    fc = {"target_modules": ["fc"], "r": 2, "lora_alpha": 3}
    return [
        (
            "trainable-tokens",
            "trainable_token_indices",
            "rows of an embedding saved whole",
            Tiny,
            LoraConfig(**fc, trainable_token_indices={"embed": [2, 5]}),
        ),
        (
            "target-parameters",
            "target_parameters",
            "a 3-D expert parameter",
            Moe,
            LoraConfig(r=2, lora_alpha=3, target_parameters=["experts.weights"]),
        ),
        ("pissa", "init_lora_weights", "delta on a base that PiSSA changed", Tiny, LoraConfig(**fc, init_lora_weights="pissa")),
        ("olora", "init_lora_weights", "delta on a base that OLoRA changed", Tiny, LoraConfig(**fc, init_lora_weights="olora")),
        (
            "layer-replication",
            "layer_replication",
            "layers repeated with shared weights",
            lambda: llama(num_hidden_layers=2),
            LoraConfig(target_modules=["q_proj"], r=2, lora_alpha=3, layer_replication=[(0, 2), (1, 2)]),
        ),
        (
            "alora",
            "alora_invocation_tokens",
            "active only after an invocation string",
            lambda: llama(num_hidden_layers=1),
            LoraConfig(target_modules=["q_proj"], r=2, lora_alpha=3, alora_invocation_tokens=[3, 4], task_type="CAUSAL_LM"),
        ),
        ("kasa", "kasa_config", "a diagonal between the factors, on a truncated base", Tiny, LoraConfig(**fc, kasa_config=peft.KasaConfig())),
        ("ia3", "IA3", "peft_type IA3", Tiny, peft.IA3Config(target_modules=["fc", "proj"], feedforward_modules=["proj"])),
        ("loha", "LOHA", "peft_type LOHA", Tiny, peft.LoHaConfig(target_modules=["fc"], r=2, alpha=3)),
        ("lokr", "LOKR", "peft_type LOKR", Tiny, peft.LoKrConfig(target_modules=["fc"], r=2, alpha=3)),
        (
            "adalora",
            "ADALORA",
            "peft_type ADALORA",
            Tiny,
            peft.AdaLoraConfig(target_modules=["fc"], init_r=3, target_r=2, lora_alpha=4, total_step=10, tinit=1, tfinal=1),
        ),
        ("vera", "VERA", "peft_type VERA", Tiny, peft.VeraConfig(target_modules=["fc"], r=2)),
        ("oft", "OFT", "peft_type OFT", Tiny, peft.OFTConfig(target_modules=["fc"], r=1, oft_block_size=0)),
    ]


def write_refusal(out, key, note, build, config):
    base = build()
    randomize(base.named_parameters(), 0.2)
    if hasattr(base, "config"):
        base.name_or_path = base.config._name_or_path = out.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(base, config)
    if key != "init_lora_weights":  # where the base was changed the factors belong to it
        randomize(adapter_parameters(model), 0.3)
    save_adapter(model, out, save_embedding_layers=False)
    return {"name": out.name, "refused_for": key, "note": note}


# Selection.


SELECTION = [
    # name, model, config
    ("default llama", "llama", {}),
    ("default gpt2", "gpt2", {}),
    ("default bert", "bert", {}),
    ("default of an unknown model", "nested", {}),
    ("list", "llama", {"target_modules": ["q_proj", "v_proj"]}),
    ("list with an entry that hits nothing", "llama", {"target_modules": ["q_proj", "nothing"]}),
    ("entries are literal", "llama", {"target_modules": ["q.proj", "v_proj"]}),
    ("a suffix needs a dot before it", "llama", {"target_modules": ["proj", "o_proj"]}),
    ("several segments", "llama", {"target_modules": ["self_attn.k_proj", "3.mlp.up_proj"]}),
    ("exact names", "llama", {"target_modules": ["model.layers.1.self_attn.q_proj", "model.layers.11.mlp.down_proj"]}),
    ("exact name at the root", "nested", {"target_modules": ["score"]}),
    ("a digit segment", "llama", {"target_modules": ["1.self_attn.q_proj"]}),
    ("embedding and head", "llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    ("dense in BERT", "bert", {"target_modules": ["dense"]}),
    ("attention.output.dense in BERT", "bert", {"target_modules": ["attention.output.dense", "query"]}),
    ("Conv1D", "gpt2", {"target_modules": ["c_attn", "mlp.c_proj"]}),
    ("nothing hit", "llama", {"target_modules": ["query"]}),
    ("empty list", "llama", {"target_modules": []}),
    ("a module of another kind", "llama", {"target_modules": ["input_layernorm"]}),
    ("regex", "llama", {"target_modules": r".*\.(q|v)_proj"}),
    ("regex is matched whole", "llama", {"target_modules": r"q_proj"}),
    ("regex is matched whole, at the end", "llama", {"target_modules": r".*self_attn\.q"}),
    ("regex is matched to the end", "llama", {"target_modules": r"model\.layers\.\d\.self_attn\.q_proj|lm_head"}),
    ("regex hits a container", "llama", {"target_modules": r".*self_attn.*"}),
    ("regex with look-ahead", "llama", {"target_modules": r"model\.layers\.(?!1\d?\.)\d+\.mlp\.(?:up|gate)_proj"}),
    ("regex with look-behind", "llama", {"target_modules": r".*(?<=self_attn\.)[qk]_proj"}),
    ("regex with a back-reference", "llama", {"target_modules": r"model\.layers\.(\d)\1?\.self_attn\.q_proj"}),
    ("regex with a named group", "llama", {"target_modules": r"model\.layers\.(?P<n>[02468]|10)\.self_attn\.v_proj"}),
    ("regex ignoring case", "llama", {"target_modules": r"(?i).*\.Q_PROJ"}),
    ("regex in BERT", "bert", {"target_modules": r".*layer\.[0-9]+\.attention\.self\.(query|key)"}),
    ("regex in GPT-2", "gpt2", {"target_modules": r"transformer\.h\.1\..*(c_attn|c_fc)"}),
    ("regex that hits nothing", "llama", {"target_modules": r"layers\..*q_proj"}),
    ("broken regex", "llama", {"target_modules": r".*(q_proj"}),
    ("all-linear", "llama", {"target_modules": "all-linear"}),
    ("all-linear in capitals", "llama", {"target_modules": "ALL-Linear"}),
    ("all-linear in GPT-2", "gpt2", {"target_modules": "all-linear"}),
    ("all-linear in BERT", "bert", {"target_modules": "all-linear"}),
    ("all-linear in BERT for SEQ_CLS", "bert", {"target_modules": "all-linear", "task_type": "SEQ_CLS"}),
    ("all-linear in an unknown model", "nested", {"target_modules": "all-linear"}),
    ("all-linear in a list is a name", "llama", {"target_modules": ["all-linear"]}),
    ("all-linear with exclusions", "llama", {"target_modules": "all-linear", "exclude_modules": ["mlp", "k_proj", "0.self_attn.q_proj"]}),
    ("exclude list", "llama", {"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["layers.0.mlp.up_proj", "1.self_attn.q_proj"]}),
    ("exclude an exact name", "llama", {"target_modules": ["q_proj"], "exclude_modules": ["model.layers.3.self_attn.q_proj"]}),
    ("exclude a container", "llama", {"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["self_attn"]}),
    ("exclude regex", "llama", {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r"model\.layers\.[0-8]\..*"}),
    ("exclude regex with target regex", "llama", {"target_modules": r".*_proj", "exclude_modules": r".*(mlp|layers\.\d+\.self_attn\.[ok]).*"}),
    ("exclude everything", "llama", {"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]}),
    ("exclude that hits nothing", "llama", {"target_modules": ["q_proj"], "exclude_modules": ["query"]}),
    ("layers_to_transform", "llama", {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [0, 2, 11]}),
    ("layers_to_transform as a number", "llama", {"target_modules": ["q_proj"], "layers_to_transform": 1}),
    ("layers_to_transform, empty", "llama", {"target_modules": ["q_proj"], "layers_to_transform": []}),
    ("layers_to_transform, out of range", "llama", {"target_modules": ["q_proj"], "layers_to_transform": [12]}),
    ("layers_to_transform does not touch exact names", "llama", {"target_modules": ["model.layers.5.self_attn.q_proj", "k_proj"], "layers_to_transform": [1]}),
    ("layers_to_transform drops suffix hits without a number", "llama", {"target_modules": ["lm_head", "embed_tokens", "q_proj"], "layers_to_transform": [1]}),
    ("layers_to_transform with layers_pattern", "llama", {"target_modules": ["q_proj"], "layers_to_transform": [1, 2], "layers_pattern": "layers"}),
    ("layers_pattern that is not there", "llama", {"target_modules": ["q_proj"], "layers_to_transform": [1, 2], "layers_pattern": "h"}),
    ("layers_pattern list", "gpt2", {"target_modules": ["c_attn"], "layers_to_transform": [1], "layers_pattern": ["layers", "h"]}),
    ("layers_pattern without layers_to_transform", "llama", {"target_modules": ["q_proj"], "layers_pattern": "layers"}),
    ("layers_to_transform with a regex", "llama", {"target_modules": r".*q_proj", "layers_to_transform": [1]}),
    ("layers at the root without layers_pattern", "nested", {"target_modules": ["fc"], "layers_to_transform": [1]}),
    ("layers at the root with layers_pattern", "nested", {"target_modules": ["fc"], "layers_to_transform": [1], "layers_pattern": "layers"}),
    ("layers_pattern with several lists", "nested", {"target_modules": ["proj"], "layers_to_transform": [1], "layers_pattern": ["h", "layers"]}),
    ("layers_pattern is a regex", "nested", {"target_modules": ["proj"], "layers_to_transform": [0], "layers_pattern": "(h|experts)"}),
    ("modules_to_save are not targets", "llama", {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head"]}),
    ("modules_to_save end alike", "nested", {"target_modules": ["fc"], "modules_to_save": ["score"]}),
    ("modules_to_save only", "llama", {"target_modules": ["lm_head"], "modules_to_save": ["lm_head"]}),
    ("SEQ_CLS saves the head", "bert", {"target_modules": ["query"], "task_type": "SEQ_CLS"}),
    (
        "patterns",
        "llama",
        {
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "r": 5,
            "lora_alpha": 12.5,
            "rank_pattern": {"layers.1.*": 2, "^model\\.layers\\.0\\.self_attn\\.q_proj": 3, "v_proj": 4, "^q_proj": 7},
            "alpha_pattern": {"down_proj": 1.5, "(.*)\\.q_proj": 9, "base_model.model.model.layers.0.self_attn.v_proj": 99},
        },
    ),
    (
        "patterns: the first key wins",
        "llama",
        {"target_modules": ["q_proj", "k_proj"], "r": 8, "lora_alpha": 4, "rank_pattern": {"q_proj": 2, ".*": 6}},
    ),
    (
        "patterns: the first key wins, the other way round",
        "llama",
        {"target_modules": ["q_proj", "k_proj"], "r": 8, "lora_alpha": 4, "rank_pattern": {".*": 6, "q_proj": 2}},
    ),
    (
        "patterns with rsLoRA",
        "gpt2",
        {
            "target_modules": ["c_attn", "c_proj"],
            "r": 3,
            "lora_alpha": 5,
            "use_rslora": True,
            "rank_pattern": {"h\\.1\\..*": 6},
            "alpha_pattern": {"mlp.c_proj": 7.25},
        },
    ),
    (
        "patterns match whole segments only",
        "llama",
        {"target_modules": ["q_proj"], "r": 3, "lora_alpha": 5, "rank_pattern": {"proj": 7, "attn.q_proj": 6, "0.self_attn.q_proj": 2}},
    ),
    (
        "patterns that hit nothing",
        "bert",
        {"target_modules": ["query", "value"], "r": 3, "lora_alpha": 5, "rank_pattern": {"key": 7}, "alpha_pattern": {"query$": 2}},
    ),
]


def selection_models():
    return {
        "llama": llama(
            vocab_size=11, hidden_size=8, intermediate_size=6, num_hidden_layers=12, num_attention_heads=2, head_dim=6, num_key_value_heads=1
        ),
        "gpt2": gpt2(vocab_size=11, n_embd=8, n_head=2, n_inner=6),
        "bert": bert(vocab_size=11, hidden_size=8, intermediate_size=6),
        "nested": Nested(),
    }


def write_selection(path):
    models = selection_models()
    description = {}
    for name, model in models.items():
        kinds = {}
        for module, m in model.named_modules():
            if module and isinstance(m, (nn.Linear, nn.Embedding, transformers.pytorch_utils.Conv1D)):
                kinds[module] = type(m).__name__
        description[name] = {
            "model_type": getattr(getattr(model, "config", None), "model_type", None),
            "architecture": type(model).__name__,
            "containers": [n for n, m in model.named_modules() if n and n not in kinds],
            "modules": kinds,
            "tensors": {k: list(v.shape) for k, v in model.state_dict().items()},
        }

    cases = []
    for name, key, config in SELECTION:
        entry = {"name": name, "model": key, "config": config}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                model = get_peft_model(copy.deepcopy(models[key]), LoraConfig(**copy.deepcopy(config)))
            except Exception as e:
                entry["error"] = type(e).__name__
                entry["message"] = str(e).splitlines()[0][:160]
                cases.append(entry)
                continue
        notes = [str(w.message) for w in caught if "were ignored" in str(w.message) or "no modules were excluded" in str(w.message)]
        if notes:
            entry["warnings"] = notes
        saved = model.peft_config["default"].target_modules
        entry["saved_target_modules"] = saved if isinstance(saved, str) else sorted(saved)
        layers = sorted(lora_layers(model).items())
        entry["modules"] = [n for n, _ in layers]
        check(entry["modules"], name, "selects nothing")
        if set(config) & {"rank_pattern", "alpha_pattern"}:
            entry["numbers"] = {
                n: {"r": m.r["default"], "alpha": m.lora_alpha["default"], "scaling": m.scaling["default"]} for n, m in layers
            }
        kept = sorted(
            n.removeprefix("base_model.model.") for n, m in model.named_modules() if isinstance(m, ModulesToSaveWrapper)
        )
        if kept:
            entry["modules_to_save"] = kept
        cases.append(entry)
    value = {"peft": peft.__version__, "transformers": transformers.__version__, "models": description, "cases": cases}
    path.write_text(compact(value))
    return len(cases)


def compact(value):
    """JSON with one line per model or case, in the order given (patterns depend on it)."""
    lines = []
    for key, v in value.items():
        if isinstance(v, dict):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(x, ensure_ascii=False)}" for k, x in v.items())
            lines.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        elif isinstance(v, list):
            inner = ",\n".join("  " + json.dumps(x, ensure_ascii=False) for x in v)
            lines.append(f" {json.dumps(key)}: [\n{inner}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(v)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


# The text of a config.


def write_configs(out):
    LoraConfig(task_type="CAUSAL_LM").save_pretrained(out / "default")
    LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path="org/modèle \"q\" \\ <&> 語 \U0001f600",
        r=5,
        lora_alpha=12.5,
        lora_dropout=0.05,
        target_modules=["q_proj"],
        exclude_modules=["lm_head"],
        rank_pattern={"z": 3, "a\\.b": 4},
        alpha_pattern={"tiny": 1e-05, "large": 1e16, "edge": 123456789012345.0, "whole": 2.0, "third": 1 / 3, "low": 1e-4},
        layers_to_transform=[0, 2],
        layers_pattern="layers",
        modules_to_save=["score"],
        use_rslora=True,
        init_lora_weights="gaussian",
        inference_mode=True,
        layer_replication=[(0, 2), (1, 2)],
        trainable_token_indices={"embed_tokens": [1, 2]},
    ).save_pretrained(out / "options")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    if args.out.exists():
        shutil.rmtree(args.out)
    args.out.mkdir(parents=True)
    cases, refused = [], []
    for number, case in enumerate(CASES):
        torch.manual_seed(args.seed * 1000 + number)
        cases.append(write_case(case, args.out / case.name))
    for number, (name, *rest) in enumerate(refusals(), 3):
        torch.manual_seed(args.seed * 1000 + 500 + number)
        refused.append(write_refusal(args.out / "refuse" / name, *rest))
    versions = {"peft": peft.__version__, "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    save_json(args.out / "cases.json", {"versions": versions, "seed": args.seed, "cases": cases, "refuse": refused})
    torch.manual_seed(args.seed)
    count = write_selection(args.out / "selection.json")
    write_configs(args.out / "config")
    print(len(cases), "cases,", len(refused), "to refuse,", count, "selections")


if __name__ == "__main__":
    main()

"""The PyTorch models that onnx_fixtures.py exports. Sizes are odd or unequal, so that nothing fits by accident.

The forwards take and return plain tensors: exporters see the signature of a Hugging Face forward otherwise, and pass it
defaults that it does not take.
"""

import torch
import transformers
from torch import nn


class Bert(transformers.BertModel):
    """The encoder alone, as it is exported for embeddings: no `bert.` in its names."""

    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)


class BertClassifier(transformers.BertForSequenceClassification):
    """The model around the encoder, on which the adapters are made: `bert.` in its names."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = Bert(config)


class Gpt2(transformers.GPT2LMHeadModel):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


class Llama(transformers.LlamaForCausalLM):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


class LlamaCached(transformers.LlamaForCausalLM):
    """Logits and the key-value cache; the past is given or not, which makes the two halves of a merged decoder."""

    def forward(self, input_ids, attention_mask, position_ids, *past):
        cache = transformers.DynamicCache(config=self.config)
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        out = super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        present = [t for layer in out.past_key_values.layers for t in (layer.keys, layer.values)]
        return (out.logits, *present)


def bert(attention="eager", **changes):
    values = {
        "vocab_size": 37,
        "hidden_size": 22,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 35,
        "max_position_embeddings": 16,
        "num_labels": 3,
        "attn_implementation": attention,
    }
    return BertClassifier(transformers.BertConfig(**{**values, **changes}))


def gpt2(attention="eager", **changes):
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
        "attn_implementation": attention,
    }
    return Gpt2(transformers.GPT2Config(**{**values, **changes}))


def llama(attention="eager", cls=Llama, **changes):
    values = {
        "vocab_size": 43,
        "hidden_size": 28,
        "intermediate_size": 31,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 10,
        "max_position_embeddings": 32,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "attn_implementation": attention,
    }
    return cls(transformers.LlamaConfig(**{**values, **changes}))


class Block(nn.Module):
    """A Sequential below a ModuleList, whose name the TorchScript exporter says twice."""

    def __init__(self, inside, hidden, out, bias=True):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(inside, hidden, bias=bias), nn.GELU(), nn.Linear(hidden, out))
        self.norm = nn.LayerNorm(out)

    def forward(self, x):
        return self.norm(self.mlp(x))


class Mlp(nn.Module):
    """Linear layers in ModuleLists and nested Sequentials: on [batch, seq, features], and at the end on [batch, features]."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Block(13, 19, 17), Block(17, 23, 11, bias=False)])
        self.head = nn.Sequential(nn.Sequential(nn.Linear(11, 9), nn.Tanh()), nn.Linear(9, 5))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class Convs(nn.Module):
    """Convolutions 3x3 with stride, padding and dilation, 1x1 without bias, 3x2, grouped, depthwise; a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 14, 3, stride=2, padding=1)
        self.point = nn.Conv2d(14, 10, 1, bias=False)
        self.wide = nn.Conv2d(10, 12, (3, 2), padding=(2, 1), dilation=(2, 1))
        self.grouped = nn.Conv2d(12, 16, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Linear(16, 7)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.tanh(self.point(x))
        x = torch.relu(self.wide(x))
        x = self.depthwise(self.grouped(x))
        return self.head(x.mean((2, 3)))


class Shared(nn.Module):
    """One layer called twice, and two different layers, `left` and `right`, that have equal weights."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(7, 15)
        self.twice = nn.Linear(15, 15)
        self.left = nn.Linear(15, 11)
        self.right = nn.Linear(15, 11)
        self.last = nn.Linear(11, 4, bias=False)

    def forward(self, x):
        x = torch.tanh(self.into(x))
        x = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        # On unequal inputs: optimizers make one product of equal ones, and then no graph can tell the layers apart.
        return self.last(self.left(x) * torch.tanh(self.right(torch.sin(x))))


def randomize(parameters, std=0.2):
    """Weights at which everything matters: no bias at 0, no norm at 1."""
    with torch.no_grad():
        for name, p in sorted(parameters):
            noise = torch.randn(p.shape)
            if "norm" in name.lower() or ".ln_" in name:
                p.copy_(1 + std * noise if name.endswith("weight") else std * noise)
            else:
                p.copy_(std * noise)


def prepared(model, std=0.2):
    randomize(model.named_parameters(), std)
    return model.eval()

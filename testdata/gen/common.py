"""What the generators share: a deterministic, offline PyTorch, and writers that leave no trace of the machine."""

import json
import os
import sys
import warnings
from pathlib import Path


def begin(seed):
    """Fixes every source of randomness. Must run before torch is imported anywhere else.

    PEFT keeps target_modules in a Python set and writes it in the set's order, so the hash seed is part of what makes
    an adapter_config.json reproducible; the process restarts itself once to set it.
    """
    wanted = {"PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable] + sys.argv, {**os.environ, **wanted})
    os.environ.update(wanted)

    import torch
    import transformers

    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch


def save_tensors(path, tensors):
    """A safetensors file with the metadata Hugging Face writes; the tensors are copied, so ties and views are fine."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path, metadata={"format": "pt"})


def save_json(path, value):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def save_adapter(model, path, **options):
    """PEFT's save_pretrained without the model card, quietly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(path), **options)
    card = Path(path) / "README.md"
    if card.exists():
        card.unlink()


def check(condition, *what):
    """An assert that -O does not remove and that says what was wrong."""
    if not condition:
        sys.exit("failed: " + " ".join(str(w) for w in what))

"""A whole run of Hugging Face's Trainer on a model small enough to write twice.

    python train/testdata/gen_trainer.py [SEED] > train/testdata/trainer.json

The model is a table of bigram logits: the logits after token t are row t. Batches of
different label counts are accumulated, the last step of an epoch has fewer of them,
gradients are clipped, weights decay, and the run ends in the middle of an epoch. It
also writes hf_trainer_state.json beside this file, as the Trainer saved it.

Made with torch 2.15.0, transformers 5.24.0 and accelerate 1.15.0, on CPU, seed 21.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

import numpy
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 21
VOCAB, PAD, IGNORE = 7, 0, -100
generator = torch.Generator().manual_seed(SEED)


def shortest(tensor):
    return [float(str(numpy.float32(x))) for x in tensor.detach().flatten().numpy()]


def example():
    length = int(torch.randint(3, 12, (1,), generator=generator))
    ids = torch.randint(0, VOCAB, (length,), generator=generator).tolist()
    return {"ids": ids, "context": int(torch.randint(0, length - 1, (1,), generator=generator))}


def collate(rows):
    # The first token has no label: the Trainer would count it, though a shifted loss
    # does not, unless the model is one of transformers' own.
    longest = max(len(row["ids"]) for row in rows)
    ids, labels = [], []
    for row in rows:
        pad = longest - len(row["ids"])
        ids.append(row["ids"] + [PAD] * pad)
        context = max(row["context"], 1)
        labels.append([IGNORE] * context + row["ids"][context:] + [IGNORE] * pad)
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


class Bigram(torch.nn.Module):
    accepts_loss_kwargs = True  # else the Trainer means the means of unequal batches

    def __init__(self, table):
        super().__init__()
        self.table = torch.nn.Embedding(VOCAB, VOCAB, _weight=table.clone())

    def forward(self, input_ids, labels=None, num_items_in_batch=None):
        logits = self.table(input_ids)[:, :-1].reshape(-1, VOCAB)
        targets = labels[:, 1:].reshape(-1)
        total = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
        count = (targets != IGNORE).sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": total / count, "logits": logits}


class InOrder(Trainer):
    def _get_train_sampler(self, *args):
        return SequentialSampler(self.train_dataset)


class HeldOut(TrainerCallback):
    """Token-weighted loss on held-out rows, which the Trainer itself does not give."""

    def __init__(self, rows):
        self.batch, self.losses = collate(rows), []

    def measure(self, model):
        with torch.no_grad():
            self.losses.append(float(model(**self.batch)["loss"]))

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.measure(model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.measure(model)


def run(rows, held, table, logging_steps, out):
    model, callback = Bigram(table), HeldOut(held)
    args = TrainingArguments(
        output_dir=out, per_device_train_batch_size=2, gradient_accumulation_steps=4,
        num_train_epochs=2.3, learning_rate=0.05, lr_scheduler_type="cosine", warmup_steps=0.3,
        weight_decay=0.1, adam_beta1=0.85, adam_beta2=0.97, adam_epsilon=1e-2, max_grad_norm=0.2,
        logging_steps=logging_steps, save_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True, remove_unused_columns=False, seed=SEED, dataloader_pin_memory=False,
    )
    # The fused optimizer, the default, rounds in another order.
    args.optim = "adamw_torch"
    trainer = InOrder(model=model, args=args, train_dataset=rows, data_collator=collate, callbacks=[callback])
    trainer.train()
    return trainer, model, callback


def main():
    torch.set_num_threads(1)
    table = torch.randn(VOCAB, VOCAB, generator=generator) * 2
    rows, held = [example() for _ in range(11)], [example() for _ in range(3)]
    out = tempfile.mkdtemp()
    stdout, sys.stdout = sys.stdout, sys.stderr  # the Trainer prints its logs
    try:
        trainer, model, callback = run(rows, held, table, 1, out)
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        rounded = dict(history=history)
        pairs, _, _ = run(rows, held, table, 2, out)
        rounded["history_by_2"] = [entry for entry in pairs.state.log_history if "loss" in entry]
        pairs.state.save_to_json(str(pathlib.Path(__file__).with_name("hf_trainer_state.json")))
    finally:
        sys.stdout = stdout
        shutil.rmtree(out)
    print(json.dumps({
        "versions": {"torch": torch.__version__, "seed": SEED},
        "vocab": VOCAB, "table": shortest(table), "rows": rows, "held": held, **rounded,
        "held_losses": callback.losses, "final": shortest(model.table.weight),
    }, separators=(",", ":")))


os.environ["TOKENIZERS_PARALLELISM"] = "false"
main()

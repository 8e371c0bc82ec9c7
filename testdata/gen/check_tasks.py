"""Loads an adapter with PEFT on its base and compares the outputs with given ones.

    python check_tasks.py --base DIR --adapter DIR --class CLASS --values FILE [--outputs N] [--pooling mean|cls|max] [--normalize]

CLASS is transformers' name of the model; --outputs makes a new head, whose numbers the adapter must bring. FILE is JSON with `ids` by row and token, −1 at
padding, `types`, and the outputs `want` in one list. Fails (one line on stderr, exit 1) when a key of the adapter is missing or not used, or when an output is further
from `want` than 1e-5 of their root mean square. Prints one line of JSON.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

from common import begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--class", dest="kind", required=True)
    parser.add_argument("--values", type=Path, required=True)
    parser.add_argument("--outputs", type=int, default=0)
    parser.add_argument("--pooling", default="")
    parser.add_argument("--normalize", action="store_true")
    args = parser.parse_args()
    torch = begin(1)

    import transformers
    from peft import PeftModel
    from safetensors.torch import load_file

    options = {"num_labels": args.outputs, "problem_type": "multi_label_classification"} if args.outputs else {}
    model = getattr(transformers, args.kind).from_pretrained(args.base, dtype=torch.float64, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(model, args.adapter).double().eval()
    for w in said:
        if "key" in str(w.message).lower():
            sys.exit(f"{args.adapter}: {w.message}")
    stored = load_file(args.adapter / "adapter_model.safetensors")
    state = model.state_dict()
    for name, value in stored.items():
        inside = name
        for part in (".lora_A.", ".lora_B."):
            inside = inside.replace(part, part + "default.")
        if inside == name:
            hits = [k for k in state if ".modules_to_save.default." in k and k.replace(".modules_to_save.default.", ".") == name]
            inside = hits[0] if len(hits) == 1 else ""
        if inside not in state or not torch.equal(state[inside].float(), value):
            sys.exit(f"{args.adapter}: {name} is not what PEFT loaded")

    values = json.loads(args.values.read_text())
    ids, want = torch.tensor(values["ids"]), torch.tensor(values["want"], dtype=torch.float64)
    mask = (ids >= 0).long()
    pad = model.config.pad_token_id
    inputs = {"input_ids": torch.where(mask == 1, ids, pad), "attention_mask": mask}
    if values["types"]:
        inputs["token_type_ids"] = torch.where(mask == 1, torch.tensor(values["types"]), 0)
    with torch.no_grad():
        out = model(**inputs)
    if args.pooling:
        hidden, real = out.last_hidden_state, mask[..., None].double()
        got = {
            "mean": lambda: (hidden * real).sum(1) / real.sum(1),
            "cls": lambda: hidden[:, 0],
            "max": lambda: torch.where(real == 1, hidden, -1e9).max(1).values,
        }[args.pooling]()
        if args.normalize:
            got = torch.nn.functional.normalize(got, dim=1)
    else:
        got = out.logits
    want = want.reshape(got.shape)
    if got.dim() == 3:
        got, want = got[mask == 1], want[mask == 1]
    off = ((got - want).abs().max() / want.square().mean().sqrt()).item()
    if not off <= 1e-5:
        sys.exit(f"{args.adapter}: the outputs are off by {off} of their root mean square")
    print(json.dumps({"off": off, "keys": len(stored)}))


if __name__ == "__main__":
    main()

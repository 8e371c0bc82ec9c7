"""What Hugging Face's EarlyStoppingCallback and Trainer make of series of evaluations.

    python train/testdata/gen_early_stopping.py [SEED] > train/testdata/early_stopping.json

Made with transformers 5.24.0, seed 23. A null is an evaluation whose metric is not defined.
"""

import json
import random
import sys
from types import SimpleNamespace

from transformers import EarlyStoppingCallback, Trainer, TrainerControl
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import SaveStrategy

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 23
random.seed(SEED)


def case(metric, greater, patience, threshold):
    args = SimpleNamespace(greater_is_better=greater, metric_for_best_model=metric, save_strategy=SaveStrategy.STEPS)
    state, control = TrainerState(), TrainerControl()
    trainer = SimpleNamespace(args=args, state=state)
    callback = EarlyStoppingCallback(patience, threshold)
    out = {"metric": metric, "patience": patience, "threshold": threshold, "evaluations": []}
    for step in range(1, 15):
        value = None if metric == "pearson" and step % 4 == 0 else round(random.uniform(0.2, 0.8), 1)
        metrics = {f"eval_{metric}": float("nan") if value is None else value}
        state.global_step = step
        callback.on_evaluate(args, state, control, metrics)
        Trainer._determine_best_metric(trainer, metrics, None)
        out["evaluations"].append({
            "value": value, "counter": callback.early_stopping_patience_counter, "best": state.best_metric,
            "best_step": state.best_global_step, "stop": control.should_training_stop,
        })
    return out


print(json.dumps([
    case("loss", False, 3, 0.0), case("loss", False, 2, 0.15), case("accuracy", True, 3, 0.0),
    case("f1", True, 1, 0.25), case("pearson", True, 4, 0.1), case("loss", False, 1, 0.0),
], separators=(",", ":")))

"""A search inside one's own Ray Tune set-up: our controller as `search_alg`, our child training as the trainable, Tune's ASHA.

    python examples/ray_tune_search.py                  # 60 children on handwritten digits, a few minutes on two cores
    python examples/ray_tune_search.py --resume         # after a kill: Tune's own restore

Add loggers and callbacks (W&B, MLflow, TensorBoard) to `RunConfig(callbacks=[...])` as in any Tune program.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from nas.ray_tune import ControllerSearcher, child_trainable, genotype_of
from nas.runs.config import build_config
from search_spaces.genotype import to_yaml


def main() -> None:
    """Search, and write the best genotype."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--controller", default="ppo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/ray-tune"))
    parser.add_argument("--set", action="append", default=[], dest="assignments", help="a setting of the children: fidelity.epochs=9")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()

    ray.init(address="local", num_cpus=arguments.workers, include_dashboard=False, log_to_driver=False)
    config = build_config("laptop", ["fidelity.epochs=9", *arguments.assignments])
    trainable = child_trainable(config)
    out = arguments.out.resolve()
    if arguments.resume:
        tuner = tune.Tuner.restore(str(out), trainable=trainable, resume_unfinished=True)
    else:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                metric="reward",
                mode="max",
                num_samples=arguments.children,
                max_concurrent_trials=arguments.workers,
                reuse_actors=True,  # a new process for every child costs seconds
                search_alg=ControllerSearcher(config.space, arguments.controller, seed=arguments.seed),
                trial_dirname_creator=lambda trial: trial.trial_id,  # else the genotype becomes a part of the folder's name
                scheduler=ASHAScheduler(time_attr="epoch", max_t=config.fidelity.epochs, grace_period=1, reduction_factor=3),
            ),
            run_config=tune.RunConfig(name=out.name, storage_path=str(out.parent), verbose=0),
        )
    results = tuner.fit()
    best = results.get_best_result("reward", "max")
    genotype = genotype_of(best.config)
    (out / "best.yaml").write_text(to_yaml(genotype))
    epochs = sum(result.metrics["epoch"] for result in results if result.metrics)
    print(f"{len(results)} children, {epochs} epochs; best reward {best.metrics['reward']:.4f}: {out / 'best.yaml'}")


if __name__ == "__main__":
    main()

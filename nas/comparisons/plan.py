"""Says what a comparison of networks will do and about how long it takes, before anything is trained. Loads torch."""

import time
from collections.abc import Sequence
from math import ceil
from statistics import fmean

from nas.comparisons.networks import Member, Plan, check_comparison, images_of, sized_member
from nas.errors import UserError
from nas.networks.description import skeleton_document
from nas.runners.side_by_side import as_many_as_fit
from nas.runs.expected import side_by_side
from nas.tools.stages import doing
from nas.tools.words import counted, duration
from nas.training.numerics import own_threads
from nas.training.plan import describe_data, describe_recipe
from nas.training.session import build_for_training, make_trainer
from nas.training.timing import estimate

TIMED_SECONDS = 5.0
"""After so many seconds no other member is timed: they have one size."""


def describe_comparison(members: Sequence[Member], plan: Plan) -> list[str]:
    """Who is compared at which size, and about how long it takes, by the members that there is time to time.

    Raises:
        UserError: the data, the device or the folder cannot be used.
    """
    check_comparison(plan)
    data = images_of(plan)
    seeds = f"{counted(plan.seeds, 'training')} each"
    lines = [
        f"compare: {len(members)} networks of about {plan.target}, {seeds}, in {plan.folder}",
        f"recipe: {describe_recipe(plan.base.recipe)}",
        *describe_data(data, plan.base.recipe),
    ]
    times: list[float] = []
    able, began = 0, time.monotonic()
    for member in members:
        try:
            scaled = sized_member(member, plan, data)
        except UserError as problem:
            lines.append(f"{member.label}: {problem}")
            continue
        able += 1
        lines.append(f"{member.label}: {scaled}")
        if not times or time.monotonic() - began < TIMED_SECONDS:
            found = scaled.architecture
            config = plan.base.model_copy(update={"skeleton": skeleton_document(found.skeleton, found.skeleton_name)})
            with doing(f"timing {member.label}"), own_threads(config.threads):
                trainer = make_trainer(build_for_training(member.genotype, config, data), data, config)
                times.append(estimate(trainer.twin()).after(0))
    if times:
        trainings = able * plan.seeds
        at_once = min(trainings, plan.workers or as_many_as_fit(plan.base))
        whole = duration(fmean(times) * ceil(trainings / at_once) * side_by_side(at_once))
        said = f"about {whole} for {counted(trainings, 'training')}, {at_once} at once ({counted(len(times), 'network')} timed)"
        lines.append(f"time:   {said}; Ctrl-C stops, the same command goes on")
    return lines

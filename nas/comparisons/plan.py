"""Says what a comparison of networks will do and about how long it takes, before anything is trained. Loads torch."""

from collections.abc import Sequence

from nas.comparisons.networks import Images, Member, Plan, about_images, check_comparison, heading, images_of, sized_member
from nas.comparisons.timing import expect_trainings
from nas.errors import UserError
from nas.networks.architecture import Architecture
from nas.training.fitting import amount_of
from nas.training.plan import missing_data
from nas.training.setup import planned_side


def describe_comparison(members: Sequence[Member], plan: Plan) -> list[str]:
    """Who is compared at which size, and about how long it takes, by the members that there is time to time.

    Nothing is fetched: where the images are missing, that is said, and everybody's size by what is known of them beforehand.

    Raises:
        UserError: the data, the device or the folder cannot be used.
    """
    check_comparison(plan)
    missing = missing_data(plan.base.data)
    data = None if missing else images_of(plan)
    lines = [*heading(members, plan), *([] if data is None else about_images(data, plan))]
    sized: dict[str, Architecture] = {}
    for member in members:
        try:
            scaled = sized_member(member, plan, data or _images_known(plan))
        except UserError as problem:
            lines.append(f"{member.label}: {problem}")
            continue
        sized[member.label] = scaled.architecture
        lines.append(f"{member.label}: {scaled}")
    if data is not None and (expected := expect_trainings(sized, plan.base, data, len(sized) * plan.seeds, plan.workers)):
        lines.append(f"time:   {expected}")
    return lines + missing


def _images_known(plan: Plan) -> Images:
    """What is known of everybody's images before they are there."""
    amount, base = amount_of(plan.base.data), plan.base
    return Images(amount.classes, amount.channels, base.image_size or planned_side(amount, base.data, base.recipe))

"""Two or three commands as people type them, for the end of every ``--help``: what each is for, and what follows ``nas COMMAND``.

A test parses each of them, and fails for a command that has none.
"""

from collections.abc import Mapping

Examples = tuple[tuple[str, str], ...]

EXAMPLES: Mapping[str, Examples] = {
    "search": (
        ("handwritten digits, nothing fetched, some minutes", "--preset laptop"),
        ("a folder of your own images: what would be done, and how long it takes", "--data photos/ --minutes 60 --dry-run"),
        ("every network of 5M MACs, beside published cells", "--budget 500 --match macs=5M --cards nasnet-a,darts-v2"),
    ),
    "resume": (
        ("after Ctrl-C, kill -9 or a power cut", "last"),
        ("on another machine, whose images lie elsewhere", "runs/first --data-dir ~/data"),
    ),
    "show": (
        ("the ranking and the best cell of what was done last", "last"),
        ("a published cell: where it is from, its size, its YAML", "nasnet-a"),
        ("the settings of a preset, to copy and change", "cpu"),
    ),
    "finalists": (
        ("one more rung: the best 25 trained again, three times each", "last --top 25 --seeds 3"),
        ("the best five, for longer", "last --top 5 --epochs 20"),
    ),
    "train": (
        ("the best cell of the last search, to convergence", "last --recipe fast"),
        ("a published cell on images of your own", "nasnet-a --data photos/ --epochs 50 -o net"),
        ("go on with a training that was stopped", "--resume net"),
    ),
    "transfer": (
        ("a found cell, stacked to 2M parameters, on other images", "last --to photos/ --params 2M"),
        ("on ImageNet with eight workers: the plan alone", "last --to imagenet --data-dir /data/ilsvrc --workers 8 --dry-run"),
    ),
    "evaluate": (
        ("accuracy in all and by class, images a second", "net"),
        ("on other images, as JSON", "net --data photos/ --part all --json"),
        ("which classes are taken for which, as a picture", "net --confusion confusion.png"),
    ),
    "predict": (
        ("what it sees in every image below a folder", "net photos/"),
        ("the five likeliest classes, for a spreadsheet", "net 'photos/*.jpg' --top 5 -o found.csv"),
    ),
    "compare": (
        ("a run's winner against published cells, at one size", "last nasnet-a darts-v2 --macs 10M --epochs 8"),
        ("against random cells, three trainings of each", "last --random 3 --macs 10M --seeds 3"),
    ),
    "export": (
        ("the best cell of the last search, as a page of YAML", "last"),
        ("a trained network that needs nothing of this package", "net --format onnx -o net.onnx"),
        ("the same as one Python file with its weights beside it", "net --format python -o net.py"),
    ),
    "cost": (
        ("parameters and MACs of a published network", "nasnet-a --skeleton nasnet-large"),
        ("the same cells solved for a size, with their latency here", "nasnet-a --macs 564M --latency"),
    ),
    "draw": (
        ("the two cells of the last search's best", "last -o cells.svg"),
        ("the whole network", "nasnet-a --network -o network.png"),
    ),
    "data": (
        ("is this folder fit to train on? copies, broken files, imbalance", "photos/"),
        ("some images of every class as a network sees them", "photos/ --sheet sheet.png"),
        ("fetch a named data set", "cifar10"),
    ),
    "bench": (
        ("two controllers on a formula with a known optimum", "--objective synthetic --controller ppo --controller random --seeds 9"),
        ("a suite from a file", "--suite benchmarks/controllers.yaml --output bench"),
    ),
    "list": (
        ("runs, spaces, presets, controllers, evaluators", ""),
        ("the recipes of trainings", "recipes"),
        ("published cells with their sizes", "genotypes"),
    ),
    "watch": (
        ("the last search, as its own terminal shows it", "last"),
        ("how it stands now, for programs", "last --once --json"),
    ),
    "report": (
        ("what did something last, as one page", "last -o report.html"),
        ("a training, with accuracy by class, opened in the browser", "net --evaluate --open"),
    ),
    "reproduce": (
        ("the commands that make it again", "last"),
        ("make it again now, and say in what both differ", "last --run"),
    ),
    "runs list": (("searches, trainings and comparisons here", ""), ("those in other folders", "runs/ archive/")),
    "runs rm": (("remove a run that is not wanted any more", "first"), ("without being asked", "first second --yes")),
    "runs rename": (("give it a name that says something", "last wide-cells"), ("move it", "last archive/wide-cells")),
    "runs note": (("a line to remember it by", "last 'with the new augmentation'"), ("without one again", "last ''")),
    "config": (
        ("which defaults hold here, and who says so", ""),
        ("every option of a command, with what a preset fills in", "search"),
    ),
    "doctor": (
        ("is everything here that is needed? what to do where not", ""),
        ("the same, to attach to a bug report", "--json > doctor.json"),
    ),
}

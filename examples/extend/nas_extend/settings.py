"""A preset and a recipe: settings as a YAML file would have them."""

PRESET = {
    "space": "mobile",
    "budget": 30,
    "evaluator": "mobile-table",
    "data": {"name": "corners", "validation_examples": 200},
    "controller": {"name": "climb"},
    "fidelity": {"filters": 4, "epochs": 2, "train_examples": 200},
    "training": {"batch_size": 32, "learning_rate": 0.05, "augmentation": "none", "flip": False},
    "runner": {"gpus_per_child": 0.0},
}

RECIPE = {
    "epochs": 3,
    "batch_size": 32,
    "optimizer": {"learning_rate": 0.05},
    "augmentation": {"crop": "none", "flip": False},
}

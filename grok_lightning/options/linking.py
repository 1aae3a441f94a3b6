"""Options of the model that the data decide."""

from jsonargparse import ArgumentParser

LINKED = {  # options of the model that the data decide: model's name, data's name
    "vocabulary": "vocabulary_size",
    "length": "length",
    "answer_length": "answer_length",
    "seeds": "seeds",
    "padded": "padded",
}


def link_model(parser: ArgumentParser) -> None:
    """Tells the model what the data look like."""
    for model, data in LINKED.items():
        parser.link_arguments(f"data.{data}", f"model.{model}", apply_on="instantiate")


def link_task(parser: ArgumentParser) -> None:
    """Tells the model what the data look like, and the data the run's seed."""
    link_model(parser)
    parser.link_arguments("seed_everything", "data.init_args.seeds", compute_fn=lambda seed: [seed])

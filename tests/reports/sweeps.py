"""Sweeps whose points are written down, not measured."""

from fairseq_layerdrop.reports.points import Point, Sweep, SweepFile

RUN = {
    "data": "data-bin", "subset": "valid", "sentences": None, "max_tokens": 4000, "batch_size": None, "metric": "bleu",
    "generation": {"beam": 4, "lenpen": 1, "match_source_len": False, "unnormalized": True}, "remove_bpe": None,
    "timed_sentences": 100, "repeats": 3, "threads": 1, "cpu": True, "overrides": "{}", "machine": "a <machine>",
    "torch": "2", "version": "0",
}  # fmt: skip


def point(model="a", plan=None, layers=(6, 6), bleu=30.0, ms=40.0, million=60.0, of=(6, 6), **quality) -> Point:
    seconds = {"median": ms / 1e3, "low": ms / 2e3, "high": ms / 5e2, "count": 9}
    speed = {"median": 1e3 / ms, "low": 1e3 / ms, "high": 1e3 / ms, "count": 3}
    return Point(
        model=model, path=f"{model}.pt", fingerprint=f"sha256:{model}", task="layerdrop_translation", task_flags=[],
        prune_layers=plan, kept="some", depths={"encoder": (layers[0], of[0]), "decoder": (layers[1], of[1])},
        parameters=int(million * 1e6), bytes=int(million * 4e6), multiply_adds=million * 1e6,
        quality=quality or {"BLEU": bleu, "loss": 50 - bleu}, signature="by hand", latency=seconds, throughput=speed,
        peak_memory=10**9,
    )  # fmt: skip


def sweep(*points: Point) -> Sweep:
    return Sweep(RUN, points)


TWO_MODELS = sweep(
    *(
        point(model, plan, (6, layers), bleu, ms, million)
        for model, scores in {"a": (30.0, 29.0, 20.0), "b": (35.0, 28.0, 1.0)}.items()
        for (plan, layers, ms, million), bleu in zip(
            [
                (None, 6, 40.0, 60.0),
                ("decoder=keep:4@every_other", 4, 30.0, 50.0),
                ("decoder=keep:2@top", 2, 20.0, 40.0),
            ],
            scores,
            strict=True,
        )
    )
)


def write(folder, points, run=RUN) -> None:
    """Write the points into a sweep's file in *folder*."""
    file = SweepFile(folder, run)
    for one in points:
        file.add(one)

"""Every method of explanation on a trained network, scored against the phantom's true lesions: the README's table.

    python benchmarks/explanations.py phantom:brain-tumor --out runs/explained-brain
    python benchmarks/explanations.py phantom:lung-nodule --out runs/explained-lung --count 6000 --epochs 14 --easy 8

It trains first, unless the folder holds a network, prints its test AUC, and then explains the first sick test cases.
``--easy 8`` starts with 8 epochs on an easier set (severity 0.3): a nodule is a thousandth of the image, and a network
that has never found one learns nothing for many epochs. Where a method is taken at a layer, the layer is chosen on
validation cases, by the mean pixel AUPRC; nothing is chosen on test cases. LayerCAM is also averaged over mirrored
copies, at its best layer and at its best three. The table is kept beside the network as scores.csv.
"""

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

AT_A_LAYER = ("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "xgrad_cam", "score_cam", "eigen_cam")
OTHERS = (
    "saliency", "input_times_gradient", "integrated_gradients", "smooth_grad", "var_grad", "guided_backprop",
    "guided_grad_cam", "occlusion", "rise",
)  # fmt: skip


def main() -> None:
    """Trains or loads, chooses layers, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=("phantom:brain-tumor", "phantom:lung-nodule"))
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--count", type=int, default=2400, help="cases, of which a fifth are for the test")
    parser.add_argument("--epochs", type=int, help="by default the plan's")
    parser.add_argument("--easy", type=int, default=0, help="epochs on 2,000 easier cases before")
    parser.add_argument("--options", type=json.loads, default={}, help="of the data set, such as '{\"size\": 64}'")
    parser.add_argument("--explained", type=int, default=100, help="test cases")
    parser.add_argument("--chosen-on", type=int, default=40, help="validation cases on which layers are chosen")
    parser.add_argument("--methods", nargs="+", default=[*AT_A_LAYER, *OTHERS])
    parser.add_argument("--scores", nargs="+", default=["cheap"], help='"cheap", "all" or names')
    chosen = parser.parse_args()
    print("command:", " ".join(["python", *sys.argv]))
    import medlab as ml

    study = ml.study.open(chosen.out, chosen.dataset, options={"n": chosen.count, **chosen.options})
    started = time.perf_counter()
    if not (study.run.path / "model.keras").is_file():
        train(study, chosen)
    model = ml.study.model(study)
    x, y = study.arrays("test")
    table = ml.evaluate.classification(y, ml.evaluate.predict(model, x)).table.loc["auc"]
    print(f"{chosen.dataset}: test AUC {table.value:.3f} ({table.low:.3f} to {table.high:.3f}), n = {len(y)}, "
          f"{time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip
    methods = {}
    images, truth = sick(study, "validation", chosen.chosen_on)
    for name in chosen.methods:
        method = getattr(ml.explain, name)
        if name not in AT_A_LAYER:
            methods[name] = method
            continue
        found = {layer: auprc(partial(method, layer=layer), model, images, truth) for layer in stages(model)}
        best = sorted(found, key=found.get, reverse=True)
        print(f"{name}: " + ", ".join(f"{layer} {value:.3f}" for layer, value in found.items()), flush=True)
        methods[f"{name} @ {best[0]}"] = partial(method, layer=best[0])
        if name == "layer_cam":
            methods[f"{name} @ {best[0]}, mirrored"] = ml.explain.mirrored(partial(method, layer=best[0]))
            fused = partial(method, layer=best[:3])
            methods[f"{name} @ {' + '.join(best[:3])}, mirrored"] = ml.explain.mirrored(fused)
    images, truth = sick(study, "test", chosen.explained)
    print(f"{len(images)} test cases, the lesion's share of the image is {truth.mean():.5f}", flush=True)
    scores = chosen.scores[0] if chosen.scores in (["cheap"], ["all"]) else chosen.scores
    cases = ml.explain.score_cases(model, images, methods=methods, masks=truth, target=1, scores=scores)
    cases.to_csv(study.run.path / "explained-cases.csv")
    result = ml.explain.summary(cases)
    result.to_csv(study.run.path / "scores.csv")
    print(markdown(result))


def train(study, chosen) -> None:
    """Trains the plan's network, after easier cases where that was asked for."""
    import medlab as ml

    if not chosen.easy:
        ml.study.fit(study, epochs=chosen.epochs, progress=False)
        return
    options = {"n": 2000, "severity": 0.3, **chosen.options}
    easier = ml.study.open(f"{chosen.out}-easy", chosen.dataset, options=options)
    begun = ml.study.fit(easier, epochs=chosen.easy, batch_size=32, progress=False).model
    ml.train.fit(
        begun, study.arrays("train"), study.arrays("validation"), epochs=chosen.epochs, batch_size=32,
        augment=study.policy(**ml.study.plan(study).policy), run=study.run, progress=False,
    )  # fmt: skip


def stages(model) -> list[str]:
    """The layers worth trying: what leaves each activation."""
    import medlab as ml

    return [layer for layer in ml.explain.layers(model) if not layer.endswith(("_conv", "_norm"))]


def sick(study, split: str, count: int):
    """(images, masks) of the first sick cases of a split, with the lesion alone as the mask."""
    masks = study.findings(split, 1)
    those = np.flatnonzero(masks.reshape(len(masks), -1).any(axis=1))[:count]
    return study.arrays(split)[0][those], masks[those]


def auprc(method, model, images, truth) -> float:
    """Mean pixel AUPRC of the method's maps."""
    import medlab as ml

    return float(np.mean(ml.explain.pixel_auprc(method(model, images, target=1), truth)))


def markdown(result) -> str:
    """The table with a line a method: value and interval of each score."""
    text = {
        row: f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})" for row, found in result.iterrows() if found.n
    }
    titles = list(dict.fromkeys(title for _, title in text if title != "share"))
    lines = ["| method | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for name in dict.fromkeys(name for name, _ in text):
        lines.append(f"| {name} | " + " | ".join(text.get((name, title), "") for title in titles) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

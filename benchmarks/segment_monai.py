"""The peer of benchmarks/segment.py: MONAI's DynUNet on the same arrays, in an interpreter with torch and monai.

Residual blocks, instance norm, deep supervision, Dice + cross-entropy, AdamW with a warmup and a cosine, random affine
and intensity transforms as strong as those beside it; sliding windows with Gaussian weights. It stops when it has used
the processor seconds it was given.
"""

import json
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from monai import transforms
from monai.inferers import sliding_window_inference
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.networks.nets import DynUNet

warnings.simplefilter("ignore")


def network(classes: int, width: int, strides: list, kernels: list, supervised: int) -> DynUNet:
    """A DynUNet with these levels."""
    strides = [[1] * len(kernels[0]), *map(list, strides)]
    return DynUNet(
        spatial_dims=len(kernels[0]), in_channels=1, out_channels=classes, kernel_size=list(map(list, kernels)),
        strides=strides, upsample_kernel_size=strides[1:], filters=[width * 2**level for level in range(len(kernels))],
        norm_name=("INSTANCE", {"affine": True}), deep_supervision=supervised > 0, deep_supr_num=max(supervised, 1),
        res_block=True,
    )  # fmt: skip


def augmentation(seed: int) -> transforms.Compose:
    """Turns to 5 degrees, scales to 5 %, shifts to 4 %, contrast, brightness and noise."""
    turn = [math.radians(5)] * 3
    made = transforms.Compose(
        [
            transforms.RandAffined(
                ("x", "y"), prob=1, rotate_range=turn, scale_range=[0.05] * 3, translate_range=[2] * 3,
                mode=("bilinear", "nearest"), padding_mode="border", cache_grid=True,
            ),
            transforms.RandAdjustContrastd("x", prob=1, gamma=(0.93, 1.075), retain_stats=True),
            transforms.RandScaleIntensityd("x", prob=1, factors=0.1),
            transforms.RandShiftIntensityd("x", prob=1, offsets=0.1),
            transforms.RandGaussianNoised("x", prob=1, std=0.025),
        ]
    )  # fmt: skip
    return made.set_random_state(seed)


def train(folder: Path) -> None:
    """Trains, predicts, writes label maps and times."""
    asked = json.loads((folder / "asked.json").read_text())
    with np.load(folder / "data.npz") as file:
        data = {name: file[name] for name in file.files}
    model = network(asked["classes"], asked["width"], asked["strides"], asked["kernels"], len(asked["strides"]) - 1)
    loss = DeepSupervisionLoss(DiceCELoss(include_background=False, to_onehot_y=True, softmax=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=asked["learning_rate"], weight_decay=4e-3)
    x, y = torch.tensor(np.moveaxis(data["x"], -1, 1)), torch.tensor(data["y"][:, None])
    size, kept = asked["batch_size"], folder / "state.pt"
    now = {"epoch": 0, "steps": 0, "best": -1.0, "weights": None, "cpu": 0.0, "seconds": 0.0}
    if kept.is_file():
        now = torch.load(kept, weights_only=True)
        model.load_state_dict(now["model"])
        optimizer.load_state_dict(now["optimizer"])
    start, began = time.process_time() - now["cpu"], time.perf_counter() - now["seconds"]
    share = 0.0
    while share < 1:
        torch.manual_seed(1000 * asked["seed"] + now["epoch"])
        random = np.random.default_rng([asked["seed"], now["epoch"]])
        change = augmentation(1000 * asked["seed"] + now["epoch"])
        for rows in np.array_split(random.permutation(len(x)), len(x) // size):
            share = (time.process_time() - start) / asked["seconds"]
            if share >= 1:
                break
            rate = asked["learning_rate"] * min(1, (share + 1e-3) / 0.1) * (1 + math.cos(math.pi * share)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            made = [change({"x": x[row], "y": y[row]}) for row in rows]
            images = torch.stack([one["x"].as_tensor() for one in made])
            masks = torch.stack([one["y"].as_tensor() for one in made])
            model.train()
            optimizer.zero_grad()
            loss(list(torch.unbind(model(images), 1)), masks).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            now["steps"] += 1
        score = dice(model, data["xv"], data["yv"])
        if score > now["best"]:
            now |= {"best": score, "weights": {name: one.clone() for name, one in model.state_dict().items()}}
        now |= {"epoch": now["epoch"] + 1, "cpu": time.process_time() - start, "seconds": time.perf_counter() - began}
        torch.save(now | {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, kept.with_suffix(".part"))
        kept.with_suffix(".part").replace(kept)
    model.load_state_dict(now["weights"])
    model.eval()
    labels = {name: predict(model, image, data["x"].shape[1:-1]) for name, image in data.items() if "image" in name}
    np.savez(folder / "labels.npz", **labels)
    weights = sum(one.numel() for one in model.parameters())
    row = {"seconds": now["seconds"], "cpu": now["cpu"], "validation": now["best"]}
    row["epochs"] = now["steps"] * size / len(x)
    (folder / "done.json").write_text(json.dumps(row | {"network": f"DynUNet, {weights:,} weights"}))


def dice(model: DynUNet, x: np.ndarray, y: np.ndarray) -> float:
    """Mean Dice of the structures over the cases."""
    model.eval()
    with torch.no_grad():
        found = [model(torch.tensor(np.moveaxis(one[None], -1, 1))).argmax(1)[0].numpy() for one in x]
    scores = [
        2 * ((guess == label) & (real == label)).sum() / ((guess == label).sum() + (real == label).sum())
        for guess, real in zip(found, y, strict=True)
        for label in range(1, int(y.max()) + 1)
    ]
    return float(np.mean(scores))


def predict(model: DynUNet, image: np.ndarray, window: tuple[int, ...]) -> np.ndarray:
    """The label map of a whole image."""
    volume = torch.tensor(np.ascontiguousarray(image, np.float32))[None, None]
    with torch.no_grad():
        logits = sliding_window_inference(
            volume, window, 4, model, overlap=0.5, mode="gaussian", cval=float(volume.min())
        )  # fmt: skip
    return logits.argmax(1)[0].numpy().astype(np.uint8)


def speed(asked: dict) -> None:
    """Prints seconds of the fastest training step and forward pass."""
    levels = asked["levels"]
    model = network(asked["classes"], asked["width"], [[2] * 3] * (levels - 1), [[3] * 3] * levels, 0)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.randn(asked["batch_size"], 1, *asked["shape"])
    y = torch.randint(0, asked["classes"], (asked["batch_size"], 1, *asked["shape"]))

    def step() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    def forward() -> None:
        with torch.no_grad():
            model(x)

    found = []
    for work in (step, forward):
        times = []
        for _ in range(asked["rounds"] + 2):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        found.append(min(times[2:]))
        model.eval()
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]))
    else:
        speed(json.loads(sys.argv[2]))

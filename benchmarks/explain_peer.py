"""The peer of explain.py: integrated gradients by Captum, in a process of its own that answers line by line.

    python benchmarks/explain_peer.py weights.npz     (needs torch and captum; explain.py starts it)

Writes "ready", then for each line that it reads the seconds of one run; the maps of the last go to a file beside the
weights.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from captum.attr import IntegratedGradients


def network(given: np.lib.npyio.NpzFile) -> torch.nn.Module:
    """The network of explain.py with its weights: three times convolution, ReLU and pooling, then mean and dense."""
    layers: list[torch.nn.Module] = []
    for stage in range(3):
        kernel = torch.from_numpy(given[f"w{2 * stage}"]).permute(3, 2, 0, 1).contiguous()
        layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        layer.weight.data, layer.bias.data = kernel, torch.from_numpy(given[f"w{2 * stage + 1}"])
        layers += [layer, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    dense = torch.nn.Linear(given["w6"].shape[0], given["w6"].shape[1])
    dense.weight.data, dense.bias.data = torch.from_numpy(given["w6"]).T.contiguous(), torch.from_numpy(given["w7"])
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), dense).eval()


def main() -> None:
    """Answers until its input ends."""
    given = np.load(sys.argv[1])
    torch.set_num_threads(int(given["threads"]))
    x = torch.from_numpy(given["x"]).permute(0, 3, 1, 2).contiguous()
    target = torch.from_numpy(given["target"]).long()
    method = IntegratedGradients(network(given))
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        heat = method.attribute(
            x, target=target, n_steps=int(given["steps"]), internal_batch_size=int(line), method="riemann_middle"
        )
        print(time.perf_counter() - start, flush=True)
        np.save(Path(sys.argv[1]).with_name("heat.npy"), heat.sum(dim=1).detach().numpy())


if __name__ == "__main__":
    main()
